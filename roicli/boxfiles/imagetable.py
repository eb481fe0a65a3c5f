"""Numbers an image, by its id: sizes of originals, or what was done to each image, from CSV or JSON files."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from msgspec import DecodeError, Raw, Struct, json
from numpy.typing import NDArray

from roicli.boxfiles.boxfile import BoxFile, opened
from roicli.boxfiles.builder import Name, name_of
from roicli.boxfiles.csvboxes import bare_name, open_csv
from roicli.boxfiles.jsontext import opens, refusal
from roicli.errors import BoxError
from roicli.files import Stamp
from roicli.words import listing

SIZE = ("height", "width")
INPUT_SIZE = ("input_height", "input_width")
AFFINE = ("rx", "ry", "px", "py")
# Names of a CSV's columns, as `bare_name` leaves them.
_IDS = ("imageid", "imgid", "image", "img", "id", "filename", "imagename", "file", "imagepath", "path")
_NAMES = {
    "height": ("height", "imageheight", "imgheight", "originalheight", "h"),
    "width": ("width", "imagewidth", "imgwidth", "originalwidth", "w"),
    **{name: (name.replace("_", ""),) for name in (*INPUT_SIZE, *AFFINE)},
}
# The first line of a table without a header: an id, width and height.
_PLAIN_LINE = re.compile(rb"\s*[^\s,;]+[\s,;]+\d+[\s,;]+\d+[ \t]*\r?(\n|$)")
# VinVL's hw.tsv: a key, a tab and JSON.
_TSV_LINE = re.compile(rb"[^\t\n]+\t\s*[\[{]")
_HINT = (
    "Give a COCO JSON with `images`, Visual Genome's image_data.json, a JSON object {image id: {height, width}}, or a "
    "CSV with the columns image_id, height, width."
)


class Row(Struct, gc=False):
    """An image, by whichever names it has."""

    image_id: Name | None = None
    id: Name | None = None
    file_name: str | None = None
    height: float | None = None
    width: float | None = None
    input_height: float | None = None
    input_width: float | None = None
    rx: float | None = None
    ry: float | None = None
    px: float | None = None
    py: float | None = None


class ImageTable(NamedTuple):
    """A table with a line an image."""

    source: str
    ids: tuple[str, ...]
    file_names: tuple[str, ...] | None  # a second name for each
    # By the names of `SIZE`, `INPUT_SIZE` and `AFFINE`, those that the file has; NaN where a line has none
    columns: dict[str, NDArray[np.float64]]
    notes: tuple[str, ...] = ()  # what was assumed

    def sizes(self, names: tuple[str, str] = SIZE) -> NDArray[np.float64] | None:
        """Return heights and widths, (n, 2), or None if the file lacks one of the columns."""
        if not {*names} <= {*self.columns}:
            return None
        return np.stack([self.columns[name] for name in names], axis=1)


def read_image_table(path: Path) -> ImageTable:
    """Read a table of numbers an image.

    `path`: COCO JSON (its `images`), a JSON list of objects with `image_id`, a JSON object by image id, VinVL's hw.tsv,
    or a CSV with a header.
    Raises FileError, BoxError: the file cannot be read, does not name images or has none of the columns; an image is
    listed twice with different numbers.
    """
    with opened(path) as file:
        notes: list[str] = []
        if file.form == "json":
            rows = _json_rows(file, notes)
        elif file.form == "text" and _PLAIN_LINE.match(file.head):
            rows = _plain_rows(file, notes)
        else:
            rows = _tsv_rows(file) if _TSV_LINE.match(file.head) else _csv_rows(file)
        return _table(str(path), list(rows), (*file.notes, *notes))


def size_of(file: BoxFile) -> tuple[float, float]:
    """Return height and width of the image that a box file is named after.

    Raises BoxError: nothing says them.
    """
    size = file.image_size
    if isinstance(size, tuple):
        return size
    if size is not None:
        file.beside[str(size)] = Stamp.of(size)
        known = _sizes_by_stem(size, file.beside[str(size)])
        if (found := known.get(file.stem) or known.get(file.stem.lstrip("0"))) is not None:
            return found
    raise BoxError(
        f"{file.path}: the size of image {file.stem!r} is not known, and turned boxes in 0..1 need it",
        "Give `image_size=FILE`, a CSV with image_id, height, width; or one size for all.",
    )


@lru_cache(1)
def _sizes_by_stem(path: Path, stamp: Stamp) -> dict[str, tuple[float, float]]:
    """Return sizes by the stem of an id or a file name, once for all files of a folder; leading zeros do not count."""
    table = read_image_table(path)
    sizes = [] if (found := table.sizes()) is None else [(height, width) for height, width in found.tolist()]
    known: dict[str, tuple[float, float]] = {}
    for names in (table.ids, table.file_names or ()):
        stems = [Path(name).stem for name in names]
        for alike in ([stem.lstrip("0") for stem in stems], stems):  # what is exact comes last, and counts
            known |= {name: size for name, size in zip(alike, sizes, strict=False) if name and not np.isnan(size).any()}
    return known


def _table(source: str, rows: Iterable[tuple[str, str, dict[str, float]]], notes: tuple[str, ...]) -> ImageTable:
    known: dict[str, dict[str, float]] = {}
    names: dict[str, str] = {}
    for image, file_name, numbers in rows:
        if known.setdefault(image, numbers) != numbers:
            raise BoxError(f"{source}: image {image!r} is listed twice, with different numbers", "Leave one out.")
        names[image] = file_name
    found = {name for numbers in known.values() for name in numbers}
    columns = {name: np.array([numbers.get(name, np.nan) for numbers in known.values()]) for name in sorted(found)}
    for name, values in columns.items():
        positive = name not in ("px", "py")
        bad = np.flatnonzero(np.isinf(values) | (np.nan_to_num(values, nan=1) <= 0 if positive else False))
        if len(bad):
            image = [*known][bad[0]]
            raise BoxError(
                f"{source}, image {image!r}: {name} must be a {'positive ' * positive}number, got {values[bad[0]]:g}",
                "Correct that line.",
            )
    if not columns:
        raise BoxError(f"{source}: no columns of sizes", _HINT)
    return ImageTable(source, tuple(known), tuple(names.values()) if any(names.values()) else None, columns, notes)


def _numbers(row: Row) -> dict[str, float]:
    return {name: value for name in _NAMES if (value := getattr(row, name)) is not None}


def _json_rows(file: BoxFile, notes: list[str]) -> Iterator[tuple[str, str, dict[str, float]]]:
    document = file.document
    try:
        if isinstance(document, list):
            listed: list[Raw] | None = document
        else:
            images = document.get("images")
            listed = None if images is None or not opens(images, b"[") else json.decode(images, type=list[Raw])
        if listed is not None:
            for number, raw in enumerate(listed):
                row = json.decode(raw, type=Row)
                named = (name for name in (row.image_id, row.id, row.file_name) if name is not None)
                image = next(named, None)
                if image is None:
                    raise BoxError(f"{file.path}, item {number}: no image_id", _HINT)
                yield name_of(image), row.file_name or "", _numbers(row)
            return
        assert isinstance(document, dict)
        for key, raw in document.items():
            if opens(raw, b"["):
                height, width = json.decode(raw, type=tuple[float, float])
                notes[:] = [f"{file.path}: two numbers an image taken as height, width"]
                yield key, "", {"height": height, "width": width}
            else:
                yield key, "", _numbers(json.decode(raw, type=Row))
    except DecodeError as error:
        raise BoxError(refusal(error, str(file.path)).message, _HINT) from error


def _tsv_rows(file: BoxFile) -> Iterator[tuple[str, str, dict[str, float]]]:
    for number, line in file.lines():
        key, _, text = line.partition(b"\t")
        try:
            size = json.decode(text, type=Row | list[Row])
        except DecodeError as error:
            raise refusal(error, f"{file.path}, line {number}") from error
        for row in size if isinstance(size, list) else [size]:
            yield key.decode().strip(), "", _numbers(row)


def _plain_rows(file: BoxFile, notes: list[str]) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Read lines of an id and two numbers, without a header."""
    notes[:] = [f"{file.path}: two numbers an image taken as width, height"]
    for number, line in file.lines():
        words = re.split(r"[\s,;]+", line.decode().strip())
        try:
            name, width, height = words
            yield name, "", {"width": float(width), "height": float(height)}
        except ValueError as error:
            raise BoxError(f"{file.path}, line {number}: expected id, width, height", _HINT) from error


