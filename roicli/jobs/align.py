"""The main job: pool all boxes of a box file and write their features."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from roicli.errors import OutputError
from roicli.execution.engines import LOCAL, opened
from roicli.execution.executors import run
from roicli.execution.plan import MOST_PASSES, Plan, Task, is_scattered, make_plan
from roicli.execution.worker import Pooler
from roicli.files import Stamp
from roicli.jobs.advice import prepare_and_judge
from roicli.jobs.alignjob import AlignJob
from roicli.jobs.choose import groups_of, said_of
from roicli.jobs.costs import choose_kernel, make_costs
from roicli.jobs.geometry import scale_parameter
from roicli.jobs.listener import Listener, Told
from roicli.jobs.match import Inputs
from roicli.jobs.prepare import Prepared
from roicli.jobs.relations import pairs_of
from roicli.jobs.report import RunReport, peak_memory
from roicli.jobs.runfile import check_report, write_report
from roicli.jobs.select import image_name
from roicli.newfiles import check_name, real
from roicli.outputs import check_output
from roicli.outputs.base import OutputFormat, Record
from roicli.outputs.npy import origin_text
from roicli.outputs.sidefiles import (
    SideFile,
    check_index,
    index_text,
    origin_file,
    shard_file,
    shard_text,
    skipped_file,
    skipped_text,
)
from roicli.outputs.skipped import Skipped
from roicli.pooling.kernels.choose import load_kernel
from roicli.progress import Progress
from roicli.regions import Names
from roicli.resume.fingerprint import check_same, check_unchanged, fingerprint, is_same
from roicli.resume.history import EarlierRun
from roicli.resume.journal import journal_path
from roicli.resume.session import Locks, Session, find_earlier, finish_published, locked
from roicli.stores.path import is_store, path_of
from roicli.words import count

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from roicli.jobs.part import Part


class _Work(NamedTuple):
    """A job that has been checked: what to pool, and what is written beside the features."""

    job: AlignJob
    prepared: Prepared
    record: Record
    stamps: dict[str, Stamp]
    fingerprint: dict[str, object]

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the output."""
        return (len(self.prepared.placement), *self.prepared.row_shape)


def align(job: AlignJob, listener: Listener) -> RunReport:
    """Pool all boxes of a box file and write their features.

    Row i of the output is box i of the box file, whatever the workers did. What can be checked is checked before any
    output exists. A failure leaves nothing under the output's name; what is done by then is kept beside it, for a run
    with `resume`. A run with `resume` leaves the journal beside a complete output, which proves that all is done.

    Raises RoicliError: any of its kinds; the message names the file, and the row or dataset.
    """
    began, told = time.monotonic(), Told(listener)
    check_output(job.output, job.format)
    if job.index is not None:
        check_index(job.index, overwrite=True)
    check_report(job)
    with locked(path for path in (job.output, job.index, job.report) if path is not None) as locks:
        earlier = find_earlier(job.output, resume=job.resume, overwrite=job.overwrite, is_folder=job.format.folder)
        check_names(job, earlier)
        work = _prepare(job, _open_inputs(job, told), told)
        if earlier is not None and earlier.published and job.overwrite and not is_same(earlier, work.fingerprint):
            earlier = None  # what is there is complete, and of another job: it is replaced
        complete = earlier is not None and earlier.published
        with opened(LOCAL if complete else job.executor, job.workers, told.note) as (executor, workers):
            work = work._replace(job=replace(work.job, workers=workers))
            session, plan, side_files, before = _open_session(work, earlier, locks, told)
            done = before
            if session is None:
                assert earlier is not None
                finish_published(job.output, side_files, earlier, locks)
            else:
                with session:
                    done = Progress.sum([before, _pool(work, plan, before.rows, session, listener, executor)])
                    check_unchanged(work.stamps)
                    session.publish(side_files, done)
        report = _report(work, plan, before, done, told, began, executor)
        write_report(work.job, report, work.record.parameters, work.stamps)
        return report


