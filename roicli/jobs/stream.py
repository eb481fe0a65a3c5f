"""Pool while extracting: maps are handed over one by one, and never touch the disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.boxfiles import read_regions
from roicli.errors import BoxError, FeatureError, OutputError, UsageError
from roicli.execution.plan import Unit
from roicli.execution.worker import Pooler
from roicli.jobs.align import check_names, side_files_of
from roicli.jobs.alignjob import AlignJob
from roicli.jobs.choose import groups_of, said_of
from roicli.jobs.costs import choose_kernel
from roicli.jobs.geometry import scale_parameter
from roicli.jobs.imageids import match_images, some
from roicli.jobs.imagesizes import file_or_size
from roicli.jobs.listener import Silent, Told
from roicli.jobs.match import Inputs
from roicli.jobs.part import Part, take_part
from roicli.jobs.prepare import Prepared, prepare
from roicli.jobs.report import RunReport, peak_memory
from roicli.jobs.runfile import check_report, write_report
from roicli.jobs.select import select
from roicli.outputs import check_output
from roicli.outputs.base import Record
from roicli.pooling.kernels.choose import load_kernel
from roicli.pooling.team import team
from roicli.progress import Progress
from roicli.protocols import FeatureSource, RowTarget
from roicli.regions import Names
from roicli.resume.fingerprint import check_same, check_unchanged, fingerprint
from roicli.resume.session import Session, find_earlier, locked
from roicli.sources.counted import Counted
from roicli.sources.given import GivenSource, as_array
from roicli.sources.layout import SEQUENCES, layout_of
from roicli.sources.tokens import TokenLayout, TokenSource
from roicli.words import count


class _Rows(NamedTuple):
    """Some rows of a target, as a target of their own."""

    target: RowTarget
    rows: NDArray[np.intp]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.target.dtype

    @property
    def row_shape(self) -> tuple[int, ...]:
        return self.target.row_shape

    def write(self, rows: NDArray[np.intp], block: NDArray[Any]) -> None:
        self.target.write(self.rows[rows], block)

    def commit(self) -> None:
        self.target.commit()

    def flush(self) -> None:
        self.target.flush()


class Output:
    """An output in the making, to which maps are added in any order; `open_output` opens it.

    It is a context manager. When the block ends and all images are there, the output is published. Otherwise what is
    done is kept beside it, and the same call with ``resume=True`` goes on. Threads may share it.

    Attributes
    ----------
    notes : list of str
        What was assumed, or looks like a mistake.
    report : RunReport
        What was done, once the output is published.
    """

    def __init__(self, job: AlignJob) -> None:
        if job.pyramid.is_stated or job.reading.map_dtype or job.reading.map_index:
            raise UsageError("levels, `map_dtype` and `map_index` are for maps in files", "Leave them out.")
        self._job, self._lock, self._stack = job, threading.Lock(), ExitStack()
        self._told = Told(Silent())
        self._session: Session | None = None
        self._published = False
        self._part: Part | None = None
        self.report: RunReport | None = None

    @property
    def notes(self) -> list[str]:
        """What was assumed, or looks like a mistake."""
        return [*self._told.notes, *self._told.warnings]

    def __enter__(self) -> Output:
        job, self._began = self._job, time.monotonic()
        check_output(job.output, job.format)
        check_report(job)
        with ExitStack() as stack:
            paths = [path for path in (job.output, job.index, job.report) if path is not None]
            self._locks = stack.enter_context(locked(paths))
            self._earlier = find_earlier(
                job.output, resume=job.resume, overwrite=job.overwrite, is_folder=job.format.folder
            )
            check_names(job, self._earlier)
            self._read_boxes()
            self._done = Progress() if self._earlier is None else self._earlier.done
            self._stack = stack.pop_all()
        return self

    def _read_boxes(self) -> None:
        """Read the boxes, decide about each, and order them by image."""
        job, reading, size = self._job, self._job.reading, self._job.geometry.image_size
        table = read_regions(job.boxes, reading.box_format, reading.boxes_as, file_or_size(size))
        for text in table.notes:
            self._told.note(text)
        index = np.zeros(len(table), np.intp) if table.image_index is None else table.image_index
        names: Sequence[str] = table.image_ids or Counted(int(index.max(initial=0)) + 1)
        inputs = Inputs(GivenSource(names, layout_of("chw")), table, index, beside=job.geometry.stamps())
        self._job = job = job.knowing(inputs)
        taken = None if job.shard is None else take_part(job, job.shard, inputs, {})
        selection = select(inputs if taken is None else taken.inputs, job.spec, job.bad_boxes, "error", self._told.note)
        self._inputs, self._selection = selection.inputs, selection
        if taken is not None:
            self._selection, self._part = taken.of_whole(selection)
        self._stamps = {**table.stamps, **inputs.beside}
        self._order = np.argsort(self._inputs.map_index, kind="stable")
        numbers = np.bincount(self._inputs.map_index, minlength=len(names))
        self._stops = np.cumsum(numbers)
        self._starts = self._stops - numbers

    def missing(self) -> list[str]:
        """Return the ids of the images that have boxes and are not done, in the order of the box file."""
        starts, stops, names = self._starts.tolist(), self._stops.tolist(), self._inputs.source.ids
        return [
            names[image]
            for image, (first, stop) in enumerate(zip(starts, stops, strict=True))
            if first < stop and not self._is_done(first, stop)
        ]

    def _is_done(self, first: int, stop: int) -> bool:
        return any(begin <= first and stop <= end for begin, end in self._done.ranges)

    def add(self, image_id: str | int, features: Any) -> None:
        """Pool the boxes of one image from its map.

        Parameters
        ----------
        image_id : str or int
            As in the box file; what is tolerated between files is tolerated here. An image that is done is passed over.
        features : (C, H, W) array, or as `layout` says
            A NumPy array, or anything with ``__dlpack__`` or ``__array__``, such as a torch tensor on the CPU.

        Raises
        ------
        RoicliError
            An image that the box file does not name, a map that cannot be pooled, a full disk.
        """
        boxes, ids = self._inputs.table.source, self._inputs.source.ids
        [image] = match_images([str(image_id)], None, ids, boxes="", features=boxes, all_images=False).tolist()
        if image < 0:
            raise BoxError(f"{boxes} has no boxes of image {str(image_id)!r}", "Add the images that `missing()` lists.")
        with self._lock:
            first, stop = int(self._starts[image]), int(self._stops[image])
            if first == stop or self._is_done(first, stop):
                return
            source = self._source(self._inputs.source.ids[image], features)
            rows = self._order[first:stop]
            inputs = self._inputs.take(rows)
            inputs = inputs._replace(source=source, map_index=np.zeros(len(rows), np.intp), layout=self._layout)
            prepared = prepare(self._job, inputs, self._told.note if self._session is None else lambda text: None)
            session = self._session or self._open(prepared)
            pooled = self._pool(prepared, source, rows, session)
            done = Progress(((first, stop),), *pooled[1:])
            session.checkpoints.add(done)
            self._done = Progress.sum([self._done, done])

    @property
    def _layout(self) -> Any:
        return self._job.reading.layout or "chw"

    def _source(self, name: str, features: Any) -> FeatureSource:
        """Take a map for a source of one."""
        array = as_array(features, f"features of image {name!r}")
        layout = self._job.reading.of_maps()["layout"]
        if isinstance(layout, TokenLayout):
            return TokenSource(GivenSource([name], SEQUENCES, array), layout)
        return GivenSource([name], layout_of(layout), array)

    def _open(self, prepared: Prepared) -> Session:
        """Begin the output, or resume it, when the first map says how many channels there are."""
        part, rows = self._part, len(self._order)
        self._job = job = replace(self._job, kernel=choose_kernel(self._job, prepared, part.total if part else rows))
        inputs, table = self._inputs, self._inputs.table
        scale = scale_parameter(prepared.located.scale)
        parameters = job.parameters() | {"spatial_scale": scale} | (part.parameters() if part else {})
        sizes, said, image_ids = table.image_sizes, said_of(table), Names(inputs.map_index, inputs.source.ids)
        self._record = record = Record(
            image_ids,
            table.boxes,
            self._selection.kept,
            table.box_ids,
            parameters,
            part.rows if part else None,
            image_sizes=None if sizes is None else sizes[inputs.map_index].astype(np.float32),
            said=said,
            groups=groups_of(job.group_by, image_ids, said),
        )
        shape = (len(self._order), *prepared.row_shape)
        settings = {**parameters, "dtype": str(prepared.dtype), "shape": " x ".join(map(str, shape))}
        columns = (table.boxes, table.rows, inputs.map_index, table.box_ids)
        made = fingerprint(settings, table.stamps, inputs.beside, (), columns)
        if self._earlier is not None:
            check_same(job.output, self._earlier, made, len(self._order))
        self._kind = prepared.row_shape, prepared.dtype, prepared.computed
        self._kernel = load_kernel(job.kernel, prepared.computed)
        self._side = side_files_of(job, record, shape, self._selection.skipped, self._earlier, self._told)
        session = Session(
            job.output,
            job.format.scattered(),
            shape,
            prepared.dtype,
            record,
            job=made,
            order=self._order,
            locks=self._locks,
            earlier=self._earlier,
            overwrite=job.overwrite,
            keep_journal=job.resume,
        )
        session.__enter__()
        self._session = session
        session.checkpoints.begin()
        return session

    def _pool(self, prepared: Prepared, source: FeatureSource, rows: NDArray[np.intp], session: Session) -> Progress:
        """Pool the boxes of one image; refuse a map that differs from the first."""
        found = prepared.row_shape, prepared.dtype, prepared.computed
        if found != self._kind:
            raise FeatureError(
                f"{source.name} give rows of {found[0]} in {found[1]}, the first map gave {self._kind[0]} in "
                f"{self._kind[1]}",
                "All maps of one job need the same channels and dtype.",
            )
        mine = prepared.pooled()
        target = _Rows(session.target, rows)
        pooler = Pooler(source, prepared.infos, prepared.placement, mine, self._job.spec, target, self._kernel)
        with team(1, 0):  # as in a worker: BLAS rounds otherwise where it shares a product out
            return pooler.pool((Unit(0, len(mine)),))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if error is None:
                error = self._finish()
                if error is None:
                    return
                if self._session is not None:
                    self._session.__exit__(type(error), error, None)
                raise error
            if self._session is not None:
                self._session.__exit__(kind, error, trace)

    def _finish(self) -> OutputError | None:
        """Publish what is complete; return what to say of what is not."""
        if lacking := self.missing():
            return OutputError(
                f"{self._job.output} is unfinished: {count(len(lacking), 'image')} without a map, {some(lacking)}",
                "Add them, with `resume=True` in a later run.",
            )
        if self._session is None:
            if self._earlier is None or not self._earlier.published:
                hint = "Add the map of each image." if len(self._order) else "Give `shard` fewer parts, or more boxes."
                return OutputError(f"{self._job.output}: no map was added", hint)
            return None
        check_unchanged(self._stamps)
        self._session.publish(self._side, self._done)
        self._session.__exit__(None, None, None)
        self.report = self._reported()
        write_report(self._job, self.report, self._record.parameters, self._stamps)
        return None

    def _reported(self) -> RunReport:
        """Report what was done."""
        done, skipped, (row_shape, dtype, _) = self._done, self._selection.skipped, self._kind
        return RunReport(
            output=self._job.output,
            shape=self._job.format.shape((len(self._order), *row_shape), self._record),
            dtype=str(dtype),
            boxes=done.rows,
            images=int((self._stops > self._starts).sum()),
            resumed=0 if self._earlier is None else self._earlier.done.rows,
            skipped=skipped.of("skipped"),
            zeroed=skipped.of("zeroed"),
            missing_images=0,
            not_finite=done.not_finite,
            overflowed=done.overflowed,
            empty_masks=0,
            seconds=time.monotonic() - self._began,
            peak_memory=peak_memory(),
            strategy="serial",
            workers=1,
            notes=tuple(self._told.notes),
            warnings=tuple(self._told.warnings),
        )
