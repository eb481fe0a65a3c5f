"""A trace as people read it: tables on a terminal of any width, nothing cut off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from roicli.jobs import Traced
from roicli.trace import BinTrace

# Wide enough for a sample on one line, and for two traces side by side.
_WIDE = 150
_DIM = "dim"
_TRACED = "bold reverse"


def show_traced(traced: Traced, *, titles: Sequence[str], limit: int, bins: bool, footprint: bool) -> None:
    """Print all that was asked for; two traces side by side where there is room, else one below the other."""
    console = Console(highlight=False)
    beside = len(traced.traces) > 1 and console.width >= _WIDE
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
    yield Text(title, style="bold")
    yield _heading(trace, traced)
    if trace.count:
        yield _cells_table(trace, limit) if trace.spec.op == "roi_pool" else _samples_table(trace, limit, width)
    else:
        yield Text("\nThis bin has no samples: it is empty, and its value is 0.", style=_DIM)
    if trace.count > limit:
        yield Text(f"... and {trace.count - limit} samples more (--limit {limit})", style=_DIM)
    yield _sum(trace)
    if bins:
        yield Text("\nPooled block, the traced bin in brackets", style="bold")
        height, breadth = trace.pooled.shape
        yield from _matrix(trace.pooled, range(height), range(breadth), width, mark=trace.bin)
    if footprint:
        rows, columns, weights = trace.footprint()
        yield Text(f"\nCells that the bin reads, and their weights; sum {weights.sum():.6g}", style="bold")
        yield from _matrix(weights, rows.tolist(), columns.tolist(), width)


def _heading(trace: BinTrace, traced: Traced) -> Table:
    row, column = trace.bin
    channels, height, width = trace.shape
    bins_y, bins_x = trace.spec.output_size
    table = Table.grid(padding=(0, 2))
    table.add_column(style=_DIM, no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("RoI", f"{traced.roi}, image {traced.image_id}")
    table.add_row("map", f"{height} x {width} cells (height x width), channel {trace.channel} of {channels}")
    table.add_row("bin", f"row {row}, column {column} of {bins_y} x {bins_x}")
    left, top, right, bottom = traced.given_box
    table.add_row("box", _extent(left, top, right, bottom) + f" {traced.unit}")
    left, top, right, bottom = trace.roi
    table.add_row("in cells", _extent(left, top, right, bottom))
    (top, bottom), (left, right) = trace.bin_rows[row].tolist(), trace.bin_columns[column].tolist()
    table.add_row("its bin", _extent(left, top, right, bottom))
    ny, nx = trace.grid
    if trace.spec.op == "roi_pool":
        table.add_row("cells", f"{ny} x {nx} whole cells")
    else:
        how = "adaptive: one a cell, rounded up" if trace.spec.adaptive else "fixed by the sampling ratio"
        table.add_row("samples", f"{ny} x {nx} a bin ({how})")
    return table


def _extent(left: float, top: float, right: float, bottom: float) -> str:
    return f"x {left:.6g} to {right:.6g}, y {top:.6g} to {bottom:.6g} ({bottom - top:.4g} x {right - left:.4g})"


def _samples_table(trace: BinTrace, limit: int, width: int) -> Table:
    """List samples, each on one line where there is room, else on two: upper neighbours above lower ones."""
    wide = width >= _WIDE
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    if wide:
        for name in ("iy", "ix", "y", "x", "rows", "cols"):
            table.add_column(name, justify="right", no_wrap=True)
        for name in ("w00", "w01", "w10", "w11", "v00", "v01", "v10", "v11", "value"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("note")
    else:
        for name in ("iy\nix", "y\nx", "rows\ncols", "weights\n", "values\n", "value\n"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("note\n", overflow="fold")
    value_width = max((len(_value(value)) for value in trace.values[:limit].ravel().tolist()), default=1)
    for at in islice(range(trace.count), limit):
        style = "" if trace.in_range[at] else _DIM
        iy, ix, y, x = str(trace.iy[at]), str(trace.ix[at]), _coordinate(trace.y[at]), _coordinate(trace.x[at])
        rows, columns = (" ".join(map(str, pair)) for pair in (trace.rows[at], trace.columns[at]))
        if not trace.in_range[at]:
            weights, values, rows, columns = ["-"] * 4, ["-"] * 4, "-", "-"
        else:
            weights = [f"{weight:.4f}" for weight in trace.weights[at]]
            values = [_value(value) for value in trace.values[at]]
        value, note = _value(trace.interpolated[at], 7), _note(trace, at)
        if wide:
            table.add_row(iy, ix, y, x, rows, columns, *weights, *values, value, note, style=style)
        else:
            table.add_row(
                f"{iy}\n{ix}",
                f"{y}\n{x}",
                f"{rows}\n{columns}",
                _block(weights, 6),
                _block(values, value_width),
                value,
                note,
                style=style,
                end_section=False,
            )
    return table


def _cells_table(trace: BinTrace, limit: int) -> Table:
    """List the cells of a bin of RoIPool."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), show_edge=False, pad_edge=False)
    for name in ("row", "column", "value"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("note")
    best = _best(trace)
    for at in islice(range(trace.count), limit):
        note = "the maximum" if at == best else ""
        table.add_row(str(trace.rows[at, 0]), str(trace.columns[at, 0]), _value(trace.interpolated[at], 7), note)
    return table


def _sum(trace: BinTrace) -> Text:
    """Say how the bin's value comes of its samples, and what the engine computes."""
    if trace.spec.mode == "max":
        how = f"maximum of {trace.count} = {trace.result:.9g}"
    else:
        how = f"sum {trace.total:.9g} / {trace.count} samples = {trace.result:.9g}"
    difference = trace.result - trace.engine_value
    text = Text(f"\n{how}\n")
    text.append(f"align computes {trace.engine_value:.9g}, difference {difference:.2g}")
    return text


def _comparison(traces: Sequence[BinTrace], titles: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, title="side by side", title_justify="left")
    table.add_column("")
    for title in titles:
        table.add_column(title, justify="right", overflow="fold")
    for name, values in (
        ("RoI x, cells", [f"{trace.roi[0]:.6g} to {trace.roi[2]:.6g}" for trace in traces]),
        ("RoI y, cells", [f"{trace.roi[1]:.6g} to {trace.roi[3]:.6g}" for trace in traces]),
        ("samples of the bin", [f"{trace.grid[0]} x {trace.grid[1]}" for trace in traces]),
        ("value of the bin", [f"{trace.engine_value:.9g}" for trace in traces]),
        ("difference", ["", *(f"{trace.engine_value - traces[0].engine_value:.6g}" for trace in traces[1:])]),
    ):
        table.add_row(name, *values)
    return table


def _matrix(
    values: NDArray[np.floating[Any]],
    rows: Sequence[int],
    columns: Sequence[int],
    width: int,
    mark: tuple[int, int] | None = None,
) -> Iterator[Table]:
    """Tables of a matrix, as many columns in each as fit into the width."""
    texts = [[_value(value) for value in line] for line in values]
    if mark is not None:
        texts[mark[0]][mark[1]] = f"[{texts[mark[0]][mark[1]]}]"
    cell = max((len(text) for line in texts for text in line), default=1)
    fit = max(1, (width - 6) // (cell + 1))
    for first in range(0, len(columns), fit):
        table = Table(box=None, padding=(0, 1, 0, 0), show_header=True)
        table.add_column("", style=_DIM, justify="right", no_wrap=True)
        for column in columns[first : first + fit]:
            table.add_column(str(column), header_style=_DIM, justify="right", no_wrap=True)
        for row, line in zip(rows, texts, strict=True):
            table.add_row(
                str(row), *(Text(text, _TRACED if text[0] == "[" else "") for text in line[first : first + fit])
            )
        yield table


def _note(trace: BinTrace, at: int) -> str:
    if not trace.in_range[at]:
        return "out of range"
    if trace.spec.mode == "max" and at == _best(trace):
        return "the maximum"
    return "clamped" if trace.clamped[at] else ""


def _best(trace: BinTrace) -> int:
    return int(np.argmax(trace.interpolated))


def _block(corners: Sequence[str], width: int) -> str:
    """Two by two: upper left and right, lower left and right."""
    return "\n".join(f"{corners[at]:>{width}} {corners[at + 1]:>{width}}" for at in (0, 2))


def _coordinate(value: float) -> str:
    return f"{value:.4f}"


def _value(value: float, digits: int = 5) -> str:
    return f"{value:.{digits}g}"
