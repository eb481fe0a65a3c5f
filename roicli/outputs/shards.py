"""Rows in the shards of a Zarr array: files of some chunks, each of which one worker writes, whole and at once."""

from __future__ import annotations

import math
import os
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.errors import OutputError, UsageError
from roicli.newfiles import close_file, create_file, write_all, writing
from roicli.outputs.rowfile import RowFile

# What who wants one row reads, and what a worker writes.
_CHUNK_BYTES, _SHARD_BYTES = 2**18, 2**25
CRC_BYTES = 4
# In the index of a shard: the place and the size of a chunk that is not there.
_ABSENT = 2**64 - 1


@dataclass(frozen=True)
class Folder:
    """Where a store is: keys are names of files in a folder. A store elsewhere has the same methods; picklable.

    Attributes
    ----------
    path : Path
        The folder.
    name : Path
        The output that it is for, as messages call it.
    """

    path: Path
    name: Path

    def put(self, key: str, *parts: Any) -> None:
        """Write the value of a key, bytes in some parts; when it is there, all of it is there, and on the disk."""
        where = self.path / key
        hidden = where.with_name(
            f".{os.urandom(8).hex()}"
        )  # of its own: a task that seems lost may be done twice at once
        with writing(self.name):
            where.parent.mkdir(exist_ok=True)
            descriptor = create_file(hidden)
            try:
                for part in parts:
                    write_all(descriptor, part)
                os.fsync(descriptor)
                hidden.replace(where)
            except BaseException:
                hidden.unlink(missing_ok=True)
                raise
            finally:
                close_file(descriptor)

    def get(self, key: str) -> bytes:
        """Return the value of a key; OSError if there is none."""
        return (self.path / key).read_bytes()

    def has(self, key: str, size: int) -> bool:
        """Whether a key has a value of so many bytes."""
        with suppress(OSError):
            return (self.path / key).stat().st_size == size
        return False

    def flush(self) -> None:
        """Force the names of all files onto the disk; remove what killed workers have left."""
        with writing(self.name):
            for folder in (self.path, *(entry for entry in self.path.iterdir() if entry.is_dir())):
                for stray in folder.glob(".*"):
                    stray.unlink(missing_ok=True)
                descriptor = os.open(folder, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    close_file(descriptor)


@dataclass
class Shards(RowFile):
    """Rows in shards of an array: those of a shard are held until the task ends that has them all.

    Attributes
    ----------
    rows : int
        How many there are (K).
    store : Folder
        Where the shards go.
    """

    rows: int = 0
    store: Folder = field(kw_only=True)
    _own: threading.local = field(default_factory=threading.local, repr=False)

    @property
    def unit_rows(self) -> int:
        """How many rows one task must write."""
        return math.prod(rows_of(self.row_bytes))

    def write(self, rows: NDArray[np.intp], block: NDArray[Any]) -> None:
        """Hold rows until `commit`."""
        chunk_rows, flat = rows_of(self.row_bytes)[0], block.reshape(len(block), -1)
        shard, inside = np.divmod(rows, self.unit_rows)
        for first, stop in pairwise([0, *(np.flatnonzero(np.diff(shard)) + 1).tolist(), len(rows)]):
            if first < stop:
                values = values_of(self._chunks(int(shard[first])), chunk_rows, self.dtype)
                values[np.divmod(inside[first:stop], chunk_rows)] = flat[first:stop]

    def commit(self) -> None:
        """Write the shards that this thread holds; OutputError if the system refuses."""
        held: dict[int, NDArray[np.uint8]] = vars(self._own)  # type: ignore[assignment]
        while held:
            number, chunks = held.popitem()
            for chunk in chunks:
                chunk[-CRC_BYTES:] = np.frombuffer(checksum(chunk[:-CRC_BYTES].tobytes()), np.uint8)
            index = index_of(self.row_bytes, len(chunks))
            self.store.put(self._key(number), chunks.reshape(-1).data, index)

    def check(self, rows: NDArray[np.intp]) -> None:
        """Look for the shards of rows; OutputError if one is not there, or not whole."""
        for number in np.unique(rows // self.unit_rows).tolist():
            if not self._has(number):
                raise OutputError(f"{self.name}: {self._key(number)} is not as it was written", "Check the disk.")

    def complete(self) -> None:
        """Write the shards that no task has: all their rows are zeros."""
        for number in range(-(-self.rows // self.unit_rows)):
            if not self._has(number):
                self._chunks(number)
                self.commit()

    def flush(self) -> None:
        """Force onto the disk what any process has written so far: its names, since the rest is there."""
        with writing(self.name):
            os.fsync(self.open())

    def open(self) -> int:
        """Return a descriptor of the folder with the shards."""
        if self._descriptor is None:
            with writing(self.name):
                self._descriptor = os.open(self.path / "features", os.O_RDONLY | os.O_CLOEXEC)
        return self._descriptor

    def _chunks(self, number: int) -> NDArray[np.uint8]:
        """Return the chunks of a shard as bytes, each with room for its checksum; zeros at first."""
        held: dict[int, NDArray[np.uint8]] = vars(self._own)  # type: ignore[assignment]
        if number not in held:
            chunk_rows = rows_of(self.row_bytes)[0]
            held[number] = np.zeros((self._number(number), chunk_rows * self.row_bytes + CRC_BYTES), np.uint8)
        return held[number]

    def _number(self, number: int) -> int:
        """Return how many chunks a shard has: the last one has fewer."""
        return -(-min(self.unit_rows, self.rows - number * self.unit_rows) // rows_of(self.row_bytes)[0])

    def _has(self, number: int) -> bool:
        chunks, (chunk_rows, _) = self._number(number), rows_of(self.row_bytes)
        size = chunks * (chunk_rows * self.row_bytes + CRC_BYTES) + len(index_of(self.row_bytes, chunks))
        return self.store.has(self._key(number), size)

    def _key(self, number: int) -> str:
        return key_of("features", number, 1 + len(self.row_shape))

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_own": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"_own": threading.local()})


def rows_of(row_bytes: int) -> tuple[int, int]:
    """Return rows of a chunk, and chunks of a shard; they depend on nothing else, so neither do files."""
    rows = max(1, _CHUNK_BYTES // row_bytes)
    return rows, max(1, _SHARD_BYTES // (rows * row_bytes))


def values_of(chunks: NDArray[np.uint8], rows: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the values of chunks that each end in a checksum, (chunks, rows, values of a row), in place."""
    row_bytes = (chunks.shape[1] - CRC_BYTES) // rows
    shape = (len(chunks), rows, row_bytes // dtype.itemsize)
    return np.ndarray(shape, dtype, chunks.data, 0, (chunks.shape[1], row_bytes, dtype.itemsize))


def index_of(row_bytes: int, number: int) -> bytes:
    """Return the index of a shard whose first chunks are there, with its checksum."""
    rows, chunks = rows_of(row_bytes)
    size = rows * row_bytes + CRC_BYTES
    index = np.full((chunks, 2), _ABSENT, "<u8")
    index[:number, 0], index[:number, 1] = np.arange(number) * size, size
    return index.tobytes() + checksum(index.tobytes())


def checksum(data: bytes) -> bytes:
    """Return the CRC-32C of bytes, as Zarr stores it."""
    try:
        from google_crc32c import value
    except ImportError as error:
        raise UsageError("outputs to Zarr need the package zarr", "Install it: pip install 'roicli[zarr]'.") from error
    return int(value(data)).to_bytes(CRC_BYTES, "little")


def is_sound(data: bytes) -> bool:
    """Return whether bytes fit the checksum that they end in."""
    return checksum(data[:-CRC_BYTES]) == data[-CRC_BYTES:]


def sound(data: bytes) -> bytes:
    """Return bytes without the checksum that they end in; ValueError if it does not fit."""
    if not is_sound(data):
        raise ValueError("a checksum does not fit")
    return data[:-CRC_BYTES]


def key_of(array: str, number: int, axes: int) -> str:
    """Return the key of a chunk, or a shard, that holds whole rows."""
    return ".".join([f"{array}/c", str(number), *["0"] * (axes - 1)])
