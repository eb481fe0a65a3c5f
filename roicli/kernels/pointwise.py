"""Pooling sample by sample: for the maximum, which is not linear, and for maps with NaN or infinite cells.

Interpolates rows, then columns, and reads no cell but a sample's four neighbours, all four of them, with whatever
weight, as torchvision does: a non-finite cell reaches exactly the bins that read it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from roicli.sampling import FloatArray, SampleGrid
from roicli.spec import Mode

# Interpolated rows are made this many values at a time, so that a huge window costs no huge temporary.
_BLOCK_VALUES = 2**20


def pool_pointwise(feature_map: FloatArray, rows: SampleGrid, columns: SampleGrid, mode: Mode, out: FloatArray) -> None:
    """Interpolate every sample of each bin and take their maximum or their mean.

    Parameters
    ----------
    feature_map : (H, W, C)
        Channels last, in the dtype of the computation.
    rows, columns : SampleGrid
        Samples of K RoIs along y and along x.
    mode : {"avg", "max"}
        Samples out of range count as zero in both; a bin without samples is zero.
    out : (K, C, PH, PW)
        Where the blocks go.
    """
    y_splits, x_splits = rows.splits().tolist(), columns.splits().tolist()
    bins_y, bins_x = rows.bins.number, columns.bins.number
    combine = np.maximum if mode == "max" else np.add
    start = -np.inf if mode == "max" else 0
    for roi, block in enumerate(out):
        x_ends = x_splits[roi * bins_x : (roi + 1) * bins_x + 1]
        count_y, count_x = int(rows.bins.count[roi]), int(columns.bins.count[roi])
        for bin_y in range(bins_y):
            first, stop = y_splits[roi * bins_y + bin_y : roi * bins_y + bin_y + 2]
            line = np.full((bins_x, feature_map.shape[2]), start, dtype=feature_map.dtype)
            for samples in _interpolated(feature_map, rows, slice(first, stop), columns, slice(x_ends[0], x_ends[-1])):
                for bin_x in range(bins_x):
                    of_bin = samples[:, x_ends[bin_x] - x_ends[0] : x_ends[bin_x + 1] - x_ends[0]]
                    combine(line[bin_x], combine.reduce(of_bin, axis=(0, 1), initial=start), out=line[bin_x])
            if mode == "max":
                in_range = (stop - first) * np.diff(x_ends)
                some_outside = (in_range < count_y * count_x) | (in_range == 0)
                line[some_outside] = np.maximum(line[some_outside], 0)
            else:
                line /= max(count_y * count_x, 1)
            block[:, bin_y] = line.T


def _interpolated(
    feature_map: FloatArray, rows: SampleGrid, y: slice, columns: SampleGrid, x: slice
) -> Iterator[FloatArray]:
    """Yield the interpolated values of the samples `y` x `x`, (some of y, all of x, C) at a time."""
    if y.start == y.stop or x.start == x.stop:
        return
    low, high, fraction = columns.low[x], columns.high[x], columns.fraction[x][:, None]
    left, right = low.min(), high.max() + 1
    step = max(1, _BLOCK_VALUES // ((right - left) * feature_map.shape[2]))
    for first in range(y.start, y.stop, step):
        part = slice(first, min(first + step, y.stop))
        weight = rows.fraction[part][:, None, None]
        above, below = feature_map[rows.low[part], left:right], feature_map[rows.high[part], left:right]
        banded = (1 - weight) * above + weight * below
        yield (1 - fraction) * banded[:, low - left] + fraction * banded[:, high - left]
