"""An HDF5 file: one 4-D dataset, with or without a dataset of image ids beside it, or one 3-D dataset an image."""

from __future__ import annotations

from contextlib import closing
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.errors import FeatureError
from roicli.files import StoredArray, file_size, printable, reading, wrong_content
from roicli.imageids import Counted
from roicli.sources.base import Layout, MapSource, StoredMap, check_map, is_poolable, unique, without_batch
from roicli.sources.choose import sibling_ids
from roicli.sources.hdf5.chunks import Chunks
from roicli.sources.hdf5.handle import OwnHandle
from roicli.sources.hdf5.heap import check_strings
from roicli.sources.hdf5.index import ChunkIndex
from roicli.sources.hdf5.storage import check_storage, external_files
from roicli.sources.hdf5.tree import find_maps, members, name_of, raw
from roicli.sources.hdf5.virtual import VirtualParts, shape_of

# What the text of an id takes in memory, at the least.
_ID_BYTES = 16


class _Opened:
    """An open file, its size by then, and where the chunks of its stack lie, once that was found."""

    def __init__(self, path: Path) -> None:
        import h5py

        self.size = file_size(path)
        self.file = h5py.File(path, "r")
        self.index: ChunkIndex | None = None

    def close(self) -> None:
        self.index = None
        self.file.close()


