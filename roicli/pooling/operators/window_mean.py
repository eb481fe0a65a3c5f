"""The mean of the cells that a box touches: ``map[:, floor(y1):ceil(y2), floor(x1):ceil(x2)].mean()``."""

from __future__ import annotations

from roicli.pooling.operators.cells import WholeCells
from roicli.pooling.sampling import CellRanges, Sides, touched_ranges


class WindowMean(WholeCells):
    """The mean of the cells from the floor of a bin's begin to the ceiling of its end."""

    name, title = "window_mean", "window mean"
    bin = "the mean of the cells that it touches, from floor to ceiling"
    change = "rounded outwards to whole cells"

    def ranges(self, sides: Sides, number: int, length: int) -> CellRanges:
        """Find the cells that each bin touches, at least one."""
        return touched_ranges(sides, number, length)


OPERATOR = WindowMean()
