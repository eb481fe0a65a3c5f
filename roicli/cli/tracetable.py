"""A trace as people read it: tables on a terminal of any width, nothing cut off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from roicli.cli.console import Console
from roicli.cli.lines import joined
from roicli.cli.plain import plain
from roicli.cli.sampletable import cells_table, samples_table
from roicli.jobs.trace import Traced
from roicli.pooling.bintrace import BinTrace

_DIM = "dim"
_MARKED = "bold reverse"
# Two traces stand side by side on a terminal with room for two of them.
_WIDE = 150
# Of a larger block or footprint, so many rows and columns around its middle are shown.
_SHOWN = 32


def show_traced(traced: Traced, *, titles: Sequence[str], limit: int, bins: bool, footprint: bool) -> None:
    """Print all that was asked for; two traces side by side where there is room, else one below the other."""
    console = Console()
    beside = len(traced.traces) > 1 and console.width >= _WIDE and not console.endless
    width = console.width // 2 - 1 if beside else console.width
    parts = [
        Group(*_parts(trace, title, traced, width, limit=limit, bins=bins, footprint=footprint))
        for trace, title in zip(traced.traces, titles, strict=True)
    ]
    if beside:
        console.show(_beside(parts, width))
    else:
        for number, part in enumerate(parts):
            console.show(*[""] * number, part)
    if len(traced.traces) > 1:
        console.show("", _comparison(traced.traces, titles))


def _beside(parts: Sequence[RenderableType], width: int) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in parts:
        table.add_column(width=width)
    table.add_row(*parts)
    return table


def _parts(
    trace: BinTrace, title: str, traced: Traced, width: int, *, limit: int, bins: bool, footprint: bool
) -> Iterator[RenderableType]:
    samples = f"{trace.operator.noun}s"
    yield Text(title, style="bold")
    yield _heading(trace, traced, width)
    if not trace.count:
        yield Text(f"\nThis bin has no {samples}: it is empty, and its value is 0.", style=_DIM)
    elif limit:
        yield Text("")
        yield samples_table(trace, limit, width) if trace.operator.interpolates else cells_table(trace, limit)
    if trace.count > limit:
        yield Text(f"... and {_count(trace.count - limit, samples)} more (--limit {limit})", style=_DIM)
    yield _sum(trace, samples)
    if bins:
        height, breadth = trace.pooled.shape
        yield Text(f"\nPooled block of {height} x {breadth}, the traced bin in brackets", style="bold")
        yield from _matrix(trace.pooled, range(height), range(breadth), width, mark=trace.bin)
    if footprint:
        rows, columns, weights = trace.footprint()
        yield Text(f"\nCells that the bin reads, and their weights; sum {weights.sum():.6g}", style="bold")
        yield from _matrix(weights, rows.tolist(), columns.tolist(), width)


def _count(number: int, samples: str) -> str:
    return f"{number} {samples if number != 1 else samples[:-1]}"


def _heading(trace: BinTrace, traced: Traced, width: int) -> Table:
    row, column = trace.bin
    channels, height, breadth = trace.shape
    bins_y, bins_x = trace.spec.output_size
    given = f"box, {traced.unit}"
    room = width - len(max(given, "in cells", key=len)) - 2
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style=_DIM, no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("RoI", Text(plain(f"{traced.origin.words}, image {traced.image_id}")))  # ids are no markup
    table.add_row("map", f"{height} cells high, {breadth} wide, channel {trace.channel} of {channels}")
    table.add_row("bin", f"row {row}, column {column} of {bins_y} x {bins_x}")
    table.add_row(given, _extent(*traced.given_box, room))
    table.add_row("in cells", _extent(*trace.roi, room))
    if trace.change:
        table.add_row("", trace.change)
    (top, bottom), (left, right) = trace.bin_rows[row].tolist(), trace.bin_columns[column].tolist()
    table.add_row("its bin", _extent(left, top, right, bottom, room))
    ny, nx = trace.grid
    table.add_row(f"{trace.operator.noun}s", f"{ny} x {nx} a bin ({trace.operator.sampling(trace.spec)})")
    return table


def _extent(left: float, top: float, right: float, bottom: float, room: int) -> str:
    size = f"({right - left:.4g} wide, {bottom - top:.4g} high)"
    return joined([f"x {left:.6g} to {right:.6g},", f"y {top:.6g} to {bottom:.6g}", size], room)


def _sum(trace: BinTrace, samples: str) -> Text:
    """Say how the bin's value comes of its samples, and what the engine computes."""
    if trace.spec.mode == "max":
        which = "" if trace.best is None else f", {samples[:-1]} {trace.iy[trace.best]},{trace.ix[trace.best]}"
        how = f"maximum of {_count(trace.count, samples)}{which} = {trace.result:.9g}"
    else:
        how = f"sum {trace.total:.9g} / {_count(trace.count, samples)} = {trace.result:.9g}"
    return Text(f"\n{how}\nalign computes {trace.engine_value:.9g}, difference {trace.difference:.2g}")


