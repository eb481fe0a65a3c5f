"""One mask, as files encode it, to pixels: COCO polygons and run lengths, GeoJSON geometries, LabelMe shapes.

Outlines become pixels by one of two rules, which differ by the pixels on the edge:

==== ===========================================================================================
coco pycocotools, as COCO defines it: a pixel belongs to a polygon if its centre does, about
pil  Pillow's ImageDraw.polygon, as LabelMe and many scripts do: the pixels of the edge belong to it
==== ===========================================================================================
"""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import DecodeError, Struct
from msgspec.json import Decoder, decode
from numpy.typing import NDArray

from roicli.boxfiles.labelimage import read_label
from roicli.errors import FileError
from roicli.regions import MaskFill

Mask = NDArray[np.bool_]
Size = tuple[int, int]

# A mask of more pixels than any image has: a wrong size would take the memory.
_MOST_PIXELS = 2**30


class OutlineError(ValueError):
    """What is wrong with the mask of a region: the fault, and a hint."""


def decode_mask(text: bytes | bytearray, size: Size | None, canvas: Size, fill: MaskFill | None) -> Mask:
    """Decode one mask, JSON text.

    `text`: COCO's `segmentation`, a GeoJSON geometry, a LabelMe shape; an outline in 0..1 of the image, `unit`; or
    which label of which image it is.
    `size`: height and width of the image, if they are known.
    `canvas`: height and width within which outlines are drawn if the size of their image is not known.
    `fill`: how outlines become pixels; by default "pil" for LabelMe, else "coco".
    Raises OutlineError: it is none of these, or of another size than the image. FileError: pycocotools is needed and
    not installed.
    """
    try:
        value = decode(text)
    except DecodeError as error:  # the JSON of its file is valid, but not what Python writes for NaN
        raise OutlineError("a mask with numbers that are not finite", "Remove these.") from error
    if isinstance(value, dict) and "counts" in value:
        return _run_lengths(value, size)
    if isinstance(value, dict) and "label_image" in value:
        mask = read_label(value["label_image"], value["label"])
        _check_size(mask.shape, size)
        return mask
    if isinstance(value, dict) and "points" in value:
        return _draw(_shape(value), size or canvas, fill or "pil")
    if isinstance(value, dict) and "unit" in value:
        height, width = size or canvas
        return _draw([[_ring(value["unit"]) * np.array([width, height])]], (height, width), fill or "coco")
    if isinstance(value, dict) and "coordinates" in value:
        return _draw(_geometry(value), size or canvas, fill or "coco")
    if isinstance(value, list):
        flat = [value] if value and not isinstance(value[0], list) else value
        return _draw([[_ring(polygon)] for polygon in flat], size or canvas, fill or "coco")
    raise _unknown(value)


def said_size(text: bytes | bytearray) -> Size | None:
    """Return height and width of an encoded mask, if it says them: run lengths do."""
    try:
        return _SIZED.decode(text).size
    except DecodeError:
        return None


class _Sized(Struct):
    size: Size


_SIZED = Decoder(_Sized)


def _unknown(value: Any) -> OutlineError:
    said = f"the keys {', '.join(map(repr, value))}" if isinstance(value, dict) else type(value).__name__
    return OutlineError(
        f"expected polygons, run lengths or a geometry as its mask, got {said}",
        "Give COCO polygons [[x1, y1, x2, y2, ...]] or {'size': [height, width], 'counts': ...}.",
    )


def _run_lengths(value: dict[str, Any], size: Size | None) -> Mask:
    """Decode run lengths, as a list or as a string, column by column."""
    given = value.get("size")
    if not (isinstance(given, list) and len(given) == 2 and all(isinstance(n, int) and n > 0 for n in given)):
        raise OutlineError(f"expected the size of a mask as height and width, got {given!r}", "Write `size` with it.")
    height, width = given
    if height * width > _MOST_PIXELS:
        raise OutlineError(f"a mask of {height} x {width} pixels is larger than any image", "Check its size.")
    _check_size((height, width), size)
    counts = value["counts"]
    if isinstance(counts, list):
        return _from_runs(counts, height, width)
    if not isinstance(counts, str):
        raise _unknown(value)
    mask: NDArray[np.uint8] = _coco().decode({"size": given, "counts": counts.encode()})
    return mask.view(np.bool_)


def _check_size(found: tuple[int, ...], size: Size | None) -> None:
    if size is not None and size != found:
        raise OutlineError(
            f"a mask of {found[0]} x {found[1]} pixels (height x width) for an image of {size[0]} x {size[1]}",
            "Resize the masks to their images, or correct the sizes of the images.",
        )


