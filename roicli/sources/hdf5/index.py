"""Where the chunks of an HDF5 dataset lie in its file; runs in a child process."""

from __future__ import annotations

from array import array
from sys import maxsize
from typing import Any

import numpy as np
from numpy.typing import NDArray


def find_chunks(dataset: Any) -> NDArray[np.uint64] | None:
    """List all chunks that were written: number, skipped filters as bits, offset and size, in the order of numbers.

    Chunks are numbered in C order of their corners. None if this HDF5 is too old to list them at once, or does not
    tell their places.

    Raises ValueError: the index is damaged: it names chunks that there cannot be, or two at one place. HDF5 would read
    what is not meant, or die.
    """
    if tells_wrong_places(dataset) or not hasattr(dataset.id, "chunk_iter"):
        return None
    shape, size = dataset.shape, dataset.chunks
    rows = array("Q")

    def note(chunk: Any) -> None:
        corner, skipped, offset, nbytes = chunk
        if offset is not None:
            rows.extend((*corner, skipped, offset, nbytes))

    dataset.id.chunk_iter(note)
    found = np.array(rows, np.uint64).reshape(-1, len(shape) + 3)
    places, beside = np.divmod(found[:, :-3], np.array(size, np.uint64))
    counts = [-(-length // step) for length, step in zip(shape, size, strict=True)]
    if beside.any() or (places >= np.array(counts, np.uint64)).any():
        raise ValueError("its index of chunks is damaged")
    numbers = np.ravel_multi_index(tuple(places.T.astype(np.int64)), counts)
    order = np.argsort(numbers)
    if not (np.diff(numbers[order]).all() and _lie_apart(found[:, -2], found[:, -1])):
        raise ValueError("its index of chunks is damaged")
    return np.column_stack([numbers.astype(np.uint64), found[:, -3:]])[order]


def tells_wrong_places(dataset: Any) -> bool:
    """Whether HDF5 may name the axes of a chunk's corner in another order: a single axis without limit, not the first.

    It finds such chunks by their corners, but tells nothing right of them.
    """
    without_limit = [axis for axis, limit in enumerate(dataset.maxshape) if limit is None]
    return len(without_limit) == 1 and without_limit != [0]


def _lie_apart(offsets: NDArray[np.uint64], sizes: NDArray[np.uint64]) -> bool:
    """Tell whether pieces of a file are where some can be, none over another or over its first byte."""
    if not len(offsets):
        return True
    order = np.argsort(offsets)
    starts, stops = offsets[order], (offsets + sizes)[order]
    apart = (starts < stops).all() and (stops[:-1] <= starts[1:]).all()
    return bool(apart and starts[0] > 0 and stops[-1] <= maxsize)
