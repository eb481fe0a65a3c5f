"""Checksums by which a flipped bit is found: CRC-32, as zip archives have it."""

from __future__ import annotations

import zlib
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


@cache
def libdeflate() -> Any:
    """Give the package of libdeflate; None on the rare machines that it is not made for."""
    try:
        import deflate
    except ImportError:
        return None
    return deflate


def crc32(data: bytes | memoryview, before: int = 0) -> int:
    """Return the CRC-32 of bytes, after others whose CRC-32 was `before`; libdeflate takes an eighth of the time."""
    package = libdeflate()
    number: int = package.crc32(data, before) if package else zlib.crc32(data, before)
    return number


@cache
def of_zeros(number: int) -> np.uint32:
    """Return the CRC-32 of so many zeros."""
    return np.uint32(crc32(bytes(number)))


def checksum_rows(data: memoryview, row_bytes: int) -> NDArray[np.uint32]:
    """Return a checksum of each row of `row_bytes` bytes: its CRC-32 XOR that of zeros, so it is 0 if nothing is there.

    Examples
    --------
    >>> checksum_rows(memoryview(bytes(4) + b"abcd"), 4).tolist()
    [0, 3435532813]
    """
    places = range(0, len(data), row_bytes)
    return np.array([crc32(data[place : place + row_bytes]) for place in places], np.uint32) ^ of_zeros(row_bytes)


def join(checksums: NDArray[np.uint32], row_bytes: int, before: int = 0) -> int:
    """Return the CRC-32 of rows side by side, after bytes whose CRC-32 was `before`, from the checksum of each.

    A CRC is linear: zeros behind some bytes multiply theirs by a matrix of bits. Rows are joined in pairs, then pairs
    of these, and so on.

    Source: zlib's `crc32_combine`.

    Examples
    --------
    >>> join(checksum_rows(memoryview(b"abcdef"), 2), 2) == zlib.crc32(b"abcdef")
    True
    """
    shift = _after_zeros(row_bytes)
    whole = np.concatenate([np.array([before], np.uint32), checksums ^ of_zeros(row_bytes)])
    while len(whole) > 1:
        if len(whole) % 2:
            whole = np.concatenate([np.zeros(1, np.uint32), whole])  # of nothing
        whole = _times(shift, whole[::2]) ^ whole[1::2]
        shift = _times(shift, shift)
    return int(whole[0])


def _after_zeros(number: int) -> NDArray[np.uint32]:
    """Return the matrix, a column a bit, by which so many bytes of zeros multiply a CRC-32."""
    unit = np.left_shift(np.uint32(1), np.arange(32, dtype=np.uint32))
    bit = np.concatenate([np.array([0xEDB88320], np.uint32), unit[:-1]])  # of one bit
    for _ in range(3):
        bit = _times(bit, bit)
    whole, power = unit, bit
    while number:
        if number % 2:
            whole = _times(power, whole)
        power, number = _times(power, power), number // 2
    return whole


def _times(matrix: NDArray[np.uint32], numbers: NDArray[np.uint32]) -> NDArray[np.uint32]:
    product = np.zeros_like(numbers)
    for bit, column in enumerate(matrix):
        product ^= np.where(numbers >> np.uint32(bit) & np.uint32(1), column, np.uint32(0))
    return product
