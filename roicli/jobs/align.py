"""The main job: pool all boxes of a box file and write their features."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from roicli import __version__
from roicli.arguments import compute_dtype
from roicli.boxes import BoxFormat
from roicli.errors import OutputError
from roicli.execute import run
from roicli.jobs.bind import Inputs, Layout, bind
from roicli.jobs.fingerprint import check_same, take_fingerprint
from roicli.jobs.listener import Listener
from roicli.jobs.outputs import SideFile, begun, claimed, find_unfinished
from roicli.jobs.select import BadBoxes, MissingFeatures, image_name, select
from roicli.plan import Costs, Task, make_plan
from roicli.pooler import Done, Pooler
from roicli.report import RunReport, peak_memory
from roicli.sampling import lie_outside
from roicli.sinks import (
    IndexFile,
    PooledSink,
    Progress,
    Record,
    Skipped,
    SkippedFile,
    StaleFile,
    check_name,
    check_output,
    discard_past,
    open_sink,
)
from roicli.sources import MapInfo
from roicli.spec import PoolSpec


@dataclass(frozen=True)
class AlignJob:
    """All that `roicli align` was told.

    Attributes
    ----------
    features : str
        File, folder or pattern of the feature maps.
    boxes : Path
        The box file.
    output : Path
        Ends in .npy, .npz, .h5 or .hdf5.
    spec : PoolSpec
        What to compute.
    dataset : str, optional
        Which dataset holds the maps, where several would do.
    layout : {"chw", "hwc"}
        How the maps are stored.
    box_format : BoxFormat, optional
        Where it is not what the box file says.
    normalized : bool
        Boxes are in 0..1 of the image; they are multiplied by the map's width and height, in float64, and the
        spatial scale does not apply.
    bad_boxes : {"error", "skip", "zero", "keep"}
        What becomes of boxes that are inverted or not finite: end the job; leave them out of the output; write
        zeros; pool inverted ones as torchvision would (those that are not finite end the job all the same).
    missing_features : {"error", "skip", "zero"}
        What becomes of boxes of images without feature maps: end the job, leave them out, write zeros.
    index : Path, optional
        A CSV that says whose features each row is.
    out_dtype : {"float16", "float32"}, optional
        By default that of the computation: float64 for float64 features, else float32.
    overwrite : bool
        Replace outputs that exist.
    resume : bool
        Go on with what an earlier run of the same job has left, if anything.
    workers : int
        The most that may work at once.
    batch_size, max_memory : int, optional
        See `make_plan`.
    """

    features: str
    boxes: Path
    output: Path
    spec: PoolSpec
    dataset: str | None = None
    layout: Layout = "chw"
    box_format: BoxFormat | None = None
    normalized: bool = False
    bad_boxes: BadBoxes = "error"
    missing_features: MissingFeatures = "error"
    index: Path | None = None
    out_dtype: Literal["float16", "float32"] | None = None
    overwrite: bool = False
    resume: bool = False
    workers: int = 1
    batch_size: int | None = None
    max_memory: int | None = None

    def parameters(self) -> dict[str, str | int | float | bool]:
        """Return what an output says of how it was made."""
        height, width = self.spec.output_size
        return {
            "roicli_version": __version__,
            "op": self.spec.op,
            "output_height": height,
            "output_width": width,
            "spatial_scale": 1.0 if self.normalized else self.spec.spatial_scale,
            "sampling_ratio": -1 if self.spec.adaptive else self.spec.sampling_ratio,
            "aligned": self.spec.aligned,
            "mode": self.spec.mode,
            "reduce": self.spec.reduce,
            "features": self.features,
            "dataset": self.dataset or "",
            "layout": self.layout,
            "boxes_file": str(self.boxes),
            "box_format": self.box_format or "as the file says",
            "normalized": self.normalized,
            "bad_boxes": self.bad_boxes,
            "missing_features": self.missing_features,
        }


def align(job: AlignJob, listener: Listener) -> RunReport:
    """Pool all boxes of a box file and write their features.

    Row i of the output is box i of the box file, whatever the workers did. What can be checked is checked before any
    output exists. A failure leaves nothing under the output's name; what is done by then is kept beside it, for a run
    with `resume`.

    Raises
    ------
    RoicliError
        Any of its kinds; the message names the file, and the row or dataset.
    """
    check_output(job.output)
    with claimed(path for path in (job.output, job.index) if path is not None) as beat:
        return _align(job, listener, beat)


def _align(job: AlignJob, listener: Listener, beat: Callable[[], None]) -> RunReport:
    began = time.monotonic()
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        listener.note(text)

    past = find_unfinished(job.output, resume=job.resume, overwrite=job.overwrite)

    def may_replace(path: Path) -> bool:
        return job.overwrite or (past is not None and str(path) in past.beside)

    if job.index is not None:
        IndexFile.check(job.index, overwrite=may_replace(job.index))
    inputs = bind(
        *(job.features, job.boxes, note),
        dataset=job.dataset,
        layout=job.layout,
        box_format=job.box_format,
        all_images=job.missing_features == "error",
    )
    _spare_inputs(job, inputs)
    selection = select(inputs, job.spec, job.bad_boxes, job.missing_features, note)
    inputs = selection.inputs
    infos = inputs.infos()
    inputs.source.close()

    boxes, spec = inputs.table.boxes, job.spec
    sizes = _map_sizes(infos, inputs.map_index)
    if job.normalized:
        boxes, spec = boxes * sizes, replace(spec, spatial_scale=1.0)
    if outside := int((lie_outside(boxes, sizes, spec) & (inputs.map_index >= 0)).sum()):
        doubt = ": is --spatial-scale right?" if outside > len(boxes) / 2 else ""
        note(f"{outside} of {len(boxes)} boxes lie wholly outside their maps, so their features are zero{doubt}")
    computed = np.result_type(*{compute_dtype(info.dtype) for info in infos.values()})
    dtype = np.dtype(job.out_dtype or computed)
    shape = (len(boxes), *spec.row_shape(next(iter(infos.values())).shape[0]))
    map_index = inputs.map_index.copy()
    map_index[selection.zeroed] = -1  # an output is made of zeros

    fingerprint = take_fingerprint(job.parameters(), job.boxes, inputs, infos, shape, dtype)
    before = Progress()
    if past is not None:
        check_same(job.output, past.job, fingerprint)
        before = past.done
        note(f"{before.rows:,} of {past.total:,} rows of {job.output} were there already")
    plan = make_plan(
        map_index,
        _costs(infos, map_index, spec, computed, dtype),
        workers=job.workers,
        batch_size=job.batch_size,
        max_memory=job.max_memory,
        done=before.ranges,
    )
    record = _record(job, inputs)
    side_files = _side_files(job, record, selection.skipped, may_replace, note)
    done = Done(before.rows, before.not_finite, before.overflowed)

    def sink() -> PooledSink:
        return open_sink(job.output, shape, dtype, record, overwrite=job.overwrite, past=past)

    if past is not None and past.published:
        discard_past(job.output)
    else:
        with begun(job.output, sink, past, fingerprint, len(plan.order), beat) as outputs:
            listener.begin(len(plan.order) - before.rows)

            def on_done(task: Task, part: Done) -> None:
                ranges = tuple((unit.first, unit.stop) for unit in task)
                outputs.checkpoints.add(Progress(ranges, part.not_finite, part.overflowed))
                listener.advance(part.boxes)

            pooler = Pooler(inputs.source, boxes, plan.order, spec, outputs.target)
            done += run(plan, pooler, outputs.checkpoints.begin, on_done)
            progress = Progress((), done.not_finite, done.overflowed)
            outputs.publish(side_files, progress)
    if done.not_finite:
        note(f"{done.not_finite} boxes read NaN or infinite cells of {inputs.source.name}; so are their features")
    if done.overflowed:
        note(f"{done.overflowed} boxes have values too large for {dtype}, written as infinities; try float32")
    return RunReport(
        output=job.output,
        shape=shape,
        dtype=str(dtype),
        boxes=done.boxes,
        images=len(infos) if len(boxes) else 0,
        resumed=before.rows,
        skipped=selection.rows("skipped"),
        zeroed=selection.rows("zeroed"),
        missing_images=selection.missing_images,
        not_finite=done.not_finite,
        overflowed=done.overflowed,
        seconds=time.monotonic() - began,
        peak_memory=peak_memory(),
        strategy=str(plan.strategy),
        workers=plan.workers,
        notes=tuple(notes),
    )


def _side_files(
    job: AlignJob, record: Record, skipped: Skipped, may_replace: Callable[[Path], bool], note: Callable[[str], None]
) -> list[Callable[[], SideFile]]:
    """Return what makes the files that appear with the output; refuses to write over a list of skipped boxes."""
    make: list[Callable[[], SideFile]] = []
    index, listed = job.index, SkippedFile.beside(job.output)
    if index is not None:
        make.append(lambda: IndexFile(index, record, overwrite=may_replace(index)))
    if len(skipped.rows):
        check_name(listed, overwrite=may_replace(listed))
        make.append(lambda: SkippedFile(job.output, skipped, overwrite=may_replace(listed)))
        note(f"the boxes left out or zeroed are listed in {listed}")
    elif job.overwrite:
        make.append(lambda: StaleFile(listed))
    elif listed.exists():
        note(f"{listed} is of an earlier run: this one pools all boxes")
    return make


def _spare_inputs(job: AlignJob, inputs: Inputs) -> None:
    """Refuse to write over what is read, which `overwrite` does not mean."""
    read = [job.boxes, *(Path(path) for path in inputs.source.paths)]
    for path in (job.output, job.index, SkippedFile.beside(job.output)):
        if path is not None and path.exists() and any(path.samefile(other) for other in read):
            raise OutputError(f"{path} is an input of this job", "Name another output.")


def _map_sizes(infos: dict[int, MapInfo], map_index: NDArray[np.intp]) -> NDArray[np.float64]:
    """(width, height, width, height) of each box's map, (K, 4); of any map where it has none."""
    used = np.array(sorted(infos))
    sizes = np.array([[infos[index].shape[2], infos[index].shape[1]] * 2 for index in used.tolist()], dtype=np.float64)
    return sizes[np.searchsorted(used, map_index)]


