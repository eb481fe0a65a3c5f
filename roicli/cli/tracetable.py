"""A trace as people read it: tables on a terminal of any width, nothing cut off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from roicli.bintrace import BinTrace
from roicli.cli.console import Console
from roicli.cli.plain import plain
from roicli.cli.sampletable import cells_table, samples_table
from roicli.jobs.trace import Traced

_DIM = "dim"
_MARKED = "bold reverse"
# Two traces stand side by side on a terminal with room for two of them.
_BESIDE = 150
# Of a larger block or footprint, so many rows and columns around its middle are shown.
_SHOWN = 32


def show_traced(traced: Traced, *, titles: Sequence[str], limit: int, bins: bool, footprint: bool) -> None:
    """Print all that was asked for; two traces side by side where there is room, else one below the other."""
    console = Console(highlight=False)
    beside = len(traced.traces) > 1 and console.width >= _BESIDE
    width = console.width // len(traced.traces) - 2 if beside else console.width
    parts = [
        Group(*_parts(trace, title, traced, width, limit=limit, bins=bins, footprint=footprint))
        for trace, title in zip(traced.traces, titles, strict=True)
    ]
    if beside:
        console.print(Columns([_fixed(part, width) for part in parts], padding=(0, 2)))
    else:
        for number, part in enumerate(parts):
            console.print(*[""] * number, part)
    if len(traced.traces) > 1:
        console.print("", _comparison(traced.traces, titles))


def _fixed(part: RenderableType, width: int) -> Table:
    frame = Table.grid()
    frame.add_column(width=width)
    frame.add_row(part)
    return frame


def _parts(
    trace: BinTrace, title: str, traced: Traced, width: int, *, limit: int, bins: bool, footprint: bool
) -> Iterator[RenderableType]:
    samples = "cells" if trace.spec.op == "roi_pool" else "samples"
    yield Text(title, style="bold")
    yield _heading(trace, traced)
    if not trace.count:
        yield Text(f"\nThis bin has no {samples}: it is empty, and its value is 0.", style=_DIM)
    elif limit:
        yield Text("")
        yield cells_table(trace, limit) if trace.spec.op == "roi_pool" else samples_table(trace, limit, width)
    if trace.count > limit:
        yield Text(f"... and {trace.count - limit} {samples} more (--limit {limit})", style=_DIM)
    yield _sum(trace, samples)
    if bins:
        height, breadth = trace.pooled.shape
        yield Text(f"\nPooled block of {height} x {breadth}, the traced bin in brackets", style="bold")
        yield from _matrix(trace.pooled, range(height), range(breadth), width, mark=trace.bin)
    if footprint:
        rows, columns, weights = trace.footprint()
        yield Text(f"\nCells that the bin reads, and their weights; sum {weights.sum():.6g}", style="bold")
        yield from _matrix(weights, rows.tolist(), columns.tolist(), width)


def _heading(trace: BinTrace, traced: Traced) -> Table:
    row, column = trace.bin
    channels, height, width = trace.shape
    bins_y, bins_x = trace.spec.output_size
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style=_DIM, no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("RoI", Text(plain(f"{traced.origin.words}, image {traced.image_id}")))  # ids are no markup
    table.add_row("map", f"{height} cells high, {width} wide, channel {trace.channel} of {channels}")
    table.add_row("bin", f"row {row}, column {column} of {bins_y} x {bins_x}")
    table.add_row(f"box, {traced.unit}", _extent(*traced.given_box))
    table.add_row("in cells", _extent(*trace.roi))
    if change := _change(trace):
        table.add_row("", change)
    (top, bottom), (left, right) = trace.bin_rows[row].tolist(), trace.bin_columns[column].tolist()
    table.add_row("its bin", _extent(left, top, right, bottom))
    ny, nx = trace.grid
    if trace.spec.op == "roi_pool":
        table.add_row("cells", f"{ny} x {nx} whole cells on the map")
    else:
        how = "adaptive: one a cell, rounded up" if trace.spec.adaptive else "fixed by the sampling ratio"
        table.add_row("samples", f"{ny} x {nx} a bin ({how})")
    return table


def _extent(left: float, top: float, right: float, bottom: float) -> str:
    size = f"{right - left:.4g} wide, {bottom - top:.4g} high"
    return f"x {left:.6g} to {right:.6g}, y {top:.6g} to {bottom:.6g} ({size})"


def _change(trace: BinTrace) -> str:
    """Say why the RoI in cells is not just the box times the spatial scale."""
    if trace.spec.op == "roi_pool":
        return "rounded to whole cells, both ends included"
    if trace.spec.aligned:
        return "shifted by half a cell"
    x1, y1, x2, y2 = trace.box
    if min(x2 - x1, y2 - y1) * trace.spec.spatial_scale < 1:
        return "at least one cell, since not aligned"
    return ""


def _sum(trace: BinTrace, samples: str) -> Text:
    """Say how the bin's value comes of its samples, and what the engine computes."""
    if trace.spec.mode == "max":
        which = "" if trace.best is None else f", {samples[:-1]} {trace.iy[trace.best]},{trace.ix[trace.best]}"
        how = f"maximum of {trace.count} {samples}{which} = {trace.result:.9g}"
    else:
        how = f"sum {trace.total:.9g} / {trace.count} samples = {trace.result:.9g}"
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
    """Tables of a matrix, as many columns in each as fit into the width; of a large one the part around the mark."""
    if not values.size:
        yield Text("none", style=_DIM)
        return
    middle = mark or (len(rows) // 2, len(columns) // 2)
    spans = [_span(len(numbers), at) for numbers, at in zip((rows, columns), middle, strict=True)]
    if values.size > values[spans[0], spans[1]].size:
        yield Text(f"The part around its middle; --json has all {len(rows)} x {len(columns)}", style=_DIM)
    texts = [[f"{value:.5g}" for value in line] for line in values[spans[0], spans[1]].tolist()]
    if mark is not None:
        line, at = mark[0] - spans[0].start, mark[1] - spans[1].start
        texts[line][at] = f"[{texts[line][at]}]"
    labels = [str(column) for column in columns[spans[1]]]
    cell = max(len(text) for line in (*texts, labels) for text in line)
    fit = max(1, (width - 8) // (cell + 1))
    for first in range(0, len(labels), fit):
        part = slice(first, first + fit)
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("", style=_DIM, justify="right", no_wrap=True)
        for label in labels[part]:
            table.add_column(label, header_style=_DIM, justify="right", no_wrap=True)
        for row, line in zip(rows[spans[0]], texts, strict=True):
            table.add_row(str(row), *(Text(text, _MARKED if text[0] == "[" else "") for text in line[part]))
        yield table


def _span(length: int, middle: int) -> slice:
    first = max(0, min(middle - _SHOWN // 2, length - _SHOWN))
    return slice(first, min(first + _SHOWN, length))