def _csv_rows(file: BoxFile) -> Iterator[tuple[str, str, dict[str, float]]]:
    with file.text() as text:
        line = 1
        try:
            reader, named, _ = open_csv(text)
            header = [*map(bare_name, named)]
            image = next((header.index(name) for name in _IDS if name in header), None)
            places = {
                name: next(header.index(one) for one in spelled if one in header)
                for name, spelled in _NAMES.items()
                if {*spelled} & {*header}
            }
            if image is None or not places:
                what = "a column of image ids" if image is None else "columns of sizes"
                shown = listing([name[:80] for name in named], 40)
                raise BoxError(f"{file.path}, line 1: expected {what}, got {shown or 'nothing'}", _HINT)
            for row in reader:
                line = reader.line_num
                if not any(row):
                    continue
                where = f"{file.path}, line {line}"
                if len(row) != len(header):
                    raise BoxError(
                        f"{where}: expected {len(header)} cells as in the header, got {len(row)}", "Correct that line."
                    )
                try:
                    numbers = {name: float(row[place]) for name, place in places.items() if row[place].strip()}
                except ValueError as error:
                    said = str(error).partition(": ")[2]
                    raise BoxError(f"{where}: expected a number, got {said}", "Write decimal points.") from error
                yield row[image].strip(), "", numbers
        except csv.Error as error:
            raise BoxError(f"{file.path}, line {line}: {error}", "Look for an open quote.") from error
