"""Position-sensitive RoIAlign: RoIAlign with channels of its own for each bin."""

from __future__ import annotations

from dataclasses import replace

from roicli.pooling.kernels.choose import Kernel
from roicli.pooling.operators.base import Placed
from roicli.pooling.operators.position_sensitive import Picked, PositionSensitive
from roicli.pooling.operators.roi_align import RoIAlign
from roicli.pooling.placement import Placement
from roicli.spec import Mode, PoolSpec


class PsRoIAlign(PositionSensitive, RoIAlign):
    """Position-sensitive RoIAlign (Li et al., "Light-Head R-CNN", 2017), with the numbers of torchvision.

    It is always aligned. A box without samples is zero, where torchvision divides by zero.
    """

    name, title = "ps_roi_align", "PSRoIAlign"
    bin = "RoIAlign, aligned, with channels of its own for each bin: C x PH x PW channels become C"
    modes: tuple[Mode, ...] = ("avg",)

    def settle(self, spec: PoolSpec) -> PoolSpec:
        """Return the settings with the shift that is always there."""
        return replace(spec, aligned=True)

    def adopt(self, spec: PoolSpec) -> PoolSpec:
        """Return other settings with the shift."""
        return self.settle(super().adopt(spec))

    def place(self, regions: Placement, size: tuple[int, ...], spec: PoolSpec, kernel: Kernel) -> Placed:
        """Pool all channels, and take those of each bin."""
        return Picked(super().place(regions, size, replace(spec, reduce="none"), kernel), spec)

    def convention(self, spec: PoolSpec) -> str:
        """Name the sampling: the shift is always there."""
        return super().convention(spec).replace(" aligned", "")


OPERATOR = PsRoIAlign()
