"""COCO panoptic annotations: each has `segments_info`, whose segments have a bbox, xywh.

The PNG that an annotation names in `file_name` is its map of segments; it is not read.
"""

from __future__ import annotations

import re

from msgspec import Struct
from msgspec.json import Decoder

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.builder import Name
from roicli.boxfiles.coco import read_images
from roicli.boxfiles.collector import NO_BOX, Collector
from roicli.boxfiles.jsontext import fields, opens, unrecognized
from roicli.boxfiles.registry import Layout
from roicli.regions import BoxFormat, Regions


class _Segment(Struct, gc=False):
    id: Name | None = None
    category_id: Name | None = None
    area: float | None = None
    bbox: tuple[float | None, float | None, float | None, float | None] | None = None


class _Annotation(Struct, gc=False):
    image_id: Name
    segments_info: list[_Segment]


_ANNOTATIONS = Decoder(list[_Annotation])
_SEGMENTS = re.compile(rb'"segments_info"\s*:')


def _recognizes(file: BoxFile) -> bool:
    if file.is_lines or not isinstance(members := file.document, dict) or "annotations" not in members:
        return False
    raw = members["annotations"]
    return opens(raw, b"[") and _SEGMENTS.search(bytes(memoryview(raw)[: 1 << 16])) is not None


def _read(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    if not isinstance(members := file.document, dict) or "annotations" not in members:
        raise unrecognized(file)
    found = Collector(file, ("box_id", "category", "area"), "segment")
    aliases, sizes, names = read_images(file, members)
    for name, (height, width) in sizes.items():
        found.image(name, height, width, aliases.get(name))
    for annotation in fields(_ANNOTATIONS, members["annotations"], f"{file.path} annotations"):
        for one in annotation.segments_info:
            found.add(annotation.image_id, one.bbox or NO_BOX, one.id, one.category_id, one.area)
    return found.regions("COCO panoptic segments", BoxFormat.XYWH, box_format, category_names=names)


LAYOUT = Layout(
    "coco-panoptic",
    "COCO panoptic annotations",
    "json",
    _recognizes,
    _read,
    files="`panoptic_val2017.json`",
    holds="COCO panoptic: `annotations` with `segments_info`, each with `bbox` (xywh)",
)
