"""Take a value a bin back onto the maps: the adjoint of pooling, for boxes and maps in files."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.errors import FileError, OutputError, UsageError
from roicli.jobs.options import grouped, take_spec
from roicli.jobs.prepare import PoolJob, prepare
from roicli.newfiles import NewFile, check_name, flush_folder
from roicli.outputs import find_stored
from roicli.outputs.base import read_output
from roicli.pooling.adjoint import scatter
from roicli.pooling.arguments import compute_dtype
from roicli.pooling.operators import find


@dataclass(frozen=True, kw_only=True)
class ProjectJob(PoolJob):
    """All that `roicli project` was told, besides what says where the boxes lie."""

    pooled: Path  # what goes back: (K, C, PH, PW), or (K, PH, PW) for one channel
    output: Path  # an .npz of a map an image, or an .npy of the only one
    overwrite: bool = False


class Projected(NamedTuple):
    """What was projected: the maps by their image ids, and where they were written."""

    output: Path
    maps: dict[str, NDArray[Any]]


def project(job: ProjectJob, note: Callable[[str], None]) -> Projected:
    """Scatter the values of bins onto maps of zeros, with the weights of the bins, and write these maps.

    Raises RoicliError: bad data, an operator that is not linear, values that do not fit the boxes.
    """
    if job.output.suffix not in (".npy", ".npz"):
        raise OutputError(f"{job.output}: expected a name that ends in .npy or .npz", "Name an .npz.")
    check_name(job.output, overwrite=job.overwrite)
    output_format = find_stored(job.pooled)
    values = output_format.values(job.pooled, read_output(output_format, job.pooled))
    if job.spec.reduce != "none":
        raise UsageError(
            "all bins are projected, not one vector a box", "Leave `reduce` out, or give an operator with bins."
        )
    if values.ndim == 3:
        values = values[:, None]
    if values.ndim != 4:
        raise FileError(
            f"{job.pooled}: shape {values.shape}, expected (K, C, PH, PW) or (K, PH, PW)",
            "Give all bins, not one vector a box.",
        )
    height, width = values.shape[2:]
    job = replace(job, spec=replace(job.spec, output_size=(height, width)))
    inputs = job.bind(note)
    job = job.knowing(inputs)
    prepared = prepare(job, inputs, note)
    source = prepared.inputs.source
    if source.levels:
        raise UsageError(
            "bins are projected onto maps of one level", "Give one of them by `dataset`, and its `stride`."
        )
    if len(prepared.placement) != len(values):
        raise FileError(
            f"{job.pooled} has {len(values):,} rows, {job.boxes} gives {len(prepared.placement):,}",
            "Give the box file that it was made of, and the same choice of boxes.",
        )
    dtype, index = compute_dtype(values.dtype), prepared.placement.map_index
    maps = {}
    for image in prepared.inputs.maps_used():
        rows = np.setdiff1d(np.flatnonzero(index == image), prepared.selection.zeroed)
        regions = replace(prepared.placement.take(rows), map_index=np.zeros(len(rows), np.intp))
        channels = _channels(job, values.shape[1])
        shape = (1, channels, *prepared.infos[image].shape[1:])
        maps[source.ids[image]] = scatter(values[rows], regions, shape, job.spec, dtype)[0]
    _write(job, maps)
    return Projected(job.output, maps)


def _channels(job: ProjectJob, made: int) -> int:
    """Return the channels of a map whose bins have so many: as many, or what a position-sensitive operator reads."""
    operator, size = find(job.spec.op), job.spec.output_size
    last = operator.plane(made - 1, (size[0] - 1, size[1] - 1), job.spec)
    return last + 1


def _write(job: ProjectJob, maps: dict[str, NDArray[Any]]) -> None:
    content = io.BytesIO()
    if job.output.suffix == ".npz":
        np.savez(content, **maps)  # type: ignore[arg-type, unused-ignore]
    elif len(maps) == 1:
        np.save(content, next(iter(maps.values())))
    else:
        raise OutputError(f"{job.output}: {len(maps)} maps do not fit into one .npy", "Name an .npz.")
    new = NewFile(job.output, overwrite=job.overwrite)
    new.write([content.getvalue()])
    new.publish()
    flush_folder(new.final)
    new.remove()


def project_job(
    pooled: Path, features: str, boxes: Path, output: Path, *, overwrite: bool = False, **options: Any
) -> ProjectJob:
    """Turn the parameters of ``roicli project`` into a job."""
    spec, settings = take_spec(options), grouped(options)
    return ProjectJob(
        *(os.fspath(features), boxes, spec), pooled=pooled, output=output, overwrite=overwrite, **settings
    )
