"""Pooling sample by sample: for the maximum, which is not linear, and for maps with NaN or infinite cells.

Interpolates rows, then columns, and reads no cell but a sample's four neighbours, all four of them, with whatever
weight, as torchvision does: a non-finite cell reaches exactly the bins that read it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from roicli.pooling.sampling import FloatArray, IntArray, SampleGrid
from roicli.spec import Mode

# Samples are made this many values at a time, so that a huge window costs no huge temporary.
_BLOCK_VALUES = 2**20


def pool_pointwise(feature_map: FloatArray, rows: SampleGrid, columns: SampleGrid, mode: Mode, out: FloatArray) -> None:
    """Interpolate every sample of each bin of an (H, W, C) map and take their maximum or their mean.

    Samples out of range count as zero in both; a bin without samples is zero.
    """
    y_splits, x_splits = rows.splits(), columns.splits()
    bins_y, bins_x, channels = rows.bins.number, columns.bins.number, feature_map.shape[2]
    largest = mode != "avg"
    combine = np.maximum if largest else np.add
    join = np.maximum if mode == "weighted-max" else np.add
    for roi, block in enumerate(out):
        y_ends = y_splits[roi * bins_y : (roi + 1) * bins_y + 1]
        x_ends = x_splits[roi * bins_x : (roi + 1) * bins_x + 1]
        pooled = np.full((bins_y, bins_x, channels), -np.inf if largest else 0, feature_map.dtype)
        for bins, first, samples in _interpolated(feature_map, rows, columns, y_ends, x_ends, join):
            lines = np.stack(
                [combine.reduce(samples[begin:end]) for begin, end in pairwise([*first.tolist(), len(samples)])]
            )
            here = bins[first] - roi * bins_y
            for bin_x, (begin, end) in enumerate(pairwise((x_ends - x_ends[0]).tolist())):
                if begin < end:
                    pooled[here, bin_x] = combine(pooled[here, bin_x], combine.reduce(lines[:, begin:end], axis=1))
        in_range = np.multiply.outer(np.diff(y_ends), np.diff(x_ends))
        asked = int(rows.bins.samples[roi]) * int(columns.bins.samples[roi])
        if largest:
            some_outside = (in_range < asked) | (in_range == 0)
            pooled[some_outside] = np.maximum(pooled[some_outside], 0)
        else:
            pooled /= max(asked, 1)
        block[...] = pooled.transpose(2, 0, 1)


def _interpolated(
    feature_map: FloatArray, rows: SampleGrid, columns: SampleGrid, y_ends: IntArray, x_ends: IntArray, join: np.ufunc
) -> Iterator[tuple[IntArray, IntArray, FloatArray]]:
    """Yield samples (some along y, all along x, C) of a RoI, the flat bins of those along y, and where each begins."""
    across = slice(int(x_ends[0]), int(x_ends[-1]))
    if across.start == across.stop:
        return
    low, high, fraction_x = columns.low[across], columns.high[across], columns.fraction[across, None]
    left, right = int(low.min()), int(high.max()) + 1
    step = max(1, _BLOCK_VALUES // (max(right - left, len(low)) * feature_map.shape[2]))
    for begin in range(int(y_ends[0]), int(y_ends[-1]), step):
        part = slice(begin, min(begin + step, int(y_ends[-1])))
        fraction = rows.fraction[part, None, None]
        above, below = feature_map[rows.low[part], left:right], feature_map[rows.high[part], left:right]
        band = join((1 - fraction) * above, fraction * below)
        bins = rows.bin_index[part]
        first = np.flatnonzero(np.diff(bins, prepend=-1))
        yield bins, first, join((1 - fraction_x) * band[:, low - left], fraction_x * band[:, high - left])