def _open_inputs(job: AlignJob, told: Told) -> Inputs:
    """Open the features, read the boxes, match them; the state of each file is taken before it is read."""
    inputs = job.bind(told.note, mapped=job.shard is not None)
    _spare_inputs(job, inputs)
    return inputs


def _prepare(job: AlignJob, inputs: Inputs, told: Told) -> _Work:
    """Select and place the boxes, check them, reduce the job to its part, and say what must be the same to resume."""
    job = job.knowing(inputs)
    taken = None
    if job.shard is not None:
        from roicli.jobs.part import take_part

        taken = take_part(job, job.shard, inputs)
        inputs = taken.inputs  # the whole may go
    prepared = prepare_and_judge(job, inputs, told.note, told.warn)
    prepared, part = (prepared, None) if taken is None else taken.part(prepared)
    job = replace(job, kernel=choose_kernel(job, prepared, part.total if part else len(prepared.placement)))
    record = _record(job, prepared, part)
    mine, infos = prepared.inputs, prepared.infos
    table, ids, count = mine.table, mine.source.ids, max(1, len(mine.source.levels))
    features = {**mine.source.stamps, **mine.beside}
    shape = " x ".join(map(str, (len(prepared.placement), *prepared.row_shape)))
    masks = [] if table.masks is None else [np.array([table.masks.checksum])]
    made = fingerprint(
        {**record.parameters, "dtype": str(prepared.dtype), "shape": shape},
        table.stamps,
        features,
        (f"{index} {ids[index // count]} {infos[index].shape} {infos[index].dtype}" for index in sorted(infos)),
        (table.boxes, table.rows, mine.map_index, table.box_ids, *masks),
    )
    return _Work(job, prepared, record, {**table.stamps, **features}, made)


def _open_session(
    work: _Work, earlier: EarlierRun | None, locks: Locks, told: Told
) -> tuple[Session | None, Plan, list[SideFile], Progress]:
    """Decide whether the output is new, resumed or complete already (None); refuse to resume another job."""
    job = work.job
    before = Progress() if earlier is None else earlier.done
    output_format, plan = _plan(work, before)
    if earlier is not None:
        check_same(job.output, earlier, work.fingerprint, len(plan.order))
        told.note(f"{before.rows:,} of {earlier.total:,} rows of {job.output} were there already")
        if earlier.damaged:
            told.note(
                f"line {earlier.damaged} of {journal_path(job.output)} is damaged: "
                "rows that only it and later ones prove are computed again"
            )
    side_files = side_files_of(job, work.record, work.shape, work.prepared.selection.skipped, earlier, told)
    if earlier is not None and earlier.published:
        return None, plan, side_files, before
    if plan.passes > MOST_PASSES:
        source = work.prepared.inputs.source
        shared = source.shared(int(work.prepared.placement.map_index[plan.order[0]]))
        remedy = f"; {shared.remedy} would write each map in one piece" if shared else ""
        told.note(
            f"each chunk of {source.name} holds pieces of many maps and is unpacked {plan.passes:,} "
            f"times; a larger `max_memory` makes these fewer{remedy}"
        )
    session = Session(
        job.output,
        output_format,
        work.shape,
        work.prepared.dtype,
        work.record,
        job=work.fingerprint,
        order=plan.order,
        locks=locks,
        earlier=earlier,
        overwrite=job.overwrite,
        keep_journal=job.resume,
    )
    return session, plan, side_files, before


