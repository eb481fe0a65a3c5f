"""A Zarr store of version 2 or 3, in a folder or a zip archive. It needs the package zarr."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.errors import FileError
from roicli.files import Stamp, check_ratio, printable, reading
from roicli.protocols import Shared
from roicli.sources.base import StoredMap
from roicli.sources.handle import OwnHandle
from roicli.sources.inventory import Inventory, Kind, group_named
from roicli.sources.layout import MapLayout
from roicli.sources.named import NamedArrays
from roicli.sources.values import PACKED, Packing, decoded, packing_of
from roicli.stores.path import StorePath, is_store, path_of

# Files that describe a group or an array, of version 3 and 2.
_METADATA = ("zarr.json", ".zgroup", ".zarray")
# Descriptions of so many arrays are watched for changes.
_WATCHED, _WATCHED_OBJECTS = 1000, 8
# And so many chunks of each map.
_WATCHED_CHUNKS = 10_000


class _Described(NamedTuple):
    """An array of the store, by name; its values are asked of the store."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]  # of what is one file: shards, if there are any
    together: int  # items of the first axis that are in one chunk
    packing: Packing | None
    path: str  # in the store
    metadata: Any  # knows the names of chunks

    def keys(self, index: int | None) -> Iterator[str]:
        """Name the chunks, or those that hold a map of a stack."""
        counts = [range(-(-length // step)) for length, step in zip(self.shape, self.chunks, strict=True)]
        if index is not None:
            counts[0] = range(index // self.chunks[0], index // self.chunks[0] + 1)
        for place in product(*counts):
            yield f"{self.path}/{self.metadata.encode_chunk_key(place)}".lstrip("/")


class ZarrSource(NamedArrays[_Described]):
    """One Zarr store, in a folder or an archive."""

    holds = "an array per image, named by its id; or one array (N, C, H, W); a folder or a zip"

    def __init__(self, path: Path, layout: MapLayout, dataset: str | None = None) -> None:
        super().__init__(path, layout)
        self._handle = OwnHandle(partial(_open, path))
        with reading(self.name):
            for name, array in _arrays(self._handle.get(), printable(path.stem)).items():
                self._arrays[name] = _describe(array, self._where(name))
        self._watched = _metadata(path, list(self._arrays))
        for file in self._watched:
            self._note(file, Stamp.of(path_of(file)))
        self._set_up(dataset)

    @classmethod
    def take_stock(cls, path: Path) -> Inventory:
        """List the arrays."""
        arrays = _arrays(_open(path), printable(path.stem))

        def describe(array: Any) -> tuple[Kind, int]:
            dtype = "string" if array.dtype.kind == "T" else str(array.dtype)
            return Kind(array.shape, dtype, f"chunks {array.chunks}"), _stored(array)

        return group_named(arrays, describe)

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that describe the arrays, or the archive."""
        return self._watched

    def _whole(self, name: str) -> StoredMap:
        self._note_chunks(name, None)
        return decoded(super()._whole(name), self._arrays[name].packing)

    def _find(self, index: int) -> StoredMap:
        found = super()._find(index)
        if self._names is not None:
            return found
        self._note_chunks(self._stack, index)
        return decoded(found, self._arrays[self._stack].packing)

    def _note_chunks(self, name: str, index: int | None) -> None:
        """Keep the stamps of the files of chunks; an archive is one file, which is watched."""
        if not is_store(self.path) and self.path.is_dir():
            for key in islice(self._arrays[name].keys(index), _WATCHED_CHUNKS):
                with suppress(FileNotFoundError):  # it holds the fill value
                    self._note(file := f"{self.path}/{key}", Stamp.of(file))

    def _values(self, name: str, index: int | None) -> NDArray[Any]:
        """Values of an array, or of map `index` of a 4-D one."""
        said, where = self._arrays[name], self._where(name)
        for file in self._watched[:1]:
            self._note(file, Stamp.of(path_of(file)))
        with reading(where):
            array = self._handle.get().array(name)
            if index is None:
                _check(array, said, where, None)
                values = array[...]
                return (
                    np.array(list(map(str, values.flat))).reshape(values.shape)
                    if said.dtype.kind == "U"
                    else np.asarray(values)
                )
            nbytes = math.prod(said.shape[1:]) * np.dtype(said.dtype).itemsize
            return self._with_others(index, nbytes, lambda items: _items(array, said, where, items))

    def shared(self, index: int) -> Shared | None:
        """Return the chunks that map `index` of a stack shares with others."""
        if self._names is not None or (length := self._arrays[self._stack].together) == 1:
            return None
        return Shared((index // length,), "zarr.create_array(NEW, data=array, chunks=(1, *array.shape[1:]))")

    def close(self) -> None:
        """Release the store and what is held of maps."""
        super().close()
        self._handle.close()


class _Root:
    """The group or array at the root of a store."""

    def __init__(self, node: Any, store: Any) -> None:
        self._node, self._store = node, store
        self._last: tuple[str, Any] = ("", None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    def array(self, name: str) -> Any:
        """Return an array; the last one is kept, since to open it takes as long as to read a map."""
        if not hasattr(self._node, "members"):
            return self._node
        if self._last[0] != name:
            self._last = name, self._node[name]
        return self._last[1]

    def close(self) -> None:
        """Close the store."""
        self._store.close()


def _open(path: Path) -> Any:
    try:
        import zarr
        from zarr.storage import LocalStore, ZipStore
    except ImportError as error:
        raise FileError(
            f"{printable(str(path))} is a Zarr store, which the package zarr reads",
            "Install it: pip install 'roicli[zarr]'.",
        ) from error
    with reading(
        printable(str(path)), "Give a Zarr store: a folder or a zip archive with zarr.json, .zgroup or .zarray."
    ):
        if isinstance(path, StorePath):
            if not path.is_dir():
                raise FileError(f"{path} is an archive in a store", "Unpack it there, or download it.")
            from roicli.stores.zarrobjects import open_objects

            store: Any = open_objects(path)
        else:
            store = LocalStore(path, read_only=True) if path.is_dir() else ZipStore(path, mode="r", read_only=True)
        return _Root(zarr.open(store=store, mode="r"), store)


def _arrays(root: Any, alone: str) -> dict[str, Any]:
    """List the arrays of a store; one without a group is named by its file."""
    if not hasattr(root._node, "members"):
        return {alone: root}
    return {name: node for name, node in root.members(max_depth=None) if not hasattr(node, "members")}


def _describe(array: Any, where: str) -> _Described:
    dtype = np.dtype("U") if array.dtype.kind in "TO" else array.dtype
    names = [name for name in PACKED if name in array.attrs]
    attributes = {name: np.asarray(_decoded(array.attrs[name])) for name in names}
    chunks = tuple(array.shards or array.chunks)
    packing = packing_of(attributes, where, dtype)
    together = array.chunks[0] if array.chunks else 1
    return _Described(tuple(array.shape), dtype, chunks, together, packing, array.path, array.metadata)


def _stored(array: Any) -> int:
    """Return the bytes that an array takes in its store; those of its values, where a store tells no sizes."""
    size: int = array.nbytes if is_store(str(array.store)) else array.nbytes_stored()
    return size


def _decoded(value: Any) -> Any:
    """Return a fill value as a number: xarray writes floats in base64."""
    if isinstance(value, str) and len(value) == 12:
        return struct.unpack("<d", base64.b64decode(value))[0]
    return value


def _items(array: Any, said: _Described, where: str, items: list[int]) -> NDArray[Any]:
    """Read items of the leading axis that share chunks."""
    _check(array, said, f"{where}, map {items[0]}", items[0])
    values = array[items[0] : items[-1] + 1] if len(items) == items[-1] + 1 - items[0] else array.oindex[items]
    return np.asarray(values)


def _check(array: Any, said: _Described, where: str, index: int | None) -> None:
    """Raise FileError if a map is not in the store: Zarr reads zeros for chunks that are missing."""
    together = max(math.prod(said.chunks), math.prod(array.shape if index is None else array.shape[1:]))
    check_ratio(where, together * array.dtype.itemsize, array.nbytes, partial(_stored, array))
    from zarr.core.sync import sync

    if 0 not in said.shape and not any(sync(array.store.exists(key)) for key in said.keys(index)):
        raise FileError(
            f"{where} was never written: the store has no chunk of it",
            "Write it; if the map is all zeros, write it with write_empty_chunks.",
        )


def _metadata(path: Path, names: list[str]) -> tuple[str, ...]:
    """Files whose change means that the store has changed."""
    if not path.is_dir():
        return (str(path),)
    folders = [path, *(path / name for name in names[: _WATCHED_OBJECTS if is_store(path) else _WATCHED])]
    return tuple(str(folder / file) for folder in folders for file in _METADATA if (folder / file).is_file())
