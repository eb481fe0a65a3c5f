"""An HDF5 file: one 4-D dataset, with or without a dataset of image ids beside it, or one 3-D dataset an image.

This process never opens the file by HDF5: a child looks it through, and says where the bytes of each map lie.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli import child
from roicli.arrays import StoredArray
from roicli.errors import FeatureError
from roicli.files import HDF5_SUFFIXES, Stamp, printable, reading
from roicli.protocols import Shared
from roicli.sources.base import MapSource, StoredMap
from roicli.sources.counted import Counted
from roicli.sources.hdf5.chunks import Chunks
from roicli.sources.inventory import Inventory, Kind, group
from roicli.sources.layout import MapLayout
from roicli.sources.values import Packing, decoded
from roicli.stores.file import open_bytes, stamp_of

# What the child does; this process does not load it, nor h5py.
_SURVEY, _LOCATE, _READ, _STOCK, _BESIDE = (
    f"roicli.sources.hdf5.inside:{name}" for name in ("survey", "locate", "read", "take_stock", "beside")
)

# Datasets are looked up some at a time, twice as many each time while they are asked for one after the other.
_MOST_AT_ONCE = 256
# Places of so many chunks are kept, in 32 bytes each; beyond, datasets are looked up again.
_CHUNKS_KEPT = 2**19


class _Place(NamedTuple):
    """Where the values of a dataset lie, or what is wrong with it."""

    shape: tuple[int, ...] = ()
    dtype: np.dtype[Any] = np.dtype("f4")
    start: int | None = None
    chunks: Chunks | None = None
    error: tuple[str, str, str] | None = None
    packing: Packing | None = None
    empty: bool = False


@lru_cache
def _kind(shape: tuple[int, ...], dtype: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return a shape and a dtype, the same objects for all datasets of one kind."""
    return shape, np.dtype(dtype)


def _never_written(where: str) -> FeatureError:
    return FeatureError(
        f"{printable(where)} was never written: HDF5 would give its fill value",
        "Write it, or leave out the boxes of its image; an extraction that was killed leaves such maps.",
    )


