"""A JSON object of boxes by image id: {"image id": [[x1, y1, x2, y2], ...]}."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice

import numpy as np
from msgspec import DecodeError
from msgspec.json import Decoder

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.builder import Builder, assumed_xyxy
from roicli.boxfiles.jsonitems import blocks, numbers_of
from roicli.boxfiles.jsontext import is_list, refusal, unrecognized
from roicli.boxfiles.layout import Layout
from roicli.errors import BoxError
from roicli.regions import BoxFormat, Regions

_Number = float | None
_BOXES = Decoder(list[tuple[_Number, _Number, _Number, _Number]])


# Reading says it if a later value is not a list.
_LOOKED_AT = 100


def _recognizes(file: BoxFile) -> bool:
    if file.is_lines or file.document.is_array:
        return False
    members = file.document.members
    # A COCO dataset has lists too, of objects.
    return all(map(is_list, islice(members.values(), _LOOKED_AT))) and file.document.lacks("images", "annotations")


def _read(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    if not _recognizes(file):
        raise unrecognized(file)
    builder = Builder(file.path, "box")
    for block in blocks(_boxes(file)):
        names, lists = zip(*block, strict=True)
        absent = [index for index, numbers in enumerate(lists) if numbers.count(None) == 4]
        rows = range(len(builder), len(builder) + len(block))
        builder.extend(rows, numbers_of(file, lists, 4), names, absent)
    notes = (assumed_xyxy(file.path),) if box_format is None and len(builder) else ()
    return builder.build(box_format or BoxFormat.XYXY, layout="JSON, boxes by image id", notes=notes)


def _boxes(file: BoxFile) -> Iterator[tuple[str, tuple[float | None, ...]]]:
    members = file.document.members
    # Hashes take less memory than a set of names: a file may have a million of them.
    hashes = np.sort(np.fromiter((hash(key.text) for key in members), np.int64, len(members)))
    if (hashes[1:] == hashes[:-1]).any() and len({key.text for key in members}) < len(members):
        name, _ = Counter(key.text for key in members).most_common(1)[0]
        raise BoxError(f"{file.path}, image {name[:200]!r}: given twice", "Put all boxes of an image into one list.")
    for key, raw in members.items():
        try:
            boxes = _BOXES.decode(raw)
        except DecodeError as error:
            raise refusal(error, f"{file.path}, image {key.text[:200]!r}") from error
        for box in boxes:
            yield key.text, box


LAYOUT = Layout(
    "json-by-image",
    "a JSON object of boxes by image id",
    "json",
    _recognizes,
    _read,
    (".json",),
    holds='`{"image id": [[x1, y1, x2, y2], ...], ...}`',
)
