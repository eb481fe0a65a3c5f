"""Which cells a panel shows, how large, and where a feature coordinate lies in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.trace import BinTrace

MARGIN = 2  # cells around the RoI
LEAST_CELL, MOST_CELL, MOST_BLOCK_CELL = 4, 96, 56  # pixels
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
        """Which y lie in this window, or half a cell outside."""
        return _within(y, self.first_row, self.rows)

    def sees_columns(self, x: NDArray[Any]) -> NDArray[np.bool_]:
        """Which x lie in this window, or half a cell outside."""
        return _within(x, self.first_column, self.columns)

    def holds(self, trace: BinTrace) -> bool:
        """Whether the whole RoI is in view."""
        left, top, right, bottom = trace.roi
        (x0, y0), (x1, y1) = self.at(top, left), self.at(bottom, right)
        return min(x0, x1) >= 0 and max(x0, x1) <= self.width and min(y0, y1) >= 0 and max(y0, y1) <= self.height


@dataclass(frozen=True)
class Room:
    """Pixels that a map gets: `liked` while its cells stay large enough, else up to `most`; `block` is the block's.

    All are sides of rectangles, height first, except for `block`, the side of a square.
    """

    liked: tuple[int, int]
    most: tuple[int, int]
    block: int

    def fit(self, rows: int, columns: int) -> int:
        """Side of a cell with which that many are liked; 0 where there are too many."""
        return min(MOST_CELL, self.liked[0] // rows, self.liked[1] // columns)


ALONE = Room((720, 800), (1120, 1120), 616)
BESIDE = Room((430, 430), (430, 430), 300)
STACKED = Room((600, 800), (808, 1120), 400)


def plan(traces: Sequence[BinTrace]) -> tuple[View, Room]:
    """Choose what all maps of a picture show, and whether two of them stand side by side or one above the other."""
    trace = traces[0]
    spans = [
        _span([edge for other in traces for edge in (other.roi[axis], other.roi[axis + 2])], length)
        for axis, length in ((1, trace.shape[1]), (0, trace.shape[2]))
    ]
    rows, columns = (stop - first for first, stop in spans)
    rooms = [BESIDE, STACKED] if len(traces) == 2 else [ALONE]
    room = max(rooms, key=lambda room: room.fit(rows, columns))
    cell = max(LEAST_CELL, room.fit(rows, columns))
    centres = trace.bin_rows[trace.bin[0]].mean(), trace.bin_columns[trace.bin[1]].mean()
    (row, rows), (column, columns) = (
        _around(float(centre), span, length, most // cell)
        for centre, span, length, most in zip(centres, spans, trace.shape[1:], room.most, strict=True)
    )
    return View(row, column, rows, columns, cell), room


def block_view(trace: BinTrace, view: View, room: Room) -> View:
    """Show the pooled block beside the map, or as much of it around the traced bin as there is room for."""
    side = min(room.block, BOTH_PANELS - view.width)
    cell = min(MOST_BLOCK_CELL, max(LEAST_CELL, side // max(trace.pooled.shape)))
    (row, rows), (column, columns) = (
        _around(bin, (0, length), length, side // cell)
        for bin, length in zip(trace.bin, trace.pooled.shape, strict=True)
    )
    return View(row, column, rows, columns, cell)


def _within(coordinates: NDArray[Any], first: int, number: int) -> NDArray[np.bool_]:
    seen: NDArray[np.bool_] = (coordinates >= first - 1) & (coordinates <= first + number)
    return seen


def _span(edges: list[float], length: int) -> tuple[int, int]:
    """First and last cell, exclusive, of a crop with a margin around all `edges` along an axis of `length` cells.

    Off the map the crop follows the RoI for half the map's length, and there is no margin but one cell.
    """
    beyond = max(MARGIN, length // 2)
    low, high = min(edges) + 0.5, max(edges) + 0.5
    low, high = min(low, max(low - MARGIN, -1)), max(high, min(high + MARGIN, length + 1))
    first = math.floor(np.clip(low, -beyond, length - MARGIN))
    stop = math.ceil(np.clip(high, MARGIN, length + beyond))
    return first, stop


def _around(centre: float, span: tuple[int, int], length: int, most: int) -> tuple[int, int]:
    """First cell and number of the cells of `span`; of at most `most`, near `centre` and on the map, if it has more."""
    first, stop = span
    if stop - first > most:
        first, stop = max(first, -1), min(stop, length + 1)
    number = min(stop - first, most)
    return int(np.clip(math.floor(np.clip(centre, first, stop)) - number // 2, first, stop - number)), number
