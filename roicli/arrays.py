"""Arrays that lie in files byte for byte, and the header by which a .npy file says where."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from sys import maxsize
from typing import IO, Any, NamedTuple
from warnings import catch_warnings

import numpy as np
from numpy.typing import NDArray

from roicli.errors import FileError
from roicli.files import COPY_AGAIN, Stamp, reading, wrong_content
from roicli.stores.file import open_bytes, read_at, read_some, stamp_of
from roicli.stores.path import is_store

# Workers map larger arrays, since to read all of them costs more: 25 against 17 ms for 53 MiB laid out, 15 against 5 ms
# if boxes reach a quarter. A mapped file that is cut short, or a disk that fails, ends the process by SIGBUS, so only a
# process whose death is noticed may map.
READ_AT_MOST = 2**23
may_map = False
# An item whose values lie scattered is gathered from blocks of so many bytes.
_BLOCK = 2**20

# NumPy's own readers of them refuse more than 10,000 characters.
_LONGEST_HEADER = 1 << 16
_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): np.lib.format.read_array_header_2_0,  # of UTF-8, which only names of fields need
}
_MOST_AXES = 64


class StoredArray(NamedTuple):
    """An array that lies in a file byte for byte."""

    path: Path  # the file
    start: int  # offset of its first byte
    # As stored
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool = False  # True if the first axis varies fastest
    stamp: Stamp | None = None  # the file's, when the rest was learnt

    @property
    def nbytes(self) -> int:
        """Size of the values; Python integers, so that no header makes it overflow."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def span(self) -> tuple[int, int]:
        """Offset of its first byte, and how many there are."""
        return self.start, self.nbytes

    def check_inside(self, size: int) -> None:
        """Raise FileError if the file, of `size` bytes, ends before the array does."""
        if self.start + self.nbytes > size:
            raise FileError(
                f"{self.path} is truncated: {self.shape} of {self.dtype} ends at byte {self.start + self.nbytes}, "
                f"the file at byte {size}",
                COPY_AGAIN,
            )

    def item(self, index: int) -> StoredArray:
        """Return item `index` of the leading axis, which is not in Fortran order."""
        item = self._replace(shape=self.shape[1:])
        return item._replace(start=self.start + index * item.nbytes)

    def load(self, index: int | None = None, *, items: Sequence[int] = ()) -> NDArray[Any]:
        """Return the array, or item `index` of its leading axis: a copy, or in worker processes a map of what is large.

        Several `items` of an array in Fortran order take no longer than one.

        Each call makes its own map, which goes with the last array that refers to it: pages of maps read before do
        not stay in the resident memory of the process.

        Raises FileError: the file cannot be read, or has changed since its stamp was taken.
        """
        if index is not None and not self.fortran:
            return self.item(index).load()
        with reading(str(self.path)), open_bytes(self.path, self.stamp) as file:
            now = stamp_of(file)
            self.check_inside(now.size)  # or a memory map would die of SIGBUS
            if self.stamp:
                self.stamp.check(self.path, now)
            if items:
                return self._gathered(file, items)
            if index is not None:
                return self._gathered(file, [index])[0]  # type: ignore[no-any-return]
            if self.nbytes <= READ_AT_MOST or not may_map or is_store(self.path):
                whole = np.empty(self.shape, self.dtype, order="F" if self.fortran else "C")
                read_into(file, self.start, whole.T if self.fortran else whole)
            else:
                whole = self._mapped(file.fileno())
        return whole

    def _gathered(self, file: IO[bytes], wanted: Sequence[int]) -> NDArray[Any]:
        """Read items in Fortran order, whose values lie scattered over the whole array."""
        values, items = math.prod(self.shape[1:]), self.shape[0]
        out = np.empty((len(wanted), values), self.dtype)
        block = np.empty((max(1, _BLOCK // (items * self.dtype.itemsize)), items), self.dtype)
        for first in range(0, values, len(block)):
            part = block[: values - first]
            read_into(file, self.start + first * items * self.dtype.itemsize, part)
            out[:, first : first + len(part)] = part[:, wanted].T
        return out.reshape(len(wanted), *self.shape[:0:-1]).transpose(0, *range(len(self.shape) - 1, 0, -1))

    def _mapped(self, descriptor: int) -> NDArray[Any]:
        inside = self.start % mmap.ALLOCATIONGRANULARITY
        first, length = self.start - inside, self.nbytes + inside
        pages = mmap.mmap(descriptor, length, access=mmap.ACCESS_READ, offset=first)
        return np.ndarray(self.shape, self.dtype, pages, inside, order="F" if self.fortran else "C")


def read_into(file: IO[bytes] | int, start: int, out: NDArray[Any]) -> None:
    """Fill a contiguous array with the bytes of a file or descriptor from `start` on; EOFError if it ends too early."""
    view = out.reshape(-1).view(np.uint8).data
    while view.nbytes:
        if not (count := read_some(file, view, start)):
            raise EOFError("it ends too early")
        view, start = view[count:], start + count


def read_header(file: IO[bytes], path: Path, where: str) -> StoredArray:
    """Read the .npy header at the start of `file`, and leave `file` behind it; nothing is allocated or unpickled."""
    with reading(where):
        beginning = file.read(10)
        more = 2 if beginning[6:7] == b"\x01" else 4  # a header says how long it is, up to 4 GB
        beginning += file.read(8 + more - len(beginning))
        length = int.from_bytes(beginning[8:], "little")
        if length > _LONGEST_HEADER:
            raise ValueError(f"it claims a header of {length:,} bytes")
        header = beginning + file.read(length)
        shape, fortran, dtype = _parse(header)
        if len(shape) > _MOST_AXES or any(type(length) is not int or not 0 <= length <= maxsize for length in shape):
            raise FileError(f"{where} claims the shape {str(shape)[:80]}", "Write the file anew.")
        return StoredArray(path, len(header), shape, dtype, fortran)


@lru_cache
def _parse(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Parse a header, which is the same in all files of maps of one shape."""
    # As written where ml_dtypes is registered with NumPy; without it NumPy writes the same values as "V2".
    header = header.replace(b"'bfloat16'", b"'|V2'     ")
    text = BytesIO(header)
    version = np.lib.format.read_magic(text)
    if version not in _READ_HEADER:
        raise ValueError(f"version {version[0]}.{version[1]} of .npy is unknown")
    with catch_warnings(action="ignore"):  # such as that its text was written by Python 2
        try:
            return _READ_HEADER[version](text)
        except Exception as error:  # which may quote the header, or advise to trust it
            raise ValueError("its header is damaged") from error


def open_npy(path: Path) -> StoredArray:
    """Read the header of a .npy file and check that its array lies inside the file."""
    with reading(str(path)), open_bytes(path) as file:
        stamp = stamp_of(file)
        if file.read(6) != b"\x93NUMPY":
            raise wrong_content(path, "a .npy file")
        file.seek(0)
        array = read_header(file, path, str(path))._replace(stamp=stamp)
        if not array.dtype.hasobject:
            array.check_inside(stamp.size)
            if read_at(file, 6, array.start + array.nbytes) == b"\x93NUMPY":  # numpy.save on an open file
                raise FileError(
                    f"{path} holds several arrays, one after the other, where .npy has one",
                    "Save them by numpy.savez, or each in a file of its own.",
                )
    return array
