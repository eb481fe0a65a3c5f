"""Where the chunks of an HDF5 dataset lie in its file."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from itertools import product
from sys import maxsize
from typing import Any

import numpy as np
from numpy.typing import NDArray


class ChunkIndex:
    """The places of all chunks that were written, learnt in one walk, since HDF5 walks there to look up any of them.

    It keeps no handle. A damaged index may name chunks that there cannot be, or two at one place, of which HDF5 reads
    what is not meant, or dies.

    Raises
    ------
    ValueError
        The index is damaged.
    """

    def __init__(self, dataset: Any) -> None:
        shape, size = dataset.shape, dataset.chunks
        rows = array("Q")

        def note(chunk: Any) -> None:
            corner, skipped, offset, nbytes = chunk
            if offset is not None:
                rows.extend((*corner, skipped, offset, nbytes))

        if tells_wrong_places(dataset):
            _note_each(dataset, note)
        elif hasattr(dataset.id, "chunk_iter"):
            dataset.id.chunk_iter(note)
        else:  # HDF5 before 1.10.10, and 1.12 before 1.12.3
            for number in range(dataset.id.get_num_chunks()):
                note(dataset.id.get_chunk_info(number))
        found = np.array(rows, np.uint64).reshape(-1, len(shape) + 3)
        places, beside = np.divmod(found[:, :-3], np.array(size, np.uint64))
        counts = [-(-length // step) for length, step in zip(shape, size, strict=True)]
        if beside.any() or (places >= np.array(counts, np.uint64)).any():
            raise ValueError("its index of chunks is damaged")
        numbers = np.ravel_multi_index(tuple(places.T.astype(np.int64)), counts)
        order = np.argsort(numbers)
        self._found: NDArray[np.uint64] = found[order]
        if not (np.diff(numbers[order]).all() and _lie_apart(found[:, -2], found[:, -1])):
            raise ValueError("its index of chunks is damaged")

    def between(self, first: int, stop: int) -> list[list[int]]:
        """Chunks whose corners have a leading coordinate from `first` on, below `stop`, in the order of their corners.

        Each is its corner, the filters that it has skipped as bits, its offset in the file and its size there.
        """
        low, high = np.searchsorted(self._found[:, 0], np.array((first, stop), np.uint64))
        rows: list[list[int]] = self._found[low:high].tolist()
        return rows


def tells_wrong_places(dataset: Any) -> bool:
    """Whether HDF5 may name the axes of a chunk's corner in another order: a single axis without limit, not the first.

    It finds such chunks by their corners, but tells nothing right of them.
    """
    without_limit = [axis for axis, limit in enumerate(dataset.maxshape) if limit is None]
    return len(without_limit) == 1 and without_limit != [0]


def _note_each(dataset: Any, note: Callable[[Any], None]) -> None:
    """Note the chunks that are found at their corners, one place after the other: where they lie is not told."""
    place = 1
    axes = [range(0, length, step) for length, step in zip(dataset.shape, dataset.chunks, strict=True)]
    for corner in product(*axes):
        try:
            skipped, data = dataset.id.read_direct_chunk(corner)
        except (OSError, RuntimeError, MemoryError):  # never written, or HDF5 will say what is wrong
            continue
        note((corner, skipped, place, len(data)))
        place += len(data)


def _lie_apart(offsets: NDArray[np.uint64], sizes: NDArray[np.uint64]) -> bool:
    """Tell whether pieces of a file are where some can be, none over another or over its first byte."""
    if not len(offsets):
        return True
    order = np.argsort(offsets)
    starts, stops = offsets[order], (offsets + sizes)[order]
    apart = (starts < stops).all() and (stops[:-1] <= starts[1:]).all()
    return bool(apart and starts[0] > 0 and stops[-1] <= maxsize)
