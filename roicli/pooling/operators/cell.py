"""The cell at the centre of a box, as one-stage detectors assign objects to cells; or at that of each bin.

The interpolated value at the centre is RoIAlign with ``output_size=1, sampling_ratio=1, aligned=True``.
"""

from __future__ import annotations

from roicli.pooling.operators.cells import WholeCells
from roicli.pooling.sampling import CellRanges, Sides, central_ranges


class Cell(WholeCells):
    """The value of the cell that holds the centre of a bin."""

    name, title = "cell", "cell"
    bin = "the cell at its centre"
    may_miss = True
    change = "the cell at the centre of each bin"

    def ranges(self, sides: Sides, number: int, length: int) -> CellRanges:
        """Find the cell at the centre of each bin."""
        return central_ranges(sides, number, length)


OPERATOR = Cell()
