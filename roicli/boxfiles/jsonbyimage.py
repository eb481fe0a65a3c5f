"""A JSON object of boxes by image id: {"image id": [[x1, y1, x2, y2], ...]}."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.json import Decoder

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.builder import Builder, assumed_xyxy
from roicli.boxfiles.jsonitems import blocks, numbers_of
from roicli.boxfiles.jsontext import fields, is_list, unrecognized
from roicli.boxfiles.layout import Layout
from roicli.errors import BoxError
from roicli.regions import BoxFormat, Regions

_Number = float | None
_BOXES = Decoder(list[tuple[_Number, _Number, _Number, _Number]])


def _recognizes(file: BoxFile) -> bool:
    if file.is_lines or file.document.is_array:
        return False
    # A COCO dataset has lists too, of objects.
    return all(is_list(raw) for raw in file.document.members.values()) and not {"images", "annotations"} & {
        *file.document.keys()
    }


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
    seen = set()
    for key, raw in file.document.members.items():
        name = key.text
        where = f"{file.path}, image {name[:200]!r}"
        if name in seen:
            raise BoxError(f"{where}: given twice", "Put all boxes of an image into one list.")
        seen.add(name)
        for box in fields(_BOXES, raw, where):
            yield name, box


LAYOUT = Layout(
    "json-by-image",
    "a JSON object of boxes by image id",
    "json",
    _recognizes,
    _read,
    (".json",),
    holds='`{"image id": [[x1, y1, x2, y2], ...], ...}`',
)
