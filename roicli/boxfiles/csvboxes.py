"""Boxes in a CSV or TSV with a header: columns are found by name, in any order, and others are ignored."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import chain, islice
from typing import Any, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from roicli.boxfiles.boxfile import BOM, LONGEST_LINE, BoxFile
from roicli.boxfiles.builder import Builder
from roicli.boxfiles.registry import Layout
from roicli.errors import BoxError
from roicli.regions import BoxFormat, Regions
from roicli.words import listing

# Names are written here as `bare_name` leaves them. The first set that is complete is taken, so a width and a height
# beside xmin, ymin, xmax and ymax are left alone: they are the size of the image. So are those beside bbox_x, bbox_y,
# bbox_width and bbox_height: a word for the box goes before each name of a set or none, and such sets come first.
_WORDS = ("bbox", "box", "bb", "")
_CORNERS = (
    *("x1 y1 x2 y2", "xmin ymin xmax ymax", "left top right bottom", "x0 y0 x1 y1"),
    *("xtl ytl xbr ybr", "tlx tly brx bry"),
)
_UPPER_LEFT = ("x y", "xmin ymin", "left top", "x0 y0")
_CENTRE = ("cx cy", "xcenter ycenter", "centerx centery", "xc yc")
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
_FRAME_WORDS = ("frame", "image", "photo", "picture", "video", "page", "slice", "scene", "sample", "patient", "url")
_SIZE_COLUMNS = (("height", "width"), ("imageheight", "imagewidth"), ("imgheight", "imgwidth"))
# By these a file of Open Images is known, whose boxes are in 0..1 of the image.
OPEN_IMAGES = {"imageid", "labelname", "xmin", "xmax", "ymin", "ymax"}
# What else is kept of a box, by the names that it goes under.
_KEPT = {
    "box_id": ("id", "boxid", "annid", "annotationid"),
    "score": ("score", "confidence", "conf"),
    "label": ("label", "class", "classname", "labelname", "categoryname"),
    "category": ("category", "categoryid", "classid"),
    "angle": ("angle", "theta", "rotation"),
}
# Cells of a box that is not there.
_ABSENT = {"", "-", "--", "?", "na", "n/a", "<na>", "#n/a", "nan", "none", "null", "nil"}

_HEADER_HINT = "Name the columns in the first line: image_id, and x1, y1, x2, y2 or x, y, w, h or cx, cy, w, h."
_LISTED = 40
_MOST_COLUMNS = 10_000
_TEXT_BLOCK = 1 << 16
# Rows that are taken apart together: as strings they should stay in the cache (4,096 rows take a fifth longer).
_ROWS = 256

_FLOAT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
# What Excel reads and writes as a first line before the header.
_SEPARATOR_LINE = re.compile(r'"?sep=([^\w\s"]|\t)"?\s*', re.IGNORECASE)


class _Columns(NamedTuple):
    """Positions of what is read in a row, and what the names of the box columns say."""

    numbers: tuple[int, ...]  # the batch index if there is one, then the box
    box_format: BoxFormat
    image: int | None
    size: tuple[int, int] | None
    kept: dict[str, int]

    @property
    def places(self) -> set[int]:
        """All of them."""
        return {*self.numbers, *(self.size or ()), *self.kept.values(), *([] if self.image is None else [self.image])}


def _recognizes(file: BoxFile) -> bool:
    """Look for the columns of a box in the first line."""
    plain = columns_of(file)
    return any(plain.issuperset(names) for _, names in _BOX_COLUMNS) and not plain.issuperset(OPEN_IMAGES)


def columns_of(file: BoxFile) -> set[str]:
    """Return the names of columns in the first line, in lower case and without marks."""
    try:
        _, header, _ = open_csv(StringIO(file.head.removeprefix(BOM).decode("utf-8", "replace"), newline=""))
    except csv.Error:
        return set()
    return {*map(bare_name, header)}


def open_csv(lines: Iterator[str]) -> tuple[Any, list[str], int]:
    """Return a csv.reader of lines, the header, which it has read, and its line."""
    first = next(lines, "")
    said = _SEPARATOR_LINE.fullmatch(first)
    delimiter = said[1] if said else max(",;\t", key=first.count)
    reader = csv.reader(chain([first], lines), delimiter=delimiter, skipinitialspace=True, strict=True)
    if said:
        next(reader)
    return reader, [name.strip() for name in next(reader, [])], 2 if said else 1


def bare_name(name: str) -> str:
    """Reduce a column's name to what its spellings share: "Image ID", "image_id" and "ImageID" become "imageid"."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def read_csv(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    """Read a CSV with a header."""
    line = 1  # on which a row begins: a quoted cell may go over several
    with file.text() as text:
        try:
            reader, header, line = open_csv(_lines(file, text))
            table = Table(file, header, box_format, line)
            line = reader.line_num + 1
            while True:
                starts, rows = [line], []
                for row in islice(reader, _ROWS):
                    rows.append(row)
                    starts.append(line := reader.line_num + 1)
                if not rows:
                    break
                table.add(starts[:-1], rows)
        except csv.Error as error:
            raise BoxError(f"{file.path}, line {line}: {error}", "Look for a quote without its pair.") from error
    return table.regions(box_format)


