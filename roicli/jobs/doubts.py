"""Mistakes that people make with boxes, recognised by what they look like; each in one sentence with its remedy.

Nothing here is sure, so nothing is refused: a rule speaks only if most boxes show the mistake, and names a remedy only
if that would put nearly all of them where boxes belong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from roicli.boxes import BoxFormat, BoxTable, find_bad_boxes, from_xyxy, to_xyxy
from roicli.extents import shares_inside
from roicli.jobs.prepare import PoolJob, Prepared
from roicli.spec import MIN_SCALE, PoolSpec

# A box counts as on its map with nine tenths of its area: borders of images are often rounded away.
_ON_MAP = 0.9
# A remedy must suit so many of the boxes.
_NEARLY_ALL = 0.99
# By so much may boxes in 0..1 of the image leave it, since corners are made of rounded centres and widths.
_ROUNDED = 0.01
# Images are rarely reduced further by a network.
_STRIDES = (2, 4, 8, 16, 32, 64, 128)


def doubt_numbers(job: PoolJob, table: BoxTable) -> Iterator[str]:
    """Judge boxes by their numbers alone, before anything is refused."""
    unusable, inverted = find_bad_boxes(table.boxes)
    boxes = np.delete(table.boxes, unusable, axis=0)
    if not len(boxes):
        return
    if len(inverted) > len(boxes) / 2:
        said = f"{len(inverted)} of {len(table)} boxes of {table.source} have x2 < x1 or y2 < y1, read as "
        unit = (
            "; if they are in 0..1 of the image, give --normalized too"
            if _in_unit(boxes) and not job.normalized
            else ""
        )
        yield f"{said}{table.box_format}{_better_reading(from_xyxy(boxes, table.box_format), table.box_format)}{unit}"
    elif not job.normalized and _in_unit(boxes):
        yield f"all boxes of {table.source} lie within 0 and 1: if they are in 0..1 of the image, give --normalized"


def _better_reading(given: NDArray[np.float64], box_format: BoxFormat) -> str:
    """Say what numbers may mean that make inverted boxes."""
    a, b, c, d = given.T
    if ((c <= a) & (d <= b)).mean() >= _NEARLY_ALL:
        return ": their numbers may be x2, y2, x1, y1; write the upper left corner first"
    if ((a <= b) & (c <= d)).mean() >= _NEARLY_ALL:
        return ": their numbers may be x1, x2, y1, y2; write x1, y1, x2, y2"
    if box_format is BoxFormat.XYXY and (given[:, 2:] >= 0).mean() >= _NEARLY_ALL:
        return ": their numbers may be x, y, width, height; give --box-format xywh, or cxcywh if x, y is the centre"
    return ""


def doubt_places(job: PoolJob, work: Prepared) -> Iterator[str]:
    """Judge boxes by where they lie on their maps."""
    good = np.setdiff1d(np.arange(len(work.boxes)), work.zeroed)
    boxes, sizes, spec = work.boxes[good], work.sizes[good], work.spec
    if not len(boxes):
        return
    shares = shares_inside(boxes, sizes, spec)
    beyond = int((shares < 0.5).sum())
    if (shares < _ON_MAP).mean() > 0.1:
        most = beyond > len(boxes) / 2
        if remedy := _other_reading(job, work, good) or (_other_scale(job, boxes, sizes, spec) if most else ""):
            yield f"{beyond} of {len(boxes)} boxes lie for the most part beyond their maps{remedy}"
    cells = np.abs(boxes[:, 2:] - boxes[:, :2]) * spec.spatial_scale
    small = int((cells < 1).all(axis=1).sum())
    normalized = _in_unit(boxes)  # which has been said already
    unscaled = replace(spec, spatial_scale=1.0)
    twice = spec.spatial_scale < 1 and _fits(boxes, sizes, unscaled)
    if not normalized and small > len(boxes) * (0.5 if twice else 0.9):
        remedy = ": if they are in cells already, leave --spatial-scale out" if twice else ""
        yield f"{small} of {len(boxes)} boxes are smaller than one cell of their maps{remedy}"


def _other_reading(job: PoolJob, work: Prepared, good: NDArray[np.intp]) -> str:
    """Find another meaning of the four numbers that puts boxes onto their maps."""
    table, sizes = work.inputs.table, work.sizes[good]
    unit = sizes if job.normalized else 1.0
    given = from_xyxy(table.boxes[good], table.box_format)
    for box_format in BoxFormat:
        if box_format is not table.box_format and _fits(to_xyxy(given, box_format) * unit, sizes, work.spec):
            return f", and as {box_format} they would lie on them: give --box-format {box_format}"
    if _fits(table.boxes[good][:, [1, 0, 3, 2]] * unit, sizes, work.spec):
        return ", and with x and y exchanged they would lie on them: write x before y"
    return ""


def _other_scale(job: PoolJob, boxes: NDArray[np.float64], sizes: NDArray[np.float64], spec: PoolSpec) -> str:
    """Find the largest scale, by powers of two, that puts boxes onto their maps."""
    if job.normalized:
        return ": if they are in pixels, leave --normalized out and give --spatial-scale"
    for stride in _STRIDES:
        scale = spec.spatial_scale / stride
        if scale >= MIN_SCALE and _fits(boxes, sizes, replace(spec, spatial_scale=scale)):
            words = f"1/{1 / scale:.0f}" if (1 / scale).is_integer() else f"{scale:g}"
            return f": is the spatial scale forgotten? {words} is the largest that would fit, --spatial-scale {words}"
    return ": is --spatial-scale right?"


def _fits(boxes: NDArray[np.float64], sizes: NDArray[np.float64], spec: PoolSpec) -> bool:
    """Tell whether nearly all boxes lie on their maps and are not inverted."""
    upright = (boxes[:, 2:] >= boxes[:, :2]).all(axis=1)
    return bool((upright & (shares_inside(boxes, sizes, spec) >= _ON_MAP)).mean() >= _NEARLY_ALL)


def _in_unit(boxes: NDArray[np.float64]) -> bool:
    """Tell whether all boxes lie within 0 and 1, but for what rounding may add."""
    return bool(boxes.min() >= -_ROUNDED and boxes.max() <= 1 + _ROUNDED)
