"""The panels of a picture: cells as colors, and over the map the RoI, its bins and its samples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.picture.canvas import Box, Canvas, around, text_width
from roicli.picture.colors import BLANK, FIELD, GREY, GRID, INK, ORANGE, PALE, WHITE, Pixels, Scale, ink_on
from roicli.picture.story import TIMES, short
from roicli.picture.view import View
from roicli.pooling.bintrace import BinTrace

SMALL = 12  # size of numbers
VALUES_FROM = 44  # side of a cell that has room for a value
GRID_FROM, OTHERS_FROM, RINGS_FROM = 8, 10, 24  # and for the grid, the samples of other bins, rings of neighbors
BINS_APART = 8  # between the edges of bins, below which they are left out
TINY = 16  # sides of a RoI, below which a cross points at it
APART, FEW = 9, 50  # between samples, below which some are left out; but so many are all drawn


def draw_cells(canvas: Canvas, values: NDArray[Any], view: View, scale: Scale, words: str) -> None:
    """Draw what a view shows of an array, with its axes, below a line of words."""
    left, top, right, bottom = view.frame
    canvas.fill(view.frame, BLANK)
    rows, columns = view.window(values.shape)
    if view.drawn:
        canvas.paint(scale.colors(values[rows, columns]), _edges(view, rows, columns))
    else:
        box = _edges(view, rows, columns)
        canvas.fill(box, FIELD)
        canvas.text((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, "map", size=SMALL, anchor="mm")
    if view.cell >= GRID_FROM and view.drawn:
        lines = [[(x, top), (x, bottom)] for x in np.arange(left + view.cell, right - 1, view.cell)]
        lines += [[(left, y), (right, y)] for y in np.arange(top + view.cell, bottom - 1, view.cell)]
        canvas.lines(lines, GRID, 0.5, rim=0)
    for column in _numbered(*view.columns, 30 / view.cell):
        at = view.at(0, column)[0]
        canvas.lines([[(at, bottom), (at, bottom + 4)]], INK, 1, rim=0)
        canvas.text(at, bottom + 16, str(column), size=SMALL, anchor="ms")
    for row in _numbered(*view.rows, 18 / view.cell):
        at = view.at(row, 0)[1]
        canvas.lines([[(left - 4, at), (left, at)]], INK, 1, rim=0)
        canvas.text(left - 7, at, str(row), size=SMALL, anchor="rm")
    canvas.frame(view.frame, GREY, 1, rim=0)
    canvas.text(left, top - 7, words, size=SMALL)


def _edges(view: View, rows: slice, columns: slice) -> Box:
    return view.box((rows.start - 0.5, rows.stop - 0.5), (columns.start - 0.5, columns.stop - 0.5))


def _numbered(first: int, stop: int, apart: float) -> range:
    """Return the numbers to write along an axis: round ones, at least `apart` cells from one another."""
    step = next(step for power in range(9) for step in (10**power, 2 * 10**power, 5 * 10**power) if step >= apart)
    return range(-(-first // step) * step, stop, step)


def write_values(canvas: Canvas, values: NDArray[Any], view: View, scale: Scale, lower: float) -> None:
    """Write the values into their cells where there is room, all so far below (or above) the middle."""
    if view.cell < VALUES_FROM or not view.drawn:
        return
    rows, columns = view.window(values.shape)
    for row in range(rows.start, rows.stop):
        for column in range(columns.start, columns.stop):
            value = float(values[row, column])
            words = [short(value, digits) for digits in (3, 2, 1)]
            fitting = [word for word in words if text_width(word, SMALL) <= view.cell - 6]
            x, y = view.at(row, column)
            color: Pixels = scale.colors(np.array(value))
            red, green, blue = color.tolist()
            halo = (red, green, blue)
            for word in fitting[:1]:
                canvas.text(x, y + lower, word, ink_on(color), size=SMALL, anchor="mm", halo=halo)


class MapPanel:
    """The map of one trace with all that an animation does not move; `draw_point` and `draw_samples` add the rest."""

    def __init__(self, trace: BinTrace, view: View) -> None:
        self.trace, self.view = trace, view
        step, apart = zip(*(_steps(trace, view, axis) for axis in (0, 1)), strict=True)
        bin = self._bin = _at_least(view.box(trace.bin_rows[trace.bin[0]], trace.bin_columns[trace.bin[1]]), 4)
        room = min(*apart, bin[2] - bin[0], bin[3] - bin[1])
        self.radius = min(max(room / 4, 1.5), 5.0)
        drawn = (trace.iy % step[0] == 0) & (trace.ix % step[1] == 0)
        if trace.best is not None:
            drawn[trace.best] = True
        seen = view.sees(trace.y, trace.x)
        self.shown: list[int] = np.flatnonzero(drawn & seen & view.drawn).tolist()
        self.one_in = step[0] * step[1] if self.shown else 1
        self._places = [view.at(*place) for place in zip(trace.y.tolist(), trace.x.tolist(), strict=True)]
        shares = trace.weights.reshape(-1, 2, 2).astype(np.float64)
        read = (shares.sum(axis=2) * trace.rows).sum(axis=1), (shares.sum(axis=1) * trace.columns).sum(axis=1)
        self._landings = [view.at(*place) for place in zip(*(axis.tolist() for axis in read), strict=True)]
        # Where samples count unlike, the area of a disc says how much.
        self._sizes = np.ones(trace.count)
        if trace.shares is not None and trace.count:
            self._sizes = np.sqrt(np.clip(trace.shares / max(trace.shares.max(), np.finfo(float).tiny), 0.1, 1))
        self.others = _others(trace, view, step) if min(apart) >= APART / 2 else []

    def draw(self, canvas: Canvas, scale: Scale, words: str, side: int) -> None:
        """Draw the cells, the RoI, its bins, the samples of other bins, and the values low (1) or high (-1)."""
        view, trace = self.view, self.trace
        draw_cells(canvas, trace.plane, view, scale, words)
        roi, bin = _at_least(view.box(trace.roi[1::2], trace.roi[::2]), 6), self._bin
        with canvas.within(grown(view.frame)) as panel:
            panel.lines(self._turned(_bin_lines(trace, view, roi)), WHITE, 1)
            panel.lines(self._turned([around(roi)]), WHITE, 2)
            for x, y in self.others:
                panel.disc(x, y, max(self.radius / 2, 1), WHITE)
            panel.lines(self._turned([around(bin)]), ORANGE, 1 if min(bin[2] - bin[0], bin[3] - bin[1]) < TINY else 3)
        write_values(canvas, trace.plane, view, scale, self._value_place(side))

    def _turned(self, lines: list[list[tuple[float, float]]]) -> list[list[tuple[float, float]]]:
        """Turn lines as the region is turned, about its centre."""
        if not self.trace.angle:
            return lines
        left, top, right, bottom = self.trace.roi
        cx, cy = self.view.at((top + bottom) / 2, (left + right) / 2)
        cosine, sine = (f(math.radians(self.trace.angle)) for f in (math.cos, math.sin))
        return [
            [((x - cx) * cosine + (y - cy) * sine + cx, (y - cy) * cosine - (x - cx) * sine + cy) for x, y in line]
            for line in lines
        ]

    def harm(self, side: int) -> int:
        """Return how badly samples would cover the values of cells, were they written low (1) or high (-1)."""
        marks = [(self._places[number], 5) for number in self.shown] + [(place, 1) for place in self.others]
        marks += [(self._landings[number], 5) for number in self.shown if self.trace.clamped[number]]
        heights = [((y - self.view.top) % self.view.cell - self.view.cell / 2, worth) for (_, y), worth in marks]
        return sum(worth for y, worth in heights if abs(y - self._value_place(side)) < 12)

    def _value_place(self, side: int) -> float:
        return side * (self.view.cell / 2 - 10)

    def draw_point(self, canvas: Canvas, point: int) -> None:
        """Join one sample to the cells that it reads, and write its weights beside them."""
        if not self.trace.count or not self.trace.in_range[point]:
            return
        weights: dict[tuple[int, int], float] = {}  # at a border two neighbors are one cell
        for corner, weight in enumerate(self.trace.weights[point].tolist()):
            cell = int(self.trace.rows[point, corner // 2]), int(self.trace.columns[point, corner % 2])
            weights[cell] = weights.get(cell, 0.0) + weight
        x, y = self._places[point]
        centers = [self.view.at(*cell) for cell in weights]
        canvas.lines([[(x, y), center] for center in centers], ORANGE, 2)
        if self.view.cell < RINGS_FROM:
            return
        for right, down in centers:
            canvas.ring(right, down, 4, ORANGE, 2)
        if self.view.cell < VALUES_FROM or len(weights) < 2:
            return
        for (right, down), weight in zip(centers, weights.values(), strict=True):
            words = f"{TIMES} {short(weight, 2)}"
            reach = 9 + text_width(words, SMALL)
            # Away from the sample, where no line runs, unless the panel ends there.
            left, _, end, _ = self.view.frame
            rightwards = right + reach <= end if right >= x else right - reach < left
            at, anchor = (right + 9, "lm") if rightwards else (right - 9, "rm")
            canvas.text(at, down, words, WHITE, size=SMALL, anchor=anchor, halo=INK)

    def draw_samples(self, canvas: Canvas, point: int, until: int) -> None:
        """Draw the samples of the traced bin, hollow after number `until`, `point` larger than the others.

        Clamped ones are joined to where they are read; the maximum, once it is known, gets a ring.
        """
        trace = self.trace
        for number in self.shown:
            if trace.clamped[number]:
                draw_landing(canvas, self._places[number], self._landings[number])
        # Those reached last, over the others; the chosen point over all.
        order = sorted(self.shown, key=lambda number: (number == point, number <= until, number))
        for number in order:
            grown = self.radius * (1.4 if number == point else 1) * float(self._sizes[number])
            counts = bool(trace.in_range[number])
            draw_sample(canvas, *self._places[number], grown, counts=counts, reached=number <= until)
        if trace.best in self.shown and until >= trace.count - 1:
            canvas.ring(*self._places[trace.best], self.radius * 1.4 + 3, WHITE, 2.5)


def draw_sample(canvas: Canvas, x: float, y: float, size: float, *, counts: bool = True, reached: bool = True) -> None:
    """Draw a sample: a disc, hollow until it is reached, or a cross, then pale, where it is out of range."""
    if not counts:
        cross = [[(x - size, y - s * size), (x + size, y + s * size)] for s in (-1, 1)]
        canvas.lines(cross, ORANGE if reached else PALE, 2)
        return
    canvas.disc(x, y, size, ORANGE, rim=min(1.0, size / 3))
    if not reached:
        canvas.disc(x, y, size * 0.6, WHITE, rim=0)


def draw_landing(canvas: Canvas, sample: tuple[float, float], landing: tuple[float, float]) -> None:
    """Draw the way from a clamped sample to where it is read."""
    canvas.lines([[sample, landing]], WHITE, 1)
    x, y = landing
    canvas.frame((x - 3, y - 3, x + 3, y + 3), WHITE, 1)


def grown(box: Box) -> Box:
    """Return a panel's frame with room for a line on its edge."""
    return box[0] - 3, box[1] - 3, box[2] + 3, box[3] + 3


