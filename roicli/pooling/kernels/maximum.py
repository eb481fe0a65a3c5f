"""RoIPool: the maximum over ranges of whole cells, over rows first, then over columns."""

from __future__ import annotations

import numpy as np

from roicli.pooling.sampling import CellRanges, FloatArray

# torchvision begins with the lowest float32 and looks for what is greater, which NaN never is.
LOWEST = -float(np.finfo(np.float32).max)


def pool_maximum(feature_map: FloatArray, rows: CellRanges, columns: CellRanges, out: FloatArray) -> None:
    """Take the maximum of each bin's cells of an (H, W, C) map; a bin without cells is zero, one of NaN is `LOWEST`."""
    for y_ranges, x_ranges, block in zip(_pairs(rows), _pairs(columns), out, strict=True):
        left, right = min(first for first, _ in x_ranges), max(stop for _, stop in x_ranges)
        for bin_y, (top, bottom) in enumerate(y_ranges):
            line = np.fmax.reduce(feature_map[top:bottom, left:right], axis=0, initial=LOWEST)
            for bin_x, (first, stop) in enumerate(x_ranges):
                if stop <= first or bottom <= top:
                    block[:, bin_y, bin_x] = 0
                else:
                    block[:, bin_y, bin_x] = np.fmax.reduce(line[first - left : stop - left], axis=0)


def _pairs(ranges: CellRanges) -> list[list[list[int]]]:
    """Return first and stop of each bin of each RoI as plain integers."""
    pairs: list[list[list[int]]] = np.stack([ranges.first, ranges.stop], axis=2).tolist()
    return pairs
