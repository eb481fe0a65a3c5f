"""The main job: pool all boxes of a box file and write their features."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from roicli.errors import OutputError
from roicli.execution.executors import run
from roicli.execution.plan import Plan, Task, make_plan
from roicli.execution.worker import Done, Pooler
from roicli.jobs.advice import prepare_and_judge
from roicli.jobs.costs import choose_kernel, make_costs
from roicli.jobs.listener import Listener
from roicli.jobs.match import Inputs
from roicli.jobs.part import Part, take_part
from roicli.jobs.prepare import PoolJob, Prepared
from roicli.jobs.report import RunReport, peak_memory
from roicli.jobs.select import image_name
from roicli.jobs.shards import Shard
from roicli.jobs.wording import verb
from roicli.outputs.index import IndexFile
from roicli.outputs.record import PooledSink, Record
from roicli.outputs.shardfile import ShardFile, shard_file
from roicli.outputs.sinks import check_output, open_sink
from roicli.outputs.skipped import Skipped, SkippedFile, StaleFile
from roicli.pooling.kernels.choose import KernelName, load_kernel
from roicli.resume.checkpoints import Checkpoints
from roicli.resume.fingerprint import (
    check_few_unchanged,
    check_same,
    check_unchanged,
    is_same,
    is_unchanged,
    take_fingerprint,
)
from roicli.resume.journal import Progress, journal_path
from roicli.resume.partial import check_name
from roicli.resume.past import Past
from roicli.resume.session import SideFile, begun, claimed, find_unfinished, finish_published

if TYPE_CHECKING:
    from concurrent.futures import Executor


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
        The part of the job that is done; all of it by default.
    overwrite : bool
        Replace outputs that exist.
    resume : bool
        Go on with what an earlier run of the same job has left, if anything, be it all.
    workers : int
        The most that may work at once.
    batch_size, max_memory : int, optional
        See `make_plan`.
    """

    output: Path
    index: Path | None = None
    shard: Shard | None = None
    overwrite: bool = False
    resume: bool = False
    workers: int = 1
    batch_size: int | None = None
    max_memory: int | None = None

    @property
    def needs_shard_file(self) -> bool:
        """Whether the output is a part that cannot say so itself."""
        return self.shard is not None and self.output.suffix.lower() == ".npy"


def align(job: AlignJob, listener: Listener, executor: Executor | None = None) -> RunReport:
    """Pool all boxes of a box file and write their features.

    Row i of the output is box i of the box file, whatever the workers did. What can be checked is checked before any
    output exists. A failure leaves nothing under the output's name; what is done by then is kept beside it, for a run
    with `resume`. A run with `resume` leaves the journal beside a complete output, by which the next one sees that all
    is done. An `executor` takes the tasks instead of workers of our own; see `execution.executors.run`.

    Raises
    ------
    RoicliError
        Any of its kinds; the message names the file, and the row or dataset.
    """
    check_output(job.output)
    if job.index is not None:
        IndexFile.check(job.index, overwrite=True)
    with claimed(path for path in (job.output, job.index) if path is not None) as beat:
        past = find_unfinished(job.output, resume=job.resume, overwrite=job.overwrite)
        return _align(job, past, listener, beat, executor)


def _align(
    job: AlignJob, past: Past | None, listener: Listener, beat: Callable[[], None], executor: Executor | None
) -> RunReport:
    began = time.monotonic()
    notes: list[str] = []
    warnings: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        listener.note(text)

    def warn(text: str) -> None:
        warnings.append(text)
        listener.warn(text)

    def may_replace(path: Path) -> bool:
        return job.overwrite or (past is not None and os.path.realpath(path) in past.beside)

    _check_names(job, may_replace)
    inputs = job.bind(note)
    _spare_inputs(job, inputs)
    work = prepare_and_judge(job, inputs, note, warn)
    job = replace(job, kernel=choose_kernel(job, work))
    part = None
    if job.shard is not None:
        work, part = take_part(job, job.shard, inputs, work)
    record = _record(job, work, part)
    shape = (len(work.placement), *work.row_shape)
    fingerprint = take_fingerprint(record.parameters, job.boxes, work.inputs, work.infos, shape, work.dtype)
    if past is not None and past.published and job.overwrite and not is_same(past, fingerprint):
        past = None  # what is there is complete, and of another job: to be replaced
    before = Progress() if past is None else past.done
    plan = _plan(job, work, before)
    if past is not None:
        check_same(job.output, past, fingerprint, len(plan.order))
        note(f"{before.rows:,} of {past.total:,} rows of {job.output} were there already")
        if past.damaged:
            note(
                f"line {past.damaged} of {journal_path(job.output)} is damaged: "
                "rows that only it and later ones tell of are computed again"
            )
    side_files = _side_files(job, record, work.skipped, may_replace, note)
    done = Done(before.rows, before.not_finite, before.overflowed)

    def sink() -> PooledSink:
        return open_sink(job.output, shape, work.dtype, record, overwrite=job.overwrite, past=past)

    if past is not None and past.published:
        finish_published(job.output, side_files, past)
    else:
        kernel = load_kernel(KernelName(job.kernel), work.computed)

        def beat_and_check() -> None:
            beat()
            check_few_unchanged(fingerprint, job.boxes)

        checks = (beat_and_check, partial(is_unchanged, fingerprint, job.boxes, work.inputs))
        with begun(job.output, sink, past, fingerprint, len(plan.order), *checks) as outputs:
            listener.begin(len(plan.order) - before.rows)
            maps = (inputs.source, work.infos)
            pooler = Pooler(*maps, work.placement, plan.order, job.spec, outputs.target, kernel)
            done += _pool(plan, pooler, outputs.checkpoints, listener, executor)
            check_unchanged(fingerprint, job.boxes, work.inputs)
            counts = Progress((), done.not_finite, done.overflowed)
            outputs.publish(side_files.values(), counts, keep_journal=job.resume)
    if done.not_finite:
        read, their = verb(done.not_finite, "box reads", "boxes read"), verb(done.not_finite, "its", "their")
        note(f"{done.not_finite:,} {read} NaN or infinite cells of {inputs.source.name}; so are {their} features")
    if done.overflowed:
        have = verb(done.overflowed, "box has", "boxes have")
        note(f"{done.overflowed:,} {have} values too large for {work.dtype}, written as infinities; try float32")
    return RunReport(
        output=job.output,
        shape=shape,
        dtype=str(work.dtype),
        boxes=done.boxes,
        images=work.images(),
        resumed=before.rows,
        skipped=work.skipped.of("skipped"),
        zeroed=work.skipped.of("zeroed"),
        missing_images=work.skipped.missing_images(),
        not_finite=done.not_finite,
        overflowed=done.overflowed,
        seconds=time.monotonic() - began,
        peak_memory=peak_memory(),
        strategy=str(plan.strategy) if executor is None else type(executor).__name__,
        workers=plan.workers,
        notes=tuple(notes),
        warnings=tuple(warnings),
    )


