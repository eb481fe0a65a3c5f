"""detectron2: a list of dataset dicts, one an image, with `annotations`; or of predictions, with `instances`.

The bbox_mode of each annotation says what its numbers are: 0 xyxy, 1 xywh, 4 center, size and angle (degrees
counter-clockwise).
"""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType, field
from msgspec.json import Decoder

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.builder import Name, blocks
from roicli.boxfiles.collector import Collector
from roicli.boxfiles.jsonitems import ItemReader, Result
from roicli.boxfiles.jsontext import fields, first_keys, unrecognized
from roicli.boxfiles.registry import Layout
from roicli.errors import BoxError
from roicli.regions import BoxFormat, Regions


class _Annotation(Result, gc=False, kw_only=True):
    image_id: Name | None = None


class _Image(Struct, gc=False):
    annotations: list[_Annotation] = field(default_factory=list)
    instances: list[_Annotation] | UnsetType = UNSET
    image_id: Name | None = None
    file_name: str | None = None
    height: float | None = None
    width: float | None = None


_IMAGE = Decoder(_Image)


def _recognizes(file: BoxFile) -> bool:
    keys = first_keys(file)
    named = bool(keys & {"file_name", "image_id"}) and not isinstance(file.document, dict)
    return named and bool(keys & {"annotations", "instances"})


def _read(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    if not isinstance(document := file.document, list):
        raise unrecognized(file)
    reader = ItemReader(file, "box", box_format)
    found = Collector(file)
    results: list[Result] = []
    predicted = False
    for number, raw in enumerate(document):
        image = fields(_IMAGE, raw, f"{file.path}, image {number}")
        name = image.image_id if image.image_id is not None else image.file_name
        if name is None:
            raise BoxError(f"{file.path}, image {number}: no image_id", "Give each image its image_id or file_name.")
        found.image(name, image.height, image.width, image.file_name)
        predicted = predicted or image.instances is not UNSET
        for annotation in image.annotations if image.instances is UNSET else image.instances:
            annotation.image_id = name
            results.append(annotation)
    for block in blocks(results):
        start = len(reader.builder)
        reader.add_results(range(start, start + len(block)), block)
    reader.builder.named = True
    return reader.regions(
        "detectron2 predictions, their instances" if predicted else "detectron2 dataset dicts, their annotations",
        BoxFormat.XYWH,
        **found.images(),
    )


LAYOUT = Layout(
    "detectron2 dataset dicts",
    _recognizes,
    _read,
    files="`.json`",
    holds="detectron2: a list of images with `annotations` or `instances`; `bbox` as `bbox_mode` says (0, 1, 4)",
)
