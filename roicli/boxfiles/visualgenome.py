"""Visual Genome: lists of images, each with its regions, objects or relationships; whole pixels, upper left and size.

Phrases of regions are left out: 5.4 million sentences would take more memory than all else; `box_id` finds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct, field
from msgspec.json import Decoder

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.builder import Name
from roicli.boxfiles.collector import NO_BOX, Collector
from roicli.boxfiles.jsontext import fields, first_keys, unrecognized
from roicli.boxfiles.registry import Layout
from roicli.errors import BoxError
from roicli.regions import BoxFormat, Regions


class _Region(Struct, gc=False):
    x: float | None
    y: float | None
    width: float | None
    height: float | None
    region_id: Name | None = None


class _Object(Struct, gc=False):
    x: float | None
    y: float | None
    w: float | None
    h: float | None
    object_id: Name | None = None
    names: list[str] | None = None
    name: str | None = None

    @property
    def label(self) -> str | None:
        """Its first name."""
        return self.name or (self.names[0] if self.names else None)


class _Relationship(Struct, gc=False):
    subject: _Object
    object: _Object
    relationship_id: Name | None = None
    predicate: str | None = None


class _Image(Struct, gc=False):
    image_id: Name | None = None
    id: Name | None = None  # in region_descriptions.json, and in version 1.0
    width: float | None = None
    height: float | None = None


class _WithRegions(_Image, gc=False):
    regions: list[_Region] = field(default_factory=list)


class _WithObjects(_Image, gc=False):
    objects: list[_Object] | None = None
    attributes: list[_Object] | None = None


class _WithRelationships(_Image, gc=False):
    relationships: list[_Relationship] = field(default_factory=list)


def _images(file: BoxFile, decoder: Decoder[Any], collector: Collector) -> Iterator[tuple[Name, Any]]:
    if not isinstance(document := file.document, list):
        raise unrecognized(file)
    for number, raw in enumerate(document):
        where = f"{file.path}, image {number}"
        image = fields(decoder, raw, where)
        name = image.image_id if image.image_id is not None else image.id
        if name is None:
            raise BoxError(f"{where}: no image_id", "Give each image its image_id.")
        collector.image(name, image.height, image.width)
        yield name, image


def _read_regions(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    found = Collector(file, ("box_id",))
    for name, image in _images(file, Decoder(_WithRegions), found):
        for region in image.regions:
            found.add(name, (region.x, region.y, region.width, region.height), region.region_id)
    return found.regions("Visual Genome region descriptions", BoxFormat.XYWH, box_format)


def _read_objects(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    found = Collector(file, ("box_id", "label"))
    for name, image in _images(file, Decoder(_WithObjects), found):
        for one in image.attributes or () if image.objects is None else image.objects:
            found.add(name, (one.x, one.y, one.w, one.h), one.object_id, one.label)
    return found.regions("Visual Genome objects", BoxFormat.XYWH, box_format)


def _read_relationships(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    """Read the union box of subject and object of each relationship."""
    found = Collector(file, ("box_id", "label", "subject", "object"))
    for name, image in _images(file, Decoder(_WithRelationships), found):
        for one in image.relationships:
            ends = one.subject, one.object
            found.add(name, _union(*ends), one.relationship_id, one.predicate, *(end.object_id for end in ends))
    return found.regions("Visual Genome relationships, the union of subject and object", BoxFormat.XYXY, box_format)


def _union(a: _Object, b: _Object) -> tuple[float | None, ...]:
    if None in (a.x, a.y, a.w, a.h, b.x, b.y, b.w, b.h):
        return NO_BOX
    assert a.x is not None and a.y is not None and a.w is not None and a.h is not None  # noqa: PT018
    assert b.x is not None and b.y is not None and b.w is not None and b.h is not None  # noqa: PT018
    return min(a.x, b.x), min(a.y, b.y), max(a.x + a.w, b.x + b.w), max(a.y + a.h, b.y + b.h)


def _holds(file: BoxFile, *names: str) -> bool:
    keys = first_keys(file)
    return bool({*names} & keys) and bool({"image_id", "id"} & keys)


REGIONS = Layout(
    "Visual Genome region descriptions",
    lambda file: _holds(file, "regions"),
    _read_regions,
    files="`region_descriptions.json`",
    holds="Visual Genome: a list of images with `regions`; x, y, width, height",
)
OBJECTS = Layout(
    "Visual Genome objects",
    lambda file: _holds(file, "objects", "attributes"),
    _read_objects,
    files="`objects.json`, `attributes.json`, `scene_graphs.json`",
    holds="Visual Genome: a list of images with `objects`; x, y, w, h and names",
)
RELATIONSHIPS = Layout(
    "Visual Genome relationships",
    lambda file: _holds(file, "relationships") and "objects" not in first_keys(file),
    _read_relationships,
    files="`relationships.json`",
    holds="Visual Genome: a list of images with `relationships`; one box around subject and object",
)