def _costs(
    infos: dict[int, MapInfo],
    map_index: NDArray[np.intp],
    spec: PoolSpec,
    computed: np.dtype[Any],
    dtype: np.dtype[Any],
) -> Costs:
    """Bytes that maps and rows take while they are pooled."""
    used = set(np.unique(map_index[map_index >= 0]).tolist())
    maps = {}
    for index, info in infos.items():
        if index in used:
            cells = int(np.prod(info.shape))
            maps[index] = cells * (info.dtype.itemsize + compute_dtype(info.dtype).itemsize)
    channels = next(iter(infos.values())).shape[0]
    values = int(np.prod(spec.row_shape(channels)))
    row = values * (computed.itemsize + (dtype.itemsize if dtype != computed else 0))
    return Costs(maps, row, channels * int(np.prod(spec.output_size)) * computed.itemsize)


def _record(job: AlignJob, inputs: Inputs) -> Record:
    table = inputs.table
    # Images without features have only the id of the box file; the last map lends its place.
    names = {row: image_name(table, row) for row in np.flatnonzero(inputs.map_index < 0).tolist()}
    ids = np.array([*inputs.source.ids, *set(names.values())], dtype=np.str_)[inputs.map_index]
    for row, name in names.items():
        ids[row] = name
    return Record(ids, table.boxes, table.rows, table.box_ids, job.parameters())