class Hdf5Source(MapSource):
    """One HDF5 file.

    Datasets that lie in the file in one piece are read as .npy files are; of gzip and LZF chunks, the stored bytes are
    unpacked here; otherwise filtered, plainly chunked, compact, virtual and not yet written ones are read through h5py,
    one map at a time.
    """

    # Maps read together, because they share chunks: the first of them, and their values.
    _held: tuple[int, NDArray[Any]] | None = None

    def __init__(self, path: Path, layout: Layout, dataset: str | None) -> None:
        super().__init__(path, layout)
        self._file = OwnHandle(partial(_Opened, path))
        self._virtual: dict[str, VirtualParts] = {}
        self._others: set[str] = set()
        self._plain: dict[str, StoredArray] = {}  # datasets found in one piece; workers need not look them up again
        with reading(self.name):
            import h5py

            if not h5py.is_hdf5(path):
                raise wrong_content(path, "an HDF5 file")
            with closing(_Opened(path)) as opened:
                choice = find_maps(opened.file, self.name, dataset)
                self._at = choice.path
                self._maps = choice.maps
                if choice.maps is None:
                    self._list_stack(opened.file[raw(self._at)])
                else:
                    self.labelled = True
                    self.ids = unique(map(printable, choice.maps), self.name)

    @property
    def paths(self) -> tuple[str, ...]:
        """The file, and those that hold values of the maps looked up so far."""
        return (str(self.path), *sorted(self._others))

    def _list_stack(self, stack: Any) -> None:
        """Take the ids of a 4-D dataset from the dataset of ids beside it, or else count its maps."""
        ids = sibling_ids(members(stack.parent)[0], stack.shape[0], lambda name: self._beside(stack, name))
        self.labelled = ids is not None
        self.ids = Counted(stack.shape[0]) if ids is None else ids
        if self.ids:
            check_map(f"{self.path}, dataset {self._at}", stack.shape[1:], stack.dtype)

    def _beside(self, stack: Any, name: str) -> StoredMap | None:
        """Describe a dataset of the same group."""
        import h5py

        dataset = stack.parent[raw(name)]
        if not isinstance(dataset, h5py.Dataset):
            return None
        dtype = np.dtype("S") if h5py.check_string_dtype(dataset.dtype) else dataset.dtype
        where = f"{self.path}, dataset {name_of(dataset)}"

        def load() -> NDArray[Any]:
            check_storage(dataset, where, None, least_bytes=_ID_BYTES)
            if dataset.is_virtual:
                VirtualParts.check(dataset, where).check_descriptors(None)
            if dataset.dtype.kind == "O":
                check_strings(dataset, where)
            elif dataset.chunks:
                Chunks(dataset).check(ChunkIndex(dataset).between(0, dataset.shape[0]))
            return np.asarray(dataset[()])

        return StoredMap(where, shape_of(dataset, where), dtype, load)

    def _find(self, index: int) -> StoredMap:
        path = self._at if self._maps is None else f"{self._at.rstrip('/')}/{self._maps[index]}"
        where = f"{self.path}, dataset {path}"
        item = index if self._maps is None else None
        plain = self._plain.get(path)
        if plain is None:
            with reading(where):
                dataset = self._look_up(path, where)
                shape, dtype = dataset.shape or (), dataset.dtype
                start = _start(dataset)
                if start is not None:
                    plain = StoredArray(self.path, start, shape, dtype)
                    plain.check_inside(self._file.get().size)
                    self._plain[path] = plain
                elif len(shape) in (3, 4):
                    check_storage(dataset, where, item)
        else:
            shape, dtype = plain.shape, plain.dtype
        if item is not None:
            where, shape = f"{where}, map {item}", shape[1:]

        def load() -> NDArray[Any]:
            with reading(where):
                if plain:
                    return plain.load(item)
                if parts := self._virtual.get(path):
                    parts.check_descriptors(item)
                values = self._unpacked(dataset, item) if dataset.chunks else None
                return np.asarray(dataset[() if item is None else item]) if values is None else values

        stored = StoredMap(where, shape, dtype, load)
        return without_batch(stored) if item is None else stored

    def _look_up(self, path: str, where: str) -> Any:
        """Open a dataset, and see to it that all files that hold its values are there."""
        from h5py import Dataset, h5d, h5o

        # As h5py does it, but for what it finds out of the file as a whole, again for each dataset.
        found = h5o.open(self._file.get().file.id, raw(path))
        if not isinstance(found, h5d.DatasetID):
            raise FeatureError(f"{where} is no dataset, and so no map", "Keep maps apart from groups and types.")
        dataset = Dataset(found)
        if dataset.is_virtual and path not in self._virtual:
            self._virtual[path] = VirtualParts.check(dataset, where)
            self._others |= set(self._virtual[path].paths) - {dataset.file.filename}
        elif dataset.external:
            self._others |= external_files(dataset)
        return dataset

    def _unpacked(self, dataset: Any, item: int | None) -> NDArray[Any] | None:
        """Values of a dataset of chunks, or of one item of it; None if h5py has to read them, and may."""
        chunks = Chunks(dataset)
        if item is None:
            return chunks.read(ChunkIndex(dataset), 0, chunks.shape[0])
        first, stop = chunks.together(item)
        held = self._held
        if held is None or held[0] != first:
            held = self._held = None  # first, to hold one at a time
            opened = self._file.get()
            opened.index = opened.index or ChunkIndex(dataset)
            values = chunks.read(opened.index, first, stop)
            if values is None:
                return None
            values.flags.writeable = False
            held = first, values
            if stop - first > 1:
                self._held = held
        value: NDArray[Any] = held[1][item - first]
        return value

    def close(self) -> None:
        """Release the file, and what is held of maps."""
        self._held = None
        self._file.close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": None}


def _start(dataset: Any) -> int | None:
    """Offset of a dataset in its file; None unless its values lie there in one piece and as they are read."""
    from h5py import h5d

    if dataset.chunks or not is_poolable(dataset.dtype):  # the status of chunks would take a look at each
        return None
    # The offset alone does not tell: in a file with a user block, h5py gives one to datasets that have none.
    if dataset.id.get_space_status() != h5d.SPACE_STATUS_ALLOCATED:
        return None
    # HDF5 converts types that NumPy has not, such as bfloat16.
    if dataset.id.get_type() != _native(dataset.dtype):
        return None
    offset: int | None = dataset.id.get_offset()
    return offset


@lru_cache
def _native(dtype: np.dtype[Any]) -> Any:
    """HDF5's type of what NumPy reads as `dtype` without a conversion."""
    from h5py import h5t

    return h5t.py_create(dtype)
