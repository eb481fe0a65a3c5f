"""The main job: pool all boxes of a box file and write their features."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from roicli import __version__
from roicli.arguments import compute_dtype
from roicli.boxes import BoxFormat, find_bad_boxes
from roicli.errors import BoxError, OutputError, UsageError
from roicli.execute import run
from roicli.jobs.bind import Inputs, Layout, bind
from roicli.jobs.listener import Listener
from roicli.kernels.choose import KernelName, load_kernel, numba_is_installed
from roicli.plan import Costs, is_large, make_plan
from roicli.pooler import Pooler
from roicli.report import RunReport, peak_memory
from roicli.sampling import lie_outside
from roicli.signals import held_off
from roicli.sinks import IndexFile, PooledSink, Record, RowFile, check_output, open_sink
from roicli.sources import MapInfo
from roicli.spec import PoolSpec

KernelChoice = Literal["auto", "numpy", "numba"]
BadBoxes = Literal["error", "skip", "zero", "keep"]


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
    index : Path, optional
        A CSV that says whose features each row is.
    out_dtype : {"float16", "float32"}, optional
        By default that of the computation: float64 for float64 features, else float32.
    overwrite : bool
        Replace outputs that exist.
    workers : int
        The most that may work at once.
    batch_size, max_memory : int, optional
        See `make_plan`.
    kernel : {"auto", "numpy", "numba"}
        What contracts averages; auto takes Numba where it is installed and the job is large.
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
    index: Path | None = None
    out_dtype: Literal["float16", "float32"] | None = None
    overwrite: bool = False
    workers: int = 1
    batch_size: int | None = None
    max_memory: int | None = None
    kernel: KernelChoice = "auto"

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
            "kernel": self.kernel,
        }


def align(job: AlignJob, listener: Listener) -> RunReport:
    """Pool all boxes of a box file and write their features.

    Row i of the output is box i of the box file, whatever the workers did. What can be checked is checked before any
    output exists, and a failure leaves nothing under the output's name.

    Raises
    ------
    RoicliError
        Any of its kinds; the message names the file, and the row or dataset.
    """
    began = time.monotonic()
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        listener.note(text)

    check_output(job.output, overwrite=job.overwrite)
    if job.index is not None:
        IndexFile.check(job.index, overwrite=job.overwrite)
    inputs = bind(job.features, job.boxes, note, dataset=job.dataset, layout=job.layout, box_format=job.box_format)
    _spare_inputs(job, inputs)
    bad = _bad_rows(job, inputs, note)
    skipped = inputs.table.rows[bad] if job.bad_boxes == "skip" else inputs.table.rows[:0]
    if len(skipped):
        inputs, bad = inputs.take(np.delete(np.arange(len(inputs.table)), bad)), bad[:0]
    infos = inputs.infos()
    inputs.source.close()

    boxes, spec = inputs.table.boxes, job.spec
    sizes = _map_sizes(infos, inputs.map_index)
    if job.normalized:
        boxes, spec = boxes * sizes, replace(spec, spatial_scale=1.0)
    if outside := int(lie_outside(boxes, sizes, spec).sum()):
        doubt = ": is --spatial-scale right?" if outside > len(boxes) / 2 else ""
        note(f"{outside} of {len(boxes)} boxes lie wholly outside their maps, so their features are zero{doubt}")
    computed = np.result_type(*{compute_dtype(info.dtype) for info in infos.values()})
    dtype = np.dtype(job.out_dtype or computed)
    row_shape = spec.row_shape(next(iter(infos.values())).shape[0])
    zeroed = bad if job.bad_boxes == "zero" else bad[:0]
    map_index = inputs.map_index.copy()
    map_index[zeroed] = -1
    costs = _costs(infos, map_index, spec, computed, dtype)
    job = replace(job, kernel=_kernel(job, len(boxes), costs))
    kernel = load_kernel(KernelName(job.kernel), computed)
    plan = make_plan(
        map_index,
        costs,
        workers=job.workers,
        batch_size=job.batch_size,
        max_memory=job.max_memory,
    )
    with _outputs(job, _record(job, inputs), (len(boxes), *row_shape), dtype) as target:
        listener.begin(len(plan.order))
        target.write(zeroed, np.zeros((len(zeroed), *row_shape), dtype))
        done = run(plan, Pooler(inputs.source, boxes, plan, spec, target, kernel), listener.advance)
    if done.not_finite:
        note(f"{done.not_finite} boxes read NaN or infinite cells of {inputs.source.name}; so are their features")
    if done.overflowed:
        note(f"{done.overflowed} boxes have values too large for {dtype}, written as infinities; try float32")
    return RunReport(
        output=job.output,
        shape=(len(boxes), *row_shape),
        dtype=str(dtype),
        boxes=done.boxes,
        images=len(infos) if len(boxes) else 0,
        skipped=tuple(skipped.tolist()),
        zeroed=tuple(inputs.table.rows[zeroed].tolist()),
        not_finite=done.not_finite,
        overflowed=done.overflowed,
        seconds=time.monotonic() - began,
        peak_memory=peak_memory(),
        strategy=str(plan.strategy),
        workers=plan.workers,
        notes=tuple(notes),
    )


@contextmanager
def _outputs(job: AlignJob, record: Record, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[RowFile]:
    """Yield where rows go; all outputs appear together when what is done inside succeeds, and none if it fails."""
    sink = open_sink(job.output, shape, dtype, record, overwrite=job.overwrite)
    outputs: list[PooledSink | IndexFile] = [sink]
    try:
        yield sink.target
        sink.finish()
        if job.index is not None:
            outputs.insert(0, IndexFile(job.index, record, overwrite=job.overwrite))
        with held_off():
            for output in outputs:
                output.publish()
    except BaseException:
        for output in outputs:
            output.abort()
        raise


def _spare_inputs(job: AlignJob, inputs: Inputs) -> None:
    """Refuse to write over what is read, which `overwrite` does not mean."""
    read = [job.boxes, *(Path(path) for path in inputs.source.paths)]
    for path in (job.output, job.index):
        if path is not None and path.exists() and any(path.samefile(other) for other in read):
            raise OutputError(f"{path} is an input of this job", "Name another output.")


def _bad_rows(job: AlignJob, inputs: Inputs, note: Callable[[str], None]) -> NDArray[np.intp]:
    """Boxes that are inverted or cannot be pooled at all; raises, or says what becomes of them, as the job asks."""
    table = inputs.table
    unusable, inverted = find_bad_boxes(table.boxes)
    for rows, fault, remedy in (
        (unusable, "NaN, infinite or beyond 1e9 pixels", "Give --bad-boxes skip or zero to go on without them."),
        (
            inverted,
            "inverted (x2 < x1 or y2 < y1)",
            "Are they xywh? Then give --box-format xywh; else --bad-boxes skip, zero or keep.",
        ),
    ):
        if not len(rows):
            continue
        count = f"{len(rows)} of {len(table)} boxes of {table.source} are {fault}: {table.where(rows)}"
        if job.bad_boxes == "error" or (job.bad_boxes == "keep" and rows is unusable):
            raise BoxError(f"{count}; the first is {table.boxes[rows[0]].tolist()}", remedy)
        if job.spec.aligned:
            kept = "zeros in the output" if job.spec.adaptive else "pooled backwards, as torchvision does"
        else:
            kept = "pooled one cell wide or high, as torchvision does"
        fate = {"skip": "left out of the output", "zero": "zeros in the output", "keep": kept}
        note(f"{count}; {fate[job.bad_boxes]}")
    return np.union1d(unusable, inverted)


def _map_sizes(infos: dict[int, MapInfo], map_index: NDArray[np.intp]) -> NDArray[np.float64]:
    """(width, height, width, height) of each box's map, (K, 4)."""
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
            cells = math.prod(info.shape)
            maps[index] = cells * (info.dtype.itemsize + compute_dtype(info.dtype).itemsize)
    channels = next(iter(infos.values())).shape[0]
    values = int(np.prod(spec.row_shape(channels)))
    row = values * (computed.itemsize + (dtype.itemsize if dtype != computed else 0))
    return Costs(maps, row, channels * int(np.prod(spec.output_size)) * computed.itemsize)


def _kernel(job: AlignJob, rows: int, costs: Costs) -> Literal["numpy", "numba"]:
    """Choose by the whole job, not by how it is shared out: the last bits of the numbers depend on the kernel."""
    averages = job.spec.mode == "avg"
    if job.kernel == "numba" and not averages:
        raise UsageError("the kernel numba computes averages only", "Leave --kernel out, or give --mode avg.")
    if job.kernel == "auto":
        return "numba" if averages and is_large(rows, costs) and numba_is_installed() else "numpy"
    return job.kernel


def _record(job: AlignJob, inputs: Inputs) -> Record:
    table = inputs.table
    ids = np.array([inputs.source.ids[index] for index in inputs.map_index.tolist()], dtype=np.str_)
    return Record(ids, table.boxes, table.rows, table.box_ids, job.parameters())
