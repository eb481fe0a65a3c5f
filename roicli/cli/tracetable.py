"""A trace as people read it: tables on a terminal of any width, nothing cut off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from roicli.cli.console import Console, facts
from roicli.cli.lines import joined
from roicli.cli.plain import plain
from roicli.cli.sampletable import NARROWEST, arithmetic, cells_table, legend, samples_table
from roicli.jobs.trace import Traced
from roicli.picture.story import TIMES, chosen
from roicli.pooling.bintrace import BinTrace
from roicli.words import count

_DIM = "dim"
_GAP = 2
# Of a larger block or footprint, so many rows and columns around its middle are shown.
_SHOWN = 32
# What is shown of a trace, from top to bottom.
_PARTS = (
    *("title", "heading", "gap", "samples", "legend", "more", "sample", "arithmetic", "sum"),
    *("bins", "block", "footprint", "weights"),
)


def show_traced(
    traced: Traced, *, titles: Sequence[str], limit: int, point: int | None, bins: bool, footprint: bool
) -> None:
    """Print all that was asked for; several traces side by side where there is room, else one below the other."""
    console = Console()
    number = len(traced.traces)
    width = (console.width - _GAP * (number - 1)) // number
    beside = number > 1 and width >= NARROWEST and not console.endless
    show = _Show(traced, limit, point, bins, footprint, width if beside else console.width, _times(console))
    parts = [dict(show.parts(trace, title)) for trace, title in zip(traced.traces, titles, strict=True)]
    if beside:
        table = Table.grid(padding=(0, _GAP, 0, 0))
        for _ in parts:
            table.add_column(width=width)
        # Part by part: a line that wraps, or is in one half only, does not shift the other.
        for name in _PARTS:
            if any(name in part for part in parts):
                table.add_row(*(part.get(name, "") for part in parts))
        console.show(table)
    else:
        for place, part in enumerate(parts):
            console.show(*[""] * bool(place), *part.values())
    if number > 1:
        console.show("", _comparison(traced.traces, titles))


def _times(console: Console) -> str:
    return TIMES if console.encoding.startswith("utf") else "x"


class _Show:
    """How traces are shown: what of them, and how wide."""

    def __init__(
        self, traced: Traced, limit: int, point: int | None, bins: bool, footprint: bool, width: int, times: str
    ) -> None:
        self.traced, self.limit, self.point, self.bins, self.footprint = traced, limit, point, bins, footprint
        self.width, self.times = width, times

    def parts(self, trace: BinTrace, title: str) -> Iterator[tuple[str, RenderableType]]:
        """Give the parts of one trace by the names in `_PARTS`, in their order."""
        samples, interpolates = trace.operator.noun, trace.operator.interpolates
        yield "title", Text(title, style="bold")
        yield "heading", self._heading(trace)
        if not trace.count:
            yield "gap", Text(f"\nThis bin has no {samples}s: it is empty, and its value is 0.", style=_DIM)
        elif self.limit:
            yield "gap", Text("")
            if interpolates:
                yield "samples", samples_table(trace, self.limit, self.width)
                yield "legend", legend()
            else:
                yield "samples", cells_table(trace, self.limit)
        if (rest := trace.count - self.limit) > 0:
            yield "more", Text(f"... and {count(rest, f'more {samples}')} (--limit {self.limit})", style=_DIM)
        if trace.count and interpolates:
            number = chosen(trace, self.point)
            place = f"{trace.iy[number]},{trace.ix[number]}"
            yield "sample", Text(f"\nSample {place}: how its numbers come about", style="bold")
            yield "arithmetic", arithmetic(trace, number, self.times)
        yield "sum", _sum(trace, samples)
        if self.bins:
            height, breadth = trace.pooled.shape
            yield "bins", Text(f"\nPooled block of {height} x {breadth}, the traced bin in brackets", style="bold")
            yield "block", Group(*_matrix(trace.pooled, range(height), range(breadth), self.width, mark=trace.bin))
        if self.footprint:
            rows, columns, weights = trace.footprint()
            said = f"\nCells that the bin reads, and their weights; sum {weights.sum():.6g}"
            yield "footprint", Text(said, style="bold")
            yield "weights", Group(*_matrix(weights, rows.tolist(), columns.tolist(), self.width))

    def _heading(self, trace: BinTrace) -> Table:
        (row, column), traced = trace.bin, self.traced
        channels, height, breadth = trace.shape
        bins_y, bins_x = trace.spec.output_size
        given = f"box, {traced.unit}"
        room = self.width - len(max(given, "in cells", key=len)) - 2
        table = facts()
        table.add_row("RoI", Text(plain(f"{traced.origin.words}, image {traced.image_id}")))  # not markup
        if traced.level:
            table.add_row("level", plain(f"{traced.level}, stride {1 / trace.scale[0]:g}"))
        table.add_row("map", f"{height} cells high, {breadth} wide, channel {trace.channel} of {channels}")
        table.add_row("bin", f"row {row}, column {column} of {bins_y} x {bins_x}")
        table.add_row(given, _extent(*traced.given_box, room))
        if traced.unit != "px" and traced.steps.pixels is not None:
            table.add_row("in pixels", _extent(*traced.steps.pixels, room))
        if traced.steps.input_pixels is not None:
            table.add_row("in the input", _extent(*traced.steps.input_pixels, room))
        table.add_row("in cells", _extent(*trace.roi, room))
        table.add_row("", trace.change or "box times spatial scale")  # always a line, so that halves stay level
        (top, bottom), (left, right) = trace.bin_rows[row].tolist(), trace.bin_columns[column].tolist()
        table.add_row("its bin", _extent(left, top, right, bottom, room))
        ny, nx = trace.grid
        table.add_row(f"{trace.operator.noun}s", f"{ny} x {nx} a bin ({trace.operator.sampling(trace.spec)})")
        return table


def _extent(left: float, top: float, right: float, bottom: float, room: int) -> str:
    size = f"({right - left:.4g} wide, {bottom - top:.4g} high)"
    return joined([f"x {left:.5g} to {right:.5g},", f"y {top:.5g} to {bottom:.5g}", size], room)


def _sum(trace: BinTrace, samples: str) -> Text:
    """Say how the bin's value comes of its samples, and what the engine computes."""
    if trace.spec.mode == "max":
        which = "" if trace.best is None else f", {samples} {trace.iy[trace.best]},{trace.ix[trace.best]}"
        how = f"maximum of {count(trace.count, samples)}{which} = {trace.result:.9g}"
    elif trace.shares is not None:
        how = f"sum of share {TIMES} value of {count(trace.count, samples)} = {trace.result:.9g}"
    else:
        how = f"sum {trace.total:.9g} / {count(trace.count, samples)} = {trace.result:.9g}"
    return Text(f"\n{how}\nalign computes {trace.engine_value:.9g}, difference {trace.difference:.2g}")


