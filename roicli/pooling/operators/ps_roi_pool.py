"""Position-sensitive RoIPool: the mean of whole cells, with channels of its own for each bin."""

from __future__ import annotations

from dataclasses import replace

from roicli.pooling.kernels.choose import Kernel
from roicli.pooling.operators.base import Placed
from roicli.pooling.operators.cells import WholeCells
from roicli.pooling.operators.position_sensitive import Picked, PositionSensitive
from roicli.pooling.placement import Placement
from roicli.pooling.sampling import CellRanges, Sides, cell_ranges
from roicli.spec import PoolSpec


class PsRoIPool(PositionSensitive, WholeCells):
    """Position-sensitive RoIPool (Dai et al., "R-FCN", 2016), with the numbers of torchvision."""

    name, title = "ps_roi_pool", "PSRoIPool"
    bin = "the mean of whole cells, with channels of its own for each bin"
    unread = 1
    change = "rounded to whole cells, without the last one"

    def ranges(self, sides: Sides, number: int, length: int) -> CellRanges:
        """Round boxes and bins to whole cells; the last row and column of the map are never read."""
        return cell_ranges(sides, number, length, inclusive=False)

    def place(self, regions: Placement, size: tuple[int, ...], spec: PoolSpec, kernel: Kernel) -> Placed:
        """Pool all channels, and take those of each bin."""
        return Picked(super().place(regions, size, replace(spec, reduce="none"), kernel), spec)


OPERATOR = PsRoIPool()
