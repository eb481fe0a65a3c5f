"""Join the parts of a job into the output that the whole job would have written, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from roicli.errors import FileError, OutputError, UsageError
from roicli.files import HDF5_SUFFIXES
from roicli.jobs.partfiles import StoredPart, read_parts
from roicli.newfiles import check_name
from roicli.outputs import LAYOUTS, check_output, find_format, parameters_of
from roicli.outputs.base import COLUMNS, OutputFormat, Parameters, Record
from roicli.outputs.grouped import Grouped
from roicli.outputs.rowfile import RowFile
from roicli.outputs.sidefiles import SideFile, origin_file, shard_file, skipped_file
from roicli.progress import Progress
from roicli.regions import Column, Names
from roicli.resume.session import Session, find_earlier, locked
from roicli.sources.open import matches
from roicli.stores.path import is_pattern, path_of


@dataclass(frozen=True)
class MergeJob:
    """All that `roicli merge` was told."""

    output: Path  # of the same format as the parts
    parts: Sequence[str]  # files, or patterns such as ``'part-*.h5'``
    virtual: bool = False  # HDF5 only: refer to the features in the parts instead of copying them
    overwrite: bool = False


@dataclass(frozen=True)
class MergeReport:
    """What was joined."""

    output: Path  # the file that was written
    parts: int  # of how many parts
    shape: tuple[int, ...]  # shape of the features
    dtype: str  # their dtype
    virtual: bool  # whether they still lie in the parts

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON can hold them."""
        return asdict(self) | {"output": str(self.output)}


def merge(job: MergeJob, advance: Callable[[int], None]) -> MergeReport:
    """Join parts; `advance` is called with the number of rows copied since the last call.

    Raises RoicliError: parts that do not belong together, are missing or given twice; an output that cannot be written.
    """
    with locked([job.output]) as locks:
        beside = [
            beside(job.output) for beside in (shard_file, skipped_file, origin_file)
        ]  # of the output that is replaced
        for path in beside:
            check_name(path, overwrite=job.overwrite)
        paths = _paths(job)
        said = parameters_of(paths[0])
        layout = str(said["output_layout"]) if said.get("output_layout") in LAYOUTS else None
        _check_kinds(job, paths, layout)
        output_format = find_format(job.output, layout)
        if "group_by" in said:
            output_format = Grouped(output_format)
        check_output(job.output, output_format)
        find_earlier(job.output, resume=False, overwrite=job.overwrite, is_folder=output_format.folder)
        parts = read_parts(paths)
        features, record = parts[0].output.features, _whole_record(parts)
        total = parts[0].total
        if job.virtual:
            output_format = _virtual(job, parts)
        elif not np.array_equal(np.concatenate([part.rows for part in parts]), np.arange(total)):
            output_format = output_format.scattered()  # else shards fill one after the other
        session = Session(
            job.output,
            output_format,
            (total, *features.shape[1:]),
            features.dtype,
            record,
            order=np.arange(total),
            locks=locks,
            overwrite=job.overwrite,
        )
        with session:
            if not job.virtual:
                for part in parts:
                    for rows in _copy(part, session.target):
                        advance(rows)
                        locks.touch()
            side_files = [SideFile(path, None, overwrite=True) for path in beside if path.exists()]
            for path, content in output_format.beside(job.output, record).items():
                side_files.append(SideFile(path, content, overwrite=job.overwrite))
            session.publish(side_files, Progress())
        shape = output_format.shape((total, *features.shape[1:]), record)
        return MergeReport(job.output, len(parts), shape, str(features.dtype), job.virtual)


def _virtual(job: MergeJob, parts: Sequence[StoredPart]) -> OutputFormat:
    from roicli.outputs.hdf5 import Stretch, Virtual

    return Virtual(job.output, [Stretch(part.path, part.rows) for part in parts])


def _paths(job: MergeJob) -> list[Path]:
    """Files that the user named, patterns expanded; none of them is the output."""
    paths: list[Path] = []
    for text in job.parts:
        if not is_pattern(text):
            paths.append(path_of(text))
        elif not (found := matches(text)):
            raise FileError(f"no file matches {text}", "Check the folder and the pattern.")
        else:
            paths += map(path_of, found)
    for path in paths:
        if path == job.output or (path.exists() and job.output.exists() and path.samefile(job.output)):
            raise OutputError(f"{path} is a part and the output", "Name another output.")
    return paths


def _check_kinds(job: MergeJob, paths: Sequence[Path], layout: str | None) -> None:
    """Refuse an output of another format than its parts, unless they say what is made of them."""
    kind = _kind(job.output)
    if job.virtual and (kind not in HDF5_SUFFIXES or layout is not None):
        raise UsageError(f"{job.output}: only HDF5 has virtual datasets", "Leave out `virtual`, or merge .h5 files.")
    for path in paths:
        if _kind(path) != (kind if layout is None else _kind(paths[0])):
            raise UsageError(
                f"{path} and {job.output} are of different formats", "Name an output that ends as the parts do."
            )


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    return HDF5_SUFFIXES[0] if suffix in HDF5_SUFFIXES else suffix


def _whole_record(parts: Sequence[StoredPart]) -> Record:
    """Put together what is recorded of each row, in the order of the whole; without a record (.npy) it is empty."""
    place = np.argsort(np.concatenate([part.rows for part in parts]))
    columns: dict[str, Column] = {
        name: _join([part.output.columns[name] for part in parts])[place]
        for name in parts[0].output.columns
        if name != "output_rows"
    }
    parameters = {name: value for name, value in parts[0].output.parameters.items() if not name.startswith("shard")}
    return record_of(columns, parameters)


def record_of(columns: dict[str, Column], parameters: Parameters) -> Record:
    """Return the record of an output that was read back; columns that it does not know are those of an index."""
    known: dict[str, Any] = {"image_ids": Names(np.zeros(0, np.int64), ()), "boxes": np.zeros((0, 4))}
    known |= {"rows": np.zeros(0, np.int64), "box_ids": None}
    known |= {name: column for name, column in columns.items() if name in (*COLUMNS, "counts")}
    said = {name: column for name, column in columns.items() if name not in known}
    return Record(**known, parameters=parameters, said=said)


def _join(columns: Sequence[Column]) -> Column:
    """Return the columns of all parts as one."""
    arrays = [column for column in columns if isinstance(column, np.ndarray)]
    if len(arrays) == len(columns):
        return np.concatenate(arrays)
    texts = [column for column in columns if isinstance(column, Names)]
    number: dict[str, int] = {}
    index = [
        np.array([number.setdefault(name, len(number)) for name in text.names], np.int64)[text.index] for text in texts
    ]
    return Names(np.concatenate(index), tuple(number))


def _copy(part: StoredPart, target: RowFile) -> Iterator[int]:
    """Copy the rows of a part block by block; yields how many."""
    done = 0
    with closing(part.blocks()) as blocks:
        for block in blocks:
            rows = part.rows[done : done + len(block)].astype(np.intp)
            target.write(rows, block)
            target.commit(int(rows[-1]) + 1)
            done += len(block)
            yield len(block)
