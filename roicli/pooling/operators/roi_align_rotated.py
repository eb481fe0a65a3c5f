"""Rotated RoIAlign: the mean of interpolated samples in a box that is turned about its centre."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from roicli.pooling.kernels.choose import Kernel
from roicli.pooling.operators.base import Operator, Placed, not_finite, reduce_bins
from roicli.pooling.placement import Placement
from roicli.pooling.reads import Reads
from roicli.pooling.sampling import FloatArray, IntArray
from roicli.pooling.turned import TurnedBins, too_many, turned_bins, turned_samples
from roicli.spec import PoolSpec

# Samples that are made at once.
_AT_ONCE = 2**17


class RoIAlignRotated(Operator):
    """RoIAlign in turned boxes (Ma et al., "Arbitrary-Oriented Scene Text Detection", 2018), as detectron2 has it.

    It is always aligned; with an angle of 0 it is aligned RoIAlign.
    """

    name, title = "roi_align_rotated", "RoIAlignRotated"
    bin = "the mean of interpolated samples in a turned box"
    turns = may_miss = True

    def settle(self, spec: PoolSpec) -> PoolSpec:
        """Return the settings with the shift that is always there."""
        return replace(spec, aligned=True)

    def adopt(self, spec: PoolSpec) -> PoolSpec:
        """Return other settings with the shift."""
        return self.settle(super().adopt(spec))

    def place(self, regions: Placement, size: tuple[int, ...], spec: PoolSpec, kernel: Kernel) -> Placed:
        """Place the bins; their samples are made when they are pooled."""
        return _Turned(turned_bins(regions, spec), size, spec)

    def extents(self, regions: Placement, size: tuple[int, ...] | NDArray[np.float64], spec: PoolSpec) -> FloatArray:
        """Return the upright boxes around the turned ones."""
        bins = turned_bins(regions, spec)
        sides = bins.size * np.array(bins.number, bins.size.dtype)
        cosine, sine = np.abs(bins.cosine), np.abs(bins.sine)
        half_y = (sides[:, 1] * sine + sides[:, 0] * cosine) / 2
        half_x = (sides[:, 1] * cosine + sides[:, 0] * sine) / 2
        y, x = bins.centre.T
        return np.stack([x - half_x, y - half_y, x + half_x, y + half_y], axis=1)

    def reads(self, regions: Placement, size: tuple[int, ...], spec: PoolSpec) -> NDArray[np.bool_]:
        """Tell which regions have a sample in range."""
        bins = turned_bins(regions, spec)
        bins = bins._replace(samples=np.maximum(bins.samples, 1))
        rows, columns = map(range, spec.output_size)
        found = [turned_samples(bins, roi, rows, columns, size).in_range.any() for roi in range(len(regions))]
        return np.array(found, np.bool_)

    def is_empty(self, regions: Placement, spec: PoolSpec) -> NDArray[np.bool_]:
        """Tell which regions adaptive sampling gives no sample."""
        return np.asarray((turned_bins(regions, spec).samples == 0).any(axis=1))

    def is_too_large(self, regions: Placement, spec: PoolSpec) -> NDArray[np.bool_]:
        """Tell which regions have more samples than are made."""
        return too_many(turned_bins(regions, spec))

    def trace(self, region: Placement, size: tuple[int, ...], spec: PoolSpec, bin: tuple[int, int]) -> Reads:
        """Return the samples of one bin; the region and its bins as they are before they are turned."""
        bins = turned_bins(region, spec)
        y, x = bin
        samples = turned_samples(bins, 0, range(y, y + 1), range(x, x + 1), size)
        start, (cy, cx) = bins.start(0), bins.centre[0]
        edges = [
            centre + first + np.arange(number + 1).astype(bins.size.dtype) * side
            for centre, first, number, side in zip((cy, cx), start, bins.number, bins.size[0], strict=True)
        ]
        (top, *_, bottom), (left, *_, right) = (line.tolist() for line in edges)
        empty = np.empty((0, 0), bins.size.dtype)
        ends = np.array(size, bins.size.dtype) - 1
        angle = 0.0 if region.turned is None else float(region.turned[0, 4])
        return Reads(
            grid=(int(bins.samples[0, 0]), int(bins.samples[0, 1])),
            roi=(left, top, right, bottom),
            change=f"shifted by half a cell, then turned by {angle:g} degrees",
            bin_rows=np.stack([edges[0][:-1], edges[0][1:]], axis=1),
            bin_columns=np.stack([edges[1][:-1], edges[1][1:]], axis=1),
            sample_rows=empty,
            sample_columns=empty,
            y=samples.y,
            x=samples.x,
            rows=samples.rows,
            columns=samples.columns,
            weights=samples.weights,
            in_range=samples.in_range,
            clamped=samples.in_range
            & ((samples.y < 0) | (samples.x < 0) | (samples.y > ends[0]) | (samples.x > ends[1])),
            angle=angle,
        )

    def inverted(self, spec: PoolSpec) -> str:
        """Say what becomes of inverted boxes."""
        return "zeros in the output"

    def convention(self, spec: PoolSpec) -> str:
        """Name the sampling."""
        return f"{self.title}, " + ("adaptive" if spec.adaptive else f"sampling ratio {spec.sampling_ratio}")

    def sampling(self, spec: PoolSpec) -> str:
        """Say where the number of samples comes from."""
        return "adaptive: one a cell, rounded up" if spec.adaptive else "fixed by the sampling ratio"


class _Turned(Placed):
    """Turned regions: the samples of some rows of bins become a matrix of weights of the cells that they read."""

    def __init__(self, bins: TurnedBins, size: tuple[int, ...], spec: PoolSpec) -> None:
        super().__init__(spec)
        self._bins, self._size = bins, size

    def pool(self, feature_map: FloatArray, first: int, stop: int, out: FloatArray) -> None:
        cells_of = feature_map.reshape(-1, feature_map.shape[2])
        with self.blocks(out) as blocks:
            for roi, block in enumerate(blocks, first):
                for rows in self._parts(roi):
                    cells, weights = self._matrix(roi, rows)
                    block[:, rows.start : rows.stop] = (weights @ cells_of[cells]).T.reshape(len(block), len(rows), -1)

    def scatter(self, grad: FloatArray, first: int, stop: int, out: FloatArray) -> None:
        """Add the weighted gradient of each bin to the cells that it reads."""
        cells_of = out.reshape(-1, out.shape[2])
        for roi, block in enumerate(grad, first):
            for rows in self._parts(roi):
                cells, weights = self._matrix(roi, rows)
                cells_of[cells] += weights.T @ block[:, rows.start : rows.stop].reshape(len(block), -1).T

    def repair(self, feature_map: FloatArray, first: int, stop: int, out: FloatArray) -> int:
        """Pool regions again bin by bin: a cell that is not finite has spread over all bins of a row."""
        broken = not_finite(out)
        cells_of = feature_map.reshape(-1, feature_map.shape[2])
        height, width = self._spec.output_size
        for roi in broken.tolist():
            block = np.zeros((1, feature_map.shape[2], height, width), out.dtype)
            for y, x in np.ndindex(height, width):
                cells, weights = self._matrix(first + roi, range(y, y + 1), range(x, x + 1))
                block[0, :, y, x] = weights[0] @ cells_of[cells]
            if self._spec.reduce == "none":
                out[roi] = block[0]
            else:
                reduce_bins(block, self._spec.reduce, out[roi : roi + 1])
        return len(not_finite(out[broken]))

    def _parts(self, roi: int) -> list[range]:
        """Cut the rows of bins so that samples fit into memory."""
        height, width = self._spec.output_size
        a_row = max(1, int(self._bins.samples[roi].prod()) * width)
        step = max(1, _AT_ONCE // a_row)
        return [range(first, min(first + step, height)) for first in range(0, height, step)]

    def _matrix(self, roi: int, rows: range, columns: range | None = None) -> tuple[IntArray, FloatArray]:
        """Return the cells that some bins read, and the weights of each bin, (bins, cells)."""
        columns = range(self._spec.output_size[1]) if columns is None else columns
        samples = turned_samples(self._bins, roi, rows, columns, self._size)
        each = max(1, int(self._bins.samples[roi].prod()))
        number = len(rows) * len(columns)
        bins = np.repeat(np.arange(number), each)[: len(samples.y)][samples.in_range]
        cell = (samples.rows[:, [0, 0, 1, 1]] * self._size[1] + samples.columns[:, [0, 1, 0, 1]])[samples.in_range]
        cells, place = np.unique(cell, return_inverse=True)
        share = samples.weights[samples.in_range].astype(np.float64) / each
        flat = bins[:, None] * len(cells) + place.reshape(cell.shape)
        weights = np.bincount(flat.ravel(), share.ravel(), minlength=number * len(cells))
        return cells, weights.reshape(number, len(cells)).astype(samples.y.dtype)


OPERATOR = RoIAlignRotated()
