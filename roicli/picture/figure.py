"""One trace as a figure: the map with its colour bar, beside it the pooled block, what is traced and a close-up."""

from __future__ import annotations

from collections.abc import Sequence

from roicli.picture import marks
from roicli.picture.canvas import Canvas, text_width, wrap
from roicli.picture.colours import ORANGE, Scale
from roicli.picture.labels import write_values_aside, write_weights
from roicli.picture.panels import (
    BAR_WIDTH,
    SMALL,
    bar_ticks,
    cells,
    draw_bar,
    write_axes,
    write_values,
)
from roicli.picture.samples import Samples
from roicli.picture.story import Moment, facts, legend, story
from roicli.picture.view import CLOSE_UP, CLOSE_UP_BELOW, Room, View, block_view, close_up
from roicli.pooling.trace import BinTrace

PAD, AXIS, GAP, LINE = 16, 40, 20, 18  # pixels
TITLE_SIZE, TITLE_LINE = 18, 24
COLUMN = 320  # least width of the column right of the map
TAB = 140  # pixels from one column of a story's lines to the next


class Panel:
    """What one view shows of the map and the trace; `at` adds what changes: all but `point`, if that is given."""

    def __init__(self, trace: BinTrace, view: View, scale: Scale, point: int | None = None) -> None:
        self.trace, self.view = trace, view
        self.samples = Samples.of(trace, view)
        self._base, colours = cells(trace.plane, view, scale)
        self._values = write_values_aside(self._base, trace, view, colours, self.samples, point)
        marks.draw_bins(self._base, trace, view, self.samples)

    def at(self, moment: Moment) -> Canvas:
        """Draw the panel as it is at one moment."""
        canvas = self._base.copy()
        if self.trace.count:
            marks.draw_neighbours(canvas, self.trace, self.view, self.samples, moment.point)
            marks.draw_samples(canvas, self.trace, self.samples, *moment)
            write_weights(canvas, self.trace, self.view, self.samples, moment.point, self._values)
        return canvas


class Figure:
    """A trace drawn but for its samples, which `at` adds for each of `moments`."""

    def __init__(
        self, trace: BinTrace, view: View, scale: Scale, room: Room, title: str, moments: Sequence[Moment]
    ) -> None:
        self.trace, self.view, self.scale = trace, view, scale
        self.block_view = block_view(trace, view, room)
        point = moments[0].point if trace.count and len(moments) == 1 else None
        self.map, self.block = Panel(trace, view, scale, point), self._block()
        self.column = max(COLUMN, self.block_view.width)
        ticks = max((text_width(words, SMALL) for _, words in bar_ticks(scale, view.height)), default=0)
        self.right = PAD + AXIS + view.width + GAP + BAR_WIDTH + 7 + round(ticks) + GAP + AXIS
        self.width = self.right + self.column + PAD
        self.title = wrap(title, self.width - 2 * PAD, TITLE_SIZE)
        self.facts = [line for fact in facts(trace, view, self.map.samples) for line in wrap(fact, self.column, 13)]

        # Room for the longest of each, so that nothing moves from frame to frame.
        self.legend_lines = max(len(legend(trace, self.map.samples, moment)) for moment in moments)
        self.story_lines = max(len(story(trace, moment)) for moment in moments)
        self.has_close_up = view.cell < CLOSE_UP_BELOW and any(self._close_up(moment) for moment in moments)

    @property
    def origin(self) -> tuple[int, int]:
        """The map's upper left corner as (x, y) in pixels of the figure."""
        return PAD + AXIS, PAD + len(self.title) * TITLE_LINE + LINE + 6

    def at(self, moment: Moment) -> Canvas:
        """Draw the figure as it is at one moment."""
        view, (x, y), right = self.view, self.origin, self.right
        below = y + self.block_view.height + AXIS
        lines = len(self.facts) + self.legend_lines + self.story_lines + 1
        foot = below + lines * LINE + (LINE + CLOSE_UP[0] * CLOSE_UP[2] + AXIS if self.has_close_up else 0)
        canvas = Canvas(self.width, max(y + view.height + AXIS, foot) + PAD)
        for number, line in enumerate(self.title):
            canvas.text(PAD, PAD + number * TITLE_LINE, line, size=TITLE_SIZE)
        seen, close = self.map.at(moment), self._close_up(moment) if self.has_close_up else None
        if close:
            marks.draw_close_up_frame(seen, view, close)
        _place(canvas, seen, view, x, y, f"channel {self.trace.channel}: rows and columns of the map")
        draw_bar(canvas, self.scale, x + view.width + GAP, y, view.height)
        words = "pooled block {} x {}, bin {},{} marked".format(*self.trace.pooled.shape, *self.trace.bin)
        _place(canvas, self.block, self.block_view, right, y, words)
        self._write(canvas, moment, below)
        if close:
            at = below + (lines + 1) * LINE
            panel = Panel(self.trace, close, self.scale, moment.point).at(moment)
            _place(canvas, panel, close, right, at, "close-up of what is framed in black")
        return canvas

    def _write(self, canvas: Canvas, moment: Moment, y: int) -> None:
        """Write all that stands below the pooled block."""
        for number, fact in enumerate(self.facts):
            canvas.text(self.right, y + number * LINE, fact)
        y += len(self.facts) * LINE
        for number, (draw, words) in enumerate(legend(self.trace, self.map.samples, moment)):
            at = y + (number + 0.5) * LINE
            draw(canvas, self.right + 9, at)
            canvas.text(self.right + 26, at, words, anchor="lm")
        y += self.legend_lines * LINE + LINE // 2
        for number, line in enumerate(story(self.trace, moment)):
            for column, words in enumerate(line.split("\t")):
                canvas.text(self.right + column * TAB, y + number * LINE, words)

    def _close_up(self, moment: Moment) -> View | None:
        """Choose what is shown large of a map of small cells: what the chosen point reads."""
        read = self.trace.count and self.trace.in_range[moment.point]
        return close_up(self.trace, moment.point) if read else None

    def _block(self) -> Canvas:
        trace, view = self.trace, self.block_view
        canvas, colours = cells(trace.pooled, view, self.scale)
        write_values(canvas, trace.pooled, view, colours)
        (x, y), half = view.at(*trace.bin), max(view.cell / 2 - 2, 3)
        canvas.frame((x - half, y - half), (x + half, y + half), ORANGE, 3)
        return canvas


def _place(canvas: Canvas, panel: Canvas, view: View, x: int, y: int, words: str) -> None:
    """Put a panel with its axes below a line of words."""
    canvas.paste(panel, x, y)
    write_axes(canvas, view, x, y)
    canvas.text(x, y - 5, words, size=SMALL, anchor="ls")
