"""The whole job as a plain script around torchvision: the features pooled image by image, collected and saved."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(features: str, boxes: str, output: str) -> None:
    """Pool the boxes of a JSON file from the datasets of an HDF5 file."""
    import h5py
    import numpy as np
    import torch
    from torchvision.ops import roi_align

    pooled = []
    with h5py.File(features) as file:
        for image, corners in json.loads(Path(boxes).read_text()).items():
            feature_map = torch.from_numpy(file[image][()])[None]
            pooled.append(roi_align(feature_map, [torch.tensor(corners)], 7, 1 / 16, aligned=True))
    np.save(output, torch.cat(pooled).numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
