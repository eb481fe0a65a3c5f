"""Output to HDF5: a contiguous dataset of features, with image ids, boxes, box ids, and parameters as attributes."""

from __future__ import annotations

import errno
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from roicli.outputs.record import Record
from roicli.outputs.rowfile import RowFile
from roicli.resume.partial import writing


def write_record(file: Any, record: Record) -> None:
    """Write all that is recorded beside the features."""
    import h5py

    # Names of files may be bytes that are no UTF-8, of which HDF5 makes no text.
    for name, value in record.parameters.items():
        file.attrs[name] = value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
    for column, array in record.columns().items():
        text = array.dtype.kind == "U"
        file.create_dataset(
            column, data=array.astype(object) if text else array, dtype=h5py.string_dtype() if text else None
        )


@contextmanager
def _complaints() -> Iterator[None]:
    """Turn what h5py raises over a disk without room into an OSError."""
    try:
        yield
    except RuntimeError as error:
        found = re.search(r"errno = (\d+)", str(error))
        number = int(found[1]) if found else errno.EIO
        raise OSError(number, os.strerror(number)) from error


def create_hdf5(path: Path, name: Path, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> RowFile:
    """Make an HDF5 file with all but the rows; return where they lie.

    `features` has no chunks, is allocated early and never filled, so it has its place in the file at once.
    """
    import h5py

    with writing(name), path.open("wb") as file:  # HDF5 may die of a disk or a limit that has no room
        os.truncate(file.fileno(), math.prod(shape) * dtype.itemsize)
    with writing(name), _complaints(), h5py.File(path, "w", libver=("earliest", "v110")) as file:
        write_record(file, record)
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_layout(h5py.h5d.CONTIGUOUS)
        layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        layout.set_obj_track_times(False)  # the same job gives the same bytes, whenever it runs
        kind = h5py.h5t.py_create(dtype, logical=True)
        features = h5py.h5d.create(file.id, b"features", kind, h5py.h5s.create_simple(shape), dcpl=layout)
        return RowFile(path, name, features.get_offset() or 0, shape[0], shape[1:], dtype)


def find_hdf5(path: Path, name: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> RowFile | None:
    """Return where the rows lie of a file that `create_hdf5` has made; None if it is not as it was made."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            features = h5py.h5d.open(file.id, b"features")
            offset, made = features.get_offset(), features.shape == shape and features.dtype == dtype
    except (OSError, RuntimeError, LookupError, TypeError, ValueError):
        return None
    return RowFile(path, name, offset or 0, shape[0], shape[1:], dtype) if made else None
