"""HDF5 datasets of chunks: their stored bytes are taken from the file past HDF5, and their filters undone here.

Whatever is out of the ordinary (chunks that were never written, other filters or types) is left to HDF5.
"""

from __future__ import annotations

import math
import os
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.sources.hdf5.filters import Filters

# Items that share chunks are read together up to this many bytes, since each alone would inflate all of them again.
_TOGETHER = 64 * 2**20

# Most bytes by which a filter lengthens what it cannot shorten, beside one in a thousand.
_SLACK = 64

# What one call of the system reads.
_MOST_AT_ONCE = 2**30


class Chunks:
    """The chunks of a dataset.

    Parameters
    ----------
    shape, dtype
        Of the dataset.
    size : tuple of int
        Shape of its chunks; those at the edges are stored in full too.
    codes : tuple of int, optional
        Filters of the chunks; None if HDF5 has to read them.
    table : (n, 4) uint64
        See `index.find_chunks`.
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

    def together(self, item: int) -> tuple[int, int]:
        """First and stop of the items that are best read with item `item` of the leading axis."""
        first = item // self.size[0] * self.size[0]
        stop = min(first + self.size[0], self.shape[0])
        nbytes = (stop - first) * math.prod(self.shape[1:]) * self.dtype.itemsize
        return (first, stop) if nbytes <= _TOGETHER else (item, item + 1)

    def read(self, descriptor: int, first: int, stop: int) -> NDArray[Any] | None:
        """Items `first` to `stop` of the leading axis; None where HDF5 has to read them.

        Raises
        ------
        ValueError
            A chunk does not hold what it stands for.
        """
        if self._filters is None or not self._filters.known:
            return None
        wanted = ((first, stop), *((0, length) for length in self.shape[1:]))
        # Of each chunk along each axis: what of the result it holds, and where in itself.
        axes = [
            [
                (slice(max(start - low, 0), min(start + size, high) - low), slice(max(low - start, 0), high - start))
                for start in range(low // size * size, high, size)
            ]
            for (low, high), size in zip(wanted, self.size, strict=True)
        ]
        beside = math.prod(map(len, axes[1:]))
        number = first // self.size[0] * beside
        low, high = np.searchsorted(self.table[:, 0], np.array([number, number + len(axes[0]) * beside], np.uint64))
        chunks = self.table[low:high]
        if len(self.table) and not len(chunks) and beside:
            raise ValueError("it was never written, though other maps were; HDF5 would give its fill value")
        if len(chunks) != len(axes[0]) * beside:  # some were never written
            return None
        out = np.empty([high - low for low, high in wanted], self.dtype)
        nbytes = self._filters.nbytes
        for (number, skipped, offset, size), place in zip(_rows(chunks), product(*axes), strict=True):
            # A chunk at the edge may have skipped all filters: an option of datasets that h5py does not tell.
            if self._filters.codes and size == nbytes and self._is_at_edge(number):
                return None
            if not self._sizes[0] <= size <= self._sizes[1] or size > _MOST_AT_ONCE:
                raise ValueError(f"its chunk at {self._corner(number)} does not hold {nbytes} bytes")
            try:
                data = self._filters.undo(os.pread(descriptor, size, offset), skipped)
            except ValueError as error:
                raise ValueError(f"its chunk at {self._corner(number)} {error}") from error
            target, source = zip(*place, strict=True)
            out[target] = np.ndarray(self.size, self.dtype, data)[source]
        return out

    def _corner(self, number: int) -> tuple[int, ...]:
        counts = [-(-length // step) for length, step in zip(self.shape, self.size, strict=True)]
        return tuple(int(place) * step for place, step in zip(np.unravel_index(number, counts), self.size, strict=True))

    def _is_at_edge(self, number: int) -> bool:
        corner = self._corner(number)
        return any(start + step > end for start, step, end in zip(corner, self.size, self.shape, strict=True))


def _rows(chunks: NDArray[np.uint64], step: int = 1024) -> Any:
    """Yield rows as integers, some at a time: lists of all of them would take 40 times their room."""
    for start in range(0, len(chunks), step):
        yield from chunks[start : start + step].tolist()
