"""Boxes in JSON: plain lists, lists by image, COCO results, COCO datasets; and JSON Lines of any box or result.

A document is decoded in two steps, so that a COCO dataset of half a gigabyte needs little memory besides its own
pages: first into boxes left as raw text, which are views of the mapped file, then each box by itself into the fields
that are used. Everything else, such as segmentations, is only ever skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Annotated

from msgspec import UNSET, DecodeError, Meta, Raw, Struct, UnsetType
from msgspec.json import Decoder

from roicli.boxfiles.decode import NO_BOX_HINT, fields, parse
from roicli.boxfiles.keys import MEMBERS, Key, check_members, may_repeat
from roicli.boxfiles.lines import LONGEST_LINE, check_line
from roicli.boxfiles.table import Name, TableBuilder, assumed_xyxy, name_of
from roicli.errors import BoxError
from roicli.regions import BoxFormat, Regions

Four = tuple[float, float, float, float]
FourOrFive = Annotated[list[float], Meta(min_length=4, max_length=5)]


class Result(Struct, gc=False):
    """A box of a named image: a COCO result, or an annotation of a COCO dataset."""

    image_id: Name
    bbox: Four
    id: Name | None = None


class Image(Struct, gc=False):
    """An image of a COCO dataset."""

    id: Name
    file_name: str | None = None


class Dataset(Struct):
    """A COCO dataset; a JSON object with neither of its keys is one of boxes by image id."""

    images: list[Image] | UnsetType = UNSET
    annotations: list[Raw] | UnsetType = UNSET


_VALUE = Decoder(Raw)
_VALUES = Decoder(list[Raw])
_DATASET = Decoder(Dataset)
_BOXES_OF_IMAGE = Decoder(list[Four])
_RESULT = Decoder(Result)
_RESULT_OR_NUMBERS: Decoder[Result | list[float]] = Decoder(Result | FourOrFive)

_BOM = b"\xef\xbb\xbf"
_NOT_BLANK = re.compile(rb"\S")


def read_json(path: Path, box_format: BoxFormat | None) -> tuple[Regions, tuple[str, ...]]:
    """Read one JSON document, or JSON Lines under the wrong name; see `read_boxes`."""
    with path.open("rb") as file:
        data = mmap(file.fileno(), 0, access=ACCESS_READ) if path.stat().st_size else b""
    if data[: len(_BOM)] == _BOM:
        data = data[len(_BOM) :]
    if (start := _NOT_BLANK.search(data)) is None:
        raise BoxError(f"{path}: empty", "Write [] for no boxes at all.")
    if (nul := data.find(b"\0")) >= 0:  # before a decoder reads gigabytes of them, as in a file never filled
        data[: min(nul, 4)].decode()  # UTF-16 begins in bytes that are not UTF-8
        raise BoxError(f"{path}, byte {nul}: a NUL byte, so this is not a text in UTF-8", "Save it as UTF-8.")
    if _is_lines(data):
        return read_json_lines(path, box_format)
    if start[0] == b"[":
        values = parse(_VALUES, data, path)
        doubtful = may_repeat(data, len(values))
        return _read_items(path, ((row, raw, doubtful) for row, raw in enumerate(values)), "box", box_format)
    members = parse(MEMBERS, data, path)
    if {key.text for key in members}.isdisjoint(Dataset.__struct_fields__):
        return _read_by_image(path, members, box_format)
    check_members(members, str(path))
    dataset = parse(_DATASET, data, path)
    if dataset.annotations is UNSET:
        raise BoxError(f"{path}: a COCO dataset without annotations", NO_BOX_HINT)
    doubtful = may_repeat(data, len(dataset.annotations))
    return _read_dataset(path, dataset.annotations, dataset.images or [], box_format, doubtful=doubtful)


def read_json_lines(path: Path, box_format: BoxFormat | None) -> tuple[Regions, tuple[str, ...]]:
    """Read one box a line; see `read_boxes`."""
    with path.open("rb") as file:
        lines = enumerate(iter(partial(file.readline, LONGEST_LINE), b""), 1)
        items = (item for number, line in lines for item in _value_of_line(line, path, number))
        return _read_items(path, items, "line", box_format)


def _value_of_line(line: bytes, path: Path, number: int) -> Iterator[tuple[int, Raw, bool]]:
    """Yield the value of a line, with its number and whether a key may come twice in it; nothing if it is blank."""
    check_line(line, path, number)
    if number == 1:
        line = line.removeprefix(_BOM)
    if line and not line.isspace():
        yield number, parse(_VALUE, line, path, number), may_repeat(line, 1)


def _is_lines(data: mmap | bytes) -> bool:
    """Tell whether the first line is a whole JSON value and another follows."""
    end = data.find(b"\n")
    if end < 0 or _NOT_BLANK.search(data, end) is None:
        return False
    try:
        _VALUE.decode(data[:end])
    except DecodeError:
        return False
    return True


def _read_items(
    path: Path, items: Iterable[tuple[int, Raw, bool]], row_word: str, box_format: BoxFormat | None
) -> tuple[Regions, tuple[str, ...]]:
    builder = TableBuilder(str(path), row_word)
    for row, raw, doubtful in items:
        where = f"{path}, {row_word} {row}"
        item = fields(_RESULT_OR_NUMBERS, raw, where)
        if doubtful and isinstance(item, Result):
            check_members(fields(MEMBERS, raw, where), where)
        if isinstance(item, Result):
            builder.add(row, item.bbox, item.image_id, item.id)
        else:
            builder.add(row, item)
    if box_format is not None or not len(builder):
        return builder.table(box_format or BoxFormat.XYXY), ()
    if builder.named:
        return builder.table(BoxFormat.XYWH), (_coco_note(path, "results"),)
    return builder.table(BoxFormat.XYXY), (assumed_xyxy(str(path)),)


def _read_dataset(
    path: Path, annotations: list[Raw], images: list[Image], box_format: BoxFormat | None, *, doubtful: bool
) -> tuple[Regions, tuple[str, ...]]:
    builder = TableBuilder(str(path), "annotation")
    for row, raw in enumerate(annotations):
        where = f"{path}, annotation {row}"
        item = fields(_RESULT, raw, where)
        if doubtful:
            check_members(fields(MEMBERS, raw, where), where)
        builder.add(row, item.bbox, item.image_id, item.id)
    aliases: dict[str, str] = {}
    for image in images:
        name, file_name = name_of(image.id), image.file_name
        if file_name is not None and (other := aliases.setdefault(name, file_name)) != file_name:
            raise BoxError(
                f"{path}: image {name!r} is both {other!r} and {file_name!r}", "Give each image an id of its own."
            )
    notes = (_coco_note(path, "dataset"),) if box_format is None and len(builder) else ()
    return builder.table(box_format or BoxFormat.XYWH, aliases), notes


def _read_by_image(
    path: Path, boxes_of: dict[Key, Raw], box_format: BoxFormat | None
) -> tuple[Regions, tuple[str, ...]]:
    builder = TableBuilder(str(path), "box")
    seen = set()
    for key, raw in boxes_of.items():
        where = f"{path}, image {key.text!r}"
        if key.text in seen:
            raise BoxError(f"{where}: given twice", "Put all boxes of an image into one list.")
        seen.add(key.text)
        for box in fields(_BOXES_OF_IMAGE, raw, where):
            builder.add(len(builder), box, key.text)
    notes = (assumed_xyxy(str(path)),) if box_format is None and len(builder) else ()
    return builder.table(box_format or BoxFormat.XYXY), notes


def _coco_note(path: Path, kind: str) -> str:
    return f"{path}: COCO {kind}, bbox read as xywh (the COCO specification)"
