"""Pool the boxes of maps that are laid out, whatever the operator, and see to cells that are not finite.

RoIs of all maps of one size are placed at once, since where they lie does not depend on what the maps hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from roicli.pooling.kernels.choose import NUMPY_KERNEL, Kernel
from roicli.pooling.operators import find
from roicli.pooling.placement import Placement
from roicli.pooling.sampling import FloatArray, IntArray, cells_in_reach
from roicli.spec import PoolSpec

# Samples and weights are made for as many RoIs at once as keep each of their arrays below so many values.
_CHUNK_VALUES = 2**19


def pool_maps(
    maps: Callable[[int], FloatArray],
    placement: Placement,
    size: tuple[int, ...],
    spec: PoolSpec,
    out: FloatArray,
    kernel: Kernel = NUMPY_KERNEL,
) -> int:
    """Pool K boxes of maps of one size; return how many have a number that is not finite, as cells are that they read.

    A RoI's numbers do not depend on which others are pooled beside it.

    Parameters
    ----------
    maps : callable
        Gives a map by its index as `channels_last` makes it; cells that no box has in reach need not be filled. It is
        asked for each map once, and may give them all in the same memory.
    placement : Placement
        Boxes of one map side by side, finite. They are rounded to the dtype of the maps.
    size : (int, int)
        Height and width of all these maps, in cells.
    spec, kernel
        What to compute, and what contracts averages.
    out : (K, C, PH, PW), or (K, C) where the bins are averaged away
        Contiguous, of the dtype of the maps.
    """
    operator = find(spec.op)
    regions, map_index = placement.rounded(out.dtype), placement.map_index
    out = out.reshape(*out.shape[:2], *spec.pooled_size)
    per_roi = max(bins * max(length, spec.sampling_ratio) for bins, length in zip(spec.output_size, size, strict=True))
    step = max(1, _CHUNK_VALUES // per_roi)
    not_finite = 0
    held: tuple[int, FloatArray] | None = None
    with np.errstate(invalid="ignore", over="ignore"):
        for begin in range(0, len(regions), step):
            chunk = slice(begin, begin + step)
            placed = operator.place(regions.take(chunk), size, spec, kernel)
            for first, stop in runs(map_index[chunk]):
                rows = slice(begin + first, begin + stop)
                if held is None or held[0] != map_index[rows.start]:
                    held = None  # or it would stay in memory beside the next
                    held = int(map_index[rows.start]), maps(int(map_index[rows.start]))
                placed.pool(held[1], first, stop, out[rows])
                if not _is_harmless(held[1], regions, rows, spec, out[rows].size):
                    not_finite += placed.repair(held[1], first, stop, out[rows])
    return not_finite


def runs(map_index: IntArray) -> Iterator[tuple[int, int]]:
    """Yield the first and the stop of each run of boxes of one map."""
    return pairwise([*np.flatnonzero(np.diff(map_index, prepend=-1)).tolist(), len(map_index)])


def _is_harmless(feature_map: FloatArray, regions: Placement, rows: slice, spec: PoolSpec, written: int) -> bool:
    """Tell whether all cells in reach are finite, if that is faster to see than in what was written."""
    if written <= feature_map.size:
        return False
    reach = feature_map[cells_in_reach(regions.take(rows), spec.rule, *feature_map.shape[:2])]
    # Neither infinite nor NaN, and too small for any sum of them to overflow.
    bound = np.finfo(feature_map.dtype).max / 4
    return bool(reach.size and reach.min() > -bound and reach.max() < bound)
