"""Outputs to Zarr, version 3: a group of arrays, whose features lie in shards. It needs `pip install 'roicli[zarr]'`.

A shard is a file of some chunks. One worker writes all of it: where two write parts of one, what the first has written
is lost without a word. The group says that it is complete when all shards are there. Values are stored as they are,
each chunk with a checksum.
"""

from __future__ import annotations

import math
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.arrays import StoredArray
from roicli.errors import FileError, OutputError, UsageError
from roicli.files import printable, reading
from roicli.newfiles import ASSEMBLED, NewFile, NewFolder, check_space, close_file, remove_tree, writing
from roicli.outputs.base import (
    REMEDY,
    Layout,
    OutputFormat,
    Parameters,
    Record,
    Stored,
    encode,
    names_of,
    not_ours,
    was_changed,
)
from roicli.outputs.npy import rows_alone
from roicli.outputs.rowfile import RowFile
from roicli.regions import Column, Names
from roicli.stores.path import StorePath

# What who wants one row reads, and what a worker writes.
_CHUNK_BYTES, _SHARD_BYTES = 2**18, 2**25
# Rows of a chunk of what is recorded beside them.
_COLUMN_ROWS = 2**16
_AXES = {"features": ("row", "channel", "y", "x"), "boxes": ("row", "corner"), "image_sizes": ("row", "side")}


