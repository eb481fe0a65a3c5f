"""COCO panoptic annotations: each has `segments_info`, whose segments have a bbox, xywh.

The PNG that an annotation names in `file_name` is the map of its segments: `panoptic_val2017/000000000139.png` beside
`panoptic_val2017.json`, or in the folder of the JSON. It is read for masks, and for segments without a bbox.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from msgspec import Struct
from msgspec.json import Decoder

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.builder import Name
from roicli.boxfiles.coco import read_images
from roicli.boxfiles.collector import NO_BOX, Collector
from roicli.boxfiles.jsontext import fields, opens, unrecognized
from roicli.boxfiles.labelimage import boxes_around, label_mask, read_labels
from roicli.boxfiles.registry import Layout
from roicli.errors import BoxError, FileError
from roicli.files import checksum_samples
from roicli.regions import BoxFormat, Regions


class _Segment(Struct, gc=False):
    id: Name | None = None
    category_id: Name | None = None
    area: float | None = None
    bbox: tuple[float | None, float | None, float | None, float | None] | None = None


class _Annotation(Struct, gc=False):
    image_id: Name
    segments_info: list[_Segment]
    file_name: str | None = None


_ANNOTATIONS = Decoder(list[_Annotation])
_SEGMENTS = re.compile(rb'"segments_info"\s*:')


def _recognizes(file: BoxFile) -> bool:
    if file.is_lines or not isinstance(members := file.document, dict) or "annotations" not in members:
        return False
    raw = members["annotations"]
    return opens(raw, b"[") and _SEGMENTS.search(bytes(memoryview(raw)[: 1 << 16])) is not None


def _annotations(file: BoxFile) -> list[_Annotation]:
    if not isinstance(members := file.document, dict) or "annotations" not in members:
        raise unrecognized(file)
    return fields(_ANNOTATIONS, members["annotations"], f"{file.path} annotations")


def _png(file: BoxFile, annotation: _Annotation) -> Path:
    """Find the map of the segments of an image."""
    folder, name = file.path.parent, annotation.file_name
    if name is None:
        raise FileError(f"{file.path}: image {annotation.image_id} does not name its PNG", "Write its `file_name`.")
    places = [folder / file.stem / name, folder / name]
    for path in places:
        if path.is_file():
            return path
    raise FileError(
        f"{file.path}: the PNG of the segments of image {annotation.image_id} is not there: {places[0]}",
        "Unpack the PNGs into a folder named as the JSON, beside it.",
    )


def _drawn_boxes(file: BoxFile, annotation: _Annotation) -> dict[Name | None, tuple[float, ...]]:
    """Return the boxes around segments by their ids, xywh, as far as there is a PNG."""
    with suppress(FileError):
        labels, boxes = boxes_around(read_labels(_png(file, annotation)))
        return {label: (x, y, u - x, v - y) for label, (x, y, u, v) in zip(labels, boxes, strict=True)}
    return {}


def _masks(file: BoxFile, _: Iterable[int]) -> Iterator[tuple[int, bytes, bytes]]:
    row = 0
    for annotation in _annotations(file):
        path = _png(file, annotation)
        content = checksum_samples(path, 2)
        for one in annotation.segments_info:
            if not isinstance(one.id, int):
                raise BoxError(f"{file.path}, segment {row}: a segment without its number", "Write its `id`.")
            yield row, label_mask(path, one.id), b"%d %d" % (one.id, content)
            row += 1


def _read(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    annotations, members = _annotations(file), file.document
    assert isinstance(members, dict)
    found = Collector(file, ("box_id", "category", "area"), "segment")
    aliases, sizes, names = read_images(file, members)
    for name, (height, width) in sizes.items():
        found.image(name, height, width, aliases.get(name))
    for annotation in annotations:
        boxes = {} if all(one.bbox for one in annotation.segments_info) else _drawn_boxes(file, annotation)
        for one in annotation.segments_info:
            box = one.bbox or boxes.get(one.id) or NO_BOX
            found.add(annotation.image_id, box, one.id, one.category_id, one.area)
    return found.regions("COCO panoptic segments", BoxFormat.XYWH, box_format, category_names=names)


LAYOUT = Layout(
    "COCO panoptic annotations",
    _recognizes,
    _read,
    masks=_masks,
    files="`panoptic_val2017.json`",
    holds="COCO panoptic: `annotations` with `segments_info`, each with `bbox` (xywh)",
)
