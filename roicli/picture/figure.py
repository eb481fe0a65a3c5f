"""One trace as a figure: the map panel with its colour bar, beside it the pooled block, what is traced and a legend."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from roicli.picture import marks
from roicli.picture.canvas import Canvas, text_width, wrap
from roicli.picture.colours import ORANGE, WHITE, Scale
from roicli.picture.panels import BAR_WIDTH, SMALL, bar_ticks, cells, draw_bar, short, write_axes, write_values
from roicli.picture.view import Room, View, block_view
from roicli.trace import BinTrace

PAD, TITLE, AXIS, GAP, LINE = 16, 30, 40, 20, 18  # pixels
COLUMN = 300  # least width of the column right of the map
STORY, TAB = 8, 140  # lines about one point, and pixels from one of their columns to the next


class Moment(NamedTuple):
    """What a frame shows: the point that is joined to its neighbours, and the last sample that is added up."""

    point: int
    until: int

    def within(self, trace: BinTrace) -> Moment:
        """Give the same moment of a trace that may have fewer samples: its last one then."""
        last = trace.count - 1
        return Moment(min(self.point, last), min(self.until, last))


class Figure:
    """A trace drawn but for its samples, which `at` adds."""

    def __init__(self, trace: BinTrace, view: View, scale: Scale, room: Room, title: str) -> None:
        self.trace, self.view, self.scale, self.title = trace, view, scale, title
        self.block_view = block_view(trace, view, room)
        self.map, colours = cells(trace.plane, view, scale)
        write_values(self.map, trace.plane, view, colours, low=True)
        marks.draw_bins(self.map, trace, view)
        self.block = self._block()
        self.column = max(COLUMN, self.block_view.width)
        self.facts = [line for fact in self._facts() for line in wrap(fact, self.column, 13)]
        self.legend = self._legend()

    @property
    def origin(self) -> tuple[int, int]:
        """The map's upper left corner as (x, y) in pixels of the figure."""
        return PAD + AXIS, PAD + TITLE + LINE

    def at(self, moment: Moment) -> Canvas:
        """Draw the figure as it is at one moment."""
        view, trace = self.view, self.trace
        x, y = self.origin
        bar = x + view.width + GAP
        ticks = max((text_width(words, SMALL) for _, words in bar_ticks(self.scale, view.height)), default=0)
        right = bar + BAR_WIDTH + 7 + round(ticks) + GAP + AXIS
        below = y + self.block_view.height + AXIS
        lines = len(self.facts) + len(self.legend) + STORY + 1
        height = max(y + view.height + AXIS, below + lines * LINE) + PAD
        canvas = Canvas(right + self.column + PAD, height)
        canvas.text(PAD, PAD, self.title, size=18)
        seen = self.map.copy()
        if trace.count:
            marks.draw_neighbours(seen, trace, view, moment.point)
            marks.draw_samples(seen, trace, view, *moment)
        canvas.paste(seen, x, y)
        write_axes(canvas, view, x, y)
        canvas.text(x, y - 4, f"channel {trace.channel}: rows and columns of the map", size=SMALL, anchor="ls")
        draw_bar(canvas, self.scale, bar, y, view.height)
        canvas.paste(self.block, right, y)
        write_axes(canvas, self.block_view, right, y)
        words = "pooled block {} x {}, bin {},{} marked".format(*trace.pooled.shape, *trace.bin)
        canvas.text(right, y - 4, words, size=SMALL, anchor="ls")
        for number, fact in enumerate(self.facts):
            canvas.text(right, below + number * LINE, fact)
        below += len(self.facts) * LINE
        for number, (draw, words) in enumerate(self.legend):
            at = below + (number + 0.5) * LINE
            draw(canvas, right + 9, at)
            canvas.text(right + 26, at, words, size=12, anchor="lm")
        below += len(self.legend) * LINE + LINE // 2
        for number, line in enumerate(story(trace, moment)):
            for column, words in enumerate(line.split("\t")):
                canvas.text(right + column * TAB, below + number * LINE, words)
        return canvas

    def _block(self) -> Canvas:
        trace, view = self.trace, self.block_view
        canvas, colours = cells(trace.pooled, view, self.scale)
        write_values(canvas, trace.pooled, view, colours, low=False)
        (x, y), half = view.at(*trace.bin), max(view.cell / 2 - 2, 3)
        canvas.frame((x - half, y - half), (x + half, y + half), ORANGE, 3)
        return canvas

    def _facts(self) -> list[str]:
        trace, spec = self.trace, self.trace.spec
        left, top, right, bottom = (short(edge, 4) for edge in trace.roi)
        if spec.op == "roi_pool":
            noun, how = "cells", "quantised"
        else:
            noun, how = "samples", f"sampling ratio {spec.sampling_ratio}" if spec.sampling_ratio > 0 else "adaptive"
        facts = [
            f"RoI in cells: y {top} to {bottom}, x {left} to {right}",
            f"Bin {trace.bin[0]},{trace.bin[1]}: {trace.grid[0]} x {trace.grid[1]} {noun} ({how})",
        ]
        if not self.view.holds(trace):
            facts.append("The RoI reaches beyond what is shown.")
        by_row, by_column = marks.steps(trace, self.view)
        if by_row * by_column > 1:
            facts.append(f"One in {by_row * by_column} {noun} is drawn.")
        return facts

    def _legend(self) -> list[tuple[Callable[[Canvas, float, float], None], str]]:
        trace = self.trace
        noun = "cell" if trace.spec.op == "roi_pool" else "sample"
        entries: list[tuple[bool, Callable[[Canvas, float, float], None], str]] = [
            (
                bool(trace.in_range.any()),
                lambda canvas, x, y: marks.draw_sample(canvas, x, y, 5, counts=True),
                f"{noun} of the traced bin",
            ),
            (
                not trace.in_range.all(),
                lambda canvas, x, y: marks.draw_sample(canvas, x, y, 5, counts=False),
                "out of range: counts as zero",
            ),
            (
                bool(trace.clamped.any()),
                lambda canvas, x, y: marks.draw_landing(canvas, (x - 8, y), (x + 6, y)),
                "moved onto the border and read there",
            ),
            (
                marks.best_sample(trace) is not None,
                lambda canvas, x, y: marks.draw_best(canvas, x, y, 1),
                "the maximum",
            ),
            (
                trace.sample_rows.size * trace.sample_columns.size > trace.count,
                lambda canvas, x, y: canvas.disc(x, y, 2.5, WHITE),
                "samples of other bins",
            ),
        ]
        return [(draw, words) for holds, draw, words in entries if holds]


