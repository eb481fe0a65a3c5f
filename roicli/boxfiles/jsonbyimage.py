"""A JSON object of boxes by image id: {"image id": [[x1, y1, x2, y2], ...]}."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from msgspec.json import Decoder

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.builder import blocks
from roicli.boxfiles.collector import NO_BOX
from roicli.boxfiles.jsonitems import ItemReader
from roicli.boxfiles.jsontext import TOOLS, fields, keys_of, opens, unrecognized
from roicli.boxfiles.registry import Layout
from roicli.regions import BoxFormat, Regions

_Number = float | None
_Box = tuple[_Number, _Number, _Number, _Number]
_BOXES = Decoder(list[_Box | None] | None)

# Reading says it if a later value is not a list.
_LOOKED_AT = 100


def _recognizes(file: BoxFile) -> bool:
    if file.is_lines or isinstance(members := file.document, list):
        return False
    # A COCO dataset has lists too, of objects.
    others = "images" in members or "annotations" in members or any(keys <= members.keys() for keys, _ in TOOLS)
    some = islice(members.values(), _LOOKED_AT)
    return not others and all((opens(raw, b"[") and not keys_of(raw)) or opens(raw, b"n") for raw in some)


def _read(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    if not _recognizes(file):
        raise unrecognized(file)
    reader = ItemReader(file, "box", box_format)
    for block in blocks(_boxes(file)):
        names, boxes = zip(*block, strict=True)
        start = len(reader.builder)
        reader.add(range(start, start + len(block)), boxes, images=names)
    return reader.regions("JSON, boxes by image id", None)


def _boxes(file: BoxFile) -> Iterator[tuple[str, _Box]]:
    assert isinstance(file.document, dict)
    for name, raw in file.document.items():
        for box in fields(_BOXES, raw, f"{file.path}, image {name[:200]!r}") or ():
            yield name, box or NO_BOX


LAYOUT = Layout(
    "a JSON object of boxes by image id",
    _recognizes,
    _read,
    (".json",),
    holds='`{"image id": [[x1, y1, x2, y2], ...], ...}`',
)
