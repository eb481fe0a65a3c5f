"""Rows of equal size at a known place of a file: each worker writes its own, and no block travels between them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.errors import OutputError
from roicli.outputs.writeback import Writeback
from roicli.resume.partial import writing

_fdatasync = getattr(os, "fdatasync", os.fsync)  # which macOS does not have


@dataclass
class RowFile:
    """A file that holds K rows from byte `offset` on; picklable, and opened where it is used.

    Attributes
    ----------
    path : Path
        A file that exists, of its full size.
    name : Path
        The output that it is for, as messages should call it.
    offset : int
        Byte at which row 0 begins.
    count : int
        Rows (K).
    row_shape : tuple of int
        Shape of one row: (C, PH, PW) or (C,).
    dtype : numpy.dtype
        As it is written.
    read_back : bool
        Whether the rows are read again before the job ends, and so are better kept in memory.
    """

    path: Path
    name: Path
    offset: int
    count: int
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read_back: bool = False
    _descriptor: int | None = field(default=None, repr=False)
    _writeback: Writeback = field(default_factory=Writeback, repr=False)

    @cached_property
    def row_bytes(self) -> int:
        """Size of one row."""
        return int(np.prod(self.row_shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def end(self) -> int:
        """Byte after the last row."""
        return self.offset + self.count * self.row_bytes

    def write(self, rows: NDArray[np.intp], block: NDArray[Any]) -> None:
        """Write `block`, (k, *row_shape), to the k rows `rows`, ascending.

        Raises
        ------
        OutputError
            The disk is full, or another failure of the system.
        """
        data = memoryview(np.ascontiguousarray(block, dtype=self.dtype).reshape(-1).view(np.uint8).data)
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        with writing(self.name):
            for first, stop in _runs(breaks.tolist(), len(rows)):
                part = data[first * self.row_bytes : stop * self.row_bytes]
                place = self.offset + int(rows[first]) * self.row_bytes
                self._writeback.add(place, place + len(part))
                while part:
                    written = os.pwrite(self._open(), part, place)
                    part, place = part[written:], place + written
            self._writeback.tell(self._open(), keep=self.read_back)

    def open_to_flush(self) -> int:
        """Open a descriptor for `flush`."""
        with writing(self.name):
            return os.open(self.path, os.O_RDONLY)

    def flush(self, descriptor: int) -> None:
        """Force onto the disk what any process has written so far; OutputError if any of it could not be."""
        with writing(self.name):
            _fdatasync(descriptor)

    def finish(self) -> None:
        """Close the file and hold its size against what its rows need; OutputError if it is shorter."""
        self.close()
        with writing(self.name):
            size = self.path.stat().st_size
        if size < self.end:
            raise OutputError(f"{self.name}: {size} bytes are on the disk, {self.end} were written", "Check the disk.")

    def close(self) -> None:
        """Release the descriptor of this process."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_WRONLY)
        return self._descriptor

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_descriptor": None}


def _runs(breaks: Sequence[int], length: int) -> list[tuple[int, int]]:
    """Ranges between breaks: the runs of rows that lie side by side in the file."""
    return list(zip([0, *breaks], [*breaks, length], strict=True)) if length else []