class Hdf5Source(MapSource):
    """One HDF5 file.

    Datasets that lie in the file in one piece are read as .npy files are; of plain and gzip chunks, the stored bytes
    are unpacked here; otherwise filtered, compact, virtual and not yet written ones are read by HDF5 in the child.
    """

    holds = "a dataset per image, named by its id, at the root or in a group; or one dataset (N, C, H, W)"
    has_datasets = True

    def __init__(self, path: Path, layout: MapLayout, dataset: str | None = None) -> None:
        super().__init__(path, layout)
        self._others: set[str] = set()
        self._places: dict[int, _Place] = {}
        self._next, self._width, self._chunks = -1, 1, 0
        found, table = child.ask(_SURVEY, path, dataset, layout.name)
        self._note(path, Stamp(*found["stamp"]))
        self._at: str = found["at"]
        self._maps: list[str] | None = found["maps"]
        self.labelled = found["ids"] is not None
        self.ids = tuple(found["ids"]) if self.labelled else Counted(found["count"])
        if self._maps is None:
            self._stack = self._place(found["place"], table)

    @classmethod
    def take_stock(cls, path: Path) -> Inventory:
        """List the datasets."""
        found = child.ask(_STOCK, path).value
        arrays = [(name, Kind(tuple(shape), *rest), stored) for name, (shape, *rest), stored in found["arrays"]]
        return group(arrays, found["left"])

    @property
    def paths(self) -> tuple[str, ...]:
        """The file, and those that hold values of the maps looked up so far."""
        return (str(self.path), *sorted(self._others))

    def _find(self, index: int) -> StoredMap:
        if self._maps is None:
            place, name, item = self._stack, self._at, index
        else:
            place, name, item = self._look_up(index), self._name(index), None
        if place.error:
            raise child.remake(*place.error)
        span = None
        if place.start is not None:
            array = self._array(place, place.start)
            array.check_inside(self.stamps[str(self.path)].size)
            span = (array if item is None else array.item(item)).span
        where, shape = f"{self.path}, dataset {name}", place.shape
        note = "" if self.path.suffix.lower() in HDF5_SUFFIXES else f"a {self.path.suffix} file, read as HDF5"
        if item is None:
            if place.empty and len(self) > 1:
                raise _never_written(where)
            stored = StoredMap(where, shape, place.dtype, lambda: self._load(where, place, name), note, span)
            return self._without_batch(decoded(stored, place.packing))
        where = f"{where}, map {item}"
        if place.chunks and place.chunks.lacks(item):
            raise _never_written(where)
        stored = StoredMap(where, shape[1:], place.dtype, lambda: self._load(where, place, name, item), note, span)
        return decoded(stored, place.packing)

    def shared(self, index: int) -> Shared | None:
        """Return the chunks that map `index` of a stack shares with others."""
        if self._maps is not None or not (chunks := self._stack.chunks) or chunks.size[0] == 1:
            return None
        one = "x".join(map(str, (1, *self._stack.shape[1:])))
        return Shared((index // chunks.size[0],), f"h5repack -l {self._at.lstrip('/')}:CHUNK={one} {self.name} NEW.h5")

    def beside(self, name: str) -> StoredMap | None:
        """Return a dataset of this name beside the maps."""
        found, values = child.ask(_BESIDE, self.path, self._at, name)
        if not found["found"]:
            return None
        array = np.array(found["strings"], np.str_) if values is None else values
        return StoredMap(found["where"], array.shape, array.dtype, lambda: array)

    def _name(self, index: int) -> str:
        assert self._maps is not None
        return f"{self._at.rstrip('/')}/{self._maps[index]}"

    def _look_up(self, index: int) -> _Place:
        if index not in self._places:
            self._width = min(2 * self._width, _MOST_AT_ONCE) if index == self._next else 1
            self._next = min(index + self._width, len(self))
            names = [self._name(number) for number in range(index, self._next)]
            found, table = child.ask(_LOCATE, self.path, names, self.layout.name)
            self._note(self.path, Stamp(*found["stamp"]))
            if self._chunks > _CHUNKS_KEPT:
                self._places, self._chunks = {}, 0
            for number, said in enumerate(found["places"], index):
                count = said.get("chunks", {}).get("count", 0)
                if table is not None:
                    place = self._place(said, table[:count])
                    table = table[count:]
                else:
                    place = self._place(said, None)
                self._chunks += count
                self._places[number] = place
        return self._places[index]

    def _place(self, said: dict[str, Any], table: NDArray[np.uint64] | None) -> _Place:
        if "error" in said:
            return _Place(error=tuple(said["error"]))
        for other, stamp in said["stamps"].items():
            self._others.add(other)
            self._note(other, Stamp(*stamp))
        shape, dtype = _kind(tuple(said["shape"]), said["dtype"])
        start, chunks = said["start"], None
        if "chunks" in said:
            its = said["chunks"]
            codes = None if its["filters"] is None else tuple(its["filters"])
            empty = np.empty((0, 4), np.uint64)
            chunks = Chunks(shape, dtype, tuple(its["size"]), codes, empty if table is None else table)
        packing = (
            Packing(said["packing"][0], said["packing"][1], tuple(said["packing"][2])) if "packing" in said else None
        )
        return _Place(shape, dtype, start, chunks, packing=packing, empty=said["empty"])

    def _load(self, where: str, place: _Place, name: str, item: int | None = None) -> NDArray[Any]:
        """Read a dataset, or one item of it."""
        with reading(where):
            if place.start is not None:
                return self._array(place, place.start).load(item)
            if item is None:
                return self._read(place, name)
            nbytes = math.prod(place.shape[1:]) * place.dtype.itemsize
            return self._with_others(item, nbytes, lambda items: self._read(place, name, items))

    def _array(self, place: _Place, start: int) -> StoredArray:
        return StoredArray(self.path, start, place.shape, place.dtype, stamp=self.stamps[str(self.path)])

    def _read(self, place: _Place, name: str, items: list[int] | None = None) -> NDArray[Any]:
        """Read items of the leading axis, or all, from their chunks, or by HDF5."""
        if place.chunks:
            with open_bytes(self.path, self.stamps[str(self.path)]) as file:
                self._note(self.path, stamp_of(file))
                if (values := place.chunks.read(file, items)) is not None:
                    return values
        shape = place.shape if items is None else (len(items), *place.shape[1:])
        nbytes = math.prod(shape) * place.dtype.itemsize
        found, read = child.ask(_READ, self.path, name, items, memory=nbytes)
        self._note(self.path, Stamp(*found["stamp"]))
        if read is None or (read.shape, read.dtype) != (shape, place.dtype):
            raise ValueError(f"it is not {shape} of {place.dtype}")
        return read
