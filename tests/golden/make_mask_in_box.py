"""Make mask_in_box.npz with torchvision: plain RoIAlign of a map times the share of 4 x 4 pixels under each mask."""

from pathlib import Path

import numpy as np
import torch
from torchvision.ops import roi_align

rng = np.random.default_rng(17)
features = rng.standard_normal((3, 12, 9)).astype(np.float32)
boxes = np.array([[2, 3, 30, 40], [-6, 10.5, 20, 33], [0, 0, 36, 48], [12, 12, 14, 13.5]], np.float32)
y, x = np.mgrid[:48, :36]
masks = np.stack(
    [
        (y - 20) ** 2 + (x - 15) ** 2 < 150,  # a disc
        x > 9,  # reaches beyond its box
        rng.random((48, 36)) < 0.5,  # dust
        y < 20,
    ]
)
share = masks.reshape(4, 12, 4, 9, 4).mean(axis=(2, 4)).astype(np.float32)
pooled = {
    f"aligned{aligned:d}_sr{ratio}": torch.cat(
        [
            roi_align(
                torch.from_numpy(features[None] * mine), [torch.from_numpy(box[None])], (3, 2), 1 / 4, ratio, aligned
            )
            for mine, box in zip(share, boxes, strict=True)
        ]
    ).numpy()
    for aligned, ratio in ((True, 0), (True, 2), (False, 0))
}
np.savez_compressed(Path(__file__).with_name("mask_in_box.npz"), features=features, boxes=boxes, masks=masks, **pooled)
