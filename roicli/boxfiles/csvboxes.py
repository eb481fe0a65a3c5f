"""Boxes in a CSV or TSV with a header: columns are found by name, in any order, and others are ignored."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import StringIO
from itertools import chain, islice
from typing import NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from roicli.boxfiles.boxfile import BOM, LONGEST_LINE, BoxFile
from roicli.boxfiles.builder import Builder, Name
from roicli.boxfiles.layout import Layout
from roicli.errors import BoxError
from roicli.regions import BoxFormat, Regions
from roicli.words import count, listing

# Names are written here as `_plain` leaves them. The first set that is complete is taken, so a width and a height
# beside xmin, ymin, xmax and ymax are left alone: they are the size of the image. So are those beside bbox_x, bbox_y,
# bbox_width and bbox_height: a word for the box goes before each name of a set or none, and such sets come first.
_WORDS = ("bbox", "box", "bb", "")
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
# Columns that may say which image a box belongs to; a name of these alone is not enough to read them so.
_FRAME_COLUMNS = ("frame", "frameid", "frameno", "framenumber", "frameindex", "imagenumber", "page", "slice")
_SIZE_COLUMNS = (("height", "width"), ("imageheight", "imagewidth"), ("imgheight", "imgwidth"))
# What else is kept of a box, by the names that it goes under.
_KEPT = {
    "box_id": ("id", "boxid", "annid", "annotationid"),
    "score": ("score", "confidence", "conf"),
    "label": ("label", "class", "classname", "labelname", "categoryname"),
    "category": ("category", "categoryid", "classid"),
    "angle": ("angle", "theta", "rotation"),
}
# Cells of a box that is not there.
_ABSENT = {"", "na", "n/a", "none", "null"}

_HEADER_HINT = "Name the columns in the first line: image_id, and x1, y1, x2, y2 or x, y, w, h or cx, cy, w, h."
_LISTED = 40
_MOST_COLUMNS = 10_000
_TEXT_BLOCK = 1 << 16
# Rows that are taken apart together: as strings they should stay in the cache (4,096 rows take a fifth longer).
_ROWS = 256

# What Excel reads and writes as a first line before the header.
_SEPARATOR_LINE = re.compile(r'"?sep=([^\w\s"]|\t)"?\s*', re.IGNORECASE)


class _Columns(NamedTuple):
    """Positions of what is read in a row, and what the names of the box columns say."""

    box: tuple[int, ...]
    box_format: BoxFormat
    image: int | None
    batch_index: int | None
    size: tuple[int, int] | None
    kept: dict[str, int]


def _recognizes(file: BoxFile) -> bool:
    """Look for the columns of a box in the first line."""
    lines = file.head.removeprefix(BOM).decode("utf-8", "replace").splitlines()[:2]
    if not lines:
        return False
    said = _SEPARATOR_LINE.fullmatch(lines[0])
    header = lines[said is not None :][:1]
    try:
        cells = next(csv.reader(header, delimiter=_delimiter(lines[0]), skipinitialspace=True), [])
    except csv.Error:
        return False
    plain = {_plain(name) for name in cells}
    return any(plain.issuperset(names) for _, names in _BOX_COLUMNS)


def _delimiter(first: str) -> str:
    said = _SEPARATOR_LINE.fullmatch(first)
    return said[1] if said else max(",;\t", key=first.count)


def _read(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    builder = Builder(file.path, "line")
    sizes: dict[str, tuple[float | None, ...]] = {}
    with file.text() as text:
        first = text.readline(LONGEST_LINE)
        text.seek(0)
        line = 1  # on which a row begins: a quoted cell may go over several
        reader = csv.reader(_lines(text, file), delimiter=_delimiter(first), skipinitialspace=True, strict=True)
        try:
            if _SEPARATOR_LINE.fullmatch(first):
                next(reader)
                line = 2
            header = [name.strip() for name in next(reader, [])]
            columns = _find_columns(header, box_format, f"{file.path}, line {line}")
            line = reader.line_num + 1
            while rows := list(islice(reader, _ROWS)):
                lines = _starts(rows, line, reader.line_num)
                line = reader.line_num + 1
                if not all(map(any, rows)):  # spreadsheets may end a file in rows of nothing
                    lines = [number for number, row in zip(lines, rows, strict=True) if any(row)]
                    rows = [row for row in rows if any(row)]
                if rows:
                    _add(builder, lines, rows, columns, header, sizes)
        except csv.Error as error:
            where = f"{file.path}, line {_faulty_line(file, first)}"
            raise BoxError(f"{where}: {error}", "Look for a quote without its pair.") from error
    notes = []
    names = ", ".join(header[position] for position in columns.box)
    if box_format not in (None, columns.box_format):
        notes = [f"{file.path}: columns {names} taken as {box_format}, against their names (`box_format`)"]
    plain = [_plain(name) for name in header]
    if columns.image is None and columns.batch_index is None and (frames := [n for n in _FRAME_COLUMNS if n in plain]):
        frame = header[plain.index(frames[0])]
        notes += [f"{file.path}: columns {names} read, but not {frame!r}; if it says the image, call it image_id"]
    return builder.build(
        box_format or columns.box_format, sizes=sizes, layout=f"CSV, columns {names}", notes=tuple(notes)
    )


def _starts(rows: list[list[str]], line: int, last: int) -> Sequence[int]:
    """Return the line on which each row begins; the first begins on `line`, the last ends on `last`."""
    if last - line + 1 == len(rows):
        return range(line, last + 1)
    starts = []
    for row in rows:
        starts.append(line)
        line += 1 + sum(map(_line_ends, row))
    return starts


def _faulty_line(file: BoxFile, first: str) -> int:
    """Return the line on which the row begins that is not CSV."""
    line = 1
    with file.text() as text, suppress(csv.Error):
        reader = csv.reader(_lines(text, file), delimiter=_delimiter(first), skipinitialspace=True, strict=True)
        for _ in reader:
            line = reader.line_num + 1
    return line


def _lines(text: TextIO, file: BoxFile) -> Iterator[str]:
    """Return the lines of a text; a NUL says that it is not a text, and would hide in a cell."""
    return chain.from_iterable(StringIO(block, newline="") for block in _text_blocks(text, file))


def _text_blocks(text: TextIO, file: BoxFile) -> Iterator[str]:
    """Yield a text in blocks of whole lines: to take each line by itself costs a quarter of the time."""
    number = 1
    while block := text.read(_TEXT_BLOCK):
        rest = text.readline(LONGEST_LINE)
        if len(rest) == LONGEST_LINE or "\0" in block or "\0" in rest:
            for line in StringIO(block + rest, newline=""):
                file.check_line(line, number)
                if "\0" in line:
                    raise BoxError(
                        f"{file.path}, line {number}: a NUL byte, so this is not a text in UTF-8", "Save it as UTF-8."
                    )
                number += 1
            file.check_line(rest, number - 1)
        number += _line_ends(block) + _line_ends(rest)
        yield block + rest


def _line_ends(text: str) -> int:
    return text.count("\n") + text.count("\r") - text.count("\r\n")


def _plain(name: str) -> str:
    """Reduce a column's name to what its spellings share: "Image ID", "image_id" and "ImageID" become "imageid"."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _find_columns(header: list[str], box_format: BoxFormat | None, where: str) -> _Columns:
    if not any(header):
        raise BoxError(f"{where}: no header", _HEADER_HINT)
    if len(header) > _MOST_COLUMNS:
        raise BoxError(f"{where}: {count(len(header), 'column')}", "Check that this is the right file.")
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
        shown = listing([name[:80] for name in header], _LISTED)
        if sum(re.fullmatch(r"-?\d+(\.\d*)?", name) is not None for name in header) >= 4:
            raise BoxError(f"{where}: the first line looks like a box ({shown}), expected a header", _HEADER_HINT)
        raise BoxError(f"{where}: no columns of a box among {shown}", _HEADER_HINT)
    # Where the columns offer more than one format, the user's word decides.
    named_format, names = next((choice for choice in complete if choice[0] is box_format), complete[0])
    image = find(*_IMAGE_COLUMNS)
    box = tuple(position for name in names if (position := find(name)) is not None)
    sizes = [(plain.index(h), plain.index(w)) for h, w in _SIZE_COLUMNS if plain.count(h) == plain.count(w) == 1]
    kept = {name: next((plain.index(n) for n in known if plain.count(n) == 1), -1) for name, known in _KEPT.items()}
    return _Columns(
        box=box,
        box_format=named_format,
        image=image,
        batch_index=find(*_BATCH_COLUMNS) if image is None else None,
        size=next((size for size in sizes if not set(size) & set(box)), None),
        kept={name: position for name, position in kept.items() if position >= 0 and position != image},
    )


