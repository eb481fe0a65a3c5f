"""GQA's scene graphs: an object of images by id, each with an object of objects by id; x, y, w, h in pixels."""

from __future__ import annotations

from msgspec import Struct
from msgspec.json import Decoder

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.collector import Collector
from roicli.boxfiles.jsontext import fields, has_key, unrecognized
from roicli.boxfiles.registry import Layout
from roicli.regions import BoxFormat, Regions


class _Object(Struct, gc=False):
    x: float | None
    y: float | None
    w: float | None
    h: float | None
    name: str | None = None


class _Image(Struct, gc=False):
    objects: dict[str, _Object]
    width: float | None = None
    height: float | None = None


_IMAGE = Decoder(_Image)


def _recognizes(file: BoxFile) -> bool:
    if file.is_lines or isinstance(document := file.document, list):
        return False
    first = next(iter(document.values()), None)
    return first is not None and has_key(first, "objects")


def _read(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    if isinstance(document := file.document, list):
        raise unrecognized(file)
    found = Collector(file, ("box_id", "label"))
    for name, raw in document.items():
        image = fields(_IMAGE, raw, f"{file.path}, image {name[:200]!r}")
        found.image(name, image.height, image.width)
        for number, one in image.objects.items():
            found.add(name, (one.x, one.y, one.w, one.h), int(number) if number.isdecimal() else number, one.name)
    return found.regions("GQA scene graphs", BoxFormat.XYWH, box_format)


LAYOUT = Layout(
    "GQA scene graphs",
    _recognizes,
    _read,
    files="`train_sceneGraphs.json`",
    holds="GQA: images by id, each with `objects` by id; x, y, w, h and name",
)
