"""Boxes in JSON: plain lists, lists by image, COCO results, COCO datasets; and JSON Lines of any box or result.

A document is decoded in two steps, so that a COCO dataset of half a gigabyte needs little memory besides its own
pages: first into boxes left as raw text, which are views of the mapped file, then each box by itself into the fields
that are used. Everything else, such as segmentations, is only ever skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Annotated

from msgspec import UNSET, DecodeError, Meta, Raw, Struct, UnsetType
from msgspec.json import Decoder

from roicli.boxes import BoxFormat, BoxTable
from roicli.boxfiles.decode import NO_BOX_HINT, fields, parse
from roicli.boxfiles.table import Name, TableBuilder, assumed_xyxy, name_of
from roicli.errors import BoxError

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


class ImageKey:
    """An image id as a key that equals only itself, so that one given twice is seen, not overwritten."""

    def __init__(self, text: str) -> None:
        self.text = text


_VALUE = Decoder(Raw)
_VALUES = Decoder(list[Raw])
_DATASET = Decoder(Dataset)
_BY_IMAGE = Decoder(dict[ImageKey, Raw], dec_hook=lambda key, text: key(text))
_BOXES_OF_IMAGE = Decoder(list[Four])
_RESULT = Decoder(Result)
_RESULT_OR_NUMBERS: Decoder[Result | list[float]] = Decoder(Result | FourOrFive)

_BOM = b"\xef\xbb\xbf"
_NOT_BLANK = re.compile(rb"\S")


def read_json(path: Path, box_format: BoxFormat | None) -> tuple[BoxTable, tuple[str, ...]]:
    """Read one JSON document, or JSON Lines under the wrong name; see `read_boxes`."""
    with path.open("rb") as file:
        data = mmap(file.fileno(), 0, access=ACCESS_READ) if path.stat().st_size else b""
    if data[: len(_BOM)] == _BOM:
        data = data[len(_BOM) :]
    if (start := _NOT_BLANK.search(data)) is None:
        raise BoxError(f"{path}: empty", "Write [] for no boxes at all.")
    if _is_lines(data):
        return read_json_lines(path, box_format)
    if start[0] == b"[":
        values = parse(_VALUES, data, path)
        return _read_items(path, enumerate(values), "box", box_format)
    dataset = parse(_DATASET, data, path)
    if dataset.annotations is not UNSET:
        return _read_dataset(path, dataset.annotations, dataset.images or [], box_format)
    if dataset.images is not UNSET:
        raise BoxError(f"{path}: a COCO dataset without annotations", NO_BOX_HINT)
    return _read_by_image(path, parse(_BY_IMAGE, data, path), box_format)


def read_json_lines(path: Path, box_format: BoxFormat | None) -> tuple[BoxTable, tuple[str, ...]]:
    """Read one box a line; see `read_boxes`."""
    with path.open("rb") as file:
        lines = ((number, line.removeprefix(_BOM) if number == 1 else line) for number, line in enumerate(file, 1))
        values = ((number, parse(_VALUE, line, path, number)) for number, line in lines if not line.isspace())
        return _read_items(path, values, "line", box_format)


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
    path: Path, items: Iterable[tuple[int, Raw]], row_word: str, box_format: BoxFormat | None
) -> tuple[BoxTable, tuple[str, ...]]:
    builder = TableBuilder(str(path), row_word)
    for row, raw in items:
        item = fields(_RESULT_OR_NUMBERS, raw, f"{path}, {row_word} {row}")
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
    path: Path, annotations: list[Raw], images: list[Image], box_format: BoxFormat | None
) -> tuple[BoxTable, tuple[str, ...]]:
    builder = TableBuilder(str(path), "annotation")
    for row, raw in enumerate(annotations):
        item = fields(_RESULT, raw, f"{path}, annotation {row}")
        builder.add(row, item.bbox, item.image_id, item.id)
    aliases = {name_of(image.id): image.file_name for image in images if image.file_name is not None}
    notes = (_coco_note(path, "dataset"),) if box_format is None and len(builder) else ()
    return builder.table(box_format or BoxFormat.XYWH, aliases), notes


def _read_by_image(
    path: Path, boxes_of: dict[ImageKey, Raw], box_format: BoxFormat | None
) -> tuple[BoxTable, tuple[str, ...]]:
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