def _add(
    builder: Builder,
    lines: Sequence[int],
    rows: list[list[str]],
    columns: _Columns,
    header: list[str],
    sizes: dict[str, tuple[float | None, ...]],
) -> None:
    """Add a block of rows."""
    if {*map(len, rows)} != {len(header)}:
        line, row = next((line, row) for line, row in zip(lines, rows, strict=True) if len(row) != len(header))
        raise BoxError(
            f"{builder.where(line)}: {len(row)} cells under a header of {len(header)}",
            "Look for a missing or extra separator, a decimal comma or an unquoted name.",
        )
    cells = list(zip(*rows, strict=True))
    positions = columns.box if columns.batch_index is None else (columns.batch_index, *columns.box)
    numbers, absent = _numbers(builder, lines, [cells[position] for position in positions], positions, header)
    images = None
    if columns.image is not None:
        images = list(map(str.strip, cells[columns.image]))
        if "" in images:
            where = builder.where(lines[images.index("")])
            raise BoxError(f"{where}: {header[columns.image]} is empty", "Name the image of every box.")
        if columns.size is not None:
            height, width = (cells[position] for position in columns.size)
            for image, *size in zip(images, height, width, strict=True):
                if image not in sizes:
                    sizes[image] = tuple(_floats(size))
    kept = {name: _values(name, cells[position]) for name, position in columns.kept.items()}
    builder.extend(lines, numbers, images, absent, **kept)


