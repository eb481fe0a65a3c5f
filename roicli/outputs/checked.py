"""Checksums of an output: one a row, written with the row by its worker, and one of all that is recorded beside rows.

They stand in one array of an output, `checksums`: K + 1 numbers, the last one for the record.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.arrays import StoredArray
from roicli.checksums import checksum_rows, crc32
from roicli.errors import FileError
from roicli.outputs.rowfile import SUM
from roicli.regions import Column, Names

NAME = "checksums"
KIND = np.dtype("<u4")
REPAIR = "Copy it again from where it is sound, or make it again."


def encode(name: str) -> bytes:
    """Return a name in UTF-8; bytes of a file name that are not UTF-8 are written in hexadecimal."""
    return name.encode("utf-8", "backslashreplace")


def checksum_record(
    shape: tuple[int, ...], dtype: np.dtype[Any], columns: Mapping[str, Column], parameters: Mapping[str, Any]
) -> bytes:
    """Return the CRC-32 of what a file says beside the rows of its (K, ...) features, as it stands behind theirs."""
    said = {name: encode(value).decode() if isinstance(value, str) else value for name, value in parameters.items()}
    number = crc32(json.dumps([[*map(int, shape)], dtype.str, said], sort_keys=True).encode())
    for name in sorted(columns):
        column = columns[name]
        if isinstance(column, Names):  # HDF5 drops zeros at the end of a name
            used, index = np.unique(column.index, return_inverse=True)
            texts = (column.names[number] for number in used.tolist())
            values: NDArray[Any] = np.array([crc32(encode(text).rstrip(b"\0")) for text in texts], KIND)[index]
        else:
            values = np.ascontiguousarray(column)
        number = crc32(name.encode(), number)
        number = crc32(memoryview(values.reshape(-1).view(np.uint8).data), number)
    return number.to_bytes(SUM, "little")


def check_record(
    sums: NDArray[Any], features: StoredArray, columns: Mapping[str, Column], parameters: Mapping[str, Any]
) -> NDArray[np.uint32]:
    """Return the checksums of rows; FileError if that of the record does not fit."""
    if sums[-1:].tobytes() != checksum_record(features.shape, features.dtype, columns, parameters):
        raise FileError(f"{features.path}: what it says of its rows does not fit its checksum", REPAIR)
    return sums[:-1]


def damaged_rows(block: NDArray[Any], sums: NDArray[np.uint32] | None) -> NDArray[np.intp]:
    """Return which rows of a block do not fit their checksums; none without checksums."""
    if sums is None:
        return np.zeros(0, np.intp)
    return np.flatnonzero(checksum_rows(*as_bytes(block)) != sums)


def as_bytes(block: NDArray[Any]) -> tuple[memoryview, int]:
    """Return the bytes of rows, and how many each has."""
    row_bytes = math.prod(block.shape[1:]) * block.dtype.itemsize
    return memoryview(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data), row_bytes