def _lines(file: BoxFile, text: TextIO) -> Iterator[str]:
    """Return the lines of a text, read in blocks of them: to take each by itself costs a quarter of the time."""

    def blocks() -> Iterator[StringIO]:
        while block := text.read(_TEXT_BLOCK) + text.readline(LONGEST_LINE):
            if "\0" in block:  # it would hide in a cell, and may be a hole in the file
                raise file.not_text()
            yield StringIO(block, newline="")

    return chain.from_iterable(blocks())


class Table:
    """The rows of a CSV as they become boxes."""

    def __init__(
        self, file: BoxFile, header: list[str], box_format: BoxFormat | None, line: int, row_word: str = "line"
    ) -> None:
        self.header = header
        self.builder = Builder(file.path, row_word)
        self.columns = _find_columns(header, box_format, self.builder.where(line))
        self.sizes: dict[str, tuple[float | None, ...]] = {}

    def add(self, lines: Sequence[int], rows: list[list[str]]) -> None:
        """Add a block of rows."""
        columns, header = self.columns, self.header
        if not all(map(any, rows)):  # spreadsheets may end a file in rows of nothing
            lines = [line for line, row in zip(lines, rows, strict=True) if any(row)]
            rows = [row for row in rows if any(row)]
        if not {*map(len, rows)} <= {len(header)}:
            line, row = next((line, row) for line, row in zip(lines, rows, strict=True) if len(row) != len(header))
            raise BoxError(
                f"{self.builder.where(line)}: expected {len(header)} cells as in the header, got {len(row)}",
                "Look for a missing or extra separator, a decimal comma or an unquoted name.",
            )
        cells = list(zip(*rows, strict=True)) or [()] * len(header)
        images = None
        if columns.image is not None:
            images = list(map(str.strip, cells[columns.image]))
            if "" in images:
                where = self.builder.where(lines[images.index("")])
                said = f"{where}, {header[columns.image]}: expected the id of an image, got nothing"
                raise BoxError(said, "Name the image of every box.")
            if columns.size is not None:
                for image, *size in zip(images, *(cells[position] for position in columns.size), strict=True):
                    if image not in self.sizes:
                        self.sizes[image] = tuple(_floats(size))
        kept = {
            name: _floats(cells[position]) if name in ("score", "angle") else list(map(_id, cells[position]))
            for name, position in columns.kept.items()
        }
        numbers = self._numbers(lines, [cells[position] for position in columns.numbers])
        self.builder.extend(lines, numbers, images, **kept)

    def _numbers(self, lines: Sequence[int], cells: list[tuple[str, ...]]) -> NDArray[np.float64]:
        """Return the numbers of a block of rows; those of an absent box are NaN."""
        numbers = np.empty((len(lines), len(cells)))
        try:
            for column, texts in enumerate(cells):
                if "_" in "".join(texts):  # float() would read "1_5" as 15
                    raise ValueError(texts)
                numbers[:, column] = list(map(float, texts))
        except ValueError:
            for index, row in enumerate(zip(*cells, strict=True)):
                if {text.strip().lower() for text in row[-4:]} <= _ABSENT:
                    row = (*row[:-4], *["nan"] * 4)
                names = (self.header[position] for position in self.columns.numbers)
                where = self.builder.where(lines[index])
                numbers[index] = [_number(text, f"{where}, {name}") for text, name in zip(row, names, strict=True)]
        return numbers

    def regions(self, box_format: BoxFormat | None) -> Regions:
        """Return all regions."""
        columns, header, notes = self.columns, self.header, []
        names = ", ".join(header[position] for position in columns.numbers[-4:])
        if box_format not in (None, columns.box_format):
            said = f"columns {names} taken as {box_format}, against their names (`box_format`)"
            notes.append(f"{self.builder.source}: {said}")
        sizes = {name for pair in _SIZE_COLUMNS for name in pair}
        frame = next(
            (
                name
                for name in header
                if bare_name(name) not in sizes and any(word in bare_name(name) for word in _FRAME_WORDS)
            ),
            None,
        )
        if columns.image is None and len(columns.numbers) == 4 and frame is not None:
            said = f"columns {names} read, but not {frame!r}; if it says the image, call it image_id"
            notes.append(f"{self.builder.source}: {said}")
        return self.builder.build(
            box_format or columns.box_format, sizes=self.sizes, layout=f"CSV, columns {names}", notes=tuple(notes)
        )


