"""Boxes in a CSV or TSV with a header: columns are found by name, in any order, and others are ignored."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, TextIO

from roicli.boxfiles.lines import LONGEST_LINE, check_line
from roicli.boxfiles.table import TableBuilder
from roicli.errors import BoxError
from roicli.regions import BoxFormat, Regions

# Names are written here as `_plain` leaves them. The first set that is complete is taken, so a width and a height
# beside xmin, ymin, xmax and ymax are left alone: they are the size of the image. So are those beside bbox_x, bbox_y,
# bbox_width and bbox_height: a word for the box goes before each name of a set or none, and such sets come first.
_WORDS = ("bbox", "box", "")
_CORNERS = (
    *("x1 y1 x2 y2", "xmin ymin xmax ymax", "left top right bottom", "x0 y0 x1 y1"),
    *("xtl ytl xbr ybr", "tlx tly brx bry"),
)
_UPPER_LEFT = ("x y", "xmin ymin", "left top")
_CENTRE = ("cx cy", "xcenter ycenter")
_SIZE = ("w h", "width height")
_PLAIN_COLUMNS = (
    *((BoxFormat.XYXY, corners.split()) for corners in _CORNERS),
    *((BoxFormat.XYWH, f"{position} {size}".split()) for position in _UPPER_LEFT for size in _SIZE),
    *((BoxFormat.CXCYWH, f"{position} {size}".split()) for position in _CENTRE for size in _SIZE),
)
_BOX_COLUMNS = [
    (box_format, [word + name for name in names]) for word in _WORDS for box_format, names in _PLAIN_COLUMNS
]
_IMAGE_COLUMNS = (
    *("imageid", "imgid", "image", "img", "imagename", "filename", "file"),
    *("imagepath", "filepath", "path"),
)
_BATCH_COLUMNS = ("batchindex", "batchidx")
_ID_COLUMNS = ("id", "boxid", "annid")

_HEADER_HINT = "Name the columns in the first line: image_id, and x1, y1, x2, y2 or x, y, w, h or cx, cy, w, h."

_LISTED = 40
_MOST_COLUMNS = 10_000

# What Excel reads and writes as a first line before the header.
_SEPARATOR_LINE = re.compile(r'"?sep=([^\w\s"]|\t)"?\s*', re.IGNORECASE)


class _Columns(NamedTuple):
    """Positions of what is read in a row, and what the names of the box columns say."""

    box: tuple[int, ...]
    box_format: BoxFormat
    image: int | None
    batch_index: int | None
    box_id: int | None


def read_csv(path: Path, box_format: BoxFormat | None) -> tuple[Regions, tuple[str, ...]]:
    """Read a table separated by commas, semicolons or tabs; see `read_boxes`."""
    builder = TableBuilder(str(path), "line")
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline(LONGEST_LINE)
        said = _SEPARATOR_LINE.fullmatch(first)
        delimiter = said[1] if said else max(",;\t", key=first.count)
        file.seek(0)
        line = 1  # on which a row begins: a quoted cell may go over several
        reader = csv.reader(_lines(file, path), delimiter=delimiter, skipinitialspace=True, strict=True)
        try:
            if said:
                next(reader)
                line = 2
            header = [name.strip() for name in next(reader, [])]
            columns = _find_columns(header, box_format, f"{path}, line {line}")
            line = reader.line_num + 1
            for row in reader:
                if any(row):  # spreadsheets may end a file in rows of nothing
                    _add_row(builder, line, row, columns, header, f"{path}, line {line}")
                line = reader.line_num + 1
        except csv.Error as error:
            raise BoxError(f"{path}, line {line}: {error}", "Look for a quote without its pair.") from error
    notes: tuple[str, ...] = ()
    if box_format not in (None, columns.box_format):
        names = ", ".join(header[position] for position in columns.box)
        notes = (f"{path}: columns {names} taken as {box_format}, against their names (--box-format)",)
    return builder.table(box_format or columns.box_format), notes


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    """Pass on the lines of a text; a NUL says that it is none, and would hide in a cell."""
    for number, line in enumerate(iter(partial(file.readline, LONGEST_LINE), ""), 1):
        check_line(line, path, number)
        if "\0" in line:
            raise BoxError(f"{path}, line {number}: a NUL byte, so this is not a text in UTF-8", "Save it as UTF-8.")
        yield line


def _some(header: list[str]) -> str:
    more = f" and {len(header) - _LISTED:,} more" if len(header) > _LISTED else ""
    return ", ".join(header[:_LISTED]) + more


def _plain(name: str) -> str:
    """Reduce a column's name to what its spellings share: "Image ID", "image_id" and "ImageID" become "imageid"."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _find_columns(header: list[str], box_format: BoxFormat | None, where: str) -> _Columns:
    if not any(header):
        raise BoxError(f"{where}: no header", _HEADER_HINT)
    if len(header) > _MOST_COLUMNS:
        raise BoxError(f"{where}: {len(header):,} columns", "Check that this is the right file.")
    plain = [_plain(name) for name in header]

    def find(*names: str) -> int | None:
        for name in names:
            if plain.count(name) > 1:
                twice = " and ".join(repr(column) for column in header if _plain(column) == name)
                raise BoxError(f"{where}: columns {twice} are the same", "Leave one of them out.")
            if name in plain:
                return plain.index(name)
        return None

    complete = [(found, names) for found, names in _BOX_COLUMNS if set(names) <= set(plain)]
    if not complete:
        raise BoxError(f"{where}: no columns of a box among {_some(header)}", _HEADER_HINT)
    # Where the columns offer more than one format, the user's word decides.
    named_format, names = next((choice for choice in complete if choice[0] is box_format), complete[0])
    image = find(*_IMAGE_COLUMNS)
    return _Columns(
        box=tuple(position for name in names if (position := find(name)) is not None),
        box_format=named_format,
        image=image,
        batch_index=find(*_BATCH_COLUMNS) if image is None else None,
        box_id=find(*_ID_COLUMNS),
    )


def _add_row(
    builder: TableBuilder, line: int, row: list[str], columns: _Columns, header: list[str], where: str
) -> None:
    if len(row) != len(header):
        raise BoxError(
            f"{where}: {len(row)} cells under a header of {len(header)}",
            "Look for a missing or extra separator, a decimal comma or an unquoted name.",
        )
    positions = columns.box if columns.batch_index is None else (columns.batch_index, *columns.box)
    numbers = [_number(row[position], header[position], where) for position in positions]
    image = None if columns.image is None else row[columns.image].strip()
    if image == "":
        raise BoxError(f"{where}: {header[columns.image or 0]} is empty", "Name the image of every box.")
    box_id = None if columns.box_id is None else row[columns.box_id].strip()
    builder.add(line, numbers, image, _integer_or_text(box_id) if box_id else None)


def _number(cell: str, column: str, where: str) -> float:
    try:
        # float() would also read "1_5" as 15.
        return float(cell.replace("_", "?"))
    except ValueError:
        text = cell.strip()
        if re.fullmatch(r"[-+]?\d+,\d+", text):
            raise BoxError(f"{where}: {column} {text!r} has a decimal comma", "Write decimal points.") from None
        fault = f"{text!r} is not a number" if text else "is empty"
        raise BoxError(f"{where}: {column} {fault}", "Write a number there, or leave the box out.") from None


def _integer_or_text(cell: str) -> int | str:
    """Read an id as an integer if it is written the way integers are; "007" is a name."""
    return int(cell) if re.fullmatch(r"0|-?[1-9][0-9]{0,17}", cell) else cell
