"""RoIPool: the maximum over whole cells, the predecessor of RoIAlign."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from roicli.errors import UsageError
from roicli.pooling.kernels.choose import Kernel
from roicli.pooling.kernels.maximum import pool_maximum
from roicli.pooling.operators.base import Axis, Operator, Placed, Reads, crossed
from roicli.pooling.sampling import CellRanges, FloatArray, cell_ranges, sides
from roicli.spec import Mode, PoolSpec

# torchvision begins with the lowest float32 and looks for what is greater, which NaN never is.
LOWEST = -float(np.finfo(np.float32).max)


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

    def place(
        self, boxes: FloatArray, scale: FloatArray, size: tuple[int, ...], spec: PoolSpec, kernel: Kernel
    ) -> Placed:
        """Round boxes and bins to whole cells."""
        return _Cells(*_ranges(boxes, scale, size, spec), spec)

    def extents(self, boxes: FloatArray, scale: FloatArray, spec: PoolSpec) -> FloatArray:
        """Return the edges of the cells, which lie half a cell from their centres."""
        rows, columns = _ranges(boxes, scale, (1, 1), spec)
        start = np.stack([columns.start, rows.start], axis=1)
        extent = np.stack([columns.extent, rows.extent], axis=1)
        return (np.concatenate([start, start + extent], axis=1) - 0.5).astype(boxes.dtype)

    def reads(self, boxes: FloatArray, scale: FloatArray, size: tuple[int, ...], spec: PoolSpec) -> NDArray[np.bool_]:
        """Tell which regions have a cell on the map."""
        rows, columns = _ranges(boxes, scale, size, spec)
        some_rows, some_columns = rows.stop > rows.first, columns.stop > columns.first
        return np.asarray(some_rows.any(axis=1) & some_columns.any(axis=1))

    def trace(
        self, box: FloatArray, scale: FloatArray, size: tuple[int, ...], spec: PoolSpec, bin: tuple[int, int]
    ) -> Reads:
        """Return the cells of one bin, each as a sample at its centre."""
        rows, columns = _ranges(box, scale, size, spec)
        y, x = _trace_axis(rows, bin[0], box.dtype), _trace_axis(columns, bin[1], box.dtype)
        return crossed(y, x, self.extents(box, scale, spec)[0], "rounded to whole cells, both ends included")

    def combine(self, values: FloatArray, spec: PoolSpec) -> tuple[float, int | None]:
        """Return the maximum, which passes over NaN; zero without cells."""
        if not (values > LOWEST).any():
            return LOWEST if len(values) else 0.0, None
        best = int(np.argmax(np.where(values > LOWEST, values, -np.inf)))
        return float(values[best]), best

    def sampling(self, spec: PoolSpec) -> str:
        """Say what a bin is made of."""
        return "whole cells on the map"


def _ranges(
    boxes: FloatArray, scale: FloatArray, size: tuple[int, ...], spec: PoolSpec
) -> tuple[CellRanges, CellRanges]:
    """Place the bins along y and along x."""
    rows, columns = sides(boxes, scale)
    return cell_ranges(rows, spec.output_size[0], size[0]), cell_ranges(columns, spec.output_size[1], size[1])


def _trace_axis(ranges: CellRanges, bin: int, dtype: np.dtype[np.floating]) -> Axis:
    """Return the cells of one bin of one region along one axis."""
    cells = np.arange(ranges.first[0, bin], ranges.stop[0, bin])
    weights = np.zeros((len(cells), 2), dtype)
    weights[:, 0] = 1
    return Axis(
        edges=np.stack([ranges.begin[0], ranges.end[0]], axis=1) - dtype.type(0.5),
        samples=np.empty((ranges.first.shape[1], 0), dtype),
        at=cells.astype(dtype),
        cells=np.stack([cells, cells], axis=1),
        weights=weights,
        in_range=np.ones(len(cells), np.bool_),
        clamped=np.zeros(len(cells), np.bool_),
    )


class _Cells(Placed):
    """Regions as ranges of whole cells."""

    def __init__(self, rows: CellRanges, columns: CellRanges, spec: PoolSpec) -> None:
        super().__init__(spec)
        self._rows, self._columns = rows, columns

    def pool(self, feature_map: FloatArray, first: int, stop: int, out: FloatArray) -> None:
        rois = slice(first, stop)
        with self.blocks(out) as blocks:
            pool_maximum(feature_map, self._rows.take(rois), self._columns.take(rois), blocks)


OPERATOR = RoIPool()
