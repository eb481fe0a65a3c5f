"""Which cells a panel shows, how large, and where a feature coordinate lies in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.picture.canvas import Box, Point
from roicli.pooling.bintrace import BinTrace

LEAST_CELL, MOST_CELL = 2, 80
MARGIN = 2  # cells of the map around the RoI
SMALL_MAP = 16  # cells, up to which a map is shown whole
FAR = 10_000.0  # Pillow counts in C integers, and a RoI may reach 1e30 cells

Span = tuple[int, int]  # first cell, and the one after the last


@dataclass(frozen=True)
class View:
    """A window of whole cells at a place of the picture; it may reach beyond the array."""

    # The first row (column) in view, and the one after the last
    rows: Span
    columns: Span
    cell: float  # side of a cell
    # Where the window's upper left corner stands in the picture
    left: float = 0.0
    top: float = 0.0
    # Whether the array's cells are drawn one by one; False for a RoI so far off that they would look like noise
    drawn: bool = True

    @property
    def frame(self) -> Box:
        """The window's edges in the picture: left, top, right, bottom."""
        right = self.left + (self.columns[1] - self.columns[0]) * self.cell
        return self.left, self.top, right, self.top + (self.rows[1] - self.rows[0]) * self.cell

    def at(self, y: float, x: float) -> Point:
        """Return where a feature coordinate lies, as (x, y): cell i reaches from i - 0.5 to i + 0.5."""
        right, down = (x + 0.5 - self.columns[0]) * self.cell, (y + 0.5 - self.rows[0]) * self.cell
        return (
            self.left + min(max(float(right), -FAR), FAR),
            self.top + min(max(float(down), -FAR), FAR),
        )

    def box(self, rows: Sequence[float], columns: Sequence[float]) -> Box:
        """Return where a box in feature coordinates lies: left, top, right, bottom."""
        (x0, y0), (x1, y1) = self.at(rows[0], columns[0]), self.at(rows[1], columns[1])
        return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)

    def window(self, shape: tuple[int, ...]) -> tuple[slice, slice]:
        """Return the rows and columns of a (height, width) array that are in view."""
        rows, columns = (
            slice(max(first, 0), max(min(stop, length), 0))
            for (first, stop), length in zip((self.rows, self.columns), shape, strict=True)
        )
        return rows, columns

    def sees(self, y: NDArray[Any], x: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which points lie in the window."""
        (top, bottom), (left, right) = self.rows, self.columns
        seen: NDArray[np.bool_] = (y >= top - 0.5) & (y <= bottom - 0.5) & (x >= left - 0.5) & (x <= right - 0.5)
        return seen


def outside(trace: BinTrace) -> tuple[float, float]:
    """Return how many rows and columns lie between the map and the RoI: negative before the map, zero if they meet.

    Examples
    --------
    >>> from roicli import trace_bin
    >>> outside(trace_bin(np.ones((1, 4, 6)), [10, -9, 12, -2], 1))
    (-1.5, 4.5)
    """
    gaps = []
    for edges, length in ((trace.around[1::2], trace.shape[1]), (trace.around[0::2], trace.shape[2])):
        gaps.append(max(min(edges) - (length - 0.5), 0.0) or min(max(edges) + 0.5, 0.0))
    return gaps[0], gaps[1]


def map_view(traces: Sequence[BinTrace], room: Box) -> View:
    """Choose what all maps of a picture show: the RoI and some cells around it, within `room`.

    A small map is shown whole. The window reaches beyond the map only where the RoI does. A RoI that is further from
    the map than half the map's length is shown with the whole map, if that leaves the map large enough to be seen.
    """
    edges = [[edge for trace in traces for edge in trace.around[axis::2]] for axis in (1, 0)]
    lengths = traces[0].shape[1:]
    whole = max(lengths) <= SMALL_MAP
    beyond = any(min(ends) < -0.5 or max(ends) > length - 0.5 for ends, length in zip(edges, lengths, strict=True))
    spans = [_span(ends, length, whole, beyond) for ends, length in zip(edges, lengths, strict=True)]
    height, width = room[3] - room[1], room[2] - room[0]
    drawn = True
    if any(abs(gap) > max(length // 2, MARGIN) for gap, length in zip(outside(traces[0]), lengths, strict=True)):
        spans = [(-1, length + 1) for length in lengths]
        both = [
            (min(first, math.floor(max(min(ends), -FAR)) - 1), max(stop, math.ceil(min(max(ends), FAR)) + 2))
            for (first, stop), ends in zip(spans, edges, strict=True)
        ]
        cell = min(height / (both[0][1] - both[0][0]), width / (both[1][1] - both[1][0]))
        if min(lengths) * cell >= 12:
            spans, drawn = both, cell >= 12
    centers = [
        float(edges[place].mean()) + 0.5
        for edges, place in zip((traces[0].bin_rows, traces[0].bin_columns), traces[0].bin, strict=True)
    ]
    return fit(spans, centers, lengths, room, drawn=drawn)


def fit(
    spans: Sequence[Span],
    centers: Sequence[float],
    lengths: Sequence[int],
    room: Box,
    *,
    most: float = MOST_CELL,
    drawn: bool = True,
) -> View:
    """Lay rows and columns into `room`, with cells as large as fit and more of the array where there is space left."""
    sides = (room[3] - room[1], room[2] - room[0])
    cell = min(most, *(side / (stop - first) for side, (first, stop) in zip(sides, spans, strict=True)))
    if drawn:
        cell = math.floor(cell) if cell >= 4 else max(cell, LEAST_CELL)
    rows, columns = (
        _fill(span, center, (0, length) if drawn else (-FAR, FAR), int(side / cell + 1e-9))
        for span, center, length, side in zip(spans, centers, lengths, sides, strict=True)
    )
    return View(rows, columns, cell, room[0], room[1], drawn)


def _span(ends: list[float], length: int, whole: bool, margin: bool) -> Span:
    """Return what to show along one axis: the RoI and a margin on the map, half the map's length beyond it at most."""
    low, high = min(ends) + 0.5, max(ends) + 0.5
    first = 0 if whole else int(np.clip(math.floor(max(low, 0)) - MARGIN, 0, max(length - MARGIN, 0)))
    stop = length if whole else int(np.clip(math.ceil(min(high, length)) + MARGIN, min(MARGIN, length), length))
    # A margin at no edge of the map, or of one cell at all that are in view: an uneven one would look like a mistake.
    first, stop = first - (margin and first == 0), stop + (margin and stop == length)
    beyond = max(length // 2, MARGIN)
    if low < 0:
        first = min(first, max(math.floor(max(low, -FAR) - 0.25), -beyond))
    if high > length:
        stop = max(stop, min(math.ceil(min(high, FAR) + 0.25), length + beyond))
    return first, stop


def _fill(span: Span, center: float, most: tuple[float, float], number: int) -> Span:
    """Cut a span to `number` cells around `center`, or widen it to as many of those within `most`."""
    first, stop = span
    if stop - first > number:
        first = int(np.clip(math.floor(np.clip(center, first, stop)) - number // 2, first, stop - number))
        return first, first + number
    spare = number - (stop - first)
    above, below = max(int(first - most[0]), 0), max(int(most[1] - stop), 0)
    before = min(above, max(spare // 2, spare - below))
    return first - before, stop + min(below, spare - before)
