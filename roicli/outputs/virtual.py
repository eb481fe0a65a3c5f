"""Output to HDF5 whose features stay where they are, in the parts of a job: a virtual dataset refers to them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.errors import OutputError
from roicli.outputs.hdf5_out import write_record
from roicli.outputs.record import Record
from roicli.resume.partial import Partial, writing

# Each takes some 25 KiB of memory while the file is made.
_MAX_RUNS = 10_000


class Stretch(NamedTuple):
    """Features that lie in another file.

    Attributes
    ----------
    path : Path
        An HDF5 file with a dataset `features` of as many rows.
    rows : (k,) int64
        Where each of them goes, ascending.
    """

    path: Path
    rows: NDArray[np.int64]

    def runs(self) -> list[tuple[int, int]]:
        """Ranges of rows that go to neighbouring places."""
        breaks = (np.flatnonzero(np.diff(self.rows) != 1) + 1).tolist()
        return list(zip([0, *breaks], [*breaks, len(self.rows)], strict=True)) if len(self.rows) else []


class VirtualFile:
    """An HDF5 file like any other output of roicli, whose `features` are read from other files.

    They are found by their path relative to this one, so all of them can be moved together.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        record: Record,
        stretches: Sequence[Stretch],
        *,
        overwrite: bool,
    ) -> None:
        import h5py

        runs = [stretch.runs() for stretch in stretches]
        if (number := sum(map(len, runs))) > _MAX_RUNS:
            raise OutputError(
                f"{path} would refer to {number:,} separate runs of rows; {_MAX_RUNS:,} are allowed",
                "Merge without --virtual, or sort the box file by image.",
            )
        self._partial = Partial(path, overwrite=overwrite)
        folder = self._partial.final.parent
        layout = h5py.VirtualLayout(shape, dtype)
        for stretch, pieces in zip(stretches, runs, strict=True):
            name = os.path.relpath(os.path.realpath(stretch.path), folder).replace("%", "%%")  # %b is a pattern
            source = h5py.VirtualSource(name, "features", (len(stretch.rows), *shape[1:]), dtype)
            for first, stop in pieces:
                begin = int(stretch.rows[first])
                layout[begin : begin + stop - first] = source[first:stop]
        with self._partial.begun(), writing(path):
            with h5py.File(self._partial.path, "w", libver=("earliest", "v110")) as file:
                write_record(file, record)
                file.create_virtual_dataset("features", layout)
            self._partial.flush()

    def publish(self) -> None:
        """Move the file to its final name."""
        self._partial.publish()

    def abort(self) -> None:
        """Remove the temporary file."""
        self._partial.remove()