def _comparison(traces: Sequence[BinTrace], titles: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, title="side by side", title_justify="left")
    table.add_column("")
    for title in titles:
        table.add_column(title, justify="right", overflow="fold")
    first, second = traces
    for name, values in (
        ("RoI x, cells", [f"{trace.roi[0]:.6g} to {trace.roi[2]:.6g}" for trace in traces]),
        ("RoI y, cells", [f"{trace.roi[1]:.6g} to {trace.roi[3]:.6g}" for trace in traces]),
        ("samples of the bin", [f"{trace.grid[0]} x {trace.grid[1]}" for trace in traces]),
        ("value of the bin", [f"{trace.engine_value:.9g}" for trace in traces]),
        ("difference", ["", f"{second.engine_value - first.engine_value:.6g}"]),
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
    """Tables of a matrix, as few as fit into the width; of a large one the part around the mark."""
    if not values.size:
        yield Text("none", style=_DIM)
        return
    middle = mark or (len(rows) // 2, len(columns) // 2)
    spans = [_span(len(numbers), at) for numbers, at in zip((rows, columns), middle, strict=True)]
    if values.size > values[spans[0], spans[1]].size:
        yield Text(f"The part around its middle; --json has all {len(rows)} x {len(columns)}", style=_DIM)
    rows, columns = rows[spans[0]], columns[spans[1]]
    at = None if mark is None else (mark[0] - spans[0].start, mark[1] - spans[1].start)
    labels = max(len(str(row)) for row in rows)
    # Of the fewest tables, those with the most digits.
    for part in min(
        (_broken(_texts(values[spans[0], spans[1]], columns, digits, at), width - labels) for digits in (5, 4, 3)),
        key=len,
    ):
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("", style=_DIM, justify="right", no_wrap=True)
        for label, *_ in part:
            table.add_column(label, header_style=_DIM, justify="right", no_wrap=True)
        for row, *line in zip(rows, *(cells for _, *cells in part), strict=True):
            table.add_row(str(row), *(Text(text, _MARKED if text[0] == "[" else "") for text in line))
        yield table


def _texts(
    values: NDArray[np.floating[Any]], columns: Sequence[int], digits: int, mark: tuple[int, int] | None
) -> list[list[str]]:
    """Write a matrix out, column by column, each under its number."""
    lines = [[f"{value:.{digits}g}" for value in line] for line in values.tolist()]
    if mark is not None:
        row, column = mark
        lines[row][column] = f"[{lines[row][column]}]"
    return [[str(column), *cells] for column, *cells in zip(columns, *lines, strict=True)]


def _broken(columns: list[list[str]], room: int) -> list[list[list[str]]]:
    """Break columns into as few parts as fit into the room, as even as can be; a gap stands before each column."""
    for number in range(1, len(columns) + 1):
        starts = [-(-len(columns) * part // number) for part in range(number + 1)]
        parts = [columns[first:end] for first, end in pairwise(starts)]
        if all(sum(1 + max(map(len, column)) for column in part) <= room for part in parts):
            break
    return parts


def _span(length: int, middle: int) -> slice:
    first = max(0, min(middle - _SHOWN // 2, length - _SHOWN))
    return slice(first, min(first + _SHOWN, length))
