"""Trace one bin of one RoI of files: the same readers, the same matching and the same coordinates as `align`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from roicli.errors import BoxError, UsageError
from roicli.execution.executors import apart
from roicli.jobs.choose import Choice
from roicli.jobs.geometry import Box, Geometry, Steps, as_box
from roicli.jobs.imageids import match_images
from roicli.jobs.locate import locate_on_levels, settle_grids
from roicli.jobs.masks import add_masks, with_masks
from roicli.jobs.match import Inputs, bind, check_bits
from roicli.jobs.pyramid import Pyramid, levels_of, open_maps
from roicli.jobs.readings import Reading, check_readings
from roicli.jobs.turns import add_turns
from roicli.pooling.arguments import compute_dtype
from roicli.pooling.bintrace import BinTrace
from roicli.pooling.extents import lie_outside
from roicli.pooling.operators import find
from roicli.pooling.trace import trace_placed
from roicli.regions import BoxFormat, Regions, find_bad_boxes, to_xyxy
from roicli.sources import FeatureSource
from roicli.spec import PoolSpec


@dataclass(frozen=True)
class TraceJob:
    """All that `roicli trace` was told of what to trace."""

    # As in `AlignJob`
    features: str
    boxes: Path | None  # the box file; without one, `box` is given
    specs: tuple[PoolSpec, ...]  # one, or two to compare
    reading: Reading = field(default_factory=Reading)
    geometry: Geometry = field(default_factory=Geometry)
    pyramid: Pyramid = field(default_factory=Pyramid)
    choice: Choice = field(default_factory=Choice)
    # Row of the boxes that are chosen, by default all of the box file, from 0; of those of `image` if that is given
    roi: int = 0
    image: str | None = None
    # A box given on the spot, in the numbers that `box_format` says
    box: tuple[float, float, float, float] | None = None
    bin: tuple[int, int] = (0, 0)  # row and column of the bin
    channel: int = 0  # channel of the map


@dataclass(frozen=True)
class Origin:
    """Where the traced box comes from."""

    words: str  # for people: "annotation 2 (id 3) of boxes.json"
    row: int | None = None  # the row of the box file, counted as it is; None for a box given on the spot
    box_id: int | str | None = None  # its own id


@dataclass(frozen=True)
class Traced:
    """What was traced."""

    traces: tuple[BinTrace, ...]  # one for each spec of the job
    features: str
    image_id: str  # the map's image
    origin: Origin  # where the box comes from
    given_box: Box  # xyxy as the box file or the user gave it, before `normalized` is applied
    unit: str  # what the numbers of `given_box` are: "px", or "0 to 1" of the image
    steps: Steps  # its way from there to the network's input
    level: str = ""  # the level of a pyramid that the box is pooled from; empty for other features


def trace(job: TraceJob, note: Callable[[str], None]) -> Traced:
    """Trace one bin; of the features only the one map is read.

    Raises RoicliError: a RoI, bin, channel or image that is not there; the message gives the valid range.
    """
    if job.pyramid.levels_combine is not None:
        raise UsageError("a number that is combined of levels has several maps", "Trace one of them by `level`.")
    if job.boxes is None and job.box is None:
        raise UsageError("a box to trace is missing", "Give a box file, or `box=x1,y1,x2,y2`.")
    if job.boxes is not None and job.box is not None:
        raise UsageError("a box file and `box` are two boxes to trace", "Leave one of them out.")
    if job.boxes is not None:
        inputs, row, origin = _from_file(job, job.boxes, note)
    else:
        inputs, row, origin = _from_box(job, job.box, note), 0, Origin("the box given")
    geometry = job.geometry.knowing(inputs.table)
    source, given, image = inputs.source, inputs.table.boxes[row], int(inputs.map_index[row])
    unusable, inverted = find_bad_boxes(given[None])
    if len(unusable):
        raise BoxError(f"{origin.words} is {given.tolist()}: NaN, infinite or beyond 1e9 pixels", "Trace another box.")
    if len(inverted):
        note(f"{origin.words} is inverted (x2 < x1 or y2 < y1); is it `box_format=xywh`?")
    rows = np.array([row])
    if not geometry.normalized:  # else the sizes of all images and maps decide, as in align
        inputs, rows = inputs.take(rows), np.array([0])
    inputs = with_masks(inputs, job.reading.mask_fill, note, *job.specs)
    settle_grids(geometry, inputs, job.reading.patch, note)
    check_bits(inputs, note)
    infos = inputs.infos()
    dtype = compute_dtype(infos[min(infos)].dtype)
    located, _ = locate_on_levels(geometry, job.pyramid, inputs, infos, dtype, note)
    located = add_masks(inputs, located, ())[0]
    located = add_turns(inputs, located, (), job.reading.angle, *job.specs)[0].take(rows)
    for text in located.warnings:
        note(text)
    placement = located.placement
    level = levels_of(placement, source.levels).tolist()[0] if source.levels else ""
    if placement.map_index[0] < 0:
        raise BoxError(f"{origin.words} is {given.tolist()}: a negative area has no level", "Trace another box.")
    index = int(placement.map_index[0])
    info = infos[index]
    size = np.array([info.shape[1:]], dtype=np.float64)
    region = placement.rounded(compute_dtype(info.dtype))
    for spec in job.specs:
        if find(spec.op).is_too_large(region, spec)[0]:
            raise BoxError(
                f"{origin.words} is {given.tolist()}: too large to sample at spatial scale {placement.scale[0, 0]:g}",
                "Check its coordinates and the spatial scale.",
            )
    if lie_outside(region, size, job.specs[0])[0]:
        note(f"{origin.words} lies wholly outside its map: is `spatial_scale` right?")

    def traces() -> tuple[BinTrace, ...]:
        feature_map = source.read(index)
        return tuple(trace_placed(feature_map, placement, spec, job.bin, job.channel) for spec in job.specs)

    unit = "0 to 1" if geometry.normalized else "px"
    traced = apart(traces, info)
    return Traced(traced, source.name, source.ids[image], origin, as_box(given), unit, located.steps(0), level)


def _from_box(job: TraceJob, box: Sequence[float] | None, note: Callable[[str], None]) -> Inputs:
    """Make the inputs of a box that is given on the spot."""
    source = open_maps(job.features, job.reading, job.pyramid, note)
    index = _map_of_image(job, source)
    if job.reading.layout is None and job.reading.time is None:
        check_readings(source, index, note)
    given = np.array([box], dtype=np.float64)
    box_format = job.reading.box_format or BoxFormat.XYXY
    table = Regions(
        boxes=to_xyxy(given, box_format),
        given=given,
        box_format=box_format,
        rows=np.zeros(1, np.int64),
        source="the box given",
        image_index=np.zeros(1, np.int64),
        image_ids=(source.ids[index],),
    )
    return Inputs(source, table, np.array([index]), job.reading.layout or "chw")


def _from_file(job: TraceJob, path: Path, note: Callable[[str], None]) -> tuple[Inputs, int, Origin]:
    """Find the box in its file: all boxes, the row of this one, and where it stands."""
    # Images that are not traced may lack features.
    said = job.reading, job.pyramid, note
    inputs = bind(job.features, path, *said, geometry=job.geometry, choice=job.choice, all_images=False)
    table = inputs.table
    rows = np.arange(len(table))
    whose = table.source
    if job.image is not None:
        index = _map_of_image(job, inputs.source)
        rows = np.flatnonzero(inputs.map_index == index)
        whose = f"image {inputs.source.ids[index]!r} of {table.source}"
    if not len(rows):
        raise UsageError(f"{whose} has 0 boxes", "Trace an image that has boxes.")
    if not 0 <= job.roi < len(rows):
        raise UsageError(
            f"{whose}: `roi` must be below {len(rows)}, the number of boxes, got {job.roi}",
            f"Give `roi` 0 to {len(rows) - 1}.",
        )
    row = rows[[job.roi]]
    if inputs.map_index[row[0]] < 0 and table.image_ids is not None and table.image_index is not None:
        image = table.image_ids[table.image_index[row[0]]]  # match_images says what it has no features in
        match_images([image], None, inputs.source.ids, boxes=table.source, features=inputs.source.name)
    box_id = None if table.box_ids is None else table.box_ids[row].tolist()[0]
    file = "" if "file" in table.columns else f" of {table.source}"
    words = f"{table.where(row)}{'' if box_id is None else f' (id {box_id})'}{file}"
    origin = Origin(words, int(table.rows[row[0]]), box_id)
    return inputs, int(row[0]), origin


def _map_of_image(job: TraceJob, source: FeatureSource) -> int:
    if job.image is not None:
        find = partial(match_images, boxes="`image`", features=source.name, all_images=False)
        index = int(find([job.image], None, source.ids)[0])
        if index < 0:
            some = ", ".join([*map(repr, source.ids[:5]), *["..."] * (len(source.ids) > 5)])
            raise UsageError(f"{source.name} has no image {job.image!r}", f"Its images are {some}.")
        return index
    if len(source.ids) != 1:
        raise UsageError(
            f"{source.name} holds {len(source.ids)} maps, and the image of the box is missing",
            f"Give an image, such as `image={source.ids[0]}`." if source.ids else "Name a file that holds maps.",
        )
    return 0
