"""What the formats share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.arrays import StoredArray
from roicli.errors import FileError

Parameters = dict[str, str | int | float | bool]

HINT = "Give files that roicli align has written, as it has written them."


class Stored(NamedTuple):
    """Shape and dtype of the features of a file, and all of its columns."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    columns: dict[str, NDArray[Any]]


def not_ours(where: str) -> FileError:
    """Make the error for what roicli does not write."""
    return FileError(f"{where} is not as roicli writes it", HINT)


def stream_blocks(stream: IO[bytes], array: StoredArray, rows: int) -> Iterator[NDArray[Any]]:
    """Yield `rows` rows at a time of an array whose values come next in a stream."""
    row_bytes = math.prod(array.shape[1:]) * array.dtype.itemsize
    for first in range(0, array.shape[0], rows):
        number = min(rows, array.shape[0] - first)
        block = stream.read(number * row_bytes)
        if len(block) < number * row_bytes:
            raise EOFError("the file ends too early")
        yield np.frombuffer(block, array.dtype).reshape(number, *array.shape[1:])