def _plan(work: _Work, before: Progress) -> tuple[OutputFormat, Plan]:
    """Order the rows that are still to be pooled, and choose how the format writes them."""
    job, prepared = work.job, work.prepared
    map_index = prepared.placement.map_index
    if len(prepared.selection.zeroed):  # an output is made of zeros
        map_index = map_index.copy()
        map_index[prepared.selection.zeroed] = -1
    output_format = job.format
    row_bytes = math.prod(prepared.row_shape) * prepared.dtype.itemsize
    unit_rows = output_format.unit_rows(row_bytes)
    if unit_rows and is_scattered(map_index, unit_rows):
        output_format, unit_rows = output_format.scattered(), None
    plan = make_plan(
        map_index,
        make_costs(job, prepared, map_index)._replace(unit=(unit_rows or 0) * row_bytes),
        workers=job.workers,
        batch_size=job.batch_size,
        max_memory=job.max_memory,
        done=before.ranges,
        unit_rows=unit_rows,
    )
    return output_format, plan


def _pool(
    work: _Work, plan: Plan, done: int, session: Session, listener: Listener, executor: Executor | None
) -> Progress:
    """Work off the plan, and note what is done."""
    prepared, checkpoints = work.prepared, session.checkpoints
    kernel = load_kernel(work.job.kernel, prepared.computed)
    source, infos, levels = prepared.inputs.source, prepared.infos, prepared.levels
    how = plan.order, work.job.spec, session.target, kernel
    pooler = Pooler(source, infos, prepared.placement, *how)
    if work.job.pyramid.levels_combine is not None and levels:
        from roicli.execution.combine import LevelsPooler

        pooler = LevelsPooler(levels, work.job.pyramid.levels_combine, source, infos, *how)
    listener.begin(len(plan.order) - done)

    def on_done(_: Task, pooled: Progress) -> None:
        checkpoints.add(pooled)
        listener.advance(pooled.rows)

    return run(plan, pooler, checkpoints.begin, on_done, executor, work.job.output)


def _may_replace(job: AlignJob, earlier: EarlierRun | None, path: Path) -> bool:
    return job.overwrite or (earlier is not None and earlier.is_there(path))


def check_names(job: AlignJob, earlier: EarlierRun | None) -> None:
    """Refuse to write over files beside the output that are not known to be of the same job."""
    if job.index is not None:
        check_index(job.index, overwrite=_may_replace(job, earlier, job.index))
        beside = (name(job.output) for name in (skipped_file, shard_file, origin_file))
        if real(job.index) in map(real, beside):
            raise OutputError(f"{job.index} is a name that the output needs for itself", "Name another index.")
    if not job.format.keeps_record:
        for path in (shard_file(job.output), origin_file(job.output)):
            check_name(path, overwrite=_may_replace(job, earlier, path))
    elif job.sidecar:
        raise OutputError(f"{job.output} says itself how it was made", "Leave `sidecar` out.")


def side_files_of(
    job: AlignJob, record: Record, shape: tuple[int, ...], skipped: Skipped, earlier: EarlierRun | None, told: Told
) -> list[SideFile]:
    """Return the files that appear with the output; those of an output before it are removed."""
    output_format = job.format
    listed, keeps_record = skipped_file(job.output), output_format.keeps_record
    files: list[tuple[Path, Callable[[], Iterator[str]] | None]] = []
    files += output_format.beside(job.output, record).items()
    for path, wanted, content in (
        (shard_file(job.output), job.shard is not None and not keeps_record, partial(shard_text, record)),
        (
            origin_file(job.output),
            job.sidecar,
            partial(origin_text, record, output_format.shape(shape, record), job.output),
        ),
    ):
        if wanted:
            files.append((path, content))
        elif not keeps_record and path.exists():
            files.append((path, None))
    if job.index is not None:
        files.append((job.index, partial(index_text, output_format.recorded(record))))
    if len(skipped.rows):
        files.append((listed, partial(skipped_text, skipped)))
        told.note(f"the boxes left out or zeroed are listed in {listed}")
    elif not listed.exists():
        pass
    elif job.overwrite:
        files.append((listed, None))
    else:
        told.note(f"{listed} is of an earlier run: this one pools all boxes")
    return [SideFile(path, content, overwrite=_may_replace(job, earlier, path)) for path, content in files]