def _find_columns(header: list[str], box_format: BoxFormat | None, where: str) -> _Columns:
    if not any(header):
        raise BoxError(f"{where}: expected a header, got nothing", _HEADER_HINT)
    if len(header) > _MOST_COLUMNS:
        said = f"{where}: expected at most {_MOST_COLUMNS:,} columns, got {len(header):,}"
        raise BoxError(said, "Check that this is the right file.")
    plain = [bare_name(name) for name in header]
    single = {name: position for position, name in enumerate(plain) if plain.count(name) == 1}

    def find(*names: str) -> tuple[int, ...]:
        """Return the position of the first name that there is."""
        name = next((name for name in names if name in plain), None)
        if name is not None and name not in single:
            twice = " and ".join(repr(column) for column in header if bare_name(column) == name)
            raise BoxError(f"{where}: columns {twice} are the same", "Leave one of them out.")
        return () if name is None else (single[name],)

    complete = [(found, names) for found, names in _BOX_COLUMNS if {*names} <= {*plain}]
    if not complete:
        shown = listing([name[:80] for name in header], _LISTED)
        if sum(re.fullmatch(r"-?\d+(\.\d*)?", name) is not None for name in header) >= 4:
            raise BoxError(f"{where}: expected a header, got what looks like a box: {shown}", _HEADER_HINT)
        hint = _HEADER_HINT
        if header[0].startswith(("#", "//")):
            hint = "Remove the comments: the first line names the columns."
        elif len(header) == 1 and re.search(r"[ |]", header[0]):
            hint = "Separate the columns by commas, semicolons or tabs."
        elif shapes := {"bbox", "boundingbox", "box", "regionshapeattributes"} & {*plain}:
            name = header[plain.index(shapes.pop())]
            hint = f"Split {name[:80]} into four columns, named in the first line: x1, y1, x2, y2 or x, y, w, h."
        raise BoxError(f"{where}: expected the columns of a box, got {shown}", hint)
    # Where the columns offer more than one format, the user's word decides.
    named_format, names = next((choice for choice in complete if choice[0] is box_format), complete[0])
    box = tuple(chain.from_iterable(map(find, names)))
    image = next(iter(find(*_IMAGE_COLUMNS)), None)
    sizes = [(single[h], single[w]) for h, w in _SIZE_COLUMNS if h in single and w in single]
    kept = {name: next((single[n] for n in known if n in single), None) for name, known in _KEPT.items()}
    return _Columns(
        numbers=(*(find(*_BATCH_COLUMNS) if image is None else ()), *box),
        box_format=named_format,
        image=image,
        size=next((size for size in sizes if not {*size} & {*box}), None),
        kept={name: position for name, position in kept.items() if position not in (None, image)},
    )


def _number(cell: str, where: str) -> float:
    """Return a number of a box; `where` names its line and column."""
    text, hint = cell.strip(), "Write a number there, or leave all numbers of the box empty."
    try:
        return float(text.replace("_", "?"))
    except ValueError:
        if re.fullmatch(r"[-+]?[\d.]+(,\d+)+(\.\d*)?", text):
            hint = "It has a decimal comma or a thousands separator: write decimal points, and no separators."
        raise BoxError(f"{where}: expected a number, got {repr(text) if text else 'nothing'}", hint) from None


def _floats(cells: Sequence[str]) -> list[float | None]:
    """Return numbers that may be missing."""
    try:
        return list(map(float, cells))
    except ValueError:
        return [float(cell) if _FLOAT.fullmatch(cell.strip()) else None for cell in cells]


def _id(cell: str) -> int | str | None:
    """Return an id as an integer if it is written the way integers are; "007" is a name."""
    text = cell.strip()
    try:
        return number if str(number := int(text)) == text else text
    except ValueError:
        return text or None


LAYOUT = Layout(
    "a CSV with a header",
    _recognizes,
    read_csv,
    (".csv", ".tsv"),
    holds="a header with image_id and x1, y1, x2, y2; or x, y, w, h; or cx, cy, w, h; or common synonyms",
)
