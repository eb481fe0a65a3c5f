"""Which cells a panel shows, how large, and where a feature coordinate lies in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.picture.canvas import Box
from roicli.picture.crop import around, crop
from roicli.pooling.trace import BinTrace

LEAST_CELL, MOST_CELL, MOST_BLOCK_CELL = 4, 96, 56  # pixels
CLOSE_UP = (4, 6, 48)  # rows, columns and pixels of a cell of what is shown once more where cells are small
CLOSE_UP_BELOW = 16  # pixels of a cell
BOTH_PANELS = 1550  # pixels that map and block may take side by side
FAR = 10_000.0  # pixels; Pillow counts in C integers, and a RoI may reach 1e30 cells


@dataclass(frozen=True)
class View:
    """A window of whole cells, which may reach beyond the array; `cell` is the side of one in pixels."""

    first_row: int
    first_column: int
    rows: int
    columns: int
    cell: int

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.columns * self.cell

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.rows * self.cell

    def at(self, y: float, x: float) -> tuple[float, float]:
        """Where a feature coordinate lies, as (x, y) in pixels: cell i reaches from i - 0.5 to i + 0.5."""
        right, down = (x + 0.5 - self.first_column) * self.cell, (y + 0.5 - self.first_row) * self.cell
        return min(max(float(right), -FAR), FAR), min(max(float(down), -FAR), FAR)

    def window(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of a (height, width) array that are in view."""
        return (
            slice(max(self.first_row, 0), min(self.first_row + self.rows, height)),
            slice(max(self.first_column, 0), min(self.first_column + self.columns, width)),
        )

    def sees_rows(self, y: NDArray[Any]) -> NDArray[np.bool_]:
        """Which y lie in this window."""
        return _within(y, self.first_row, self.rows)

    def sees_columns(self, x: NDArray[Any]) -> NDArray[np.bool_]:
        """Which x lie in this window."""
        return _within(x, self.first_column, self.columns)

    def box(self, rows: Sequence[float], columns: Sequence[float]) -> Box:
        """Give left, top, right and bottom in pixels of what reaches from one row and column to another."""
        (x0, y0), (x1, y1) = self.at(rows[0], columns[0]), self.at(rows[-1], columns[-1])
        return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)

    def holds(self, trace: BinTrace) -> bool:
        """Whether the whole RoI is in view."""
        left, top, right, bottom = self.box(trace.roi[1::2], trace.roi[::2])
        return left >= 0 and right <= self.width and top >= 0 and bottom <= self.height

    def misses(self, trace: BinTrace) -> bool:
        """Whether nothing of the RoI is in view."""
        left, top, right, bottom = self.box(trace.roi[1::2], trace.roi[::2])
        return left > self.width or right < 0 or top > self.height or bottom < 0


@dataclass(frozen=True)
class Room:
    """Pixels that a map gets: `liked` while its cells stay large enough, else up to `most`.

    Both are sides of rectangles, height first; `block` is the side of the block's square, `short_block` that of one
    which leaves room for a close-up.
    """

    liked: tuple[int, int]
    most: tuple[int, int]
    block: int
    short_block: int

    def holds(self, rows: int, columns: int) -> bool:
        """Whether that many cells can be shown at all."""
        return rows <= self.most[0] // LEAST_CELL and columns <= self.most[1] // LEAST_CELL

    def fit(self, rows: int, columns: int) -> int:
        """Side of a cell with which that many are liked; 0 where there are too many."""
        return min(MOST_CELL, self.liked[0] // rows, self.liked[1] // columns)


ALONE = Room((720, 800), (1120, 1120), 616, 400)
BESIDE = Room((430, 430), (430, 430), 300, 300)
STACKED = Room((600, 800), (780, 1120), 400, 160)


def plan(traces: Sequence[BinTrace]) -> tuple[View, Room]:
    """Choose what all maps of a picture show, and whether two of them stand side by side or one above the other."""
    trace = traces[0]
    rooms = [BESIDE, STACKED] if len(traces) == 2 else [ALONE]
    spans = crop(traces, lambda rows, columns: any(room.holds(rows, columns) for room in rooms))
    rows, columns = (stop - first for first, stop in spans)
    room = max(rooms, key=lambda room: (room.fit(rows, columns), room.holds(rows, columns)))
    cell = max(LEAST_CELL, room.fit(rows, columns))
    centres = trace.bin_rows[trace.bin[0]].mean(), trace.bin_columns[trace.bin[1]].mean()
    (row, rows), (column, columns) = (
        around(float(centre), span, length, most // cell)
        for centre, span, length, most in zip(centres, spans, trace.shape[1:], room.most, strict=True)
    )
    return View(row, column, rows, columns, cell), room


def close_up(trace: BinTrace, point: int) -> View:
    """Show the cells around one sample, large."""
    rows, columns, cell = CLOSE_UP
    first_row, first_column = (
        int(read[point].min()) - (number - 2) // 2 for read, number in ((trace.rows, rows), (trace.columns, columns))
    )
    return View(first_row, first_column, rows, columns, cell)


def block_view(trace: BinTrace, view: View, room: Room) -> View:
    """Show the pooled block beside the map, or as much of it around the traced bin as there is room for."""
    side = min(room.short_block if view.cell < CLOSE_UP_BELOW else room.block, BOTH_PANELS - view.width)
    cell = min(MOST_BLOCK_CELL, max(LEAST_CELL, side // max(trace.pooled.shape)))
    (row, rows), (column, columns) = (
        around(bin, (0, length), length, side // cell)
        for bin, length in zip(trace.bin, trace.pooled.shape, strict=True)
    )
    return View(row, column, rows, columns, cell)


def _within(coordinates: NDArray[Any], first: int, number: int) -> NDArray[np.bool_]:
    seen: NDArray[np.bool_] = (coordinates >= first - 0.5) & (coordinates <= first + number - 0.5)
    return seen
