"""The main job: pool all boxes of a box file and write their features."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from roicli.arguments import compute_dtype
from roicli.errors import OutputError, UsageError
from roicli.execute import run
from roicli.jobs.bind import Inputs
from roicli.jobs.listener import Listener
from roicli.jobs.part import Part, take_part
from roicli.jobs.prepare import PoolJob, Prepared, prepare
from roicli.kernels.choose import KernelName, load_kernel, numba_is_installed
from roicli.plan import Costs, is_large, make_plan
from roicli.pooler import Pooler
from roicli.report import RunReport, peak_memory
from roicli.shards import Shard
from roicli.signals import held_off
from roicli.sinks import (
    IndexFile,
    PooledSink,
    Record,
    RowFile,
    ShardFile,
    check_name,
    check_output,
    open_sink,
    shard_file,
)


@dataclass(frozen=True, kw_only=True)
class AlignJob(PoolJob):
    """All that `roicli align` was told.

    Attributes
    ----------
    output : Path
        Ends in .npy, .npz, .h5 or .hdf5.
    index : Path, optional
        A CSV that says whose features each row is.
    shard : Shard, optional
        The part of the job to do; all of it is checked.
    overwrite : bool
        Replace outputs that exist.
    workers : int
        The most that may work at once.
    batch_size, max_memory : int, optional
        See `make_plan`.
    """

    output: Path
    index: Path | None = None
    shard: Shard | None = None
    overwrite: bool = False
    workers: int = 1
    batch_size: int | None = None
    max_memory: int | None = None

    @property
    def needs_shard_file(self) -> bool:
        """Whether the output is a part that cannot say so itself."""
        return self.shard is not None and self.output.suffix.lower() == ".npy"


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
    if job.needs_shard_file:
        check_name(shard_file(job.output), overwrite=job.overwrite)
    inputs = job.bind(note)
    _spare_inputs(job, inputs)
    work = prepare(job, inputs, note)
    job = replace(job, kernel=_kernel(job, work))
    part = None
    if job.shard is not None:
        work, part = take_part(job, job.shard, inputs, work)
    boxes, spec, dtype, row_shape = work.boxes, work.spec, work.dtype, work.row_shape
    map_index = work.inputs.map_index.copy()
    map_index[work.zeroed] = -1
    kernel = load_kernel(KernelName(job.kernel), work.computed)
    plan = make_plan(
        map_index,
        _costs(work, map_index),
        workers=job.workers,
        batch_size=job.batch_size,
        max_memory=job.max_memory,
    )
    with _outputs(job, _record(job, work.inputs, part), (len(boxes), *row_shape), dtype) as target:
        listener.begin(len(plan.order))
        target.write(work.zeroed, np.zeros((len(work.zeroed), *row_shape), dtype))
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
        images=len(np.unique(work.inputs.map_index)),
        skipped=tuple(inputs.table.rows[work.skipped].tolist()),
        zeroed=tuple(work.inputs.table.rows[work.zeroed].tolist()),
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
    outputs: list[PooledSink | IndexFile | ShardFile] = [sink]
    try:
        yield sink.target
        sink.finish()
        if job.index is not None:
            outputs.insert(0, IndexFile(job.index, record, overwrite=job.overwrite))
        if job.needs_shard_file:
            outputs.insert(0, ShardFile(job.output, record, overwrite=job.overwrite))
        with held_off():
            if not job.needs_shard_file:
                shard_file(job.output).unlink(missing_ok=True)  # of a part that this output replaces
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


def _costs(work: Prepared, map_index: NDArray[np.intp]) -> Costs:
    """Bytes that maps and rows take while they are pooled."""
    used = set(np.unique(map_index[map_index >= 0]).tolist())
    maps = {}
    for index, info in work.infos.items():
        if index in used:
            cells = math.prod(info.shape)
            maps[index] = cells * (info.dtype.itemsize + compute_dtype(info.dtype).itemsize)
    values = int(np.prod(work.row_shape))
    row = values * (work.computed.itemsize + (work.dtype.itemsize if work.dtype != work.computed else 0))
    return Costs(maps, row, _block_bytes(work))


def _block_bytes(work: Prepared) -> int:
    """Size of the pooled block of one box, averaged away or not."""
    return work.row_shape[0] * math.prod(work.spec.output_size) * work.computed.itemsize


def _kernel(job: PoolJob, work: Prepared) -> Literal["numpy", "numba"]:
    """Choose by the whole job, not by how it is shared out: the last bits of the numbers depend on the kernel."""
    averages = job.spec.mode == "avg"
    if job.kernel == "numba" and not averages:
        raise UsageError("the kernel numba computes averages only", "Leave --kernel out, or give --mode avg.")
    if job.kernel == "auto":
        large = is_large(len(work.boxes) * _block_bytes(work))
        return "numba" if averages and large and numba_is_installed() else "numpy"
    return job.kernel


def _record(job: AlignJob, inputs: Inputs, part: Part | None) -> Record:
    table = inputs.table
    parameters = job.parameters() | (part.parameters() if part else {})
    ids = np.array([inputs.source.ids[index] for index in inputs.map_index.tolist()], dtype=np.str_)
    return Record(ids, table.boxes, table.rows, table.box_ids, parameters, part.rows if part else None)
