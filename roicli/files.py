"""Files as bytes: what lies under a path, what its first bytes say it is, and arrays that lie in it as they are."""

from __future__ import annotations

import errno
import math
import mmap
import os
import re
import stat
import struct
import sys
import tokenize
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.errors import FeatureError, FileError, RoicliError

COPY_AGAIN = "Copy or download the file again, or write it anew."
CHECK_PATH = "Check the path."

# What to do where the system refuses a file that may be sound.
_REMEDIES = {
    errno.EACCES: "Check its permissions.",
    errno.EPERM: "Check its permissions.",
    errno.EMFILE: "Raise the limit of open files (ulimit -n).",
    errno.ENFILE: "Raise the limit of open files (ulimit -n).",
    errno.ENAMETOOLONG: "Use a shorter name.",
    errno.EAGAIN: "Close it in the program that writes to it.",
}

_LONGEST_REASON = 300

_SIGNATURES = {
    b"\x93NUMPY": "a .npy array",
    b"PK\x03\x04": "a zip archive, as .npz files are",
    b"PK\x05\x06": "an empty zip archive",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"version https://git-lfs": "a Git LFS pointer, not the file that it stands for",
    b"<": "a web page or XML",
    b"\x80": "a pickle, which roicli never loads",
    b"\x1f\x8b": "gzip data",
    b"BZh": "bzip2 data",
    b"\xfd7zXZ": "xz data",
    b"\x28\xb5\x2f\xfd": "Zstandard data",
    b"PAR1": "a Parquet file",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
}


# What is no larger is read sooner than it is mapped.
_SMALL = 2**19
# What takes no more memory than this is read whatever it is. No features shrink to so small a part as 1 in 200.
_HARMLESS = 64 << 20
_LARGEST_RATIO = 200


@contextmanager
def reading(where: str, hint: str = COPY_AGAIN) -> Iterator[None]:
    """Turn whatever a library raises over a bad file into a FileError that names it; `hint` is for a bad file only."""
    try:
        yield
    except RoicliError:
        raise
    except MemoryError as error:
        raise FeatureError(f"{where} does not fit into memory", "Split it into smaller maps.") from error
    except _unreadable() as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        reason = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}..."  # may quote the file
        number = error.errno if isinstance(error, OSError) else None
        raise FileError(f"{where} cannot be read: {reason.rstrip('.')}", _REMEDIES.get(number or 0, hint)) from error


def _unreadable() -> tuple[type[Exception], ...]:
    """Return what h5py, zipfile, zlib and NumPy's parser of .npy headers (which are Python source) raise."""
    # Few jobs need zipfile; where it is not loaded, it has raised nothing, and out of descriptors it cannot be loaded.
    zipfile = sys.modules.get("zipfile")
    return (
        OSError,
        RuntimeError,
        ValueError,
        TypeError,
        LookupError,
        ArithmeticError,
        EOFError,
        SyntaxError,
        struct.error,
        tokenize.TokenError,
        zlib.error,
        *((zipfile.BadZipFile,) if zipfile else ()),
    )


