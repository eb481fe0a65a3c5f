"""A .npy file: one map (C, H, W), whose image id is the file's stem, or N maps (N, C, H, W), counted from 0."""

from __future__ import annotations

import struct
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from sys import maxsize
from typing import IO, Any
from warnings import catch_warnings

import numpy as np

from roicli.errors import FileError
from roicli.files import StoredArray, file_size, printable, reading, wrong_content
from roicli.imageids import Counted
from roicli.sources.base import Layout, MapSource, StoredMap, check_map

# NumPy's own readers of them refuse more than 10,000 characters.
_LONGEST_HEADER = 1 << 16
_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): np.lib.format.read_array_header_2_0,  # of UTF-8, which only names of fields need
}
_MOST_AXES = 64


def read_header(file: IO[bytes], path: Path, where: str) -> StoredArray:
    """Read the .npy header at the start of `file`, and leave `file` behind it; nothing is allocated or unpickled."""
    with reading(where):
        beginning = file.read(_LONGEST_HEADER)  # a header says how long it is, up to 4 GB
        header = beginning[: _header_length(beginning)]
        version = np.lib.format.read_magic(BytesIO(header))
        if version not in _READ_HEADER:
            raise FileError(f"{where} is of version {version[0]}.{version[1]}, unknown of .npy", "Write the file anew.")
        shape, fortran, dtype = _parse(header)
        if len(shape) > _MOST_AXES or any(type(length) is not int or not 0 <= length <= maxsize for length in shape):
            raise FileError(f"{where} claims the shape {str(shape)[:80]}", "Write the file anew.")
        file.seek(len(header))
        return StoredArray(path, len(header), shape, dtype, fortran)


def _header_length(beginning: bytes) -> int:
    """Length of a header with its magic, as it says itself."""
    size, form = (2, "<H") if beginning[6:7] == b"\x01" else (4, "<I")
    length: int
    (length,) = struct.unpack(form, beginning[8 : 8 + size].ljust(size, b"\0"))
    return 8 + size + length


@lru_cache
def _parse(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Parse a header, which is the same in all files of maps of one shape."""
    text = BytesIO(header)
    read = _READ_HEADER[np.lib.format.read_magic(text)]
    with catch_warnings(action="ignore"):  # such as that its text was written by Python 2
        try:
            return read(text)
        except Exception as error:  # which may quote the header, or advise to trust it
            raise ValueError("its header is damaged") from error


def open_npy(path: Path) -> StoredArray:
    """Read the header of a .npy file and check that its array lies inside the file."""
    size = file_size(path)
    with reading(str(path)), path.open("rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise wrong_content(path, "a .npy file")
        file.seek(0)
        array = read_header(file, path, str(path))
    if not array.dtype.hasobject:
        array.check_inside(size)
    return array


class NpySource(MapSource):
    """One .npy file."""

    def __init__(self, path: Path, layout: Layout) -> None:
        super().__init__(path, layout)
        self._array = open_npy(path)
        shape = self._array.shape
        self.labelled = len(shape) != 4
        self.ids = (printable(path.stem),) if self.labelled else Counted(shape[0])
        if self.ids:
            check_map(self.name, shape if self.labelled else shape[1:], self._array.dtype)

    def _find(self, index: int) -> StoredMap:
        array = self._array
        if self.labelled:
            return StoredMap(self.name, array.shape, array.dtype, array.load)
        where = f"{self.path}, map {index}"
        return StoredMap(where, array.shape[1:], array.dtype, lambda: array.load(index))

    def close(self) -> None:
        """Nothing stays open: each map is read, or mapped, by itself."""