def _spare_inputs(job: AlignJob, inputs: Inputs) -> None:
    """Refuse to write over what is read, which `overwrite` does not mean."""
    read = [*map(path_of, (*inputs.table.stamps, *inputs.beside, *inputs.source.paths))]
    beside = (name(job.output) for name in (skipped_file, shard_file, origin_file))
    for path in (job.output, job.index, job.report, *beside):
        if path is None or not (is_store(path) or path.exists()):
            continue
        if any(_is_within(other, path) for other in read):
            raise OutputError(f"{path} is an input of this job", "Name another output.")


def _is_within(path: Path, output: Path) -> bool:
    """Whether a file is an output, or in a store an object of it."""
    if is_store(path) or is_store(output):
        return output in (path, *path.parents)
    return output.samefile(path)


def _record(job: AlignJob, prepared: Prepared, part: Part | None) -> Record:
    inputs, table = prepared.inputs, prepared.inputs.table
    levels = inputs.source.levels
    # The stride may follow from sizes; those of levels are named with them.
    scale = {} if levels else {"spatial_scale": scale_parameter(prepared.located.scale)}
    parameters = job.parameters(levels) | scale | (part.parameters() if part else {})
    index, names = inputs.map_index, inputs.source.ids
    missing = np.flatnonzero(index < 0)
    if len(missing):  # images without features, whose rows are zeros: they keep the names that the box file has
        others = [image_name(inputs, row) for row in missing.tolist()]
        number = {name: len(names) + n for n, name in enumerate(dict.fromkeys(others))}
        names, index = [*names, *number], index.copy()
        index[missing] = [number[name] for name in others]
    image_ids, said = Names(index, names), said_of(table)
    located, rows = prepared.located, part.rows if part else None
    sized = table.image_sizes is not None or job.geometry.image_size is not None  # the same for all parts of a job
    return Record(
        image_ids,
        table.boxes if job.output_layout is None else located.in_pixels(table.boxes),
        table.places if table.origin is not None else prepared.selection.kept,
        table.box_ids,
        parameters,
        rows,
        prepared.level_names,
        located.sizes[located.image].astype(np.float32) if sized else None,
        pairs_of(table),
        said,
        groups_of(job.group_by, image_ids, said),
    )


def _report(
    work: _Work, plan: Plan, before: Progress, done: Progress, told: Told, began: float, executor: Executor | None
) -> RunReport:
    prepared, source = work.prepared, work.prepared.inputs.source
    if done.not_finite:
        told.note(f"{count(done.not_finite, 'row')} with NaN or infinite values, read from such cells of {source.name}")
    if done.overflowed:
        rows = count(done.overflowed, "row")
        told.note(f"{rows} with values too large for {prepared.dtype}, written as infinities; try float32")
    masks = prepared.placement.masks is not None
    if done.empty and masks:
        told.note(f"masks that reach no cell: {done.empty:,} of {done.rows:,}; their features are zero")
    elif 0 < done.rows == done.empty and not prepared.outside.all():
        told.warn(f"all features are zero, though boxes reach their maps: {source.name} holds nothing else there")
    return RunReport(
        output=work.job.output,
        shape=work.job.format.shape(work.shape, work.record),
        dtype=str(prepared.dtype),
        boxes=done.rows,
        images=prepared.images(),
        resumed=before.rows,
        skipped=prepared.selection.skipped.of("skipped"),
        zeroed=prepared.selection.skipped.of("zeroed"),
        missing_images=prepared.selection.skipped.missing_images(),
        not_finite=done.not_finite,
        overflowed=done.overflowed,
        empty_masks=done.empty if masks else 0,
        seconds=time.monotonic() - began,
        peak_memory=peak_memory(),
        strategy=str(plan.strategy) if executor is None else type(executor).__name__,
        workers=plan.workers,
        notes=tuple(told.notes),
        warnings=tuple(told.warnings),
    )
