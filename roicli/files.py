"""Files as bytes: what lies under a path, what its first bytes say it is, and whether it has changed."""

from __future__ import annotations

import errno
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
from typing import NamedTuple

from roicli.errors import ChangedInputError, FeatureError, FileError, RoicliError, WorkerError

COPY_AGAIN = "Copy or download the file again, or write it anew."
CHECK_PATH = "Check the path."

# Of HDF5 files, read and written.
HDF5_SUFFIXES = (".h5", ".hdf5", ".he5", ".hdf")

# What to do where the system refuses a file that may be sound.
_REMEDIES = {
    errno.EACCES: "Check its permissions.",
    errno.EPERM: "Check its permissions.",
    errno.EMFILE: "Raise the limit of open files (ulimit -n).",
    errno.ENFILE: "Raise the limit of open files (ulimit -n).",
    errno.ENAMETOOLONG: "Use a shorter name.",
    errno.EAGAIN: "Close it in the program that writes to it.",
}

_H5CLEAR = "Close the program that writes to it; if that was killed, run: h5clear -s FILE."
_LONGEST_REASON = 300

_SIGNATURES = {
    b"\x93NUMPY": "a .npy array",
    b"PK\x03\x04": "a zip archive, as .npz files are",
    b"PK\x05\x06": "an empty zip archive",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"version https://git-lfs": "a Git LFS pointer, not the file that it stands for",
    b"MATLAB 5.0": "a MATLAB file of version 5 to 7.2",
    b"CDF": "a classic netCDF file",
    b"<": "a web page or XML",
    b"\x80": "a pickle, which roicli never loads",
    b"\x1f\x8b": "gzip data",
    b"\xd0\xcf\x11\xe0": "an Excel workbook, or another file of Office",
    b"BZh": "bzip2 data",
    b"\xfd7zXZ": "xz data",
    b"\x28\xb5\x2f\xfd": "Zstandard data",
    b"PAR1": "a Parquet file",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
}


# What to do with it, where features or boxes are expected.
CONVERSIONS = {
    "a MATLAB file of version 5 to 7.2": "Save it in MATLAB with save(FILE, NAME, '-v7.3').",
    "a classic netCDF file": "Convert it: nccopy -k nc4 IN OUT.",
    "a Git LFS pointer, not the file that it stands for": "Fetch the file itself: git lfs pull.",
    "a web page or XML": "Download the file again: the server sent a page, perhaps to log in or an error.",
    "gzip data": "Unpack it first: gunzip.",
    "bzip2 data": "Unpack it first: bunzip2.",
    "xz data": "Unpack it first: unxz.",
    "Zstandard data": "Unpack it first: unzstd.",
    "a pickle, which roicli never loads": "Save the arrays by numpy.savez, without Python objects.",
}

# Of a block that `checksum_samples` reads.
_SAMPLE_BYTES = 4096
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
        hint = _H5CLEAR if "h5clear" in reason else hint
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

    `where`: what claims it.
    `size`: bytes that it would take in memory.
    `claimed`: bytes of the whole that it is a part of.
    `stored`: gives the bytes that the whole takes in its file.
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


def content_of(path: Path) -> str:
    """Return what a file is by its first bytes, in words; nothing if they say nothing."""
    with reading(str(path)), path.open("rb") as file:
        return signature(file.read(32))


def wrong_content(path: Path | str, expected: str, start: bytes | None = None) -> FileError:
    """Make the error for a file whose content, or its `start`, is not what its extension promises."""
    if start is None:
        with reading(str(path)), (path if isinstance(path, Path) else Path(path)).open("rb") as file:
            start = file.read(32)
    found = signature(start)
    if not start:
        return FileError(f"{path} is not {expected}: it is empty", COPY_AGAIN)
    described = f"it is {found}" if found else f"it begins with {start[:8]!r}"
    hint = CONVERSIONS.get(found, "Rename it to its true format, or write it anew.")
    return FileError(f"{path} is not {expected}: {described}", hint)


class Stamp(NamedTuple):
    """State of a file: it differs once anybody writes to the file or puts another in its place."""

    # Which file it is
    device: int
    inode: int
    size: int  # in bytes
    # Times of its content and of its inode, in nanoseconds
    modified: int
    changed: int

    @classmethod
    def of(cls, file: int | Path | str) -> Stamp:
        """Return the state of an open descriptor, or of the file that now has a name."""
        status = file.stat() if isinstance(file, Path) else os.stat(file)  # noqa: PTH116 (of a descriptor)
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def check(self, path: str | Path, now: Stamp) -> None:
        """Raise ChangedInputError unless the file is as it was."""
        if now != self:
            raise ChangedInputError(
                f"{printable(str(path))} was modified after it was opened",
                "Run it again once nothing writes to its inputs.",
            )


class StampElsewhere(Stamp):
    """State of a file on another machine, which numbers devices and inodes in its own way, or has a copy."""

    def check(self, path: str | Path, now: Stamp) -> None:
        """Raise WorkerError unless the file on this machine has the same size and time."""
        if (now.size, now.modified) != (self.size, self.modified) or (not self.device and now != self):  # of a store
            raise WorkerError(
                f"{printable(str(path))} on {os.uname().nodename} has {_state(now)}; where the job began it has "
                f"{_state(self)}",
                "Let all workers see the same files, and nothing write to them.",
            )


def _state(stamp: Stamp) -> str:
    from datetime import UTC, datetime

    return f"{stamp.size:,} bytes of {datetime.fromtimestamp(stamp.modified / 1e9, UTC):%Y-%m-%d %H:%M:%S.%f} UTC"


def checksum_samples(path: Path | str, blocks: int) -> int:
    """Return a CRC of some blocks from all over a file, which tells files apart that have the same size and times."""
    file_size(Path(path))
    with reading(printable(str(path))), open(path, "rb", buffering=0) as file:  # noqa: PTH123 (a path as text)
        last, number = max(os.fstat(file.fileno()).st_size - _SAMPLE_BYTES, 0), 0
        for place in sorted({last * n // (blocks - 1) for n in range(blocks)} if blocks > 1 else {last // 2}):
            number = zlib.crc32(os.pread(file.fileno(), _SAMPLE_BYTES, place), number)
        return number


def natural_key(name: str) -> tuple[list[str | tuple[int, str]], str]:
    """Sort key that counts: map2 before map10. Runs of digits compare by value, without making integers of them."""
    parts: list[str | tuple[int, str]] = list(re.split("([0-9]+)", name))
    for i in range(1, len(parts), 2):
        digits = str(parts[i]).lstrip("0")
        parts[i] = len(digits), digits
    return parts, name
