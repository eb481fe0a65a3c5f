"""From the name of an output to its format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from roicli.errors import OutputError
from roicli.sinks.filesink import FileSink
from roicli.sinks.partial import check_name, check_space
from roicli.sinks.protocol import PooledSink, Record

HDF5_SUFFIXES = (".h5", ".hdf5")
SUFFIXES = (".npy", ".npz", *HDF5_SUFFIXES)


def check_output(path: Path, *, overwrite: bool) -> None:
    """Refuse an output that cannot or must not be written, before anything is computed.

    Raises
    ------
    OutputError
        An unknown ending, a folder that does not exist or is not writable, a file that exists.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(
            f"{path}: no format is known by {path.suffix!r}", f"Name an output that ends in {', '.join(SUFFIXES)}."
        )
    check_name(path, overwrite=overwrite)


def open_sink(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record, *, overwrite: bool
) -> PooledSink:
    """Begin an output of (K, ...) rows in the format that the name of `path` says; see `check_output` first.

    Raises
    ------
    OutputError
        A disk without room for it, a failure of the system.
    """
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    size += sum(array.nbytes for array in record.columns().values())
    suffix = path.suffix.lower()
    check_space(path, 2 * size if suffix == ".npz" else size)
    if suffix == ".npz":
        from roicli.sinks.npz import NpzSink

        return NpzSink(path, shape, dtype, record, overwrite=overwrite)
    if suffix == ".npy":
        from roicli.sinks.npy import create_npy

        return FileSink(path, lambda file: create_npy(file, path, shape, dtype), overwrite=overwrite)
    from roicli.sinks.hdf5 import create_hdf5

    return FileSink(path, lambda file: create_hdf5(file, path, shape, dtype, record), overwrite=overwrite)
