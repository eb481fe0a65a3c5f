"""Rows of equal size at a known place of a file: each worker writes its own, and no block travels between them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.arrays import read_into
from roicli.checksums import checksum_rows
from roicli.errors import OutputError
from roicli.newfiles import close_file, remove_tree, write_all, writing
from roicli.stores.path import is_store

# Bytes of a checksum.
SUM = 4

_fdatasync = getattr(os, "fdatasync", os.fsync)  # which macOS does not have
_advise = getattr(os, "posix_fadvise", None)
# To tell the system of fewer bytes takes as long as to write them.
_TOLD = 2**16


@dataclass
class RowFile:
    """A `RowTarget` that is a file with places for K rows; picklable, and opened where it is used."""

    path: Path  # a file that exists, of its full size
    name: Path  # the output that it is for, as messages call it
    # Byte at which the first row begins, and the one after the last
    offset: int
    end: int
    row_shape: tuple[int, ...]  # shape of one row: (C, PH, PW) or (C,)
    dtype: np.dtype[Any]  # as it is written
    starts: NDArray[np.int64] | None = None  # (K,): byte at which each row begins; by default one after the other
    # Byte at which the checksums of rows begin, in the order in which rows lie; by default none are kept
    sums: int | None = None
    read_again: bool = False  # whether rows should stay in memory, since another file is made of them
    _told: tuple[int, int] | None = field(default=None, repr=False)
    _descriptor: int | None = field(default=None, repr=False)
    _access: int = field(default=os.O_RDWR, repr=False)

    @cached_property
    def row_bytes(self) -> int:
        """Size of one row."""
        return math.prod(self.row_shape) * self.dtype.itemsize

    @property
    def count(self) -> int:
        """How many rows there are, where they lie side by side."""
        return (self.end - self.offset) // self.row_bytes

    def write(self, rows: NDArray[np.intp], block: NDArray[Any]) -> None:
        """Write `block`, (k, *row_shape), to the k rows `rows`, ascending.

        Raises OutputError: the disk is full, or another failure of the system.
        """
        data = memoryview(np.ascontiguousarray(block, dtype=self.dtype).reshape(-1).view(np.uint8).data)
        place, sums = self.sums or 0, b""
        if self.sums is not None:
            sums = checksum_rows(data, self.row_bytes).tobytes()
        with writing(self.name):
            for first, stop, start in self._runs(rows):
                write_all(self.open(), data[first * self.row_bytes : stop * self.row_bytes], start)
                self._let_go(start, (stop - first) * self.row_bytes)
                if sums:
                    row = (start - self.offset) // self.row_bytes
                    write_all(self.open(), sums[first * SUM : stop * SUM], place + row * SUM)

    def _let_go(self, start: int, length: int) -> None:
        """Have the system begin to put rows on the disk, and reuse the memory of those before: half of its time."""
        if _advise is None or self.read_again or length < _TOLD:
            return
        for span in filter(None, (self._told, (start, length))):
            _advise(self.open(), *span, os.POSIX_FADV_DONTNEED)
        self._told = start, length

    def flush(self) -> None:
        """Force onto the disk what any process has written so far.

        A descriptor tells only of failures that come after it was opened: `open` it before the first row is written.
        """
        with writing(self.name):
            _fdatasync(self.open())

    def commit(self, before: int | None = None) -> None:
        """Do nothing: rows are where they belong."""

    def check(self, rows: NDArray[np.intp]) -> None:
        """Compare the size of the file with what its rows need; OutputError if it is shorter."""
        with writing(self.name):
            size = self.path.stat().st_size
        if size < self.end:
            raise OutputError(f"{self.name}: {size} bytes are on the disk, {self.end} were written", "Check the disk.")

    def read(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        """Return k rows that were written, (k, *row_shape); read, since pages of a map would count as memory."""
        block = np.empty((len(rows), *self.row_shape), self.dtype)
        flat = block.reshape(len(rows), -1).view(np.uint8)
        with writing(self.name):
            for first, stop, start in self._runs(rows):
                read_into(self.open(), start, flat[first:stop])
        return block

    def _runs(self, rows: NDArray[np.intp]) -> Iterator[tuple[int, int, int]]:
        """Yield which of some rows lie side by side, as (first, stop), and the byte at which they begin."""
        starts = self.offset + rows * self.row_bytes if self.starts is None else self.starts[rows]
        breaks = (np.flatnonzero(np.diff(starts) != self.row_bytes) + 1).tolist()
        for first, stop in pairwise([0, *breaks, len(rows)]) if len(rows) else ():
            yield first, stop, int(starts[first])

    def open(self) -> int:
        """Return the descriptor of this process; OutputError if the system refuses one."""
        if self._descriptor is None:
            with writing(self.name):
                self._descriptor = os.open(self.path, self._access | os.O_NOFOLLOW | os.O_CLOEXEC)
        return self._descriptor

    def close(self) -> None:
        """Release the descriptor of this process."""
        if self._descriptor is not None:
            close_file(self._descriptor)
            self._descriptor = None

    @property
    def stays(self) -> bool:
        """Whether what is written is there for a later run, which may be on another machine if it is for a store."""
        return self.path.exists() and not is_store(self.name)

    def remove(self) -> None:
        """Remove all that is written."""
        remove_tree(self.path)

    def __getstate__(self) -> dict[str, Any]:
        # Where NFS may read, it writes back whole pages, with what others had there before.
        return self.__dict__ | {"_descriptor": None, "_access": os.O_WRONLY}
