"""RoIPool: the maximum over whole cells, the predecessor of RoIAlign."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from roicli.errors import UsageError
from roicli.pooling.bintrace import Axis, Reads, crossed
from roicli.pooling.kernels.choose import Kernel
from roicli.pooling.kernels.maximum import LOWEST, pool_maximum
from roicli.pooling.operators.base import Operator, Placed
from roicli.pooling.placement import Placement
from roicli.pooling.sampling import CellRanges, FloatArray, cell_ranges, sides
from roicli.spec import Mode, PoolSpec


class RoIPool(Operator):
    """RoIPool (Girshick, "Fast R-CNN", 2015), with the numbers of torchvision."""

    name, title, noun = "roi_pool", "RoIPool", "cell"
    modes: tuple[Mode, ...] = ("max",)
    interpolates = False

    def check(self, spec: PoolSpec) -> None:
        """Refuse a shift, samples and means."""
        if spec.aligned or not spec.adaptive or spec.mode != "max":
            raise UsageError(
                "RoIPool takes the maximum over whole cells: it has no half-cell shift, no samples and no average",
                "Leave out `aligned`, `sampling_ratio` and `mode`, or give `op=roi_align`.",
            )

    def adopt(self, spec: PoolSpec) -> PoolSpec:
        """Return other settings without a shift and without a sampling ratio."""
        return replace(super().adopt(spec), aligned=False, sampling_ratio=-1)

    def place(self, regions: Placement, size: tuple[int, ...], spec: PoolSpec, kernel: Kernel) -> Placed:
        """Round boxes and bins to whole cells."""
        rows, columns = _ranges(regions, size, spec)
        return _Cells(rows, columns, spec)

    def extents(self, regions: Placement, spec: PoolSpec) -> FloatArray:
        """Return the edges of the cells, which lie half a cell from their centres."""
        rows, columns = _ranges(regions, (1, 1), spec)
        ends = (cells.start + cells.extent for cells in (columns, rows))
        return (np.stack([columns.start, rows.start, *ends], axis=1) - 0.5).astype(regions.boxes.dtype)

    def reads(self, regions: Placement, size: tuple[int, ...], spec: PoolSpec) -> NDArray[np.bool_]:
        """Tell which regions have a cell on the map."""
        rows, columns = _ranges(regions, size, spec)
        return np.asarray((rows.stop > rows.first).any(axis=1) & (columns.stop > columns.first).any(axis=1))

    def trace(self, region: Placement, size: tuple[int, ...], spec: PoolSpec, bin: tuple[int, int]) -> Reads:
        """Return the cells of one bin, each as a sample at its centre."""
        rows, columns = _ranges(region, size, spec)
        y, x = _trace_axis(rows, bin[0], region.boxes.dtype), _trace_axis(columns, bin[1], region.boxes.dtype)
        return crossed(y, x, self.extents(region, spec)[0], "rounded to whole cells, both ends included")

    def combine(self, values: FloatArray, spec: PoolSpec) -> tuple[float, int | None]:
        """Return the maximum, which passes over NaN; zero without cells."""
        if not (values > LOWEST).any():
            return LOWEST if len(values) else 0.0, None
        best = int(np.argmax(np.where(values > LOWEST, values, -np.inf)))
        return float(values[best]), best

    def sampling(self, spec: PoolSpec) -> str:
        """Say what a bin is made of."""
        return "whole cells on the map"


def _ranges(regions: Placement, size: tuple[int, ...], spec: PoolSpec) -> list[CellRanges]:
    """Place the bins along y and along x."""
    return [cell_ranges(*axis) for axis in zip(sides(regions), spec.output_size, size, strict=True)]


def _trace_axis(ranges: CellRanges, bin: int, dtype: np.dtype[np.floating]) -> Axis:
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


class _Cells(Placed):
    """Regions as ranges of whole cells."""

    def __init__(self, rows: CellRanges, columns: CellRanges, spec: PoolSpec) -> None:
        super().__init__(spec)
        self._rows, self._columns = rows, columns

    def pool(self, feature_map: FloatArray, first: int, stop: int, out: FloatArray) -> None:
        rows, columns = (ranges.take(slice(first, stop)) for ranges in (self._rows, self._columns))
        with self.blocks(out) as blocks:
            pool_maximum(feature_map, rows, columns, blocks)


OPERATOR = RoIPool()
