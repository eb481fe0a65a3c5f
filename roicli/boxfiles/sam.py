"""Masks of Segment Anything: a list from its automatic mask generator, or a file of SA-1B; `bbox` is xywh."""

from __future__ import annotations

from msgspec import Struct
from msgspec.json import Decoder

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.builder import Name
from roicli.boxfiles.collector import NO_BOX, Collector
from roicli.boxfiles.jsontext import fields, has_key, is_mask, unrecognized
from roicli.boxfiles.registry import Layout
from roicli.regions import BoxFormat, Regions


class _Mask(Struct, gc=False):
    bbox: tuple[float | None, float | None, float | None, float | None] | None = None
    id: Name | None = None
    predicted_iou: float | None = None
    area: float | None = None


class _Image(Struct, gc=False):
    image_id: Name
    file_name: str | None = None
    height: float | None = None
    width: float | None = None


def _recognizes(file: BoxFile) -> bool:
    if file.is_lines:
        return False
    if isinstance(members := file.document, dict):
        return {"image", "annotations"} <= {*members} and has_key(members["image"], "image_id")
    return is_mask(members)


def _read(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    found = Collector(file, ("box_id", "score", "area"))
    name: Name = file.stem
    decoder = Decoder(_Mask)
    if not file.is_lines and isinstance(members := file.document, dict):
        if not {"image", "annotations"} <= {*members}:
            raise unrecognized(file)
        image = fields(Decoder(_Image), members["image"], f"{file.path} image")
        name = image.image_id
        found.image(name, image.height, image.width, image.file_name)
        masks = fields(Decoder(list[_Mask]), members["annotations"], f"{file.path} annotations")
        by_file = False
    else:
        assert isinstance(file.document, list)
        found.image(name)
        masks = [fields(decoder, raw, found.where(number)) for number, raw in enumerate(file.document)]
        by_file = True
    for mask in masks:
        found.add(name, mask.bbox or NO_BOX, mask.id, mask.predicted_iou, mask.area)
    return found.regions("masks of Segment Anything", BoxFormat.XYWH, box_format, by_file=by_file)


LAYOUT = Layout(
    "masks of Segment Anything",
    _recognizes,
    _read,
    files="a folder of `.json`",
    holds="Segment Anything: an image a file; masks of its generator, or SA-1B, with `bbox` (xywh)",
)
