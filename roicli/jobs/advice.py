"""Mistakes that people make with boxes, recognised by what they look like; each in one sentence with its remedy.

Nothing here is sure, so nothing is refused. A rule speaks only if many boxes show the mistake, and names a remedy only
if that would put nearly all boxes onto their maps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.jobs.mapsizes import guess
from roicli.jobs.match import Inputs, judge_ids
from roicli.jobs.prepare import PoolJob, Prepared, prepare
from roicli.jobs.readings import judge_reading
from roicli.pooling.extents import shares_inside
from roicli.pooling.placement import MIN_SCALE, Placement, place
from roicli.pooling.sampling import in_map
from roicli.regions import BoxFormat, Regions, batch_index_may_be_last, find_bad_boxes, to_xyxy
from roicli.sources.layout import layout_of

# A box counts as on its map with nine tenths of its area: borders of images are often rounded away.
_ON_MAP = 0.9
# A remedy must suit so many of the boxes.
_NEARLY_ALL = 0.99
# Bytes of a map whose neighboring cells are measured; for `align`, few or a tenth of all, since it may be compressed:
# to unpack 55 MB of gzip takes 0.7 s.
_MEASURED, _CHEAP = 2**28, 2**24
# So many boxes are judged first, and remedies are tried on so many: a few milliseconds for any file.
_TRIED = 2000
# Areas are rounded; those of outlines are far from those of boxes.
_AREA = 0.01
# By so much may boxes in 0..1 of the image leave it, since corners are made of rounded centres and widths.
_ROUNDED = 0.01
# So many boxes reach beyond this share of their maps, if those are of the same images.
_MANY, _FAR = 50, 0.75
# Images are rarely reduced further by a network.
_STRIDES = (2, 4, 8, 16, 32, 64, 128)
# Ratios of the sides of maps: of most, of few, of nearly none.
_ORDINARY, _LONG, _ABSURD = 2.0, 3.0, 20.0


def prepare_and_judge(
    job: PoolJob,
    inputs: Inputs,
    note: Callable[[str], None],
    warn: Callable[[str], None],
    *,
    thorough: bool = False,
) -> Prepared:
    """Prepare a job, and tell `warn` what looks like a mistake, before the job may refuse it; see `prepare`."""
    table = inputs.table
    if (text := judge_numbers(job, table.take(_few(len(table))))) and (text := judge_numbers(job, table)):
        warn(text)
    if text := judge_ids(inputs):
        warn(text)
    work = prepare(job, inputs, note)
    sizes = {index: math.prod(info.shape) * info.dtype.itemsize for index, info in work.infos.items()}
    most = _MEASURED if thorough else max(_CHEAP, sum(sizes.values()) // 10)
    alike, text = judge_reading(
        inputs.source, [index for index in sorted(sizes) if sizes[index] <= most], inputs.layout
    )
    inputs.source.close()
    if text:
        warn(text)
    for text in work.located.warnings:
        warn(text)
    pooled = work.pooled()
    if (text := judge_places(job, work, pooled[_few(len(pooled))])) and (text := judge_places(job, work, pooled)):
        warn(text)
    return work._replace(alike=alike)


def _few(number: int) -> NDArray[np.intp]:
    """Return some of the numbers below `number`, evenly spaced: all are judged only if these look like a mistake."""
    return np.arange(0, number, max(1, -(-number // _TRIED)))


def judge_numbers(job: PoolJob, table: Regions) -> str:
    """Judge boxes by their numbers alone; return a warning, or nothing."""
    unusable, inverted = find_bad_boxes(table.boxes)
    good = np.delete(np.arange(len(table)), unusable)
    boxes = table.boxes[good]
    unit = not job.normalized and _in_unit(boxes)
    if len(inverted) > len(boxes) / 2:
        normalized = ". If they are in 0..1 of the image, give `normalized` too" if unit else ""
        reading = _better_reading(table.given[good], table.box_format)
        if batch_index_may_be_last(table):
            reading = ". The first of five numbers is the batch index; is it last, or is the last a score or a label?"
        return (
            f"{table.source}, boxes with x2 < x1 or y2 < y1, read as {table.box_format}: {len(inverted):,} of "
            f"{len(table):,}{reading}{normalized}"
        )
    if 2 * (flat := int((boxes[:, 2:] == boxes[:, :2]).any(axis=1).sum())) > len(boxes):
        return (
            f"{table.source}: boxes with no width or no height: {flat:,} of {len(table):,}. Were they never filled, or "
            "rounded away?"
        )
    if len(boxes) and (other := _read_by_area(table.take(good))):
        return (
            f"{table.source}: the areas in the file are those of boxes read as {other}, not as {table.box_format}; "
            f"give `box_format={other}`"
        )
    if unit:
        return f"{table.source}: all boxes lie within 0 and 1; if they are in 0..1 of the image, give `normalized`"
    return ""


def _better_reading(given: NDArray[np.float64], box_format: BoxFormat) -> str:
    """Say what numbers may mean that make inverted boxes."""
    a, b, c, d = given.T
    sizes = ""
    if box_format is BoxFormat.XYXY and (given[:, 2:] >= 0).mean() >= _NEARLY_ALL:
        sizes = (
            ". The numbers may be x, y, width, height; give `box_format=xywh`, or `box_format=cxcywh` if x, y is the "
            "centre"
        )
    if ((c <= a) & (d <= b)).mean() >= _NEARLY_ALL:
        # Widths and heights may be smaller than nearly all of x and y, but then they are much smaller.
        if sizes and np.median(c + d) < np.median(a + b) / 2:
            return sizes
        return ". The numbers may be x2, y2, x1, y1; write the upper left corner first"
    if ((a <= b) & (c <= d)).mean() >= _NEARLY_ALL:
        return ". The numbers may be x1, x2, y1, y2; write x1, y1, x2, y2"
    return sizes


def _read_by_area(table: Regions) -> BoxFormat | None:
    """Return the other reading of the numbers that gives the areas in the file, if the one taken does not."""
    areas = table.columns.get("area")
    if not isinstance(areas, np.ndarray):
        return None
    agree = {}
    for box_format in (table.box_format, *BoxFormat):
        boxes = to_xyxy(table.given, box_format)
        agree[box_format] = np.isclose((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), areas, rtol=_AREA, atol=0).mean()
    best = max(agree, key=agree.__getitem__)  # of two that agree, the one that was taken
    return best if agree[best] >= _NEARLY_ALL and agree[table.box_format] < 0.5 else None


def judge_places(job: PoolJob, work: Prepared, rows: NDArray[np.intp]) -> str:
    """Judge the boxes of some rows by where they lie on their maps; return what is most likely, or nothing."""
    if not len(rows):
        return ""
    placement = work.placement.take(rows)
    shares = shares_inside(placement, work.sizes[rows])
    if work.inputs.source.levels:
        return _judge_levels(shares)
    beyond, leaving = int((shares < 0.5).sum()), int((shares < _ON_MAP).sum())
    tries = _Tries(job, work, rows[_few(len(rows))])
    if leaving > len(rows) / 10:
        most = beyond > len(rows) / 2
        remedy = (
            tries.layout() or tries.reading() or tries.input_pixels() or (tries.scale() if most else tries.one_way())
        )
        if remedy:
            which = f"mostly or wholly: {beyond:,}" if most else f"at least in part: {leaving:,}"
            return f"boxes beyond their maps, {which} of {len(rows):,}. {remedy}"
    if (odd := tries.odd_layout()) or job.normalized or _in_unit(placement.boxes):  # a warning has told of the last
        return odd
    cells = in_map(placement.boxes, placement.scale)
    sides = np.abs(cells[:, 2:] - cells[:, :2])
    small = int(((sides < 1) & (sides > 0)).all(axis=1).sum())  # a warning has told of boxes without sides
    if small <= 0.75 * len(rows):
        return tries.far_from_borders()
    return f"boxes smaller than one cell of their maps: {small:,} of {len(rows):,}. Is `spatial_scale` right?"


def _judge_levels(shares: NDArray[np.float64]) -> str:
    """Judge boxes by where they lie on the levels of a pyramid."""
    leaving = int((shares < _ON_MAP).sum())
    if leaving <= len(shares) / 10:
        return ""
    return (
        f"boxes beyond their maps, at least in part: {leaving:,} of {len(shares):,}. Are the strides of `levels` "
        "right, and were the images resized? `preprocess` says how"
    )


class _Tries:
    """Other settings, tried on some of the boxes: each method returns a remedy, or nothing."""

    def __init__(self, job: PoolJob, work: Prepared, rows: NDArray[np.intp]) -> None:
        self._job, self._table = job, work.inputs.table.take(rows)
        self._located, self._sizes = work.located.take(rows), work.sizes[rows]
        self._placement = self._located.placement
        used = sorted(work.infos)
        self._given = np.array([work.infos[index].shape for index in used])
        self._layout = None if work.inputs.layout == "tokens" else layout_of(work.inputs.layout)
        # Tokens say nothing of another layout of maps.
        other = (*self._given.T,) if self._layout is None else self._layout.other_shape((*self._given.T,))
        self._other = np.column_stack(other)
        self._map = np.searchsorted(used, self._placement.map_index)

    def layout(self) -> str:
        """Try maps stored the other way, whose sides are less unlike."""
        likely = (_lengths(self._other) <= _LONG) & (_lengths(self._other) < _lengths(self._given))
        if self._job.normalized or not likely.all() or not self._fits_other():
            return ""
        return f"If the maps are stored the other way, give `layout={self._other_name}`"

    def odd_layout(self) -> str:
        """Find maps of odd sides and channels that would have usual ones if they were stored the other way."""
        (channels, height, width), usual = self._given[0].tolist(), int(self._other[0, 0])
        long = _lengths(self._given)
        # Boxes in 0..1 of the image lie on maps of any layout, and say nothing.
        if self._layout is None:
            return ""
        odd = (long > _ABSURD).all() or not (self._job.normalized or _are_usual(channels) or (long <= _LONG).any())
        likely = _are_usual(usual) and (self._other[:, 0] == usual).all() and (_lengths(self._other) <= _ORDINARY).all()
        if not odd or not likely or not (self._job.normalized or self._fits_other()):
            return ""
        return (
            f"maps of {channels} channels, {height} cells high and {width} wide, are unusual: if they are stored the "
            f"other way, with {usual} channels, give `layout={self._other_name}`"
        )

    def reading(self) -> str:
        """Try another meaning of the four numbers."""
        table = self._table
        for box_format in BoxFormat:
            if box_format is not table.box_format and self._fits(to_xyxy(table.given, box_format)):
                return f"Read as {box_format} they would fit; give `box_format={box_format}`"
        if self._fits(table.boxes[:, [1, 0, 3, 2]]):
            return "With x and y exchanged they would fit; write x before y"
        return ""

    def input_pixels(self) -> str:
        """Try boxes in pixels of the network's input, if something was done to the images."""
        if self._located.transform is None or self._job.normalized:
            return ""
        tried = place(self._placement.map_index, self._table.boxes, self._located.scale)
        if not _lie_on_maps(tried, self._sizes):
            return ""
        return (
            "If they are in pixels of the network's input already, leave `preprocess` out and give `size_check=False`"
        )

    def one_way(self) -> str:
        """Find boxes that leave their maps on the right only, or below only."""
        cells, ends = in_map(self._placement.boxes, self._placement.scale), self._sizes[:, ::-1] * 1.02 + 1
        leave = (cells[:, 2:] > ends).mean(axis=0)
        if self._job.normalized or leave.min() > 1 - _NEARLY_ALL or leave.max() < 0.1 or (cells[:, :2] < -1).any():
            return ""
        where = "on the right" if leave[0] > leave[1] else "below"
        return f"They leave {where} only: give two numbers for `spatial_scale`, y and x, or `preprocess`"

    def far_from_borders(self) -> str:
        """Find many boxes that all keep to the upper left of their maps, as if the images had been enlarged."""
        if len(self._sizes) < _MANY or self._located.transform is not None or not np.isnan(self._located.sizes).any():
            return ""
        ends = in_map(self._placement.boxes, self._placement.scale)[:, 2:]
        x, y = (ends / self._sizes[:, ::-1]).max(axis=0).tolist()
        if max(x, y) > _FAR:
            return ""
        return (
            f"all boxes lie within the left {x:.0%} and the upper {y:.0%} of their maps. If the images were resized, "
            "give `preprocess` and `image_size`; else check the `stride` of the maps"
        )

    def scale(self) -> str:
        """Try other spatial scales."""
        if self._job.normalized:
            return "If they are in pixels, leave `normalized` out and give `spatial_scale`"
        given, across = self._located.scale
        if (
            given == across
            and given > 1
            and 1 / given >= MIN_SCALE
            and self._fits(self._table.boxes, (1 / given, 1 / given))
        ):
            return f"Spatial scale {given:g} looks like a stride; give `spatial_scale=1/{given:g}`"
        asked = "Is `spatial_scale` missing?" if given == 1 else "Is `spatial_scale` right?"
        if (sizes := self._located.sizes) is not None and not np.isnan(sizes).any():
            if self._located.transform is None and (remedy := guess(sizes, self._located.map_sizes)):
                return f"{asked} The sizes of images and maps fit {remedy}"
            return f"{asked} Say what was done to the images by `preprocess`, and give the `stride` of the maps"
        for stride in _STRIDES:
            if 1 / stride < given and self._fits(self._table.boxes, (1 / stride, 1 / stride)):
                return f"{asked} A guess is `spatial_scale=1/{stride}`: check the stride of the maps"
        if (self._table.boxes[:, 2:] <= 0).any(axis=1).mean() > 0.5:
            return "They lie on the left or above, where no spatial scale puts them onto a map"
        return f"{asked} Give 1 / stride of the maps"

    @property
    def _other_name(self) -> str:
        assert self._layout is not None
        return self._layout.other.name

    def _fits(self, boxes: NDArray[np.float64], scale: tuple[float, float] | None = None) -> bool:
        """Tell whether nearly all boxes would lie on their maps, and not be inverted."""
        return _lie_on_maps(self._located.place(boxes, scale), self._sizes)

    def _fits_other(self) -> bool:
        return _lie_on_maps(self._placement, self._other[self._map, 1:].astype(np.float64))


def _lie_on_maps(placement: Placement, sizes: NDArray[np.float64]) -> bool:
    upright = (placement.boxes[:, 2:] >= placement.boxes[:, :2]).all(axis=1)
    return bool((upright & (shares_inside(placement, sizes) >= _ON_MAP)).mean() >= _NEARLY_ALL)


def _are_usual(channels: int) -> bool:
    """Tell whether networks have so many channels."""
    return channels >= 64 and channels % 32 == 0


def _lengths(shapes: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the longer side of maps over the shorter one."""
    ratios: NDArray[np.float64] = shapes[:, 1:].max(axis=1) / shapes[:, 1:].min(axis=1)
    return ratios


def _in_unit(boxes: NDArray[np.floating[Any]]) -> bool:
    """Tell whether all boxes lie within 0 and 1, but for rounding, and any has an extent."""
    if not len(boxes):
        return False
    return bool(boxes.min() >= -_ROUNDED and boxes.max() <= 1 + _ROUNDED and (boxes[:, 2:] != boxes[:, :2]).any())