def _numbers(
    builder: Builder, lines: Sequence[int], cells: list[tuple[str, ...]], positions: Sequence[int], header: list[str]
) -> tuple[NDArray[np.float64], list[int]]:
    """Return the numbers of a block of rows, and which rows have no box."""
    numbers = np.empty((len(lines), len(cells)))
    try:
        for column, texts in enumerate(cells):
            if "_" in "".join(texts):  # float() would read "1_5" as 15
                raise ValueError(texts)
            numbers[:, column] = list(map(float, texts))
        return numbers, []
    except ValueError:
        absent = []
    for index, texts in enumerate(zip(*cells, strict=True)):
        if {text.strip().lower() for text in texts[-4:]} <= _ABSENT:
            absent.append(index)
            texts = (*texts[:-4], *["nan"] * 4)
        where = builder.where(lines[index])
        numbers[index] = [_number(text, header[at], where) for text, at in zip(texts, positions, strict=True)]
    return numbers, absent


def _number(cell: str, column: str, where: str) -> float:
    try:
        return float(cell.replace("_", "?"))
    except ValueError:
        text = cell.strip()
        if re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+(\.\d*)?", text):
            raise BoxError(
                f"{where}: {column} {text!r} has a thousands separator or a decimal comma",
                "Write numbers without thousands separators and with a decimal point.",
            ) from None
        if re.fullmatch(r"[-+]?\d+,\d+", text):
            raise BoxError(f"{where}: {column} {text!r} has a decimal comma", "Write decimal points.") from None
        fault = f"{text!r} is not a number" if text else "is empty"
        raise BoxError(
            f"{where}: {column} {fault}", "Write a number there, or leave all numbers of the box empty."
        ) from None


def _values(name: str, cells: Sequence[str]) -> Sequence[Name | None]:
    """Return a column that is kept: numbers, or integers and text; None where a cell is empty."""
    if name in ("score", "angle"):
        return _floats(cells)
    try:
        numbers = list(map(int, cells))
        if list(map(str, numbers)) == list(cells) and max(map(abs, numbers)) < 10**18:
            return numbers
    except ValueError:
        pass
    known = {cell: _integer_or_text(cell.strip()) for cell in set(cells)}
    return [known[cell] for cell in cells]


def _floats(cells: Sequence[str]) -> list[float | None]:
    try:
        return list(map(float, cells))
    except ValueError:
        return [float(cell) if re.fullmatch(r"\s*[-+]?[\d.]+(e[-+]?\d+)?\s*", cell, re.I) else None for cell in cells]


def _integer_or_text(cell: str) -> int | str | None:
    """Read an id as an integer if it is written the way integers are; "007" is a name."""
    return int(cell) if re.fullmatch(r"0|-?[1-9][0-9]{0,17}", cell) else cell or None


LAYOUT = Layout(
    "csv",
    "a CSV with a header",
    "text",
    _recognizes,
    _read,
    (".csv", ".tsv"),
    holds="a header with image_id and x1, y1, x2, y2; or x, y, w, h; or cx, cy, w, h; or common synonyms",
)