class Zarr(OutputFormat):
    """A store in a folder, whose shards are written by those who pool their rows."""

    suffixes = (".zarr",)
    folder, plain, checked = True, False, True
    holds = "the same as arrays of Zarr v3; `features` sharded, one chunk some rows; needs `pip install 'roicli[zarr]'`"

    @property
    def _shards(self) -> type[Shards]:
        return Shards

    def unit_rows(self, row_bytes: int) -> int:
        """See `OutputFormat`."""
        return math.prod(rows_of(row_bytes))

    def scattered(self) -> OutputFormat:
        """See `OutputFormat`."""
        return ScatteredZarr()

    def layout(self, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> Layout:
        """See `OutputFormat`: where rows lie that come in any order, until the store is made of them."""
        load_zarr()  # or the last step would find that it is not there
        return rows_alone(shape, dtype)

    def create(self, path: Path, name: Path, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> RowFile:
        """Make the store at `path`, with all but its shards; see `OutputFormat`."""
        check_space(name, math.prod(shape) * dtype.itemsize + 80 * len(record.all_columns()) * shape[0])
        load_zarr()
        try:
            with writing(name):
                remove_tree(path)
                path.mkdir()
                begin(path, shape, dtype, record)
        except BaseException:
            remove_tree(path)
            raise
        return self._target(path, name, shape, dtype)

    def resume(self, path: Path, name: Path, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> RowFile:
        """See `OutputFormat`."""
        made: dict[str, Any] = {}
        begin(load_zarr().storage.MemoryStore(made), shape, dtype, record)
        try:
            _mark(path, complete=False)
            same = all((path / key).read_bytes() == value.to_bytes() for key, value in made.items())
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise was_changed(path) from error
        if not same:
            raise was_changed(path)
        check_space(name, math.prod(shape) * dtype.itemsize - sum(f.stat().st_size for f in path.glob("features/c.*")))
        return self._target(path, name, shape, dtype)

    def finish(self, target: RowFile, record: Record) -> None:
        """Write shards of zeros, and at last that the store is complete."""
        assert isinstance(target, Shards)
        target.complete()
        with writing(target.name):
            _flush(target.path)
            complete(target.path)
            _flush(target.path)

    def _target(self, path: Path, name: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Shards:
        unit = self.unit_rows(math.prod(shape[1:]) * dtype.itemsize)
        return self._shards(path, name, 0, 0, shape[1:], dtype, rows=shape[0], unit_rows=unit)

    def read(self, path: Path) -> Stored:
        """See `OutputFormat`."""
        if not self.parameters(path):
            raise not_ours(str(path))
        group = load_zarr().open_group(_at(path), mode="r", zarr_format=3)
        if not group.attrs["complete"]:
            raise FileError(f"{path} is not complete", "Finish it: roicli align with `resume`.")
        arrays = dict(group.arrays())
        features = arrays.pop("features")
        if (features.shards or ())[:1] != (math.prod(rows_of(_row_bytes(features))),):
            raise not_ours(f"{path}, features")
        columns = {name: _read_column(array) for name, array in arrays.items()}
        return Stored(StoredArray(path, 0, features.shape, features.dtype), columns, dict(group.attrs["parameters"]))

    def parameters(self, path: Path) -> Parameters:
        """See `OutputFormat`."""
        zarr = load_zarr()
        with suppress(FileNotFoundError, zarr.errors.BaseZarrError):
            found = zarr.open(_at(path), mode="r", zarr_format=3).attrs.get("parameters")
            return found if isinstance(found, dict) and "roicli_version" in found else {}
        return {}

    def damaged(self, path: Path, stored: Stored) -> Iterator[tuple[NDArray[Any], NDArray[np.intp]]]:
        """Yield the features, shard by shard, and all rows of chunks that do not fit their checksums."""
        shards = self._target(path, path, stored.features.shape, stored.features.dtype)
        for number in range(shards.count):
            where = shards.file(number)
            with reading(printable(str(where)), REMEDY):
                where.stat()  # or its rows were zeros
                found = shards.read_shard(number)
            yield found


class ScatteredZarr(Zarr):
    """The same store, made when all rows are there: they come in any order."""

    assembled = True
    create, resume = OutputFormat.create, OutputFormat.resume

    def finish(self, target: RowFile, record: Record) -> None:
        """Do nothing: the rows are all that the file holds."""

    def assemble(self, target: RowFile, record: Record, name: Path, *, overwrite: bool) -> NewFile:
        """See `OutputFormat`."""
        made, whole, count = NewFolder(name, overwrite=overwrite, ending=ASSEMBLED), Zarr(), target.count
        shards = whole.create(made.path, name, (count, *target.row_shape), target.dtype, record)
        try:
            copy_rows(target, shards)
            whole.finish(shards, record)
        except BaseException:
            made.remove()
            raise
        return made


@dataclass
class Shards(RowFile):
    """Rows in shards of an array: those of a shard are held until the task ends that has them all.

    Attributes
    ----------
    rows : int
        How many rows there are (K).
    unit_rows : int
        How many one task must write: those of a shard.
    """

    rows: int = field(kw_only=True)
    unit_rows: int = field(kw_only=True)
    _own: threading.local = field(default_factory=threading.local, repr=False)
    _array: Any = field(default=None, repr=False)

    @property
    def count(self) -> int:
        """How many shards there are."""
        return -(-self.rows // self.unit_rows)

    @property
    def array(self) -> Any:
        """The array of this process."""
        if self._array is None:
            with load_zarr().config.set({"array.write_empty_chunks": True}):
                self._array = load_zarr().open_array(_at(self.path), path="features")
        return self._array

    def span(self, number: int) -> slice:
        """Return the rows of a shard."""
        first = number * self.unit_rows
        return slice(first, min(first + self.unit_rows, self.rows))

    def file(self, number: int) -> Path:
        """Return the file of a shard."""
        return self.path / "features" / ".".join(["c", str(number), *["0"] * len(self.row_shape)])

    def write(self, rows: NDArray[np.intp], block: NDArray[Any]) -> None:
        """Hold rows until `commit`."""
        shard, inside = np.divmod(rows, self.unit_rows)
        for number in np.unique(shard).tolist():
            self._held(number)[inside[shard == number]] = block[shard == number]

    def commit(self, before: int | None = None) -> None:
        """Write the shards that this thread holds, or those that end at a row or before; OutputError if that fails."""
        for number in [held for held in self._mine if before is None or self.span(held).stop <= before]:
            values = self._mine.pop(number)
            with writing(self.name):
                self.file(number).unlink(missing_ok=True)  # which a killed worker may have left in part
                self.array[self.span(number)] = values
                _fsync(self.file(number))

    def read_shard(self, number: int) -> tuple[NDArray[Any], NDArray[np.intp]]:
        """Return the rows of a shard, and the numbers of those whose chunks do not fit their checksums."""
        span, step = self.span(number), rows_of(self.row_bytes)[0]
        with suppress(ValueError):
            return self.array[span], np.zeros(0, np.intp)
        block, wrong = self._held(number), list[int]()
        for first in range(span.start, span.stop, step):
            part = slice(first, min(first + step, span.stop))
            try:
                block[part.start - span.start : part.stop - span.start] = self.array[part]
            except ValueError:
                wrong += range(part.start, part.stop)
        return self._mine.pop(number), np.array(wrong, np.intp)

    def check(self, rows: NDArray[np.intp]) -> None:
        """Look for the shards of rows; OutputError if one is not there, or not whole."""
        for number in np.unique(rows // self.unit_rows).tolist():
            if not self._is_whole(number):
                where = self.file(number).relative_to(self.path)
                raise OutputError(f"{self.name}: {where} is not as it was written", "Check the disk.")

    def complete(self) -> None:
        """Write the shards that no task has: all their rows are zeros."""
        for number in range(self.count):
            if not self.file(number).exists():
                self._held(number)
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

    @property
    def _mine(self) -> dict[int, NDArray[Any]]:
        """The shards that this thread makes."""
        return vars(self._own)  # type: ignore[return-value]

    def _held(self, number: int) -> NDArray[Any]:
        """Return the rows of a shard that this thread makes; zeros at first."""
        if number not in self._mine:
            span = self.span(number)
            self._mine[number] = np.zeros((span.stop - span.start, *self.row_shape), self.dtype)
        return self._mine[number]

    def _is_whole(self, number: int) -> bool:
        """Whether a shard is there, with all its bytes: its index comes last."""
        with suppress(OSError, ValueError):
            self.file(number).stat()  # or its rows were zeros
            self.array[self.span(number).start]
            return True
        return False

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_own": None, "_array": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"_own": threading.local()})


def copy_rows(rows: RowFile, shards: RowFile) -> None:
    """Write rows that lie in a file of their own into shards."""
    assert isinstance(shards, Shards)
    for number in range(shards.count):
        span = shards.span(number)
        numbers = np.arange(span.start, span.stop)
        shards.write(numbers, rows.read(numbers))
        shards.commit()


def rows_of(row_bytes: int) -> tuple[int, int]:
    """Return rows of a chunk, and chunks of a shard; they depend on nothing else, so neither do files."""
    rows = max(1, _CHUNK_BYTES // row_bytes)
    return rows, max(1, _SHARD_BYTES // (rows * row_bytes))


def load_zarr() -> Any:
    """Return the package zarr; UsageError if it is not installed."""
    try:
        import zarr
    except ImportError as error:
        raise UsageError("outputs to Zarr need the package zarr", "Install it: pip install 'roicli[zarr]'.") from error
    return zarr


def _at(path: Path) -> Any:
    """Return what zarr opens: a folder by its name."""
    if not isinstance(path, StorePath):
        return path
    from roicli.stores.zarrobjects import open_objects

    return open_objects(path)


def _row_bytes(array: Any) -> int:
    return int(math.prod(array.shape[1:]) * array.dtype.itemsize)


def begin(store: Any, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> None:
    """Make a store with all but the features."""
    said = {
        name: encode(value).decode() if isinstance(value, str) else value for name, value in record.parameters.items()
    }
    group = load_zarr().create_group(store, attributes={"complete": False, "parameters": said})
    make_features(group, shape, dtype)
    for name, column in record.all_columns().items():
        texts = [_plain(text) for text in column.tolist()] if isinstance(column, Names) else ()
        values = np.array(texts, np.dtypes.StringDType()) if isinstance(column, Names) else column
        _make(group, name, values.shape, values.dtype, min(max(len(values), 1), _COLUMN_ROWS))[...] = values


def make_features(group: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Make the array of the features, without shards."""
    rows, chunks = rows_of(math.prod(shape[1:]) * dtype.itemsize)
    return _make(group, "features", shape, dtype, rows, shards=(rows * chunks, *shape[1:]))


def _plain(value: Any) -> Any:
    return encode(value).decode() if isinstance(value, str) else value


def _make(group: Any, name: str, shape: tuple[int, ...], dtype: Any, rows: int, **more: Any) -> Any:
    """Make an array of chunks of so many rows."""
    named = (*_AXES.get(name, ("row",)), *(f"{name}_{axis}" for axis in range(1, len(shape))))
    return group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(rows, *shape[1:]),
        filters=None,
        compressors=[load_zarr().codecs.Crc32cCodec()],
        chunk_key_encoding={"name": "default", "separator": "."},
        dimension_names=named[: len(shape)],
        **more,
    )


def complete(store: Any) -> None:
    """Write down at the root of a store what all of it holds, and that it is complete."""
    with warnings.catch_warnings(action="ignore"):  # the specification does not have them yet
        load_zarr().consolidate_metadata(store, zarr_format=3)
    _mark(store, complete=True)


def _mark(store: Any, *, complete: bool) -> None:
    """Write down whether a store is complete."""
    load_zarr().open_group(store, mode="r+", use_consolidated=complete).update_attributes({"complete": complete})


def _read_column(array: Any) -> Column:
    """Read what is recorded of each row."""
    values = array[...]
    return values if values.dtype.kind in "biuf" else names_of(np.array(values.tolist()))


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        close_file(descriptor)


def _flush(path: Path) -> None:
    """Force a folder and all in it onto the disk; remove what killed workers have left."""
    for stray in path.rglob("*.partial"):
        stray.unlink()
    for entry in (*path.rglob("*"), path):
        _fsync(entry)