def _comparison(traces: Sequence[BinTrace], titles: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, title="side by side", title_justify="left")
    table.add_column("")
    for title in titles:
        table.add_column(title, justify="right", overflow="fold")
    first = traces[0].engine_value
    for name, values in (
        ("RoI x, cells", [f"{trace.roi[0]:.6g} to {trace.roi[2]:.6g}" for trace in traces]),
        ("RoI y, cells", [f"{trace.roi[1]:.6g} to {trace.roi[3]:.6g}" for trace in traces]),
        ("samples of the bin", [f"{trace.grid[0]} x {trace.grid[1]}" for trace in traces]),
        ("value of the bin", [f"{trace.engine_value:.9g}" for trace in traces]),
        ("less the first", ["", *(f"{trace.engine_value - first:.6g}" for trace in traces[1:])]),
    ):
        table.add_row(name, *values)
    return table


def _matrix(
    values: NDArray[np.floating[Any]],
    rows: Sequence[int],
    columns: Sequence[int],
    width: int,
    mark: tuple[int, int] | None = None,
) -> Iterator[RenderableType]:
    """Give tables of a matrix, each as wide as fits; of a large matrix, the part around the mark."""
    if not values.size:
        yield Text("none", style=_DIM)
        return
    middle = mark or (len(rows) // 2, len(columns) // 2)
    spans = [_span(len(numbers), at) for numbers, at in zip((rows, columns), middle, strict=True)]
    if values.size > values[spans[0], spans[1]].size:
        yield Text(f"The part around its middle; --json has all {len(rows)} x {len(columns)}", style=_DIM)
    texts = {
        (row, column): f"[{values[row, column]:.4g}]" if (row, column) == mark else f"{values[row, column]:.4g}"
        for row in range(*spans[0].indices(len(rows)))
        for column in range(*spans[1].indices(len(columns)))
    }
    wide = max(map(len, [*texts.values(), *map(str, columns[spans[1]])])) + 1
    number = max((width - max(len(str(row)) for row in rows)) // wide, 1)
    shown_columns = range(spans[1].start, spans[1].stop)
    for shown in np.array_split(shown_columns, -(-len(shown_columns) // number)):  # parts as even as can be
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("", style=_DIM, justify="right", no_wrap=True)
        for column in shown:
            table.add_column(str(columns[column]), header_style=_DIM, justify="right", min_width=wide - 1)
        for row in range(spans[0].start, spans[0].stop):
            cells = [Text(texts[row, at], "bold reverse" if (row, at) == mark else "") for at in shown]
            table.add_row(str(rows[row]), *cells)
        yield table


def _span(length: int, middle: int) -> slice:
    first = max(0, min(middle - _SHOWN // 2, length - _SHOWN))
    return slice(first, min(first + _SHOWN, length))