def story(trace: BinTrace, moment: Moment) -> list[str]:
    """Tell in at most STORY lines what one point reads, and what the samples so far add up to."""
    if not trace.count:
        return ["No samples: the bin is zero."]
    point, until = moment
    lines = [f"Point {point}: y {short(trace.y[point], 4)}, x {short(trace.x[point], 4)}"]
    if trace.spec.op == "roi_pool":
        lines.append(f"   = {short(trace.interpolated[point], 6)}")
    elif trace.in_range[point]:
        lines += [
            f"   {short(weight)} x {short(value)}\trow {trace.rows[point, corner // 2]},"
            f" column {trace.columns[point, corner % 2]}"
            for corner, (weight, value) in enumerate(zip(trace.weights[point], trace.values[point], strict=True))
        ]
        lines.append(f"   = {short(trace.interpolated[point], 6)}")
    else:
        lines.append("   out of range = 0")
    so_far = trace.interpolated[: until + 1].astype(np.float64)
    with np.errstate(invalid="ignore"):  # inf - inf
        name, value = ("Maximum", so_far.max()) if trace.spec.mode == "max" else ("Sum", so_far.sum())
    lines.append(f"{name} of {until + 1} of {trace.count}: {short(float(value), 6)}")
    if until + 1 == trace.count:
        lines.append(f"Result, the {'maximum' if trace.spec.mode == 'max' else 'mean'}: {short(trace.result, 6)}")
    return lines
