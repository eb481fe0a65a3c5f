"""Join the parts of a job into the output that the whole job would have written, byte for byte."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from roicli.errors import FileError, OutputError, UsageError
from roicli.execution.interrupts import held_off
from roicli.files import HDF5_SUFFIXES
from roicli.jobs.partfiles import StoredPart, read_parts
from roicli.outputs.record import PooledSink, Record
from roicli.outputs.rowfile import RowFile
from roicli.outputs.shardfile import shard_file
from roicli.outputs.sinks import check_output, discard_past, open_sink
from roicli.outputs.skipped import SkippedFile
from roicli.outputs.virtual import Stretch, VirtualFile
from roicli.resume.partial import check_name
from roicli.resume.session import claimed, find_unfinished


@dataclass(frozen=True)
class MergeJob:
    """All that `roicli merge` was told.

    Attributes
    ----------
    output : Path
        Of the same format as the parts.
    parts : sequence of str
        Files, or patterns such as ``'part-*.h5'``.
    virtual : bool
        HDF5 only: refer to the features in the parts instead of copying them.
    overwrite : bool
        Replace an output that exists.
    """

    output: Path
    parts: Sequence[str]
    virtual: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class MergeReport:
    """What was joined.

    Attributes
    ----------
    output : Path
        The file that was written.
    parts : int
        Of how many parts.
    shape : tuple of int
        Shape of the features.
    dtype : str
        Their dtype.
    virtual : bool
        Whether they still lie in the parts.
    """

    output: Path
    parts: int
    shape: tuple[int, ...]
    dtype: str
    virtual: bool

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON can hold them."""
        return asdict(self) | {"output": str(self.output)}


def merge(job: MergeJob, advance: Callable[[int], None]) -> MergeReport:
    """Join parts; `advance` is called with the number of rows copied since the last call.

    Raises
    ------
    RoicliError
        Parts that do not belong together, are missing or given twice; an output that cannot be written.
    """
    check_output(job.output)
    with claimed([job.output]) as beat:
        find_unfinished(job.output, resume=False, overwrite=job.overwrite)
        for path in (shard_file(job.output), SkippedFile.beside(job.output)):
            check_name(path, overwrite=job.overwrite)
        return _merge(job, advance, beat)


def _merge(job: MergeJob, advance: Callable[[int], None], beat: Callable[[], None]) -> MergeReport:
    paths = _paths(job)
    parts = read_parts(paths)
    first = parts[0].output
    shape = (parts[0].total, *first.shape[1:])
    record = _whole_record(parts)
    discard_past(job.output)
    sink: PooledSink | VirtualFile
    if job.virtual:
        stretches = [Stretch(part.output.path, part.rows) for part in parts]
        sink = VirtualFile(job.output, shape, first.dtype, record, stretches, overwrite=job.overwrite)
    else:
        sink = open_sink(job.output, shape, first.dtype, record, overwrite=job.overwrite)
    try:
        if not isinstance(sink, VirtualFile):
            for part in parts:
                for rows in _copy(part, sink.target):
                    advance(rows)
                    beat()
            sink.finish()
        with held_off():
            sink.publish()
            for path in (shard_file(job.output), SkippedFile.beside(job.output)):  # of the output that was replaced
                path.unlink(missing_ok=True)
    except BaseException:
        sink.abort()
        raise
    return MergeReport(job.output, len(parts), shape, str(first.dtype), job.virtual)


def _paths(job: MergeJob) -> list[Path]:
    """Files that the user named, patterns expanded; all of the output's format, and none of them the output."""
    paths: list[Path] = []
    for text in job.parts:
        if os.path.lexists(text) or not glob.has_magic(text):
            paths.append(Path(text))
        elif not (matches := sorted(glob.glob(text))):  # noqa: PTH207 (Path.glob takes hidden files)
            raise FileError(f"no file matches {text}", "Check the folder and the pattern.")
        else:
            paths += map(Path, matches)
    kind = _kind(job.output)
    if job.virtual and kind not in HDF5_SUFFIXES:
        raise UsageError(f"{job.output}: only HDF5 has virtual datasets", "Leave --virtual out, or merge .h5 files.")
    for path in paths:
        if _kind(path) != kind:
            raise UsageError(
                f"{path} and {job.output} are of different formats", "Name an output that ends as the parts do."
            )
        if path.exists() and job.output.exists() and path.samefile(job.output):
            raise OutputError(f"{path} is a part and the output", "Name another output.")
    return paths


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    return HDF5_SUFFIXES[0] if suffix in HDF5_SUFFIXES else suffix


def _whole_record(parts: Sequence[StoredPart]) -> Record:
    """Put together what is recorded of each row, in the order of the whole; without a record (.npy) it is empty."""
    rows = np.concatenate([part.rows for part in parts])
    place = np.argsort(rows)
    columns = {
        name: np.concatenate([part.output.columns[name] for part in parts])[place]
        for name in parts[0].output.columns
        if name != "output_rows"
    }
    parameters = {name: value for name, value in parts[0].output.parameters.items() if not name.startswith("shard")}
    return Record(
        columns.get("image_ids", np.zeros(0, np.str_)),
        columns.get("boxes", np.zeros((0, 4))),
        columns.get("rows", np.zeros(0, np.int64)),
        columns.get("box_ids"),
        parameters,
    )


def _copy(part: StoredPart, target: RowFile) -> Iterator[int]:
    """Copy the rows of a part block by block; yields how many."""
    done = 0
    for block in part.output.blocks():
        target.write(part.rows[done : done + len(block)].astype(np.intp), block)
        done += len(block)
        yield len(block)
