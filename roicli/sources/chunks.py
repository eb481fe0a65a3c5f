"""HDF5 datasets of gzip chunks: the stored chunks are taken from HDF5 as they are, and inflated here.

Inflating is most of what reading them costs, and isal, where it is installed, takes little more than half the time of
the zlib that HDF5 uses. Whatever is out of the ordinary (a chunk that was never written or does not inflate, other
filters) is left to HDF5, which also says what is wrong with it.
"""

from __future__ import annotations

import math
import zlib
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Where chunks are smaller, the Python around each of them takes longer than HDF5 takes for all.
_SMALL_CHUNK = 4096
# Items that share chunks are read together up to this many bytes, since each alone would inflate all of them again.
_TOGETHER = 64 * 2**20

# Most bytes that deflate adds to what it cannot shorten, beside one in a thousand.
_SLACK = 64


class GzipChunks:
    """A dataset whose chunks are deflated, their bytes shuffled before or not.

    Attributes
    ----------
    shape : tuple of int
        Of the dataset.
    chunk : tuple of int
        Shape of its chunks; those at the edges are stored in full too.
    dtype : numpy.dtype
        As stored.
    """

    def __init__(self, dataset: Any, shuffled: bool) -> None:
        self.shape: tuple[int, ...] = dataset.shape
        self.chunk: tuple[int, ...] = dataset.chunks
        self.dtype: np.dtype[Any] = dataset.dtype
        self._id, self._shuffled = dataset.id, shuffled
        self._nbytes = math.prod(self.chunk) * self.dtype.itemsize

    @classmethod
    def of(cls, dataset: Any) -> GzipChunks | None:
        """Take an h5py.Dataset; None where HDF5 has to read it."""
        from h5py import h5t, h5z

        if not dataset.chunks:
            return None
        created = dataset.id.get_create_plist()
        filters = [created.get_filter(i) for i in range(created.get_nfilters())]
        shuffled = len(filters) == 2 and filters[0][0] == h5z.FILTER_SHUFFLE
        if len(filters) != 1 + shuffled or filters[-1][0] != h5z.FILTER_DEFLATE:
            return None
        # HDF5 converts types that NumPy has not, such as bfloat16.
        if dataset.id.get_type() != h5t.py_create(dataset.dtype):
            return None
        if shuffled and filters[0][2] != (dataset.dtype.itemsize,):
            return None
        chunks = cls(dataset, shuffled)
        return chunks if chunks._nbytes >= _SMALL_CHUNK else None

    def together(self, item: int) -> tuple[int, int]:
        """First and stop of the items that are best read with item `item` of the leading axis."""
        first = item // self.chunk[0] * self.chunk[0]
        stop = min(first + self.chunk[0], self.shape[0])
        nbytes = (stop - first) * math.prod(self.shape[1:]) * self.dtype.itemsize
        return (first, stop) if nbytes <= _TOGETHER else (item, item + 1)

    def read(self, first: int, stop: int) -> NDArray[Any] | None:
        """Items `first` to `stop` of the leading axis; None where HDF5 has to read them.

        Raises
        ------
        ValueError
            A chunk inflates to more or fewer bytes than its shape has.
        """
        wanted = ((first, stop), *((0, size) for size in self.shape[1:]))
        out = np.empty([high - low for low, high in wanted], self.dtype)
        starts = (range(low // size * size, high, size) for (low, high), size in zip(wanted, self.chunk, strict=True))
        for corner in product(*starts):
            values = self._values(corner)
            if values is None:
                return None
            target, source = [], []
            for start, size, (low, high) in zip(corner, self.chunk, wanted, strict=True):
                begin, end = max(start, low), min(start + size, high)
                target.append(slice(begin - low, end - low))
                source.append(slice(begin - start, end - start))
            out[tuple(target)] = values[tuple(source)]
        return out

    def _values(self, corner: tuple[int, ...]) -> NDArray[Any] | None:
        """Values of the chunk at `corner`, also those beyond the edge of the dataset; None if HDF5 has to read it."""
        try:
            # No larger than deflate ever is: HDF5 would take the file's word for its size.
            if self._id.get_chunk_info_by_coord(corner).size > self._nbytes + self._nbytes // 1000 + _SLACK:
                return None
            skipped, data = self._id.read_direct_chunk(corner)
        except (OSError, RuntimeError, MemoryError):  # never written, so that it holds the fill value; or not readable
            return None
        complete = True
        # Each filter has a bit, in the order in which they were applied.
        if not skipped & (1 << self._shuffled):
            decompressobj, failure = _inflate()
            inflating = decompressobj()
            try:
                # With room for a byte more, a stream that is right comes to its end, and a longer one shows.
                data = inflating.decompress(data, self._nbytes + 1)
            except failure:
                return None
            complete = inflating.eof
        if not complete or len(data) != self._nbytes:
            raise ValueError(f"its chunk at {corner} does not hold {self._nbytes} bytes")
        if self._shuffled and not skipped & 1:
            data = _unshuffle(data, self.dtype.itemsize)
        return np.frombuffer(data, self.dtype).reshape(self.chunk)


def _unshuffle(data: bytes, itemsize: int) -> NDArray[np.uint8]:
    """Put together the values whose first bytes come first, then their second bytes, and so on."""
    planes = np.frombuffer(data, np.uint8).reshape(itemsize, -1)
    values = np.empty(planes.shape[::-1], np.uint8)
    for i, plane in enumerate(planes):  # less than half the time of one transposing copy
        values[:, i] = plane
    return values


@cache
def _inflate() -> tuple[Any, Any]:
    """Choose what inflates: the maker of its decompressors, and what they raise."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.decompressobj, zlib.error
    return isal_zlib.decompressobj, isal_zlib.error
