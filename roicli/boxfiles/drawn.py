"""Outlines that people draw: LabelMe and GeoJSON (as QuPath writes it). Their regions are the boxes around them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Raw, Struct
from msgspec.json import Decoder

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.builder import Name
from roicli.boxfiles.collector import NO_BOX, Collector
from roicli.boxfiles.jsontext import fields, first_keys, unrecognized
from roicli.boxfiles.registry import Layout
from roicli.errors import BoxError
from roicli.regions import BoxFormat, Regions

Point = tuple[float, float]


def box_around(points: list[Point]) -> tuple[float | None, ...]:
    """Return the corners of the box around some points; that of no points is absent."""
    if not points:
        return NO_BOX
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


class _Shape(Struct, gc=False):
    points: list[Point]
    label: str | None = None
    shape_type: str | None = None
    group_id: Name | None = None

    def box(self) -> tuple[float | None, ...]:
        """Return the box around the shape."""
        if self.shape_type == "circle" and len(self.points) == 2:  # center, and a point of the edge
            (x, y), (u, v) = self.points
            radius = ((u - x) ** 2 + (v - y) ** 2) ** 0.5
            return x - radius, y - radius, x + radius, y + radius
        return box_around(self.points)


class _LabelMe(Struct, gc=False):
    shapes: list[_Shape]
    imagePath: str | None = None
    imageHeight: float | None = None
    imageWidth: float | None = None


def _is_labelme(file: BoxFile) -> bool:
    return "shapes" in (keys := first_keys(file)) and bool(keys & {"imagePath", "imageData", "imageHeight"})


def _read_labelme(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    found = Collector(file, ("label", "box_id"), "shape")
    image = fields(Decoder(_LabelMe), Raw(file.data), str(file.path))
    path = image.imagePath and image.imagePath.replace("\\", "/").rpartition("/")[2]
    found.image(file.stem, image.imageHeight, image.imageWidth, path)
    for shape in image.shapes:
        found.add(file.stem, shape.box(), shape.label, shape.group_id)
    return found.regions("LabelMe shapes, the boxes around them", BoxFormat.XYXY, box_format, by_file=True)


class _Feature(Struct, gc=False):
    geometry: Any = None
    properties: dict[str, Any] | None = None
    id: Name | None = None

    @property
    def label(self) -> str | None:
        """Its class, as QuPath and others name it."""
        said = self.properties or {}
        classified = said.get("classification")
        names = (classified.get("name") if isinstance(classified, dict) else classified, *map(said.get, _LABELS))
        return next((name for name in names if isinstance(name, str)), None)


_LABELS = ("label", "class", "category", "name")
_FEATURE = Decoder(_Feature)


def _points(geometry: Any) -> Iterator[Point]:
    """Yield all points of a geometry, at whatever depth."""
    if isinstance(geometry, dict):
        for member in (geometry.get("geometries"), geometry.get("coordinates")):
            yield from _points(member or [])
    elif isinstance(geometry, list) and len(geometry) >= 2 and isinstance(geometry[0], int | float):
        if not isinstance(geometry[1], int | float):
            raise ValueError(geometry[1])
        yield geometry[0], geometry[1]
    elif isinstance(geometry, list):
        for part in geometry:
            yield from _points(part)
    else:
        raise ValueError(geometry)


def _is_geojson(file: BoxFile) -> bool:
    keys = first_keys(file)
    return {"type", "features"} <= keys or {"type", "geometry"} <= keys


def _read_geojson(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    document = file.document
    if isinstance(document, dict):
        if not {"features", "geometry"} & {*document}:
            raise unrecognized(file)
        features = (
            fields(Decoder(list[Raw]), document["features"], f"{file.path} features")
            if "features" in document
            else [Raw(file.data)]
        )
    else:
        features = document
    found = Collector(file, ("box_id", "label"), "feature")
    found.image(file.stem)
    for number, raw in enumerate(features):
        feature = fields(_FEATURE, raw, found.where(number))
        try:
            box = box_around([*_points(feature.geometry or [])])
        except ValueError as error:
            raise BoxError(
                f"{found.where(number)}: expected coordinates, got {str(error)[:80]!r}", "Write points as [x, y]."
            ) from error
        found.add(file.stem, box, feature.id, feature.label)
    return found.regions("GeoJSON, the boxes around geometries", BoxFormat.XYXY, box_format, by_file=True)


LABELME = Layout(
    "LabelMe annotations",
    _is_labelme,
    _read_labelme,
    files="a folder of `.json`",
    holds="LabelMe: an image a file; the boxes around its `shapes`",
)
GEOJSON = Layout(
    "GeoJSON",
    _is_geojson,
    _read_geojson,
    (".geojson",),
    holds="GeoJSON in pixels, as QuPath writes it: an image a file; the boxes around its geometries",
)
