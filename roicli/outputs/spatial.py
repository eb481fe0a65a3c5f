"""Spatial vectors: where a box lies in its image, in the forms that models take beside its features.

| numbers | are | taken by |
|---|---|---|
| 4 | x1/W, y1/H, x2/W, y2/H | LXMERT, VL-T5 |
| 5 | and area/(W*H) | ViLBERT, VisualBERT (MMF) |
| 6 | 4, and w/W, h/H | bottom-up-attention-vqa, BAN, Oscar, VinVL |
| 7 | 6, and w*h/(W*H) | UNITER, VILLA |
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from roicli.errors import OutputError
from roicli.outputs.base import Record

NUMBERS = (4, 5, 6, 7)


def spatial_vectors(record: Record) -> NDArray[np.float32] | None:
    """Return the spatial vectors of all rows, (K, n) for the n that the parameter `spatial` asks for.

    None if nobody asks and the sizes of images are not known.

    Raises OutputError: they are asked for, and the sizes of images are not known.
    """
    number = record.parameters.get("spatial", 0)
    sizes = record.image_sizes
    if sizes is None or np.isnan(sizes).any():
        if not number:
            return None
        missing = len(record.boxes) if sizes is None else int(np.isnan(sizes).any(axis=1).sum())
        raise OutputError(
            f"spatial vectors need the size of each image; {missing:,} of {len(record.boxes):,} boxes are of images "
            "without one",
            "Give `image_size=FILE`.",
        )
    return _vectors(record.boxes, sizes, int(number) or 6).astype(np.float32)


def _vectors(boxes: NDArray[np.float64], sizes: NDArray[np.float32], number: int) -> NDArray[np.float64]:
    height, width = sizes.astype(np.float64).T
    shares = boxes / np.stack([width, height, width, height], axis=1)
    sides = shares[:, 2:] - shares[:, :2]
    area = sides.prod(axis=1, keepdims=True)
    parts = {4: [], 5: [area], 6: [sides], 7: [sides, area]}[number]
    return np.concatenate([shares, *parts], axis=1)
