"""Write an output anew in another format, layout or dtype, and read it back before it appears: nothing may be lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.checksums import checksum_rows
from roicli.errors import FileError, OutputError, UsageError
from roicli.jobs.merge import record_of
from roicli.newfiles import check_name
from roicli.outputs import check_output, find_format, find_stored
from roicli.outputs.base import OutputFormat, Record, Stored, read_output
from roicli.outputs.checked import as_bytes
from roicli.outputs.sidefiles import SideFile, check_index, index_text, origin_file, shard_file, skipped_file
from roicli.progress import Progress
from roicli.regions import Column, Names
from roicli.resume.session import Session, find_earlier, locked
from roicli.stores.path import is_store


@dataclass(frozen=True)
class ConvertJob:
    """All that `roicli convert` was told."""

    # An output of roicli, and what is made of it
    source: Path
    output: Path
    # See `AlignJob`
    output_layout: str | None = None
    spatial: int | None = None
    index: Path | None = None
    dtype: str | None = None  # of the new output; by default that of the old one
    overwrite: bool = False


@dataclass(frozen=True)
class ConvertReport:
    """What was written, and read back."""

    output: Path  # the file or folder that was written
    # Of the features
    shape: tuple[int, ...]
    dtype: str
    record: bool  # whether it says whose features its rows are

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON can hold them."""
        return asdict(self) | {"output": str(self.output)}


def convert(job: ConvertJob, advance: Callable[[int], None]) -> ConvertReport:
    """Write an output anew; `advance` is called with the number of rows copied since the last call.

    All rows are compared with their checksums when they are read, and with what was written before it appears.

    Raises RoicliError: an output that cannot be read or written, values too large for the dtype, a layout that cannot
    hold it.
    """
    if is_store(job.output):
        raise OutputError(
            f"{job.output}: what was converted is read back before it appears, which a store cannot do",
            "Name a file here, and copy it to the store.",
        )
    output_format = find_format(job.output, job.output_layout).scattered()
    check_output(job.output, output_format)
    if job.index is not None:
        check_index(job.index, overwrite=job.overwrite)
    if job.output.exists() and job.source.exists() and job.output.samefile(job.source):
        raise OutputError(f"{job.output} would be written over itself", "Name another output.")
    source_format = find_stored(job.source)
    stored = read_output(source_format, job.source)
    record = _record(job, stored, output_format)
    dtype = np.dtype(job.dtype or stored.features.dtype.newbyteorder("="))
    with locked(path for path in (job.output, job.index) if path is not None) as locks:
        find_earlier(job.output, resume=False, overwrite=job.overwrite, is_folder=output_format.folder)
        side_files = _side_files(job, record, output_format)
        session = Session(
            job.output,
            output_format,
            stored.features.shape,
            dtype,
            record,
            order=np.arange(stored.features.shape[0]),
            locks=locks,
            overwrite=job.overwrite,
        )
        with session, closing(source_format.blocks(job.source, stored)) as blocks:
            sums, first = [np.zeros(0, np.uint32)], 0
            for block in blocks:
                narrow = _narrow(job, block, dtype, first)
                session.target.write(np.arange(first, first + len(block)), narrow)
                session.target.commit()
                sums.append(checksum_rows(*as_bytes(narrow)))
                first += len(block)
                advance(len(block))
                locks.touch()
            check = partial(_check, job, output_format, record, dtype, np.concatenate(sums))
            session.publish(side_files, Progress(), check)
    return ConvertReport(job.output, stored.features.shape, str(dtype), output_format.keeps_record)


