"""One trace as a figure at fixed places: the map with its color bar, the pooled block, the story of one sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from roicli.picture.canvas import Box, Canvas, fitted, text_width
from roicli.picture.colors import GREY, HOLE, INK, ORANGE, WHITE, Scale
from roicli.picture.panel import SMALL, MapPanel, draw_cells, draw_landing, draw_sample, grown, write_values
from roicli.picture.story import short, story
from roicli.picture.view import View, fit, outside
from roicli.pooling.bintrace import BinTrace

BAR, LINE, TITLE = 14, 18, 16


@dataclass(frozen=True)
class Layout:
    """Where the parts of a figure stand, from its upper left corner; all boxes are left, top, right, bottom."""

    size: tuple[float, float]  # width and height of a figure
    # Room of the map, of the pooled block and of the words
    map: Box
    block: Box
    words: Box


# One trace: a column of block and words right of the map. Several side by side: block and words below the map.
ALONE = Layout((1092, 620), (28, 44, 668, 604), (776, 44, 1092, 360), (752, 384, 1092, 620))
BESIDE = Layout((560, 730), (28, 44, 468, 484), (28, 532, 222, 726), (246, 514, 560, 760))


class Figure:
    """A trace drawn but for its samples, which `at` adds for each sample of an animation."""

    def __init__(
        self,
        trace: BinTrace,
        view: View,
        scale: Scale,
        layout: Layout,
        title: str,
        corner: tuple[float, float],
        first: BinTrace,
    ) -> None:
        self.trace, self.scale, self._first = trace, scale, first
        self._layout, self._title, self._corner = layout, title, corner
        self.view = replace(view, left=view.left + corner[0], top=view.top + corner[1])
        self.map = MapPanel(trace, self.view)

    def draw(self, canvas: Canvas, side: int) -> None:
        """Draw all that stays; the values of cells stand low (1) or high (-1)."""
        trace, layout = self.trace, self._layout
        left, top = self._corner
        width = layout.size[0]
        canvas.text(left, top + 14, fitted(self._title, width, TITLE), size=TITLE)
        self.map.draw(canvas, self.scale, f"channel {trace.channel} of the map: rows and columns", side)
        draw_bar(canvas, self.scale, self.view.frame)
        block = block_view(trace, self._placed(layout.block))
        height, breadth = trace.pooled.shape
        words = f"pooled block {height} x {breadth}, bin {trace.bin[0]},{trace.bin[1]} marked"
        draw_cells(canvas, trace.pooled, block, self.scale, words)
        write_values(canvas, trace.pooled, block, self.scale, 0)
        (x, y), half = block.at(*trace.bin), max(block.cell / 2 - 2, 3)
        canvas.frame((x - half, y - half, x + half, y + half), ORANGE, 3)
        left, top, right, _ = self._placed(layout.words)
        for number, line in enumerate(facts(trace, self.map.one_in)):
            canvas.text(left, top + 12 + number * LINE, fitted(line, right - left, 13), GREY)

    def at(self, canvas: Canvas, point: int, until: int) -> None:
        """Add what belongs to one sample: its neighbors, the samples so far and the story."""
        if self.trace.count:
            with canvas.within(grown(self.view.frame)) as panel:
                self.map.draw_point(panel, point)
                self.map.draw_samples(panel, point, until)
        left, top, _, _ = self._placed(self._layout.words)
        for number, columns in enumerate(story(self.trace, point, until, self._first)):
            for shift, words in zip((0, 165), columns, strict=True):
                canvas.text(left + shift, top + 12 + (number + 2.4) * LINE, words)

    def _placed(self, box: Box) -> Box:
        left, top = self._corner
        return box[0] + left, box[1] + top, box[2] + left, box[3] + top


def block_view(trace: BinTrace, room: Box) -> View:
    """Show the pooled block, or as much of it around the traced bin as there is room for."""
    spans = [(0, length) for length in trace.pooled.shape]
    view = fit(spans, [float(bin) for bin in trace.bin], trace.pooled.shape, room, most=80)
    return View(view.rows, view.columns, view.cell, room[0], room[1])


def facts(trace: BinTrace, one_in: int) -> list[str]:
    """Return two lines: where the RoI lies, and how many samples a bin has, or how far from the map they all lie."""
    left, top, right, bottom = (short(edge, 4) for edge in trace.roi)
    (rows, columns), noun = outside(trace), trace.operator.noun
    away = [f"{abs(columns):,.6g} columns to the {'left' if columns < 0 else 'right'}"] if columns else []
    away += [f"{abs(rows):,.6g} rows {'above' if rows < 0 else 'below'}"] if rows else []
    some = f", one in {one_in} drawn" if one_in > 1 else ""
    samples = f"{trace.grid[0]} x {trace.grid[1]} {noun}s a bin{some}"
    return [
        f"RoI in cells: x {left} to {right}, y {top} to {bottom}",
        f"{' and '.join(away)} of the map" if away else samples,
    ]


def draw_bar(canvas: Canvas, scale: Scale, frame: Box) -> None:
    """Draw the color bar right of a map, with its values on its right."""
    _, top, x, bottom = frame
    x += 16
    ticks = bar_ticks(scale, bottom - top)
    levels = np.linspace(scale.high, scale.low, 256)[:, None] if len(ticks) > 1 else np.full((1, 1), scale.low)
    box = (x, top, x + BAR, bottom)
    canvas.paint(scale.colors(levels), box)
    canvas.frame(box, GREY, 1, rim=0)
    for place, words in zip(np.linspace(1, 0, len(ticks)) if len(ticks) > 1 else [0.5], ticks, strict=False):
        at = top + place * (bottom - top)
        canvas.lines([[(x + BAR, at), (x + BAR + 4, at)]], INK, 1, rim=0)
        canvas.text(x + BAR + 7, at, words, size=SMALL, anchor="lm")


def bar_ticks(scale: Scale, height: float) -> list[str]:
    """Return the values beside a color bar, lowest first, with enough digits to differ."""
    if not np.isfinite(scale.low):
        return []
    number = 1 if scale.low == scale.high else int(min(max(height // 60, 2), 5))
    values = [scale.low * (1 - part) + scale.high * part for part in np.linspace(0, 1, number)]
    if number > 1 and 0 < (span := scale.high - scale.low) < np.inf:
        values = [round(value, 3 - math.floor(math.log10(span))) for value in values]
    words = [[short(value, digits) for value in values] for digits in range(3, 18)]
    return next((line for line in words if len(set(line)) == number), words[-1])


Mark = Callable[[Canvas, float, float], None]


def legend(figures: Sequence[Figure], animated: bool) -> list[tuple[Mark, str]]:
    """Return the marks that the maps of a picture hold, and what each of them means."""
    pairs = [(figure.trace, figure.map) for figure in figures]
    shown = [(trace, number) for trace, panel in pairs for number in panel.shown]
    counted = any(trace.in_range[number] for trace, number in shown)
    trace, panel = pairs[0]
    finite = np.isfinite(trace.plane[panel.view.window(trace.plane.shape)]).all()
    own = f"{trace.operator.noun} of the traced bin" + ("" if trace.shares is None else ", larger where it weighs more")
    entries: list[tuple[bool, Mark, str]] = [
        (counted, lambda canvas, x, y: draw_sample(canvas, x, y, 5), own),
        (
            counted and animated,
            lambda canvas, x, y: draw_sample(canvas, x, y, 5, reached=False),
            "not reached yet",
        ),
        (
            any(not trace.in_range[number] for trace, number in shown),
            lambda canvas, x, y: draw_sample(canvas, x, y, 5, counts=False),
            "out of range: counts as 0",
        ),
        (
            any(trace.clamped[number] for trace, number in shown),
            lambda canvas, x, y: draw_landing(canvas, (x - 8, y), (x + 4, y)),
            "read at the border",
        ),
        (
            any(trace.best is not None for trace, _ in pairs),
            lambda canvas, x, y: canvas.ring(x, y, 5, WHITE, 2.5),
            "maximum",
        ),
        (
            any(panel.others for _, panel in pairs),
            lambda canvas, x, y: canvas.disc(x, y, 2.5, WHITE),
            "sample of another bin",
        ),
        (not finite, lambda canvas, x, y: canvas.fill((x - 6, y - 6, x + 6, y + 6), HOLE), "NaN or infinite"),
    ]
    return [(draw, words) for holds, draw, words in entries if holds]


def draw_legend(canvas: Canvas, entries: Sequence[tuple[Mark, str]], x: float, y: float) -> None:
    """Draw the legend as one line."""
    for draw, words in entries:
        draw(canvas, x + 8, y)
        canvas.text(x + 22, y, words, size=SMALL, anchor="lm")
        x += 22 + text_width(words, SMALL) + 24
