"""The samples of a bin as a table, in the widest of three layouts that fits without cutting anything.

On one line each; on two, the upper neighbours above the lower ones; or, on a very narrow terminal, as short blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from roicli.pooling.bintrace import BinTrace


@dataclass(frozen=True)
class _Line:
    """One sample in words."""

    iy: str
    ix: str
    y: str
    x: str
    rows: str
    columns: str
    weights: list[str]
    values: list[str]
    value: str
    note: str
    style: str


# Neighbours by row and column: w01 is the weight of the upper right one.
_CORNERS = ("00", "01", "10", "11")
_NAMES = ("iy", "ix", "y", "x", "rows", "cols", *(f"w{at}" for at in _CORNERS), *(f"v{at}" for at in _CORNERS))


def samples_table(trace: BinTrace, limit: int, width: int) -> RenderableType:
    """List the first `limit` samples of a bin of RoIAlign, within `width` characters."""
    for digits in (5, 3):
        lines = [_line(trace, at, digits) for at in range(min(limit, trace.count))]
        for layout in (_one_line_each, _two_lines_each):
            cells = layout(lines)
            if _width(cells) <= width:
                return _table(cells, [line.style for line in lines])
    return _blocks(lines)


def cells_table(trace: BinTrace, limit: int) -> Table:
    """List the first `limit` cells of a bin of RoIPool."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), show_edge=False, pad_edge=False)
    for name in ("row", "column", "value"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("note", no_wrap=True)
    for at in range(min(limit, trace.count)):
        row, column, value = trace.rows[at, 0], trace.columns[at, 0], trace.interpolated[at]
        table.add_row(str(row), str(column), f"{value:.7g}", "maximum" if at == trace.best else "")
    return table


def _line(trace: BinTrace, at: int, digits: int) -> _Line:
    inside = bool(trace.in_range[at])
    notes = {"clamped": trace.clamped[at], "out of range": not inside, "maximum": at == trace.best}
    return _Line(
        iy=str(trace.iy[at]),
        ix=str(trace.ix[at]),
        y=_coordinate(float(trace.y[at])),
        x=_coordinate(float(trace.x[at])),
        rows=" ".join(map(str, trace.rows[at])) if inside else "-",
        columns=" ".join(map(str, trace.columns[at])) if inside else "-",
        weights=[f"{weight:.4f}" for weight in trace.weights[at]] if inside else ["-"] * 4,
        values=[f"{value:.{digits}g}" for value in trace.values[at]] if inside else ["-"] * 4,
        value=f"{trace.interpolated[at]:.{digits + 2}g}",
        note=", ".join(note for note, applies in notes.items() if applies),
        style="" if inside else "dim",
    )


def _coordinate(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1e5 else f"{value:.7g}"


def _one_line_each(lines: Sequence[_Line]) -> list[list[str]]:
    """Cells of the table, its header first."""
    body = [
        [line.iy, line.ix, line.y, line.x, line.rows, line.columns, *line.weights, *line.values, line.value, line.note]
        for line in lines
    ]
    return [[*_NAMES, "value", "note"], *body]


def _two_lines_each(lines: Sequence[_Line]) -> list[list[str]]:
    """Cells of two lines each, the header first; blocks of four stand as the neighbours lie on the map."""
    values = max(len(value) for line in lines for value in line.values)
    body = [
        [
            f"{line.iy}\n{line.ix}",
            f"{line.y}\n{line.x}",
            f"{line.rows}\n{line.columns}",
            _two_by_two(line.weights, 6),
            _two_by_two(line.values, values),
            f"{line.value}\n{line.note}",
        ]
        for line in lines
    ]
    return [["iy\nix", "y\nx", "rows\ncols", "weights\n", "values\n", "value\nnote"], *body]


def _two_by_two(corners: Sequence[str], width: int) -> str:
    return "\n".join(f"{corners[at]:>{width}} {corners[at + 1]:>{width}}" for at in (0, 2))


def _width(cells: Sequence[Sequence[str]]) -> int:
    """Width of the table: that of its columns and of the gaps between them."""
    columns = list(zip(*cells, strict=True))
    return sum(max(len(text) for cell in column for text in cell.split("\n")) for column in columns) + 2 * len(columns)


def _table(cells: Sequence[Sequence[str]], styles: Sequence[str]) -> Table:
    header, *body = cells
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for name in header:
        table.add_column(name, justify="left" if name == "note" else "right", no_wrap=True)
    for row, style in zip(body, styles, strict=True):
        table.add_row(*row, style=style)
    return table


def _blocks(lines: Sequence[_Line]) -> Text:
    """Write samples as blocks of short lines, for a terminal too narrow for a table."""
    text = Text()
    for line in lines:
        text.append(f"sample {line.iy},{line.ix}  y {line.y}  x {line.x}\n", style=line.style or "bold")
        if not line.style:
            text.append(f"  rows {line.rows}, columns {line.columns}\n")
            for weight, value in zip(line.weights, line.values, strict=True):
                text.append(f"  {weight} x {value}\n")
        text.append(f"  = {line.value}{'  ' + line.note if line.note else ''}\n", style=line.style)
    text.right_crop()  # the last line feed
    return text
