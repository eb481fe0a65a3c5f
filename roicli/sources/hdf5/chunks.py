"""HDF5 datasets of chunks: their stored bytes are taken from the file past HDF5, and their filters undone here.

Whatever is out of the ordinary (chunks that were never written, other filters or types) is left to HDF5.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise, product
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from roicli.sources.hdf5.filters import Filters
from roicli.stores.file import expect, read_at
from roicli.stores.path import is_store

# Most bytes by which a filter lengthens what it cannot shorten, beside one in a thousand.
_SLACK = 64

# Runs of fewer values are slow to copy, one at a time.
_SHORT = 32

# What one call of the system reads.
_MOST_AT_ONCE = 2**30


class Chunks:
    """The chunks of a dataset.

    `shape`, `dtype`: of the dataset.
    `size`: shape of its chunks; those at the edges are stored in full too.
    `codes`: filters of the chunks; None if HDF5 has to read them.
    `table` (n, 4): see `index.find_chunks`.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        size: tuple[int, ...],
        codes: tuple[int, ...] | None,
        table: NDArray[np.uint64],
    ) -> None:
        self.shape, self.dtype, self.size, self.table = shape, dtype, size, table
        nbytes = math.prod(size) * dtype.itemsize
        self._filters = None if codes is None else Filters(codes, dtype.itemsize, nbytes)
        # HDF5 would take the file's word for the size of what it reads.
        self._sizes = (1, nbytes + nbytes // 1000 + _SLACK) if codes else (nbytes, nbytes)

    @property
    def _beside(self) -> int:
        """Count the chunks of one line along the leading axis."""
        return math.prod(-(-length // size) for length, size in zip(self.shape[1:], self.size[1:], strict=True))

    def lacks(self, item: int) -> bool:
        """Tell whether no chunk of an item was written, though some of others were."""
        number = item // self.size[0] * self._beside
        low, high = np.searchsorted(self.table[:, 0], np.array([number, number + self._beside], np.uint64))
        return bool(len(self.table) and low == high and self._beside)

    def read(self, file: IO[bytes], items: Sequence[int] | None = None) -> NDArray[Any] | None:
        """Items of the leading axis, ascending, or all; None where HDF5 has to read them.

        Raises ValueError: a chunk does not hold what it stands for.
        """
        if self._filters is None or not self._filters.known:
            return None
        wanted = np.arange(self.shape[0]) if items is None else np.array(items)
        out = self._empty(len(wanted), stack=items is not None)
        # Of each chunk along the other axes: what of the result it holds, and where in itself.
        axes = [
            [
                (slice(start, min(start + size, length)), slice(min(size, length - start)))
                for start in range(0, length, size)
            ]
            for length, size in zip(self.shape[1:], self.size[1:], strict=True)
        ]
        beside = self._beside
        edges = np.flatnonzero(np.diff(wanted // self.size[0], prepend=-1)).tolist()
        if is_store(file.name):
            lines = np.isin(self.table[:, 0] // beside, wanted[edges] // self.size[0])
            expect(file, self.table[lines & (self.table[:, 3] <= self._sizes[1])][:, 2:].tolist())
        for first, stop in pairwise([*edges, len(wanted)]):
            line = int(wanted[first]) // self.size[0]
            inside = wanted[first:stop] - line * self.size[0]
            leading = slice(first, stop), _as_slice(inside)
            number = line * beside
            low, high = np.searchsorted(self.table[:, 0], np.array([number, number + beside], np.uint64))
            chunks, places = self.table[low:high], ((leading, *place) for place in product(*axes))
            if len(chunks) != beside or not self._unpack(file, chunks, places, out):
                return None
        return out

    def _unpack(self, file: IO[bytes], chunks: NDArray[np.uint64], places: Iterable[Any], out: NDArray[Any]) -> bool:
        """Fill a part of `out` from chunks; False where HDF5 has to read them."""
        assert self._filters is not None
        nbytes = self._filters.nbytes
        for (number, skipped, offset, size), place in zip(_rows(chunks), places, strict=True):
            # A chunk at the edge may have skipped all filters: an option of datasets that h5py does not tell.
            if self._filters.codes and size == nbytes and self._is_at_edge(number):
                return False
            if not self._sizes[0] <= size <= self._sizes[1] or size > _MOST_AT_ONCE:
                raise ValueError(f"its chunk at {self._corner(number)} does not hold {nbytes} bytes")
            try:
                data = self._filters.undo(read_at(file, size, offset), skipped)
            except ValueError as error:
                raise ValueError(f"its chunk at {self._corner(number)} {error}") from error
            target, source = zip(*place, strict=True)
            out[target] = np.ndarray(self.size, self.dtype, data)[source]
        return True

    def _empty(self, items: int, *, stack: bool) -> NDArray[Any]:
        """Make room for items, with the values of a chunk in long runs: of (63, 128, 2, 2), along the second axis."""
        shape = (items, *self.shape[1:])
        order = list(range(len(shape)))
        widest = max(order[1:] if stack else order, key=lambda axis: self.size[axis], default=0)
        if self.size[-1] < _SHORT and 4 * self.size[-1] <= self.size[widest]:
            order.append(order.pop(widest))
        return np.empty([shape[axis] for axis in order], self.dtype).transpose(np.argsort(order))

    def _corner(self, number: int) -> tuple[int, ...]:
        counts = [-(-length // step) for length, step in zip(self.shape, self.size, strict=True)]
        return tuple(int(place) * step for place, step in zip(np.unravel_index(number, counts), self.size, strict=True))

    def _is_at_edge(self, number: int) -> bool:
        corner = self._corner(number)
        return any(start + step > end for start, step, end in zip(corner, self.size, self.shape, strict=True))


def _as_slice(numbers: NDArray[np.intp]) -> slice | NDArray[np.intp]:
    """Return ascending numbers as a slice, which copies nothing, if they have no gaps."""
    first, stop = int(numbers[0]), int(numbers[-1]) + 1
    return slice(first, stop) if stop - first == len(numbers) else numbers


def _rows(chunks: NDArray[np.uint64], step: int = 1024) -> Any:
    """Yield rows as integers, some at a time: lists of all of them would take 40 times their room."""
    for start in range(0, len(chunks), step):
        yield from chunks[start : start + step].tolist()