def _record(job: ConvertJob, stored: Stored, output_format: OutputFormat) -> Record:
    """Return what is recorded of each row; refuse what the new format needs and is not there."""
    columns, rows = dict(stored.columns), stored.features.shape[0]
    if "output_rows" in columns:
        raise OutputError(f"{job.source} is a part of a job", "Merge its parts first.")
    parameters = {name: value for name, value in stored.parameters.items() if name not in ("output_layout", "spatial")}
    if job.output_layout is not None:
        parameters |= {"output_layout": job.output_layout, "spatial": job.spatial or 0}
    elif job.spatial is not None:
        raise UsageError("spatial vectors are part of a layout", "Give `output_layout` too.")
    if "image_ids" not in columns:
        grouped = "counts" in columns and job.output_layout is None
        if output_format.keeps_record and not grouped:
            raise FileError(
                f"{job.source} does not say whose features its rows are, as {job.output} would have to",
                "Give an output that says so, such as .h5; or write an .npy.",
            )
        columns |= {"image_ids": Names(np.zeros(rows, np.int64), ("",)), "boxes": np.zeros((rows, 4))}
    columns.setdefault("rows", np.arange(rows))
    return record_of(columns, parameters)


def _narrow(job: ConvertJob, block: NDArray[Any], dtype: np.dtype[Any], first: int) -> NDArray[Any]:
    """Return rows in the dtype of the output; OutputError if a number is too large for it."""
    with np.errstate(over="ignore"):
        narrow = block.astype(dtype, copy=False)
    lost = (np.isfinite(block) & ~np.isfinite(narrow)).reshape(len(block), -1).any(axis=1)
    if lost.any():
        row = first + int(lost.argmax())
        raise OutputError(
            f"{job.source}, row {row}: values up to {np.abs(block[row - first]).max():g} are too large for {dtype}",
            "Leave `dtype` out.",
        )
    return narrow


def _side_files(job: ConvertJob, record: Record, output_format: OutputFormat) -> list[SideFile]:
    """Return what appears with the output: its own files, an index, and the list of boxes that are not pooled."""
    files: dict[Path, Callable[[], Iterator[str]] | None] = {**output_format.beside(job.output, record)}
    if job.index is not None:
        files[job.index] = partial(index_text, record)
    if (skipped := skipped_file(job.source)).exists():
        files[skipped_file(job.output)] = partial(_lines, skipped)
    for name in (skipped_file, shard_file, origin_file):
        check_name(path := name(job.output), overwrite=job.overwrite)
        if path.exists() and path not in files:
            files[path] = None  # of the output that is replaced
    return [SideFile(path, content, overwrite=job.overwrite) for path, content in files.items()]


def _lines(path: Path) -> Iterator[str]:
    yield path.read_bytes().decode("utf-8", "surrogateescape")


def _check(
    job: ConvertJob,
    output_format: OutputFormat,
    record: Record,
    dtype: np.dtype[Any],
    sums: NDArray[np.uint32],
    made: Path,
) -> None:
    """Read back what was written, before it appears; OutputError if anything is not as it was."""
    stored = read_output(output_format, made)
    with closing(output_format.blocks(made, stored)) as blocks:
        back = [checksum_rows(*as_bytes(block.astype(dtype, copy=False))) for block in blocks]
    ours: dict[str, Column] = {"features": sums}
    theirs: dict[str, Column] = {"features": np.concatenate([sums[:0], *back])}
    if output_format.keeps_record:
        expected = record.all_columns()
        ours |= {name: expected[name] for name in stored.columns}
        theirs |= stored.columns
    if job.output_layout is not None:  # images may come in another order, and boxes in float32
        for columns in (ours, theirs):
            order = np.argsort(np.array(columns["image_ids"].tolist()), kind="stable")
            columns |= {name: column[order] for name, column in columns.items()}
    for name, column in ours.items():
        if not _alike(column, theirs[name], exact=job.output_layout is None):
            raise OutputError(
                f"{job.output}: {name} read back are not those of {job.source}", "Try again; check disk and memory."
            )


def _alike(one: Column, other: Column, *, exact: bool) -> bool:
    if isinstance(one, Names) or isinstance(other, Names):
        return one.tolist() == other.tolist()
    if not exact:
        one, other = (column.astype(np.float32) if column.dtype.kind == "f" else column for column in (one, other))
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
