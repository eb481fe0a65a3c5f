"""Trace one bin of one RoI of files: the same readers, the same matching and the same coordinates as `align`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.boxes import BoxFormat, find_bad_boxes, to_xyxy
from roicli.errors import BoxError, UsageError
from roicli.imageids import match_images
from roicli.jobs.bind import Layout, bind
from roicli.sources import FeatureSource, open_source
from roicli.spec import PoolSpec
from roicli.trace import BinTrace, trace_bin


@dataclass(frozen=True)
class TraceJob:
    """All that `roicli trace` was told of what to trace.

    Attributes
    ----------
    features, dataset, layout, box_format, normalized
        As in `AlignJob`.
    boxes : Path, optional
        The box file; without one, `box` is given.
    specs : tuple of PoolSpec
        One, or two to compare.
    roi : int
        Row of the box file, from 0; of the boxes of `image` if that is given.
    image : str, optional
        Id of an image.
    box : tuple of four floats, optional
        A box given on the spot, in the numbers that `box_format` says.
    bin : (int, int)
        Row and column of the bin.
    channel : int
        Channel of the map.
    """

    features: str
    boxes: Path | None
    specs: tuple[PoolSpec, ...]
    roi: int = 0
    image: str | None = None
    box: tuple[float, float, float, float] | None = None
    bin: tuple[int, int] = (0, 0)
    channel: int = 0
    dataset: str | None = None
    layout: Layout = "chw"
    box_format: BoxFormat | None = None
    normalized: bool = False


@dataclass(frozen=True)
class Traced:
    """What was traced.

    Attributes
    ----------
    traces : tuple of BinTrace
        One for each spec of the job.
    image_id : str
        The map's image.
    roi : str
        Where the box comes from, in words: "annotation 3 of boxes.json".
    given_box : tuple of four floats
        xyxy as the box file or the user gave it, before `normalized` is applied.
    unit : str
        What the numbers of `given_box` are: "px", or "of the image".
    """

    traces: tuple[BinTrace, ...]
    image_id: str
    roi: str
    given_box: tuple[float, float, float, float]
    unit: str


def trace(job: TraceJob, note: Callable[[str], None]) -> Traced:
    """Trace one bin; of the features only the one map is read.

    Parameters
    ----------
    job : TraceJob
        What to trace.
    note : callable
        Is told what was assumed.

    Raises
    ------
    RoicliError
        A RoI, bin, channel or image that is not there; the message gives the valid range.
    """
    if (job.boxes is None) == (job.box is None):
        raise UsageError("one source of the box is needed", "Give a box file or --box x1,y1,x2,y2, not both.")
    if job.boxes is not None:
        source, index, given, roi = _from_file(job, job.boxes, note)
    else:
        source = open_source(job.features, dataset=job.dataset, layout=job.layout)
        index = _map_of_image(job, source)
        given = to_xyxy(np.array([job.box], dtype=np.float64), job.box_format or BoxFormat.XYXY)[0]
        roi = "the box given"
    unusable, inverted = find_bad_boxes(given[None])
    if len(unusable):
        raise BoxError(f"{roi} is {given.tolist()}: NaN, infinite or beyond 1e9 pixels", "Trace another box.")
    if len(inverted):
        note(f"{roi} is inverted (x2 < x1 or y2 < y1); are its numbers xywh (--box-format)?")
    feature_map = source.read(index)
    height, width = feature_map.shape[1:]
    box, specs = given, job.specs
    if job.normalized:
        box = given * (width, height, width, height)
        specs = tuple(replace(spec, spatial_scale=1.0) for spec in specs)
    traces = tuple(_trace(feature_map, box, spec, job) for spec in specs)
    x1, y1, x2, y2 = given.tolist()
    return Traced(traces, source.ids[index], roi, (x1, y1, x2, y2), "of the image" if job.normalized else "px")


def _trace(feature_map: NDArray[Any], box: NDArray[np.float64], spec: PoolSpec, job: TraceJob) -> BinTrace:
    return trace_bin(
        feature_map,
        box,
        spec.output_size,
        spec.spatial_scale,
        spec.sampling_ratio,
        spec.aligned,
        mode=spec.mode,
        op=spec.op,
        bin=job.bin,
        channel=job.channel,
    )


def _from_file(
    job: TraceJob, path: Path, note: Callable[[str], None]
) -> tuple[FeatureSource, int, NDArray[np.float64], str]:
    """Find the box in its file: the source, the index of its map, its xyxy, and where it stands."""
    inputs = bind(job.features, path, note, dataset=job.dataset, layout=job.layout, box_format=job.box_format)
    table = inputs.table
    rows = np.arange(len(table))
    whose = table.source
    if job.image is not None:
        index = _map_of_image(job, inputs.source)
        rows = np.flatnonzero(inputs.map_index == index)
        whose = f"image {inputs.source.ids[index]!r} of {table.source}"
    if not 0 <= job.roi < len(rows):
        remedy = f"Give --roi 0 to {len(rows) - 1}." if len(rows) else "Trace an image that has boxes."
        raise UsageError(f"{whose} has {len(rows)} boxes, there is no RoI {job.roi}", remedy)
    row = rows[[job.roi]]
    return inputs.source, int(inputs.map_index[row[0]]), table.boxes[row[0]], f"{table.where(row)} of {table.source}"


def _map_of_image(job: TraceJob, source: FeatureSource) -> int:
    if job.image is not None:
        return int(match_images([job.image], None, source.ids, boxes="the command line", features=source.name)[0])
    if len(source.ids) != 1:
        raise UsageError(
            f"{source.name} holds {len(source.ids)} maps, and --box does not say which",
            f"Give --image, such as {source.ids[0]}." if source.ids else "Name a file that holds maps.",
        )
    return 0
