"""From the name of an output to its format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from roicli.errors import OutputError
from roicli.files import HDF5_SUFFIXES
from roicli.outputs.filesink import FileSink
from roicli.outputs.record import PooledSink, Record
from roicli.outputs.rowfile import RowFile
from roicli.resume.journal import discard_journal, journal_path
from roicli.resume.partial import PARTIAL, ROWS, beside, check_name, check_space, writing
from roicli.resume.past import Past, read_past

SUFFIXES = (".npy", ".npz", *HDF5_SUFFIXES)


def check_output(path: Path) -> None:
    """Refuse an output that cannot be written, before anything is computed; whether it may be is `check_name`'s matter.

    Raises
    ------
    OutputError
        An unknown ending, a folder that does not exist or is not writable.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(
            f"{path}: no format is known by {path.suffix!r}", f"Name an output that ends in {', '.join(SUFFIXES)}."
        )
    check_name(path, overwrite=True)


def find_past(path: Path) -> Past | None:
    """Find what an earlier run has left of an output; see `read_past`."""
    return read_past(path, _rows_path(path), beside(path, PARTIAL))


def are_rows_beside(path: Path) -> bool:
    """Whether rows lie beside an output that are not in it, or not yet."""
    return any(beside(path, ending).exists() for ending in (PARTIAL, ROWS))


def discard_past(path: Path) -> None:
    """Remove what an earlier run has left of an output, the journal first.

    A new run must not write over a file that is there: a worker of the killed run may still have it open.
    """
    discard_journal(path)
    discard_rows(path)


def discard_rows(path: Path) -> None:
    """Remove rows that lie beside an output and are not in it, or are in it by now."""
    with writing(path):
        for ending in (PARTIAL, ROWS):
            beside(path, ending).unlink(missing_ok=True)


def open_sink(
    path: Path,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    record: Record,
    *,
    overwrite: bool,
    past: Past | None = None,
) -> PooledSink:
    """Begin an output of (K, ...) rows in the format that the name of `path` says; see `check_output` first.

    With a `past`, go on with the rows that an earlier run has left.

    Raises
    ------
    OutputError
        A disk without room for it, a failure of the system; rows that do not lie where the `past` says.
    """
    rows = _rows_path(path)
    left = None if past is None else _find_rows(path, shape, dtype, past)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    written = rows.stat().st_blocks * 512 if left else 0
    suffix = path.suffix.lower()
    if suffix != ".npy":
        size += sum(array.nbytes for array in record.columns().values())
    check_space(path, (2 * size if suffix == ".npz" else size) - written)
    if suffix == ".npz":
        from roicli.outputs.npz_out import NpzSink

        return NpzSink(path, shape, dtype, record, overwrite=overwrite, left=left)
    if suffix == ".npy":
        from roicli.outputs.npy_out import create_npy

        return FileSink(path, lambda file: create_npy(file, path, shape, dtype), overwrite=overwrite, left=left)
    from roicli.outputs.hdf5_out import create_hdf5

    return FileSink(path, lambda file: create_hdf5(file, path, shape, dtype, record), overwrite=overwrite, left=left)


def _find_rows(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], past: Past) -> RowFile:
    """Find the rows that an earlier run has left, where its journal and the partial file itself say."""
    from roicli.outputs.npy_out import find_npy

    rows = _rows_path(path)
    find = find_npy
    if path.suffix.lower() in HDF5_SUFFIXES:
        from roicli.outputs.hdf5_out import find_hdf5 as find
    found = find(rows, path, shape, dtype)
    if found is None or found.offset != past.offset:
        raise OutputError(
            f"{rows} is not what {journal_path(path)} describes: one of them was changed",
            "Give --overwrite without --resume to begin anew.",
        )
    return found


def _rows_path(path: Path) -> Path:
    return beside(path, ROWS if path.suffix.lower() == ".npz" else PARTIAL)
