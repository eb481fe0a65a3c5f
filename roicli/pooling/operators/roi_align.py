"""RoIAlign: the mean, or the maximum, of interpolated samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from roicli.errors import UsageError
from roicli.pooling.kernels.choose import Kernel
from roicli.pooling.kernels.pointwise import pool_pointwise
from roicli.pooling.operators.base import Operator, Placed, not_finite
from roicli.pooling.operators.contracted import Contracted
from roicli.pooling.placement import Placement
from roicli.pooling.sampling import (
    Bins,
    FloatArray,
    IntArray,
    in_range,
    make_bins,
    neighbours,
    sample_coordinates,
    sample_grid,
    sides,
    too_large,
)
from roicli.pooling.weights import axis_weights, cells_read
from roicli.spec import Mode, PoolSpec

if TYPE_CHECKING:
    from roicli.pooling.reads import Axis, Reads

# A table, a JSON document or a picture of more samples would be of use to nobody.
MAX_SAMPLES = 2**17


class RoIAlign(Operator):
    """RoIAlign (He et al., "Mask R-CNN", 2017), with the numbers of torchvision."""

    name, title = "roi_align", "RoIAlign"
    bin = "the mean of interpolated samples, or their maximum"
    modes: tuple[Mode, ...] = ("avg", "max", "weighted-max")

    def contracts(self, spec: PoolSpec) -> bool:
        """Tell whether a kernel computes it: means are contractions, maxima are not."""
        return spec.mode == "avg"

    def place(self, regions: Placement, size: tuple[int, ...], spec: PoolSpec, kernel: Kernel) -> Placed:
        """Sample every bin; for means, sum the samples' weights along each axis."""
        rows, columns = _bins(regions, size, spec)
        return _Averages(rows, columns, spec, kernel) if spec.mode == "avg" else _Samples(rows, columns, spec)

    def extents(self, regions: Placement, size: tuple[int, ...] | NDArray[np.float64], spec: PoolSpec) -> FloatArray:
        """Return the regions after the scale, and the shift or the least extent."""
        rows, columns = _bins(regions, size, spec)
        return np.stack([columns.begin(), rows.begin(), columns.end(), rows.end()], axis=1)

    def reads(self, regions: Placement, size: tuple[int, ...], spec: PoolSpec) -> NDArray[np.bool_]:
        """Tell which regions have a sample in range along both axes."""
        found = np.ones(len(regions), np.bool_)
        for bins in _bins(regions, size, spec):
            grid = sample_grid(bins._replace(samples=np.maximum(bins.samples, 1)))
            found &= np.bincount(grid.bin_index // bins.number, minlength=len(regions)) > 0
        return found

    def is_empty(self, regions: Placement, spec: PoolSpec) -> NDArray[np.bool_]:
        """Tell which regions adaptive sampling gives no sample; inverted ones are not among them."""
        if not (spec.adaptive and spec.aligned):
            return np.zeros(len(regions), np.bool_)
        rows, columns = _bins(regions, (1, 1), spec)
        upright = (regions.boxes[:, 2:] >= regions.boxes[:, :2]).all(axis=1)
        return np.asarray(upright & ((rows.samples == 0) | (columns.samples == 0)))

    def is_too_large(self, regions: Placement, spec: PoolSpec) -> NDArray[np.bool_]:
        """Tell which regions `make_bins` refuses."""
        y, x = (too_large(*axis, spec) for axis in zip(sides(regions), spec.output_size, strict=True))
        return y | x

    def trace(self, region: Placement, size: tuple[int, ...], spec: PoolSpec, bin: tuple[int, int]) -> Reads:
        """Return the samples of one bin."""
        from roicli.pooling.reads import crossed  # few jobs trace

        rows, columns = _bins(region, size, spec)
        ny, nx = int(rows.samples[0]), int(columns.samples[0])
        if ny * nx > MAX_SAMPLES:
            raise UsageError(
                f"bin {bin[0]},{bin[1]} has {ny} x {nx} samples, more than can be traced ({MAX_SAMPLES:,})",
                "Is `spatial_scale` missing? Else give a `sampling_ratio`."
                if spec.adaptive
                else "Give a smaller `sampling_ratio`.",
            )
        change = "shifted by half a cell" if spec.aligned else ""
        if spec.rule is not None:
            change = "laid out as the convention does"
        elif not spec.aligned and any(high - low < 1 for low, high in (side.scaled() for side in sides(region))):
            change = "at least one cell, since not aligned"
        y, x = _trace_axis(rows, bin[0]), _trace_axis(columns, bin[1])
        return crossed(y, x, self.extents(region, size, spec)[0], change)

    def combine(self, values: FloatArray, spec: PoolSpec) -> tuple[float, int | None]:
        """Return the mean in float64, or the maximum."""
        if spec.mode != "avg" and len(values):
            best = int(np.argmax(values))
            if values[best] < 0 and spec.rule is not None and spec.rule.positive:
                return 0.0, None
            return float(values[best]), best
        return super().combine(values, spec)

    def convention(self, spec: PoolSpec) -> str:
        """Name the shift, the sampling and the mode."""
        aligned = "aligned" if spec.aligned else "not aligned"
        sampling = "adaptive" if spec.adaptive else f"sampling ratio {spec.sampling_ratio}"
        return f"{self.title} {aligned}, {sampling}" + (f", {spec.mode}" if spec.mode != "avg" else "")

    def inverted(self, spec: PoolSpec) -> str:
        """Say what becomes of inverted boxes: only those that span at least one cell are enlarged."""
        if spec.least:
            return super().inverted(spec)
        counted = spec.adaptive and (spec.rule is None or spec.rule.samples == "ratio")
        return "zeros in the output" if counted else "pooled backwards, as torchvision does"

    def sampling(self, spec: PoolSpec) -> str:
        """Say where the number of samples comes from."""
        if spec.rule is not None and spec.rule.samples != "ratio":
            corners = spec.rule.samples == "corners"
            return "one a bin, evenly from end to end of the box" if corners else "one a bin, in its middle"
        rounded = "down" if spec.rule is not None and spec.rule.floor else "up"
        return f"adaptive: one a cell, rounded {rounded}" if spec.adaptive else "fixed by the sampling ratio"


def _bins(regions: Placement, size: tuple[int, ...] | NDArray[np.float64], spec: PoolSpec) -> list[Bins]:
    """Place the bins along y and along x."""
    return [make_bins(*axis, spec) for axis in zip(sides(regions), spec.output_size, size, strict=True)]


def _trace_axis(bins: Bins, bin: int) -> Axis:
    """Return the samples of one bin; one out of range is shown at the nearest cells, with weights that nobody uses."""
    from roicli.pooling.reads import Axis

    number, sample = np.indices((bins.number, int(bins.samples[0])))
    samples = sample_coordinates(bins, number, sample)
    at = samples[bin]
    shown = at if bins.edge == "extend" else np.clip(at, -1, bins.length)
    low, high, fraction = neighbours(shown, bins.length, bins.edge)
    return Axis(
        edges=bins.edges(),
        samples=samples,
        at=at,
        cells=np.stack([low, high], axis=1),
        weights=np.stack([1 - fraction, fraction], axis=1),
        in_range=in_range(at, bins.length, bins.edge),
        clamped=(at < 0) & (bins.edge != "extend") | (at > bins.length - 1),
    )


class _Samples(Placed):
    """Every sample interpolated: maxima, and averages of regions with cells that are not finite."""

    def __init__(self, rows: Bins, columns: Bins, spec: PoolSpec) -> None:
        super().__init__(spec)
        self._rows, self._columns = rows, columns

    def pool(self, feature_map: FloatArray, first: int, stop: int, out: FloatArray) -> None:
        self.interpolate(feature_map, slice(first, stop), out)

    def interpolate(self, feature_map: FloatArray, rois: IntArray | slice, out: FloatArray) -> None:
        """Pool some of the regions."""
        rows, columns = (sample_grid(bins.take(rois)) for bins in (self._rows, self._columns))
        with self.blocks(out) as blocks:
            pool_pointwise(feature_map, rows, columns, self._spec.mode, blocks)
            if self._spec.mode != "avg" and self._spec.rule is not None and self._spec.rule.positive:
                np.maximum(blocks, 0, out=blocks)


class _Averages(Contracted):
    """One weight matrix an axis, contracted with the map."""

    def __init__(self, rows: Bins, columns: Bins, spec: PoolSpec, kernel: Kernel) -> None:
        grid_y, grid_x = sample_grid(rows), sample_grid(columns)
        cells_y, cells_x = cells_read(grid_y), cells_read(grid_x)
        window = (cells_y.stop - cells_y.first) * (cells_x.stop - cells_x.first)
        whole = window <= kernel.sparse * cells_y.number() * cells_x.number()
        mean = spec.reduce == "mean"
        weights_y = axis_weights(grid_y, cells_y, whole, mean=mean)
        weights_x = axis_weights(grid_x, cells_x, whole, mean=mean)
        super().__init__(weights_y, weights_x, spec, kernel)
        self._samples = _Samples(rows, columns, spec)

    def repair(self, feature_map: FloatArray, first: int, stop: int, out: FloatArray) -> int:
        """Pool regions again whose window holds a cell that is not finite: it has spread over the whole block."""
        broken = not_finite(out)
        if not len(broken):
            return 0
        again = np.empty((len(broken), *out.shape[1:]), out.dtype)
        self._samples.interpolate(feature_map, first + broken, again)
        out[broken] = again
        return len(not_finite(again))


OPERATOR = RoIAlign()
