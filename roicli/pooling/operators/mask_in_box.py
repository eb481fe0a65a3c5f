"""RoIAlign of the cells under the mask of a region: the box is pooled from the map times the mask on its cells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from roicli.errors import UsageError
from roicli.pooling.kernels.choose import Kernel
from roicli.pooling.masks import cell_weights
from roicli.pooling.operators.base import Placed, not_finite
from roicli.pooling.operators.roi_align import RoIAlign
from roicli.pooling.placement import Placement
from roicli.pooling.reads import Reads
from roicli.pooling.sampling import FloatArray, cells_in_reach
from roicli.spec import PoolSpec


class MaskInBox(RoIAlign):
    """RoIAlign, with the numbers of torchvision, of the map times the mask of the region, from 0 to 1 a cell."""

    name, title = "mask_in_box", "masked RoIAlign"
    bin = "RoIAlign of the map times the share of each cell that the mask of the region covers"
    masks = True

    def check(self, spec: PoolSpec) -> None:
        """Refuse the rule that has no mask on the map."""
        super().check(spec)
        if spec.mask_rule == "upsampled":
            raise UsageError(
                "the mask rule upsampled enlarges the map, so that its cells have no mask",
                "Give another rule, such as `mask_rule=coverage`.",
            )

    def adopt(self, spec: PoolSpec) -> PoolSpec:
        """Return other settings with a rule that it has."""
        return replace(super().adopt(spec), mask_rule="coverage" if spec.mask_rule == "upsampled" else spec.mask_rule)

    def place(self, regions: Placement, size: tuple[int, ...], spec: PoolSpec, kernel: Kernel) -> Placed:
        """Place the boxes; the mask of each is put on its cells when it is pooled."""
        return _InBoxes(super().place(regions, size, spec, kernel), regions, size, spec)

    def trace(self, region: Placement, size: tuple[int, ...], spec: PoolSpec, bin: tuple[int, int]) -> Reads:
        """Return the samples of one bin, which lie as those of RoIAlign."""
        reads = super().trace(region, size, spec, bin)
        return replace(reads, change=f"{reads.change}; each cell times the mask on it".removeprefix("; "))

    def seen(self, plane: NDArray[np.generic], region: Placement, spec: PoolSpec) -> FloatArray:
        """Return a channel of the map times the mask."""
        weights = cell_weights(region, 0, plane.shape, spec.mask_rule, region.boxes.dtype)
        return plane.astype(weights.dtype) * weights

    def convention(self, spec: PoolSpec) -> str:
        """Name the rule, after what RoIAlign has."""
        return f"{super().convention(spec)}, mask by {spec.mask_rule}"


class _InBoxes(Placed):
    """Regions that are pooled one by one, since each has a map of its own."""

    def __init__(self, placed: Placed, regions: Placement, size: tuple[int, ...], spec: PoolSpec) -> None:
        super().__init__(spec)
        self._placed, self._regions, self._size = placed, regions, size
        self._boxes = replace(regions, masks=None)

    def pool(self, feature_map: FloatArray, first: int, stop: int, out: FloatArray) -> None:
        """Mask the cells in reach of each box, and pool these."""
        masked = np.empty_like(feature_map)
        for row in range(first, stop):
            window, weights = self._reach(row)
            np.multiply(feature_map[window], weights, out=masked[window])
            pooled = out[row - first : row - first + 1]
            self._placed.pool(masked, row, row + 1, pooled)
            self._placed.repair(masked, row, row + 1, pooled)

    def scatter(self, grad: FloatArray, first: int, stop: int, out: FloatArray) -> None:
        """Scatter the bins of each box, and mask what its cells get."""
        masked = np.empty_like(out)
        for row in range(first, stop):
            window, weights = self._reach(row)
            masked[window] = 0
            self._placed.scatter(grad[row - first : row - first + 1], row, row + 1, masked)
            out[window] += masked[window] * weights

    def _reach(self, row: int) -> tuple[tuple[slice, slice], FloatArray]:
        """Return the cells in reach of one box, and the mask on them, (h, w, 1)."""
        window = cells_in_reach(self._boxes.take([row]), self._spec.rule, *self._size)
        weights = cell_weights(self._regions, row, self._size, self._spec.mask_rule, self._boxes.boxes.dtype)
        return window, weights[window][:, :, None]

    def repair(self, feature_map: FloatArray, first: int, stop: int, out: FloatArray) -> int:
        """Count what is not finite: all is repaired by now."""
        return len(not_finite(out))


OPERATOR = MaskInBox()
