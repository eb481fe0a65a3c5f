"""Mask pooling: the mean, or the maximum, of the cells under the mask of a region."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from roicli.errors import UsageError
from roicli.pooling.kernels.choose import Kernel
from roicli.pooling.masks import cell_weights
from roicli.pooling.operators.base import Operator, Placed, not_finite
from roicli.pooling.placement import Placement
from roicli.pooling.reads import Reads
from roicli.pooling.sampling import FloatArray, in_map
from roicli.spec import PoolSpec


class MaskMean(Operator):
    """The mean of the cells under a mask, weighted by a rule of `roicli.pooling.masks`: one vector a region."""

    name, title, noun = "mask_mean", "mask pooling", "cell"
    bin = "the mean of the cells under the mask of the region, weighted by a rule: one vector a region"
    interpolates = False
    masks = True

    def check(self, spec: PoolSpec) -> None:
        """Refuse what is of boxes and bins, and maxima of an enlarged map."""
        super().check(spec)
        if spec.aligned or not spec.adaptive:
            raise UsageError(
                "mask pooling takes the cells under a mask: it has no half-cell shift and no samples",
                "Leave out `aligned` and `sampling_ratio`.",
            )
        if spec.reduce == "max" and spec.mask_rule == "upsampled":
            raise UsageError(
                "the mask rule upsampled has no maximum: the enlarged map is never made",
                "Give another rule, such as `mask_rule=coverage`.",
            )

    def settle(self, spec: PoolSpec) -> PoolSpec:
        """Return the settings with one bin, which is averaged away: a mask gives one vector."""
        if spec.output_size not in ((1, 1), (7, 7)):  # the default of other operators is not a wish
            height, width = spec.output_size
            raise UsageError(
                f"mask pooling gives one vector a region, got size {height} x {width}", "Leave out `size`."
            )
        return replace(spec, output_size=(1, 1), reduce="mean" if spec.reduce == "none" else spec.reduce)

    def adopt(self, spec: PoolSpec) -> PoolSpec:
        """Return other settings without a shift and without a sampling ratio."""
        return replace(super().adopt(spec), aligned=False, sampling_ratio=-1)

    def place(self, regions: Placement, size: tuple[int, ...], spec: PoolSpec, kernel: Kernel) -> Placed:
        """Remember the regions: masks are decoded one by one."""
        return _Masked(regions, size, spec)

    def extents(self, regions: Placement, size: tuple[int, ...] | NDArray[np.float64], spec: PoolSpec) -> FloatArray:
        """Return the boxes around the masks."""
        return in_map(regions.boxes, regions.scale) - 0.5

    def reads(self, regions: Placement, size: tuple[int, ...], spec: PoolSpec) -> NDArray[np.bool_]:
        """Tell which masks reach a cell."""
        placed = _Masked(regions, size, spec)
        return np.array([placed.weights(row).any() for row in range(len(regions))], np.bool_)

    def trace(self, region: Placement, size: tuple[int, ...], spec: PoolSpec, bin: tuple[int, int]) -> Reads:
        """Return the cells under the mask, and their weights."""
        weights = _Masked(region, size, spec).weights(0)
        rows, columns = np.nonzero(weights)
        left, top, right, bottom = self.extents(region, size, spec)[0].tolist()
        return Reads(
            grid=(1, len(rows)),
            roi=(left, top, right, bottom),
            change="the box of the mask, whose cells count as far as it covers them",
            bin_rows=np.array([[top, bottom]], weights.dtype),
            bin_columns=np.array([[left, right]], weights.dtype),
            sample_rows=np.empty((1, 0), weights.dtype),
            sample_columns=np.empty((1, 0), weights.dtype),
            y=rows.astype(weights.dtype),
            x=columns.astype(weights.dtype),
            rows=np.stack([rows, rows], axis=1),
            columns=np.stack([columns, columns], axis=1),
            weights=np.tile(np.array([1, 0, 0, 0], weights.dtype), (len(rows), 1)),
            in_range=np.ones(len(rows), np.bool_),
            clamped=np.zeros(len(rows), np.bool_),
            shares=None if spec.reduce == "max" else weights[rows, columns],
        )

    def combine(self, values: FloatArray, spec: PoolSpec) -> tuple[float, int | None]:
        """Return the maximum; a mean has shares instead."""
        return (float(values.max()), int(values.argmax())) if len(values) else (0.0, None)

    def convention(self, spec: PoolSpec) -> str:
        """Name the rule."""
        return f"{self.title}, {spec.mask_rule}" + ("" if spec.reduce == "mean" else f", {spec.reduce}")

    def sampling(self, spec: PoolSpec) -> str:
        """Say which cells those are."""
        return "all that the mask weighs"


class _Masked(Placed):
    """Regions whose masks are decoded when they are pooled."""

    def __init__(self, regions: Placement, size: tuple[int, ...], spec: PoolSpec) -> None:
        super().__init__(spec)
        self._regions, self._size = regions, size
        self._dtype = regions.boxes.dtype

    def weights(self, row: int) -> FloatArray:
        """Weigh the cells of a map by one mask, (H, W); the sum is 1, or 0 if the mask reaches none."""
        weights = cell_weights(self._regions, row, self._size, self._spec.mask_rule, self._dtype)
        total = weights.sum(dtype=np.float64)
        return weights if total == 0 else weights / self._dtype.type(total)

    def pool(self, feature_map: FloatArray, first: int, stop: int, out: FloatArray) -> None:
        with self.blocks(out) as blocks:
            for row, vector in zip(range(first, stop), blocks[:, :, 0, 0], strict=True):
                self._pool(feature_map, self.weights(row), vector)

    def _pool(self, feature_map: FloatArray, weights: FloatArray, vector: FloatArray) -> None:
        rows, columns = (np.flatnonzero(weights.any(axis=axis)) for axis in (1, 0))
        if not len(rows):
            vector[:] = 0
        elif self._spec.reduce == "max":
            vector[:] = feature_map[weights > 0].max(axis=0)
        else:
            part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            # A line at a time, where it lies: to gather the cells under a mask takes longer.
            lines = weights[part][:, None] @ feature_map[part]
            np.sum(lines[:, 0], axis=0, out=vector)

    def repair(self, feature_map: FloatArray, first: int, stop: int, out: FloatArray) -> int:
        """Pool regions again whose window holds a cell that is not finite: it counts where it is under the mask."""
        broken = not_finite(out)
        for row in [] if self._spec.reduce == "max" else broken.tolist():
            weights = self.weights(first + row)
            under = weights > 0
            with self.blocks(out[row : row + 1]) as block:
                block[0, :, 0, 0] = weights[under] @ feature_map[under]
        return len(not_finite(out))


OPERATOR = MaskMean()
