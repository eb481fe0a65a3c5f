"""Pooling sample by sample: for the maximum, which is not linear, and for maps with NaN or infinite cells.

Interpolates rows, then columns, and reads no cell but a sample's four neighbours, all four of them, with whatever
weight, as torchvision does: a non-finite cell reaches exactly the bins that read it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from roicli.pooling.sampling import FloatArray, SampleGrid
from roicli.spec import Mode

# Interpolated rows are made this many values at a time, so that a huge window costs no huge temporary.
_BLOCK_VALUES = 2**20


def pool_pointwise(feature_map: FloatArray, rows: SampleGrid, columns: SampleGrid, mode: Mode, out: FloatArray) -> None:
    """Interpolate every sample of each bin of an (H, W, C) map and take their maximum or their mean.

    Samples out of range count as zero in both; a bin without samples is zero.
    """
    y_splits, x_splits = rows.splits().tolist(), columns.splits().tolist()
    bins_y, bins_x = rows.bins.number, columns.bins.number
    largest = mode != "avg"
    combine = np.maximum if largest else np.add
    join = np.maximum if mode == "weighted-max" else np.add
    start = -np.inf if largest else 0
    for roi, block in enumerate(out):
        x_ends = x_splits[roi * bins_x : (roi + 1) * bins_x + 1]
        count_y, count_x = int(rows.bins.samples[roi]), int(columns.bins.samples[roi])
        for bin_y in range(bins_y):
            first, stop = y_splits[roi * bins_y + bin_y : roi * bins_y + bin_y + 2]
            line = np.full((bins_x, feature_map.shape[2]), start, dtype=feature_map.dtype)
            for banded, left in _interpolated_rows(feature_map, rows, first, stop, columns, x_ends, join):
                for bin_x, (begin, end) in enumerate(pairwise(x_ends)):
                    low, high = columns.low[begin:end] - left, columns.high[begin:end] - left
                    fraction = columns.fraction[begin:end, None]
                    samples = join((1 - fraction) * banded[:, low], fraction * banded[:, high])
                    combine(line[bin_x], combine.reduce(samples, axis=(0, 1), initial=start), out=line[bin_x])
            if largest:
                in_range = (stop - first) * np.diff(x_ends)
                some_outside = (in_range < count_y * count_x) | (in_range == 0)
                line[some_outside] = np.maximum(line[some_outside], 0)
            else:
                line /= max(count_y * count_x, 1)
            block[:, bin_y] = line.T


def _interpolated_rows(
    feature_map: FloatArray,
    rows: SampleGrid,
    first: int,
    stop: int,
    columns: SampleGrid,
    x_ends: list[int],
    join: np.ufunc,
) -> Iterator[tuple[FloatArray, int]]:
    """Yield the map interpolated at samples along y, (some samples, w, C), and the first of the w cells along x."""
    if x_ends[0] == x_ends[-1]:
        return
    left = int(columns.low[x_ends[0] : x_ends[-1]].min())
    right = int(columns.high[x_ends[0] : x_ends[-1]].max()) + 1
    widest = max(right - left, *(end - begin for begin, end in pairwise(x_ends)))
    step = max(1, _BLOCK_VALUES // (widest * feature_map.shape[2]))
    for begin in range(first, stop, step):
        part = slice(begin, min(begin + step, stop))
        fraction = rows.fraction[part][:, None, None]
        above, below = feature_map[rows.low[part], left:right], feature_map[rows.high[part], left:right]
        yield join((1 - fraction) * above, fraction * below), left
