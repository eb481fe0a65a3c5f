"""Pool the boxes of maps that are laid out: chooses the contraction, and sees to cells that are not finite.

RoIs of all maps of one size are placed at once, since where they lie does not depend on what the maps hold.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.pooling.kernels.choose import NUMPY_KERNEL, Kernel
from roicli.pooling.kernels.maximum import pool_maximum
from roicli.pooling.kernels.pointwise import pool_pointwise
from roicli.pooling.placement import Placement, place
from roicli.pooling.sampling import (
    Bins,
    FloatArray,
    IntArray,
    cell_ranges,
    cells_in_reach,
    make_bins,
    sample_grid,
    sides,
)
from roicli.pooling.weights import axis_weights, cells_read
from roicli.spec import PoolSpec

# Samples and weights are made for as many RoIs at once as keep each of their arrays below so many values.
_CHUNK_VALUES = 2**19


def pool_boxes(
    feature_map: FloatArray,
    boxes: NDArray[Any],
    spec: PoolSpec,
    out: FloatArray,
    kernel: Kernel = NUMPY_KERNEL,
    spatial_scale: float = 1.0,
) -> int:
    """Pool K boxes of one map; the other parameters are those of `pool_maps`."""
    placement = place(np.zeros(len(boxes), np.intp), boxes, spatial_scale)
    return pool_maps(lambda _: feature_map, placement, feature_map.shape[:2], spec, out, kernel)


def pool_maps(
    maps: Callable[[int], FloatArray],
    placement: Placement,
    size: tuple[int, ...],
    spec: PoolSpec,
    out: FloatArray,
    kernel: Kernel = NUMPY_KERNEL,
) -> int:
    """Pool K boxes of maps of one size.

    Parameters
    ----------
    maps : callable
        Gives a map by its index as `channels_last` makes it, (H, W, C) float32 or float64; cells that no box has in
        reach need not be filled. It is asked for each map once, and may give them all in the same memory.
    placement : Placement
        Where K boxes lie; boxes of one map side by side, finite. They are rounded to the dtype of the maps.
    size : (int, int)
        Height and width of all these maps, in cells.
    spec : PoolSpec
        What to compute.
    out : (K, C, PH, PW), or (K, C) where the bins are averaged away
        Contiguous, of the dtype of the maps. A RoI's numbers do not depend on which others are pooled beside it.
    kernel : Kernel
        What contracts averages.

    Returns
    -------
    int
        How many RoIs have a number that is not finite, because they read a NaN or infinite cell.
    """
    boxes, scale, map_index = placement.boxes.astype(out.dtype), placement.scale, placement.map_index
    out = out.reshape(*out.shape[:2], *spec.pooled_size)
    per_roi = max(bins * max(length, spec.sampling_ratio) for bins, length in zip(spec.output_size, size, strict=True))
    step = max(1, _CHUNK_VALUES // per_roi)
    not_finite = 0
    held: tuple[int, FloatArray] | None = None
    with np.errstate(invalid="ignore", over="ignore"):
        for begin in range(0, len(boxes), step):
            chunk = slice(begin, begin + step)
            placed = _place(boxes[chunk], _some(scale, chunk), size, spec, kernel)
            for first, stop in _runs(map_index[chunk]):
                rows = slice(begin + first, begin + stop)
                if held is None or held[0] != map_index[rows.start]:
                    held = None  # or it would stay in memory beside the next
                    held = int(map_index[rows.start]), maps(int(map_index[rows.start]))
                placed.pool(held[1], first, stop, out[rows])
                if not _is_harmless(held[1], boxes[rows], _some(scale, rows), out[rows].size):
                    not_finite += placed.mend(held[1], first, stop, out[rows])
    return not_finite


class _Placed(ABC):
    """RoIs that are placed on maps of one size."""

    def __init__(self, spec: PoolSpec) -> None:
        self._spec = spec

    @abstractmethod
    def pool(self, feature_map: FloatArray, first: int, stop: int, out: FloatArray) -> None:
        """Pool the RoIs ``first:stop`` from a map."""

    def mend(self, feature_map: FloatArray, first: int, stop: int, out: FloatArray) -> int:
        """Count the RoIs among ``first:stop`` that are not finite, after what should be finite of them was mended."""
        return len(_not_finite(out))

    @contextmanager
    def _blocks(self, out: FloatArray) -> Iterator[FloatArray]:
        """Yield where whole blocks go: `out` itself, or a buffer whose bins are averaged into it afterwards."""
        if self._spec.reduce == "none":
            yield out
        else:
            blocks = np.empty((*out.shape[:2], *self._spec.output_size), out.dtype)
            yield blocks
            np.mean(blocks, axis=(2, 3), keepdims=True, out=out)


class _Cells(_Placed):
    """RoIPool: the maximum over whole cells."""

    def __init__(self, boxes: FloatArray, scale: FloatArray, size: tuple[int, ...], spec: PoolSpec) -> None:
        super().__init__(spec)
        self._rows, self._columns = map(cell_ranges, sides(boxes, scale), spec.output_size, size)

    def pool(self, feature_map: FloatArray, first: int, stop: int, out: FloatArray) -> None:
        rois = slice(first, stop)
        with self._blocks(out) as blocks:
            pool_maximum(feature_map, self._rows.take(rois), self._columns.take(rois), blocks)


class _Samples(_Placed):
    """Every sample interpolated: maxima, and averages of RoIs with cells that are not finite."""

    def __init__(self, rows: Bins, columns: Bins, spec: PoolSpec) -> None:
        super().__init__(spec)
        self._rows, self._columns = rows, columns

    def pool(self, feature_map: FloatArray, first: int, stop: int, out: FloatArray) -> None:
        self._interpolate(feature_map, slice(first, stop), out)

    def _interpolate(self, feature_map: FloatArray, rois: IntArray | slice, out: FloatArray) -> None:
        rows, columns = (sample_grid(bins.take(rois)) for bins in (self._rows, self._columns))
        with self._blocks(out) as blocks:
            pool_pointwise(feature_map, rows, columns, self._spec.mode, blocks)


class _Averages(_Samples):
    """One weight matrix an axis, contracted with the map."""

    def __init__(self, rows: Bins, columns: Bins, spec: PoolSpec, kernel: Kernel) -> None:
        super().__init__(rows, columns, spec)
        grid_y, grid_x = sample_grid(rows), sample_grid(columns)
        cells_y, cells_x = cells_read(grid_y), cells_read(grid_x)
        window = (cells_y.stop - cells_y.first) * (cells_x.stop - cells_x.first)
        whole = window <= kernel.sparse * cells_y.number() * cells_x.number()
        mean = spec.reduce == "mean"
        self._weights_y = axis_weights(grid_y, cells_y, whole, mean=mean)
        self._weights_x = axis_weights(grid_x, cells_x, whole, mean=mean)
        self._contract = kernel.contract

    def pool(self, feature_map: FloatArray, first: int, stop: int, out: FloatArray) -> None:
        self._contract(feature_map, self._weights_y.part(first, stop), self._weights_x.part(first, stop), out)

    def mend(self, feature_map: FloatArray, first: int, stop: int, out: FloatArray) -> int:
        """Pool RoIs again whose window holds a cell that is not finite: it has spread over the whole block."""
        spoilt = _not_finite(out)
        if not len(spoilt):
            return 0
        again = np.empty((len(spoilt), *out.shape[1:]), out.dtype)
        self._interpolate(feature_map, first + spoilt, again)
        out[spoilt] = again
        return len(_not_finite(again))


def _some(scale: FloatArray, rows: slice) -> FloatArray:
    return scale if len(scale) == 1 else scale[rows]


def _place(boxes: FloatArray, scale: FloatArray, size: tuple[int, ...], spec: PoolSpec, kernel: Kernel) -> _Placed:
    if spec.op == "roi_pool":
        return _Cells(boxes, scale, size, spec)
    rows, columns = (
        make_bins(axis, number, length, spec)
        for axis, number, length in zip(sides(boxes, scale), spec.output_size, size, strict=True)
    )
    return _Samples(rows, columns, spec) if spec.mode == "max" else _Averages(rows, columns, spec, kernel)


def _runs(map_index: IntArray) -> Iterator[tuple[int, int]]:
    """First and stop of each run of boxes of one map."""
    return pairwise([*np.flatnonzero(np.diff(map_index, prepend=-1)).tolist(), len(map_index)])


def _is_harmless(feature_map: FloatArray, boxes: FloatArray, scale: FloatArray, written: int) -> bool:
    """Whether a look at the map tells, sooner than one at what was written, that nothing can have gone wrong."""
    if written <= feature_map.size:
        return False
    height, width, _ = feature_map.shape
    reach = feature_map[cells_in_reach(boxes, scale, height, width)]
    # Neither infinite nor NaN, and too small for any sum of them to overflow.
    bound = np.finfo(feature_map.dtype).max / 4
    return bool(reach.size and reach.min() > -bound and reach.max() < bound)


def _not_finite(blocks: FloatArray) -> IntArray:
    """RoIs with a NaN or an infinity; the sums tell it for all values at the price of reading them once."""
    if math.isfinite(blocks.sum()):
        return np.empty(0, np.intp)
    flat = blocks.reshape(len(blocks), -1)
    suspects = np.flatnonzero(~np.isfinite(flat.sum(axis=1)))
    return suspects[~np.isfinite(flat[suspects]).all(axis=1)]