def printable(name: str) -> str:
    """Return a name as text that UTF-8 can hold; bytes that Python has escaped (PEP 383) are written in hexadecimal."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def check_ratio(where: str, size: int, claimed: int, stored: Callable[[], int]) -> None:
    """Raise FileError if something large is claimed of which the file holds next to nothing: a decompression bomb.

    Parameters
    ----------
    where : str
        What claims it.
    size : int
        Bytes that it would take in memory.
    claimed : int
        Bytes of the whole that it is a part of.
    stored : callable
        Gives the bytes that the whole takes in its file.
    """
    if size > _HARMLESS and claimed > _LARGEST_RATIO * (present := stored()):
        raise FileError(
            f"{where} claims {claimed:,} bytes, of which {present:,} are in its file",
            "It was never filled, or is made to fill the memory; write it uncompressed if it is meant.",
        )


def file_size(path: Path) -> int:
    """Size in bytes of a regular file; anything else is refused before it is opened, since a FIFO would wait."""
    with reading(str(path), CHECK_PATH):
        try:
            status = path.stat()
        except FileNotFoundError as error:
            if path.is_symlink():
                raise FileError(f"{path} is a broken symbolic link", "Restore its target or remove it.") from error
            raise FileError(f"{path} does not exist", "Check the spelling and the folder.") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
        raise FileError(f"{path} is {kind}, not a regular file", "Give a file, or a folder of .npy files.")
    return status.st_size


def signature(start: bytes) -> str:
    """Return what a file is by its first bytes, in words; nothing if they say nothing."""
    return next((name for magic, name in _SIGNATURES.items() if start.startswith(magic)), "")


def wrong_content(path: Path, expected: str) -> FileError:
    """Make the error for a file whose content is not what its extension promises."""
    with reading(str(path)), path.open("rb") as file:
        start = file.read(32)
    found = signature(start)
    if not start:
        return FileError(f"{path} is not {expected}: it is empty", COPY_AGAIN)
    described = f"it is {found}" if found else f"it begins with {start[:8]!r}"
    return FileError(f"{path} is not {expected}: {described}", "Rename it to its true format, or write it anew.")


class Stamp(NamedTuple):
    """State of a file: it differs once anybody writes to the file or puts another in its place.

    Attributes
    ----------
    device, inode : int
        Which file it is.
    size : int
        In bytes.
    modified, changed : int
        Times of its content and of its inode, in nanoseconds.
    """

    device: int
    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, file: int | str | Path) -> Stamp:
        """Return the state of an open descriptor, or of the file that now has a name."""
        status = os.stat(file)  # noqa: PTH116 -- Path.stat takes no descriptor
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class StoredArray(NamedTuple):
    """An array that lies in a file byte for byte.

    Attributes
    ----------
    path : Path
        The file.
    start : int
        Offset of its first byte.
    shape, dtype
        As stored.
    fortran : bool
        True if the first axis varies fastest.
    """

    path: Path
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool = False

    @property
    def nbytes(self) -> int:
        """Size of the values; Python integers, so that no header makes it overflow."""
        return math.prod(self.shape) * self.dtype.itemsize

    def check_inside(self, size: int) -> None:
        """Raise FileError if the file, of `size` bytes, ends before the array does."""
        if self.start + self.nbytes > size:
            raise FileError(
                f"{self.path} is truncated: {self.shape} of {self.dtype} ends at byte {self.start + self.nbytes}, "
                f"the file at byte {size}",
                COPY_AGAIN,
            )

    def load(self, index: int | None = None) -> NDArray[Any]:
        """Return the array, or only item `index` of its leading axis: a memory map, or a copy of what is small.

        Each call makes its own map, which goes with the last array that refers to it: pages of maps read before do
        not stay in the resident memory of the process.
        """
        if index is not None and not self.fortran:
            item = StoredArray(self.path, 0, self.shape[1:], self.dtype)
            return StoredArray(self.path, self.start + index * item.nbytes, item.shape, item.dtype).load()
        self.check_inside(file_size(self.path))  # or a memory map would die of SIGBUS
        with reading(str(self.path)), self.path.open("rb", buffering=0) as file:
            whole: NDArray[Any] = np.ndarray(
                self.shape, self.dtype, *self._bytes(file.fileno()), order="F" if self.fortran else "C"
            )
        # In Fortran order the values of one item lie scattered over the whole array.
        return whole if index is None else whole[index]

    def _bytes(self, descriptor: int) -> tuple[bytes | mmap.mmap, int]:
        """Return something that holds the bytes of the array, and where in it they begin."""
        if self.nbytes <= _SMALL:
            values = os.pread(descriptor, self.nbytes, self.start)
            while len(values) < self.nbytes and (
                more := os.pread(descriptor, self.nbytes - len(values), self.start + len(values))
            ):
                values += more
            self.check_inside(self.start + len(values))
            return values, 0
        inside = self.start % mmap.ALLOCATIONGRANULARITY
        first, length = self.start - inside, self.nbytes + inside
        return mmap.mmap(descriptor, length, access=mmap.ACCESS_READ, offset=first), inside


def natural_key(name: str) -> tuple[list[str | tuple[int, str]], str]:
    """Sort key that counts: map2 before map10. Runs of digits compare by value, without making integers of them."""
    parts: list[str | tuple[int, str]] = list(re.split("([0-9]+)", name))
    for i in range(1, len(parts), 2):
        digits = str(parts[i]).lstrip("0")
        parts[i] = len(digits), digits
    return parts, name