def _from_runs(counts: list[Any], height: int, width: int) -> Mask:
    """Decode uncompressed runs: pixels outside, then inside, and so on; what is left out at the end is outside."""
    runs = np.asarray(counts)
    if runs.dtype.kind not in "iu" and len(counts):
        raise OutlineError("run lengths that are not whole numbers", "Write them as pycocotools does.")
    if len(counts) and (runs.min() < 0 or runs.sum() > height * width):
        raise OutlineError(
            f"run lengths of {int(runs.sum()):,} pixels in a mask of {height} x {width}", "Check its size."
        )
    mask = np.zeros(height * width, np.bool_)
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs.astype(np.intp))
    mask[: len(inside)] = inside
    return mask.reshape(width, height).T


Ring = NDArray[np.float64]
"""A closed line: (n, 2) x, y."""


def _ring(points: Any) -> Ring:
    """Return a closed line, of x1, y1, x2, y2, ... or of pairs."""
    try:
        ring = np.asarray(points, np.float64)
    except (TypeError, ValueError):
        raise _unknown(points) from None
    if ring.ndim == 2 and ring.shape[1] >= 2:
        ring = ring[:, :2]  # a third number is a height
    elif ring.ndim == 1 and not len(ring) % 2:
        ring = ring.reshape(-1, 2)
    else:
        raise OutlineError("an outline whose numbers are not pairs of x and y", "Write x1, y1, x2, y2, ...")
    if not (np.abs(ring) <= 1e9).all():
        raise OutlineError("an outline with numbers that are not finite, or beyond 1e9", "Remove these.")
    return ring


def _geometry(value: dict[str, Any]) -> list[list[Ring]]:
    """Return the polygons of a GeoJSON geometry: a line around each, then those around its holes."""
    kind, coordinates = value.get("type"), value["coordinates"]
    if kind == "Polygon":
        return [[_ring(ring) for ring in coordinates]]
    if kind == "MultiPolygon":
        return [[_ring(ring) for ring in polygon] for polygon in coordinates]
    raise OutlineError(f"a geometry of type {kind!r} has no area", "Give Polygon or MultiPolygon, or leave it out.")


def _shape(value: dict[str, Any]) -> list[list[Ring]]:
    """Return the outline of a LabelMe shape."""
    kind, points = value.get("shape_type") or "polygon", _ring(value["points"])
    if kind == "polygon":
        return [[points]]
    if kind == "rectangle" and len(points) == 2:
        (x1, y1), (x2, y2) = points.tolist()
        return [[np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])]]
    if kind == "circle" and len(points) == 2:
        centre, edge = points
        angle = np.arange(64) * (2 * np.pi / 64)
        return [[centre + np.hypot(*(edge - centre)) * np.stack([np.cos(angle), np.sin(angle)], axis=1)]]
    raise OutlineError(f"a LabelMe shape of type {kind!r} has no area", "Draw polygons, rectangles or circles.")


def _draw(polygons: list[list[Ring]], size: Size, fill: MaskFill) -> Mask:
    """Draw polygons, without their holes; one of fewer than three points is nothing."""
    if size[0] * size[1] > _MOST_PIXELS:
        raise OutlineError(f"an image of {size[0]} x {size[1]} pixels is too large for masks", "Check its size.")
    polygons = [[ring for ring in rings if len(ring) >= 3] for rings in polygons if rings and len(rings[0]) >= 3]
    mask = np.zeros(size, np.bool_)
    for outline, *holes in polygons:
        inside = _fill(outline, size, fill)
        for hole in holes:
            inside &= ~_fill(hole, size, fill)
        mask |= inside
    return mask


def _fill(ring: Ring, size: Size, fill: MaskFill) -> Mask:
    if fill == "coco":
        coco = _coco()
        mask: NDArray[np.uint8] = coco.decode(coco.frPyObjects([ring.ravel().tolist()], *size))[:, :, 0]
        return mask.view(np.bool_)
    from PIL import Image, ImageDraw

    picture = Image.new("L", (size[1], size[0]))
    ImageDraw.Draw(picture).polygon([*map(tuple, ring.tolist())], fill=1, outline=1)
    return np.array(picture, np.bool_)


def _coco() -> Any:
    """Load pycocotools, which is slow to import and not always there."""
    try:
        import pycocotools.mask
    except ImportError as error:
        raise FileError(
            "masks of COCO need pycocotools, which is not installed",
            "Install it: pip install 'roicli[masks]'; for outlines, `mask_fill=pil` does without.",
        ) from error
    return pycocotools.mask
