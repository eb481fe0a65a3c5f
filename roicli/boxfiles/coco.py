"""A COCO dataset: images and annotations, whose bbox is x, y, width, height."""

from __future__ import annotations

from itertools import count, repeat

from msgspec import Raw, Struct
from msgspec.json import Decoder

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.builder import Name, name_of
from roicli.boxfiles.jsonitems import RESULT, ItemReader
from roicli.boxfiles.jsontext import NO_BOX_HINT, check_members, fields, is_list, may_repeat, unrecognized
from roicli.boxfiles.layout import Layout
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


def _recognizes(file: BoxFile) -> bool:
    if file.is_lines or file.document.is_array:
        return False
    document = file.document
    return not document.lacks("annotations") or (
        not document.lacks("images") and document.lacks("detection_categories")
    )


def _read(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    document = file.document
    if document.is_array:
        raise unrecognized(file)
    check_members(document.members, str(file.path))
    raws = {name: document.member(name) for name in ("annotations", "images")}
    for name, raw in raws.items():
        if raw is not None and not is_list(raw):
            kind = {ord("{"): "object", ord('"'): "str", ord("n"): "null"}.get(bytes(raw)[0], "number")
            raise BoxError(
                f"{file.path} {name}: expected array, got {kind}",
                f"In a COCO dataset, {name} is a list of objects.",
            )
    if raws["annotations"] is None:
        raise BoxError(f"{file.path}: a COCO dataset without annotations", NO_BOX_HINT)
    annotations = fields(_RAWS, raws["annotations"], f"{file.path} annotations")
    images = [] if raws["images"] is None else fields(_IMAGES, raws["images"], f"{file.path} images")
    doubtful = may_repeat(document.data, len(annotations))
    reader = ItemReader(file, "annotation", box_format)
    reader.read(zip(count(), annotations, repeat(doubtful)), RESULT)
    aliases: dict[str, str] = {}
    sizes: dict[str, tuple[float | None, ...]] = {}
    for image in images:
        name, file_name = name_of(image.id), image.file_name
        if file_name is not None and (other := aliases.setdefault(name, file_name)) != file_name:
            raise BoxError(
                f"{file.path}: image {name!r} is both {other!r} and {file_name!r}", "Give each image an id of its own."
            )
        sizes[name] = image.height, image.width
    listed = tuple(dict.fromkeys(name_of(image.id) for image in images)) if images else None
    return reader.regions(BoxFormat.XYWH, "COCO dataset", aliases=aliases, sizes=sizes, listed=listed)


LAYOUT = Layout(
    "coco",
    "a COCO dataset",
    "json",
    _recognizes,
    _read,
    (".json",),
    holds="`images` and `annotations` with `bbox` (xywh)",
)