def _check_names(job: AlignJob, may_replace: Callable[[Path], bool]) -> None:
    """Refuse to write over files beside the output that are not known to be of the same job."""
    if job.index is not None:
        IndexFile.check(job.index, overwrite=may_replace(job.index))
    if job.output.suffix.lower() == ".npy":
        check_name(shard_file(job.output), overwrite=may_replace(shard_file(job.output)))


def _plan(job: AlignJob, work: Prepared, before: Progress) -> Plan:
    """Order the rows that are still to be pooled."""
    map_index = work.inputs.map_index.copy()
    map_index[work.zeroed] = -1  # an output is made of zeros
    return make_plan(
        map_index,
        make_costs(job, work, map_index),
        workers=job.workers,
        batch_size=job.batch_size,
        max_memory=job.max_memory,
        done=before.ranges,
    )


def _pool(plan: Plan, pooler: Pooler, checkpoints: Checkpoints, listener: Listener, executor: Executor | None) -> Done:
    """Work off the plan, and take down what is done."""

    def on_done(task: Task, pooled: Done) -> None:
        ranges = tuple((unit.first, unit.stop) for unit in task)
        checkpoints.add(Progress(ranges, pooled.not_finite, pooled.overflowed))
        listener.advance(pooled.boxes)

    return run(plan, pooler, checkpoints.begin, on_done, executor)


def _side_files(
    job: AlignJob, record: Record, skipped: Skipped, may_replace: Callable[[Path], bool], note: Callable[[str], None]
) -> dict[Path, Callable[[], SideFile]]:
    """Return what makes each file that appears with the output; refuses to write over a list of skipped boxes."""
    make: dict[Path, Callable[[], SideFile]] = {}
    index, listed, shard = job.index, SkippedFile.beside(job.output), shard_file(job.output)
    if index is not None:
        make[index] = lambda: IndexFile(index, record, overwrite=may_replace(index))
    if job.needs_shard_file:
        make[shard] = lambda: ShardFile(job.output, record, overwrite=may_replace(shard))
    elif shard.exists():
        check_name(shard, overwrite=True)
        make[shard] = lambda: StaleFile(shard)  # of a part that this output replaces
    if len(skipped.rows):
        check_name(listed, overwrite=may_replace(listed))
        make[listed] = lambda: SkippedFile(job.output, skipped, overwrite=may_replace(listed))
        note(f"the boxes left out or zeroed are listed in {listed}")
    elif listed.exists() and job.overwrite:
        check_name(listed, overwrite=True)
        make[listed] = lambda: StaleFile(listed)
    elif listed.exists():
        note(f"{listed} is of an earlier run: this one pools all boxes")
    return make


def _spare_inputs(job: AlignJob, inputs: Inputs) -> None:
    """Refuse to write over what is read, which `overwrite` does not mean."""
    read = [job.boxes, *(Path(path) for path in inputs.source.paths)]
    beside = (SkippedFile.beside(job.output), shard_file(job.output))
    if job.index is not None and os.path.realpath(job.index) in map(os.path.realpath, beside):
        raise OutputError(f"{job.index} is a name that the output needs for itself", "Name another index.")
    for path in (job.output, job.index, *beside):
        if path is not None and path.exists() and any(path.samefile(other) for other in read):
            raise OutputError(f"{path} is an input of this job", "Name another output.")


def _record(job: AlignJob, work: Prepared, part: Part | None) -> Record:
    inputs, table = work.inputs, work.inputs.table
    parameters = job.parameters() | (part.parameters() if part else {})
    ids = [
        inputs.source.ids[index] if index >= 0 else image_name(inputs, row)  # itself too slow for millions of rows
        for row, index in enumerate(inputs.map_index.tolist())
    ]
    rows = part.rows if part else None
    return Record(np.array(ids, dtype=np.str_), table.boxes, work.kept, table.box_ids, parameters, rows)
