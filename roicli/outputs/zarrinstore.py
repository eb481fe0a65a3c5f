"""Outputs to Zarr in a store (S3, Google, Azure): each shard is an object, put whole by the worker that made it.

Nothing is renamed in a store. The root of the group is put last: it makes the output exist.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.errors import OutputError
from roicli.newfiles import NewFile, final_of
from roicli.outputs.base import OutputFormat, Record
from roicli.outputs.rowfile import RowFile
from roicli.outputs.zarr import Shards, Zarr, begin, complete, copy_rows, load_zarr, make_features
from roicli.stores.path import StorePath


class ZarrInStore(Zarr):
    """A Zarr store of objects; see `Zarr`."""

    assembled = True

    @property
    def _shards(self) -> type[Shards]:
        return ShardsInStore

    def scattered(self) -> OutputFormat:
        """See `OutputFormat`."""
        return ScatteredInStore()

    def create(self, path: Path, name: Path, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> RowFile:
        """Remove the objects of an output that is replaced, its root first; see `OutputFormat`."""
        load_zarr()
        final_of(name).unlink()
        StorePath(name).remove_below()
        return self._target(name, name, shape, dtype)

    def resume(self, path: Path, name: Path, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> RowFile:
        """See `OutputFormat`."""
        load_zarr()
        return self._target(name, name, shape, dtype)

    def finish(self, target: RowFile, record: Record) -> None:
        """Put shards of zeros where no task has put any."""
        assert isinstance(target, Shards)
        target.complete()

    def assemble(self, target: RowFile, record: Record, name: Path, *, overwrite: bool) -> NewFile:
        """Put all but the root, which is what appears at last; see `OutputFormat`."""
        rows = target.rows if isinstance(target, Shards) else target.count
        made: dict[str, Any] = {}
        store = load_zarr().storage.MemoryStore(made)
        begin(store, (rows, *target.row_shape), target.dtype, record)
        complete(store)
        root = NewFile(final_of(name), overwrite=overwrite)
        last = made.pop(root.final.name).to_bytes()
        for key, value in made.items():
            (name / key).write_bytes(value.to_bytes())
        root.write([last])
        return root


class ScatteredInStore(ZarrInStore):
    """The same store, made when all rows are there: they come in any order, and lie in a file of this machine."""

    create, resume = OutputFormat.create, OutputFormat.resume

    def finish(self, target: RowFile, record: Record) -> None:
        """Do nothing: the rows are all that the file holds."""

    def assemble(self, target: RowFile, record: Record, name: Path, *, overwrite: bool) -> NewFile:
        """See `OutputFormat`."""
        shards = ZarrInStore().create(name, name, (target.count, *target.row_shape), target.dtype, record)
        copy_rows(target, shards)
        return super().assemble(shards, record, name, overwrite=overwrite)


@dataclass
class ShardsInStore(Shards):
    """Rows in shards of an array in a store; see `Shards`."""

    stays = True

    def commit(self, before: int | None = None) -> None:
        """Put the shards that this thread holds, or those that end at a row or before; OutputError if that fails."""
        for number in [held for held in self._mine if before is None or self.span(held).stop <= before]:
            values = self._mine.pop(number)
            array, made = self._encoder
            array[self.span(number)] = values
            file = self.file(number)
            file.write_bytes(memoryview(made.pop(str(file.relative_to(self.path))).as_numpy_array()))

    def check(self, rows: NDArray[np.intp]) -> None:
        """Look for the shards of rows; OutputError if one is not there."""
        there = self._there()
        for number in np.unique(rows // self.unit_rows).tolist():
            if self.file(number) not in there:
                raise OutputError(f"{self.file(number)} is not there any more", "Look for who removes objects.")

    def complete(self) -> None:
        """Put the shards that no task has: all their rows are zeros."""
        there = self._there()
        for number in range(self.count):
            if self.file(number) not in there:
                self._held(number)
                self.commit()

    def flush(self) -> None:
        """Do nothing: what is put stays."""

    def open(self) -> int:
        """Return no descriptor."""
        return -1

    def remove(self) -> None:
        """Remove all that is written."""
        with suppress(OSError):
            StorePath(self.path).remove_below()

    def _there(self) -> set[StorePath]:
        return {*StorePath(self.path / "features").below()}

    @cached_property
    def _encoder(self) -> tuple[Any, dict[str, Any]]:
        """Return an array in memory, and where its shards come to lie."""
        zarr, made = load_zarr(), dict[str, Any]()
        with zarr.config.set({"array.write_empty_chunks": True}):
            group = zarr.create_group(zarr.storage.MemoryStore(made))
            return make_features(group, (self.rows, *self.row_shape), self.dtype), made

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_encoder"}
