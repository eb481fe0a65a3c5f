"""The samples of a bin as a table: on one line each where that fits, else on two, upper neighbors above lower ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from roicli.cli.console import facts
from roicli.picture.story import coordinate, coordinate_arithmetic, short, weight_arithmetic
from roicli.pooling.bintrace import BinTrace

# Neighbours by row and column: w01 is the weight of the upper right one.
CORNERS = ("00", "01", "10", "11")
NARROWEST = 74  # characters that the narrow layout may take


@dataclass(frozen=True)
class _Line:
    """One sample in words."""

    index: tuple[str, str]
    place: tuple[str, str]
    cells: tuple[str, str]
    weights: list[str]
    values: list[str]
    value: str
    note: str
    style: str


def samples_table(trace: BinTrace, limit: int, width: int) -> Table:
    """List the first `limit` samples of a bin that interpolates, within `width` characters where it can be."""
    numbers = range(min(limit, trace.count))
    wide = _wide([_line(trace, number, 5) for number in numbers])
    return wide if _width(wide) <= width else _narrow([_line(trace, number, 3) for number in numbers])


def cells_table(trace: BinTrace, limit: int) -> Table:
    """List the first `limit` cells of a bin that takes whole ones."""
    shares = [] if trace.shares is None else ["share"]
    table = _table("row", "column", *shares, "value", "note")
    for number in range(min(limit, trace.count)):
        row, column, value = trace.rows[number, 0], trace.columns[number, 0], trace.interpolated[number]
        share = [] if trace.shares is None else [f"{trace.shares[number]:.6f}"]
        table.add_row(str(row), str(column), *share, f"{value:.7g}", "maximum" if number == trace.best else "")
    return table


def arithmetic(trace: BinTrace, number: int, times: str) -> Table:
    """Show how one sample comes about: its coordinates, its weights and its value, with its numbers."""
    table = facts()
    for name, line in zip("yx", coordinate_arithmetic(trace, number, times), strict=True):
        table.add_row(name, line)
    if trace.sample_rows.size:
        table.add_row("", Text(f"begin of the bin + (number + 0.5) {times} size of the bin / samples", style="dim"))
    if not trace.in_range[number]:
        table.add_row("value", "0, since it is out of range")
        return table
    y, x = (f"{trace.weights[number][list(corners)].sum():.4f}" for corners in ((2, 3), (1, 3)))
    row, column = trace.rows[number, 0], trace.columns[number, 0]
    names = ("upper left", "upper right", "lower left", "lower right")
    for corner, name, line in zip(CORNERS, names, weight_arithmetic(trace, number, times), strict=True):
        table.add_row(f"w{corner}", f"{line}  {name}")
    table.add_row(
        "", Text(f"{y} and {x} are how far it lies below row {row} and right of column {column}", style="dim")
    )
    products = " + ".join(
        f"{weight:.4f} {times} {short(value, 4)}"
        for weight, value in zip(trace.weights[number], trace.values[number], strict=True)
    )
    table.add_row("value", f"{short(trace.interpolated[number], 4)} = {products}")
    return table


def _line(trace: BinTrace, number: int, digits: int) -> _Line:
    inside = bool(trace.in_range[number])
    notes = {"clamped": trace.clamped[number], "out of range": not inside, "maximum": number == trace.best}
    rows, columns = (" ".join(map(str, cells[number])) for cells in (trace.rows, trace.columns))
    return _Line(
        index=(str(trace.iy[number]), str(trace.ix[number])),
        place=(coordinate(float(trace.y[number])), coordinate(float(trace.x[number]))),
        cells=(rows, columns) if inside else ("-", "-"),
        weights=[f"{weight:.4f}" for weight in trace.weights[number]] if inside else ["-"] * 4,
        values=[f"{value:.{digits}g}" for value in trace.values[number]] if inside else ["-"] * 4,
        value=f"{trace.interpolated[number]:.{digits + 2}g}",
        note=", ".join(note for note, applies in notes.items() if applies),
        style="" if inside else "dim",
    )


def _wide(lines: Sequence[_Line]) -> Table:
    names = (f"{letter}{corner}" for letter in "wv" for corner in CORNERS)
    table = _table("iy", "ix", "y", "x", "rows", "cols", *names, "value", "note")
    for line in lines:
        cells = (*line.index, *line.place, *line.cells, *line.weights, *line.values, line.value, line.note)
        table.add_row(*cells, style=line.style)
    return table


def _narrow(lines: Sequence[_Line]) -> Table:
    """Write two lines each; weights and values stand as the neighbors lie on the map."""
    value = max((len(value) for line in lines for value in line.values), default=3)
    names = (_two_by_two([f"{letter}{at}" for at in CORNERS], width) for letter, width in (("w", 6), ("v", value)))
    table = _table("iy\nix", "y\nx", "rows\ncols", *names, "value\nnote")
    for line in lines:
        pairs = ("\n".join(pair) for pair in (line.index, line.place, line.cells))
        blocks = (_two_by_two(line.weights, 6), _two_by_two(line.values, value))
        note = line.note.replace(", ", ",\n")
        table.add_row(*pairs, *blocks, f"{line.value}\n{note}", style=line.style)
    table.width = _width(table)  # on a terminal that is narrower still, its lines are broken, and nothing is cut off
    return table


def _two_by_two(corners: Sequence[str], width: int) -> str:
    return "\n".join(f"{corners[at]:>{width}} {corners[at + 1]:>{width}}" for at in (0, 2))


def _width(table: Table) -> int:
    """Return the width of a table: that of its columns and of the gaps after them."""
    columns = ([str(column.header), *map(str, column.cells)] for column in table.columns)
    return sum(2 + max(len(line) for cell in column for line in cell.split("\n")) for column in columns)


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for name in names:
        table.add_column(name, justify="left" if name == "note" else "right", no_wrap=True)
    return table


def legend() -> Text:
    """Name what the columns of `samples_table` hold."""
    where = "00 upper left, 01 upper right,\n10 lower left, 11 lower right"
    return Text(f"w is the weight and v the value of a neighbor: {where}", style="dim")
