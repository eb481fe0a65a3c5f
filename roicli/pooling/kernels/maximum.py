"""RoIPool: the maximum over ranges of whole cells, over rows first, then over columns."""

from __future__ import annotations

import numpy as np

from roicli.pooling.sampling import CellRanges, FloatArray


def pool_maximum(feature_map: FloatArray, rows: CellRanges, columns: CellRanges, out: FloatArray) -> None:
    """Take the maximum of each bin's cells; a bin without cells is zero.

    Parameters
    ----------
    feature_map : (H, W, C)
        Channels last.
    rows, columns : CellRanges
        Bins of K RoIs along y and along x.
    out : (K, C, PH, PW)
        Where the blocks go.

    Notes
    -----
    A NaN is never greater than what was found so far, so it is passed over, and a bin of nothing else keeps the
    lowest float32 that torchvision begins with.
    """
    lowest = -float(np.finfo(np.float32).max)
    for y_ranges, x_ranges, block in zip(_pairs(rows), _pairs(columns), out, strict=True):
        left, right = min(first for first, _ in x_ranges), max(stop for _, stop in x_ranges)
        for bin_y, (top, bottom) in enumerate(y_ranges):
            line = np.fmax.reduce(feature_map[top:bottom, left:right], axis=0, initial=lowest)
            for bin_x, (first, stop) in enumerate(x_ranges):
                if stop <= first or bottom <= top:
                    block[:, bin_y, bin_x] = 0
                else:
                    block[:, bin_y, bin_x] = np.fmax.reduce(line[first - left : stop - left], axis=0)


def _pairs(ranges: CellRanges) -> list[list[list[int]]]:
    """Return first and stop of each bin of each RoI as plain integers."""
    pairs: list[list[list[int]]] = np.stack([ranges.first, ranges.stop], axis=2).tolist()
    return pairs
