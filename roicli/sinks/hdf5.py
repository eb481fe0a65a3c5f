"""Output to HDF5: a contiguous dataset of features, with image ids, boxes, box ids, and parameters as attributes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from roicli.sinks.partial import Partial, writing
from roicli.sinks.protocol import Record
from roicli.sinks.rowfile import RowFile


class Hdf5Sink:
    """`features` has no chunks, is allocated early and never filled, so it has its place in the file at once."""

    def __init__(
        self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record, *, overwrite: bool
    ) -> None:
        self._partial = Partial(path, overwrite=overwrite)
        with self._partial.begun(), writing(path):
            offset = _create(self._partial.path, shape, dtype, record)
        self.target = RowFile(self._partial.path, path, offset, shape[0], shape[1:], dtype)

    def finish(self) -> None:
        """Check and flush the file."""
        self.target.finish()
        self._partial.flush()

    def publish(self) -> None:
        """Move the file to its final name."""
        self._partial.publish()

    def abort(self) -> None:
        """Remove the temporary file."""
        self.target.close()
        self._partial.remove()


def _create(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> int:
    """Write all but the rows; return the byte at which they begin."""
    import h5py

    with h5py.File(path, "w", libver=("earliest", "v110")) as file:
        file.attrs.update(record.parameters)
        for name, array in record.columns().items():
            text = array.dtype.kind == "U"
            file.create_dataset(
                name, data=array.astype(object) if text else array, dtype=h5py.string_dtype() if text else None
            )
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_layout(h5py.h5d.CONTIGUOUS)
        layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        kind = h5py.h5t.py_create(dtype, logical=True)
        features = h5py.h5d.create(file.id, b"features", kind, h5py.h5s.create_simple(shape), dcpl=layout)
        return features.get_offset() or 0
