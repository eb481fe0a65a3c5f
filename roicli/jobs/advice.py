"""Mistakes that people make with boxes, recognised by what they look like; each in one sentence with its remedy.

Nothing here is sure, so nothing is refused: a rule speaks only if most boxes show the mistake, and names a remedy only
if that would put nearly all of them where boxes belong.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from roicli.jobs.layouts import NEARLY_ALL, ON_MAP, doubt_layout, fits, other_layout
from roicli.jobs.prepare import PoolJob, Prepared
from roicli.jobs.wording import some_of, verb
from roicli.pooling.extents import shares_inside
from roicli.regions import BoxFormat, Regions, find_bad_boxes, from_xyxy, to_xyxy
from roicli.spec import MAX_SCALE, MIN_SCALE, PoolSpec

# By so much may boxes in 0..1 of the image leave it, since corners are made of rounded centres and widths.
_ROUNDED = 0.01
# So many boxes that all lie in the same corner, up to this part of both sides of their maps, do not by chance; fewer do
# not in a smaller one.
_MANY, _CORNER = 100, 0.26
# Images are rarely reduced further by a network.
_STRIDES = (2, 4, 8, 16, 32, 64, 128)


def doubt_numbers(job: PoolJob, table: Regions) -> Iterator[str]:
    """Judge boxes by their numbers alone, before anything is refused."""
    unusable, inverted = find_bad_boxes(table.boxes)
    boxes = np.delete(table.boxes, unusable, axis=0)
    if not len(boxes):
        return
    normalized = not job.normalized and _in_unit(boxes)
    if len(inverted) > len(boxes) / 2:
        have = verb(len(inverted), "has", "have")
        unit = "; if in 0..1 of the image, give --normalized too" if normalized else ""
        yield (
            f"{some_of(len(inverted), len(table))} of {table.source} {have} x2 < x1 or y2 < y1, read as "
            f"{table.box_format}{_better_reading(from_xyxy(boxes, table.box_format), table.box_format)}{unit}"
        )
    elif normalized:
        what = "the only box" if len(boxes) == 1 else "all boxes"
        lie, are = verb(len(boxes), "lies", "lie"), verb(len(boxes), "it is", "they are")
        yield f"{what} of {table.source} {lie} within 0 and 1: if {are} in 0..1 of the image, give --normalized"


def _better_reading(given: NDArray[np.float64], box_format: BoxFormat) -> str:
    """Say what numbers may mean that make inverted boxes."""
    a, b, c, d = given.T
    sizes = ""
    if box_format is BoxFormat.XYXY and (given[:, 2:] >= 0).mean() >= NEARLY_ALL:
        sizes = ": the numbers may be x, y, width, height; give --box-format xywh, or cxcywh if x, y is the centre"
    if ((c <= a) & (d <= b)).mean() >= NEARLY_ALL:
        # Widths and heights may be smaller than nearly all of x and y, but then they are much smaller.
        if sizes and np.median(c + d) < np.median(a + b) / 2:
            return sizes
        return ": the numbers may be x2, y2, x1, y1; write the upper left corner first"
    if ((a <= b) & (c <= d)).mean() >= NEARLY_ALL:
        return ": the numbers may be x1, x2, y1, y2; write x1, y1, x2, y2"
    return sizes


def doubt_places(job: PoolJob, work: Prepared) -> Iterator[str]:
    """Judge boxes by where they lie on their maps; what is most likely is said, and nothing else."""
    good = np.setdiff1d(np.arange(len(work.boxes)), work.zeroed)
    boxes, sizes, spec = work.boxes[good], work.sizes[good], work.spec
    if not len(boxes):
        return
    shares = shares_inside(boxes, sizes, spec)
    beyond, reaching = int((shares < 0.5).sum()), int((shares < ON_MAP).sum())
    if reaching > len(boxes) / 10:
        most = beyond > len(boxes) / 2
        found = (
            other_layout(job, work, good, longer=False)
            or _other_reading(job, work, good)
            or other_layout(job, work, good, longer=True)
        )
        remedy = f", but not {found}" if found else _other_scale(job, boxes, sizes, spec) if most else ""
        if remedy:
            number = beyond if most else reaching
            lies = verb(number, "lies", "lie") + " for the most part" if most else verb(number, "reaches", "reach")
            yield f"{some_of(number, len(boxes))} {lies} beyond {verb(number, 'its map', 'their maps')}{remedy}"
            return
    yield from doubt_layout(job, work, good)
    if job.normalized or not _in_unit(boxes):  # which has been said already
        yield from _doubt_extents(job, boxes, sizes, spec)


def _doubt_extents(
    job: PoolJob, boxes: NDArray[np.float64], sizes: NDArray[np.float64], spec: PoolSpec
) -> Iterator[str]:
    """Judge whether boxes are too small for their maps, or all lie in one corner of them."""
    small = int((np.abs(boxes[:, 2:] - boxes[:, :2]) * spec.spatial_scale < 1).all(axis=1).sum())
    reach = (boxes[:, 2:] * spec.spatial_scale / sizes[:, :2]).max(axis=0)
    twice = spec.spatial_scale < 1 and fits(boxes, sizes, replace(spec, spatial_scale=1.0))
    larger = None
    if len(boxes) > 1 and not job.normalized:  # one box may lie anywhere
        larger = _largest_scale(boxes, sizes, spec, _STRIDES[::-1])
    remedy = ""
    if twice:
        remedy = ": if boxes are in cells already, leave --spatial-scale out"
    elif larger is not None and larger <= 1 and (reach * larger > spec.spatial_scale / 2).all():
        remedy = f": is --spatial-scale right? {_in_words(larger, boxes)}"
    if small > len(boxes) * (0.5 if twice else 0.9):
        are = verb(small, "is smaller than one cell of its map", "are smaller than one cell of their maps")
        yield f"{some_of(small, len(boxes))} {are}{remedy}"
    elif reach.max() <= _CORNER * min(math.sqrt(len(boxes) / _MANY), 1):
        # Boxes that were scaled twice would fill their maps without it.
        if job.normalized:
            remedy = ": were they divided by the size of the image twice?"
        elif not remedy or (twice and not (reach > spec.spatial_scale / 2).all()):
            return
        yield f"all {len(boxes):,} boxes lie within the first {reach.max():.0%} of both sides of their maps{remedy}"


def _other_reading(job: PoolJob, work: Prepared, good: NDArray[np.intp]) -> str:
    """Find another meaning of the four numbers that puts boxes onto their maps."""
    table, sizes = work.inputs.table, work.sizes[good]
    unit = sizes if job.normalized else 1.0
    given = from_xyxy(table.boxes[good], table.box_format)
    for box_format in BoxFormat:
        if box_format is not table.box_format and fits(to_xyxy(given, box_format) * unit, sizes, work.spec):
            return f"as {box_format}: give --box-format {box_format}"
    if fits(table.boxes[good][:, [1, 0, 3, 2]] * unit, sizes, work.spec):
        return "with x and y exchanged: write x before y"
    return ""


def _other_scale(job: PoolJob, boxes: NDArray[np.float64], sizes: NDArray[np.float64], spec: PoolSpec) -> str:
    """Find the largest scale, by powers of two, that puts boxes onto their maps."""
    if job.normalized:
        return ": if boxes are in pixels, leave --normalized out and give --spatial-scale"
    asked = "is the spatial scale forgotten?" if spec.spatial_scale == 1 else "is --spatial-scale right?"
    scale = _largest_scale(boxes, sizes, spec, [1 / stride for stride in _STRIDES])
    if scale is not None:
        return f": {asked} {_in_words(scale, boxes)}"
    if (boxes[:, 2:] <= 0).any(axis=1).mean() > 0.5:
        return ", on the left or above, which no spatial scale would change"
    return ": is --spatial-scale right?"


def _largest_scale(
    boxes: NDArray[np.float64], sizes: NDArray[np.float64], spec: PoolSpec, factors: Sequence[float]
) -> float | None:
    """Find the first of some factors, descending, by which the scale puts boxes onto their maps."""
    for scale in (spec.spatial_scale * factor for factor in factors):
        if MIN_SCALE <= scale <= MAX_SCALE and fits(boxes, sizes, replace(spec, spatial_scale=scale)):
            return scale
    return None


def _in_words(scale: float, boxes: NDArray[np.float64]) -> str:
    words = f"1/{1 / scale:.0f}" if (1 / scale).is_integer() else f"{scale:g}"
    # One box may lie anywhere: that it fits says little.
    give = f", --spatial-scale {words}" if len(boxes) > 1 else ""
    return f"{words} is the largest that would fit{give}"


def _in_unit(boxes: NDArray[np.float64]) -> bool:
    """Tell whether all boxes lie within 0 and 1, but for what rounding may add, and any has an extent."""
    return bool((boxes[:, 2:] != boxes[:, :2]).any() and boxes.min() >= -_ROUNDED and boxes.max() <= 1 + _ROUNDED)
