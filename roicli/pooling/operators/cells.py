"""Operators that take whole cells: each bin is a range of them along y and along x."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from roicli.pooling.kernels.choose import Kernel
from roicli.pooling.operators.base import Placed
from roicli.pooling.operators.contracted import Contracted, Unsampled
from roicli.pooling.placement import Placement
from roicli.pooling.reads import Axis, Reads, crossed
from roicli.pooling.sampling import CellRanges, FloatArray, IntArray, Sides, sides
from roicli.pooling.weights import AxisWeights, window_weights
from roicli.spec import PoolSpec


class WholeCells(Unsampled):
    """The mean of whole cells; a bin without a cell on the map is zero."""

    takes = "the mean of whole cells"
    change: str  # what is done to a box after the scale, in words

    @abstractmethod
    def ranges(self, sides: Sides, number: int, length: int) -> CellRanges:
        """Place the bins along one axis."""

    def place(self, regions: Placement, size: tuple[int, ...], spec: PoolSpec, kernel: Kernel) -> Placed:
        """Give the cells of a bin equal weights."""
        mean, dtype = spec.reduce == "mean", regions.boxes.dtype
        rows, columns = (_weights(ranges, dtype, mean=mean) for ranges in self.both(regions, size, spec))
        return Contracted(rows, columns, spec, kernel)

    def extents(self, regions: Placement, size: tuple[int, ...] | NDArray[np.float64], spec: PoolSpec) -> FloatArray:
        """Return the edges of the cells, which lie half a cell from their centres."""
        rows, columns = self.both(regions, (1, 1), spec)
        ends = (cells.start + cells.extent for cells in (columns, rows))
        return (np.stack([columns.start, rows.start, *ends], axis=1) - 0.5).astype(regions.boxes.dtype)

    def reads(self, regions: Placement, size: tuple[int, ...], spec: PoolSpec) -> NDArray[np.bool_]:
        """Tell which regions have a cell on the map."""
        rows, columns = self.both(regions, size, spec)
        return np.asarray((rows.stop > rows.first).any(axis=1) & (columns.stop > columns.first).any(axis=1))

    def trace(self, region: Placement, size: tuple[int, ...], spec: PoolSpec, bin: tuple[int, int]) -> Reads:
        """Return the cells of one bin, each as a sample at its centre."""
        dtype = region.boxes.dtype
        y, x = (_axis(ranges, at, dtype) for ranges, at in zip(self.both(region, size, spec), bin, strict=True))
        return crossed(y, x, self.extents(region, size, spec)[0], self.change)

    def sampling(self, spec: PoolSpec) -> str:
        """Say what a bin is made of."""
        return "whole cells on the map"

    def both(self, regions: Placement, size: tuple[int, ...], spec: PoolSpec) -> list[CellRanges]:
        """Place the bins along y and along x."""
        return [self.ranges(*axis) for axis in zip(sides(regions), spec.output_size, size, strict=True)]


def _weights(ranges: CellRanges, dtype: np.dtype[np.floating], *, mean: bool) -> AxisWeights:
    number = np.maximum(ranges.stop - ranges.first, 1)
    read = ranges.stop > ranges.first
    first = np.where(read, ranges.first, np.iinfo(np.intp).max).min(axis=1)
    stop = np.where(read, ranges.stop, 0).max(axis=1)

    def weights_of(roi: IntArray, cell: IntArray) -> NDArray[np.float64]:
        inside = (cell[:, None] >= ranges.first[roi]) & (cell[:, None] < ranges.stop[roi])
        return np.asarray(inside / number[roi])

    return window_weights(np.minimum(first, stop), stop, weights_of, dtype, mean=mean)


def _axis(ranges: CellRanges, bin: int, dtype: np.dtype[np.floating]) -> Axis:
    """Return the cells of one bin of one region along one axis."""
    cells = np.arange(ranges.first[0, bin], ranges.stop[0, bin])
    return Axis(
        edges=np.stack([ranges.begin[0], ranges.end[0]], axis=1) - dtype.type(0.5),
        samples=np.empty((ranges.first.shape[1], 0), dtype),
        at=cells.astype(dtype),
        cells=np.stack([cells, cells], axis=1),
        weights=np.tile(np.array([1, 0], dtype), (len(cells), 1)),
        in_range=np.ones(len(cells), np.bool_),
        clamped=np.zeros(len(cells), np.bool_),
    )
