"""HDF5 datasets of chunks: the stored bytes are taken from the file past HDF5, and their filters undone here.

Whatever is out of the ordinary (chunks that were never written, other filters or types) is left to HDF5, once it is
sure that it reads what is there.
"""

from __future__ import annotations

import math
import os
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.sources.hdf5.filters import Filters, Stored
from roicli.sources.hdf5.index import ChunkIndex, tells_wrong_places

# Items that share chunks are read together up to this many bytes, since each alone would inflate all of them again.
_TOGETHER = 64 * 2**20

# Most bytes by which a filter lengthens what it cannot shorten, beside one in a thousand: deflate, and checksums.
_SLACK = 64

# What one call of the system reads.
_MOST_AT_ONCE = 2**30


class Chunks:
    """The chunks of a dataset.

    Parameters
    ----------
    dataset : h5py.Dataset
        It has chunks.
    itemsize : int, optional
        Bytes of one of its values as stored, if not those of its type.

    Attributes
    ----------
    shape : tuple of int
        Of the dataset.
    size : tuple of int
        Shape of its chunks; those at the edges are stored in full too.
    filters : Filters or None
        What the chunks have gone through, if that is known here.
    """

    def __init__(self, dataset: Any, itemsize: int | None = None) -> None:
        self.shape: tuple[int, ...] = dataset.shape
        self.size: tuple[int, ...] = dataset.chunks  # of those at the edges too
        self._dataset = dataset
        itemsize = itemsize or dataset.id.get_type().get_size()
        self._nbytes = math.prod(self.size) * itemsize
        # HDF5 would take the file's word for the size of what it reads.
        self._most = self._nbytes + self._nbytes // 1000 + _SLACK
        self.filters = Filters.of(dataset, itemsize, self._nbytes)
        self._descriptor = _descriptor(dataset)

    def together(self, item: int) -> tuple[int, int]:
        """First and stop of the items that are best read with item `item` of the leading axis."""
        first = item // self.size[0] * self.size[0]
        stop = min(first + self.size[0], self.shape[0])
        nbytes = (stop - first) * math.prod(self.shape[1:]) * self._dataset.dtype.itemsize
        return (first, stop) if nbytes <= _TOGETHER else (item, item + 1)

    def read(self, index: ChunkIndex, first: int, stop: int) -> NDArray[Any] | None:
        """Items `first` to `stop` of the leading axis; None where HDF5 has to read them, and may.

        Raises
        ------
        ValueError
            A chunk does not hold what it stands for.
        """
        from h5py import h5t

        dtype = self._dataset.dtype
        wanted = ((first, stop), *((0, size) for size in self.shape[1:]))
        # Of each chunk along each axis: what of the result it holds, and where in itself.
        axes = [
            [
                (slice(max(start - low, 0), min(start + size, high) - low), slice(max(low - start, 0), high - start))
                for start in range(low // size * size, high, size)
            ]
            for (low, high), size in zip(wanted, self.size, strict=True)
        ]
        chunks = index.between(first // self.size[0] * self.size[0], stop)
        complete = len(chunks) == math.prod(map(len, axes))
        # HDF5 converts types that NumPy has not, such as bfloat16.
        native = self._dataset.id.get_type() == h5t.py_create(dtype)
        known = self.filters and self.filters.any and not any(map(self._may_be_plain, chunks))
        if not (complete and native and known):
            self.check(chunks)
            return None
        out = np.empty([high - low for low, high in wanted], dtype)
        for chunk, place in zip(chunks, product(*axes), strict=True):
            target, source = zip(*place, strict=True)
            out[target] = np.ndarray(self.size, dtype, self.values(chunk))[source]
        return out

    def check(self, chunks: list[list[int]]) -> None:
        """Raise ValueError if a chunk cannot hold what it stands for; of filters not known here, its size is all."""
        for chunk in chunks:
            if self.filters and self.filters.any and not self._may_be_plain(chunk):
                self.values(chunk)
            else:
                self._check_size(chunk)

    def values(self, chunk: list[int]) -> Stored:
        """Bytes of the values of a chunk, also of those beyond the edge of the dataset."""
        self._check_size(chunk)
        *corner, skipped, offset, size = chunk
        if self._descriptor is None or size > _MOST_AT_ONCE:
            data = self._dataset.id.read_direct_chunk(tuple(corner))[1]
        else:
            data = os.pread(self._descriptor, size, offset)
        try:
            return self.filters.undo(data, skipped) if self.filters else data
        except ValueError as error:
            raise ValueError(f"its chunk at {tuple(corner)} {error}") from error

    def _may_be_plain(self, chunk: list[int]) -> bool:
        """Whether a chunk at the edge may have skipped all filters: an option of datasets that h5py does not tell."""
        *corner, _, _, size = chunk
        stops = [start + step for start, step in zip(corner, self.size, strict=True)]
        return size == self._nbytes and any(stop > end for stop, end in zip(stops, self.shape, strict=True))

    def _check_size(self, chunk: list[int]) -> None:
        """Raise ValueError unless the bytes of a chunk in the file can be those of its values."""
        *corner, _, _, size = chunk
        plain = self.filters and not self.filters.any
        if not (size == self._nbytes if plain else 0 < size <= self._most):
            raise ValueError(f"its chunk at {tuple(corner)} does not hold {self._nbytes} bytes")


def _descriptor(dataset: Any) -> int | None:
    """Descriptor of a file whose bytes are where HDF5 says; in one with a user block, that depends on its version."""
    if tells_wrong_places(dataset):
        return None
    from h5py import h5fd, h5i

    file = h5i.get_file_id(dataset.id)
    plain = file.get_access_plist().get_driver() == h5fd.SEC2 and not file.get_create_plist().get_userblock()
    return file.get_vfd_handle() if plain else None
