"""A COCO dataset: images and annotations, whose bbox is x, y, width, height."""

from __future__ import annotations

from msgspec import Raw, Struct
from msgspec.json import Decoder

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.builder import Name, name_of
from roicli.boxfiles.jsonitems import RESULT, ItemReader
from roicli.boxfiles.jsontext import NO_BOX_HINT, fields, opens, unrecognized
from roicli.boxfiles.registry import Layout
from roicli.errors import BoxError
from roicli.regions import BoxFormat, Regions


class Image(Struct, gc=False):
    """An image of a COCO dataset."""

    id: Name
    file_name: str | None = None
    height: float | None = None
    width: float | None = None


_RAWS = Decoder(list[Raw])
_IMAGES = Decoder(list[Image])
_KINDS = {"{": "object", '"': "str", "n": "null"}


def _recognizes(file: BoxFile) -> bool:
    if file.is_lines or isinstance(members := file.document, list):
        return False
    return "annotations" in members or ("images" in members and "detection_categories" not in members)


def _read(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    members = file.document
    if isinstance(members, list):
        raise unrecognized(file)
    for name in ("annotations", "images"):
        if name in members and not opens(members[name], b"["):
            kind = _KINDS.get(chr(bytes(members[name])[0]), "number")
            raise BoxError(
                f"{file.path} {name}: expected array, got {kind}",
                f"In a COCO dataset, {name} is a list of objects.",
            )
    if "annotations" not in members:
        raise BoxError(f"{file.path}: a COCO dataset without annotations", NO_BOX_HINT)
    annotations = fields(_RAWS, members["annotations"], f"{file.path} annotations")
    images = fields(_IMAGES, members["images"], f"{file.path} images") if "images" in members else []
    reader = ItemReader(file, "annotation", box_format)
    reader.check(file.data, annotations)
    reader.read(enumerate(annotations), RESULT)
    aliases: dict[str, str] = {}
    sizes: dict[str, tuple[float | None, ...]] = {}
    for image in images:
        name, file_name = name_of(image.id), image.file_name
        if file_name is not None and (other := aliases.setdefault(name, file_name)) != file_name:
            raise BoxError(
                f"{file.path}: image {name!r} is both {other!r} and {file_name!r}", "Give each image an id of its own."
            )
        sizes[name] = image.height, image.width
    return reader.regions("COCO dataset", BoxFormat.XYWH, aliases=aliases, sizes=sizes, listed=tuple(sizes) or None)


LAYOUT = Layout(
    "coco",
    "a COCO dataset",
    "json",
    _recognizes,
    _read,
    (".json",),
    holds="`images` and `annotations` with `bbox` (xywh)",
)