def _at_least(box: Box, side: float) -> Box:
    left, top, right, bottom = box
    x, y = max(side - right + left, 0) / 2, max(side - bottom + top, 0) / 2
    return left - x, top - y, right + x, bottom + y


def _bin_lines(trace: BinTrace, view: View, roi: Box) -> list[list[tuple[float, float]]]:
    """Return the lines between the bins, and those that point at a tiny RoI."""
    x0, y0, x1, y1 = roi
    down = [view.at(edge, 0)[1] for edge in np.unique(trace.bin_rows).tolist()]
    across = [view.at(0, edge)[0] for edge in np.unique(trace.bin_columns).tolist()]
    lines: list[list[tuple[float, float]]] = []
    if min((y1 - y0) / len(down), (x1 - x0) / len(across)) >= BINS_APART:
        lines += [[(x0, y), (x1, y)] for y in down]
        lines += [[(x, y0), (x, y1)] for x in across]
    if max(x1 - x0, y1 - y0) < TINY:
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        for near, far in ((TINY * 0.7, TINY * 2), (-TINY * 0.7, -TINY * 2)):
            lines += [[(x + near, y), (x + far, y)], [(x, y + near), (x, y + far)]]
    return lines


def _steps(trace: BinTrace, view: View, axis: int) -> tuple[int, float]:
    """Return of how many samples along an axis one is drawn, and how far apart these are."""
    line = (trace.sample_rows, trace.sample_columns)[axis]
    if line.size < 2:
        return 1, view.cell  # whole cells, or one sample
    apart = abs(float(line.flat[-1]) - float(line.flat[0])) / (line.size - 1) * view.cell
    step = 1 if trace.count <= FEW else math.ceil(APART / max(apart, APART / line.shape[1]))
    return step, step * apart


def _others(trace: BinTrace, view: View, steps: tuple[int, ...]) -> list[tuple[float, float]]:
    """Return where the samples of other bins lie, some of them where they are dense."""
    if view.cell < OTHERS_FROM or not trace.sample_rows.size:
        return []
    lines, own = [], []
    for line, step, bin in zip((trace.sample_rows, trace.sample_columns), steps, trace.bin, strict=True):
        kept = line[:, ::step]
        lines.append(kept.ravel())
        own.append(np.repeat(np.arange(len(line)) == bin, kept.shape[1]))
    y, x = (axis.ravel() for axis in np.meshgrid(*lines, indexing="ij"))
    wanted = ~(own[0][:, None] & own[1]).ravel() & view.sees(y, x)
    return [view.at(*place) for place in zip(y[wanted].tolist(), x[wanted].tolist(), strict=True)]
