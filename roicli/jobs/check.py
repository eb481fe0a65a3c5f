"""All checks of `align`, and what it would write, without pooling."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from roicli.jobs.advice import prepare_and_judge
from roicli.jobs.geometry import Box, Steps, as_box
from roicli.jobs.listener import Listener, Told
from roicli.jobs.masks import empty_masks
from roicli.jobs.prepare import PoolJob, Prepared
from roicli.jobs.pyramid import tally
from roicli.pooling.extents import shares_inside
from roicli.pooling.operators import find

# So many masks are decoded: a thousand take a second.
_MOST_MASKS = 10_000


@dataclass(frozen=True)
class WorkedBox:
    """One box followed from its file to its map.

    Attributes
    ----------
    where : str
        Where it stands in the box file.
    image_id : str
        Its map.
    map_size : (int, int)
        Height and width of the map, in cells.
    given : tuple of four floats
        xyxy as read, in image pixels, or in 0..1 of the image if the boxes are normalised.
    steps : Steps
        Its way from there to the network's input.
    cells : tuple of four floats
        xyxy as pooled: in cells, after the scale and the shift by half a cell.
    inside : float
        Share of its area on the map.
    level : str
        The level of a pyramid that it is pooled from; empty for other features.
    """

    where: str
    image_id: str
    map_size: tuple[int, int]
    given: Box
    steps: Steps
    cells: Box
    inside: float
    level: str = ""


@dataclass(frozen=True)
class CheckReport:
    """What `align` would do.

    Attributes
    ----------
    boxes_layout : str
        What the box file was taken for: "COCO dataset".
    features, boxes_file : str
        The inputs.
    maps, images, boxes : int
        Maps in the features; images and boxes that would be pooled.
    skipped, zeroed : int
        Boxes that would be left out, or written as zeros.
    box_format : str
        What the four numbers of a box were taken as.
    normalized : bool
        Whether boxes are in 0..1 of the image.
    partly_outside, wholly_outside : int
        Boxes that leave their maps.
    example : WorkedBox or None
        The first box that would be pooled.
    alike : float or None
        Correlation of neighboring cells, measured on one or two maps: near 0 if the layout or the grid is wrong.
    shape, dtype, bytes
        The features that would be written.
    warnings : tuple of str
        What looks like a mistake.
    notes : tuple of str
        What was assumed.
    levels : dict of str to int
        Boxes that would be pooled from each level of a pyramid; empty for other features.
    masks : int
        How many regions with a mask were looked at: all that would be pooled, at most 10,000; 0 if boxes are pooled.
    empty_masks : int
        How many of them reach no cell.
    """

    features: str
    boxes_file: str
    boxes_layout: str
    maps: int
    images: int
    boxes: int
    skipped: int
    zeroed: int
    box_format: str
    normalized: bool
    partly_outside: int
    wholly_outside: int
    example: WorkedBox | None
    alike: float | None
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    levels: dict[str, int] = field(default_factory=dict)
    masks: int = 0
    empty_masks: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON can hold them."""
        return asdict(self)


def check(job: PoolJob, listener: Listener) -> CheckReport:
    """Do all that `align` does before it pools; of features, only some of one or two maps are read.

    `listener`: is told what was assumed, and what looks like a mistake, before `align` may refuse it.
    Raises RoicliError: where `align` would, with the same message.
    """
    told = Told(listener)
    inputs = job.bind(told.note)
    job = job.knowing(inputs)
    work = prepare_and_judge(job, inputs, told.note, told.warn, thorough=True)
    pooled = work.pooled()
    shares = shares_inside(work.placement.take(pooled), work.sizes[pooled])
    shape = (len(work.placement), *work.row_shape)
    outside = work.outside[pooled]
    masks, empty = pooled[: 0 if work.placement.masks is None else _MOST_MASKS], np.zeros(0, np.intp)
    if len(masks):
        empty = masks[empty_masks(work.placement.take(masks), work.infos, job.spec)]
    if len(empty):
        told.note(
            f"{inputs.table.source}, {work.inputs.table.where(empty)}: masks that reach no cell, features of zero"
        )
    return CheckReport(
        features=inputs.source.name,
        boxes_file=inputs.table.source,
        boxes_layout=inputs.table.layout,
        maps=len(inputs.source),
        images=work.images(),
        boxes=len(work.placement),
        skipped=len(work.selection.skipped.of("skipped")),
        zeroed=len(work.selection.zeroed),
        box_format=str(inputs.table.box_format),
        normalized=job.normalized,
        partly_outside=int(((shares < 1) & ~outside).sum()),
        wholly_outside=int(outside.sum()),
        example=_worked(job, work, int(pooled[0])) if len(pooled) else None,
        alike=None if math.isnan(work.alike) else round(work.alike, 3),
        shape=shape,
        dtype=str(work.dtype),
        bytes=math.prod(shape) * work.dtype.itemsize,
        warnings=tuple(told.warnings),
        notes=tuple(told.notes),
        masks=len(masks),
        empty_masks=len(empty),
        levels={} if (names := work.level_names) is None else tally(names[pooled]),
    )


def _worked(job: PoolJob, work: Prepared, row: int) -> WorkedBox:
    table, levels = work.inputs.table, work.inputs.source.levels
    index = int(work.placement.map_index[row])
    box, size = work.placement.take([row]), work.sizes[[row]]
    _, height, width = work.infos[index].shape
    extents = find(job.spec.op).extents(box.rounded(work.computed), (height, width), job.spec)
    return WorkedBox(
        where=table.where(np.array([row])),
        image_id=work.inputs.source.ids[index // max(1, len(levels))],
        map_size=(height, width),
        given=as_box(table.boxes[row]),
        steps=work.located.steps(row),
        cells=as_box(extents[0]),
        inside=float(shares_inside(box, size)[0]),
        level=levels[index % len(levels)].name if levels else "",
    )
