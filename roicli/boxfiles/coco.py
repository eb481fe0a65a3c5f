"""A COCO dataset: images and annotations, whose bbox is x, y, width, height."""

from __future__ import annotations

from contextlib import suppress

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


class _Located(Struct, gc=False):
    """An image of LVIS, which has no file name."""

    coco_url: str | None = None


class _Category(Struct, gc=False):
    id: Name | None = None
    name: str | None = None


_RAWS = Decoder(list[Raw])
_IMAGES = Decoder(list[Image])
_CATEGORIES = Decoder(list[_Category])
_BEGINNING = 1 << 16
_KINDS = {"{": "object", '"': "str", "n": "null"}


def _recognizes(file: BoxFile) -> bool:
    if file.is_lines or isinstance(members := file.document, list):
        return False
    if "annotations" not in members:
        return "images" in members and "detection_categories" not in members
    # Panoptic files have segments, and those of SA-1B one image.
    beginning = bytes(memoryview(members["annotations"])[:_BEGINNING])
    return b'"segments_info"' not in beginning and not ("image" in members and "images" not in members)


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
    aliases, sizes, names = read_images(file, members)
    reader = ItemReader(file, "annotation", box_format)
    reader.check(file.data, annotations)
    reader.read(enumerate(annotations), RESULT)
    return reader.regions(
        "COCO dataset",
        BoxFormat.XYWH,
        aliases=aliases,
        sizes=sizes,
        listed=tuple(sizes) or None,
        category_names=names,
    )


def read_images(
    file: BoxFile, members: dict[str, Raw]
) -> tuple[dict[str, str], dict[str, tuple[float | None, ...]], dict[str, str]]:
    """Read file names and sizes of images by id, and names of categories by id."""
    images = fields(_IMAGES, members["images"], f"{file.path} images") if "images" in members else []
    if any(image.file_name is None for image in images):
        located = fields(Decoder(list[_Located]), members["images"], f"{file.path} images")
        for image, at in zip(images, located, strict=True):
            image.file_name = image.file_name or (at.coco_url and "/".join(at.coco_url.split("/")[-2:])) or None
    aliases: dict[str, str] = {}
    sizes: dict[str, tuple[float | None, ...]] = {}
    for image in images:
        name, file_name = name_of(image.id), image.file_name
        if file_name is not None and (other := aliases.setdefault(name, file_name)) != file_name:
            raise BoxError(
                f"{file.path}: image {name!r} is both {other!r} and {file_name!r}", "Give each image an id of its own."
            )
        sizes[name] = image.height, image.width
    with suppress(BoxError):  # names are of use to people only
        categories = fields(_CATEGORIES, members["categories"], "") if "categories" in members else []
        return aliases, sizes, {name_of(one.id): one.name for one in categories if one.id is not None and one.name}
    return aliases, sizes, {}


LAYOUT = Layout(
    "a COCO dataset",
    _recognizes,
    _read,
    (".json",),
    holds="`images` and `annotations` with `bbox` (xywh)",
)
