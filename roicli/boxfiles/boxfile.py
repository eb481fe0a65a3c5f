"""An open box file: its first bytes, its whole content, its lines. Only what a layout asks for is read."""

from __future__ import annotations

import os
import stat
import sys
from codecs import getincrementaldecoder
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cached_property, partial
from io import TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, TextIO

from roicli.errors import BoxError, ChangedInputError, FileError, RoicliError
from roicli.files import COPY_AGAIN, Stamp, check_ratio, signature
from roicli.stores.file import stamp_of
from roicli.stores.path import forget, is_store

if TYPE_CHECKING:
    from msgspec import Raw

Form = Literal["json", "text", "xml", "npy", "npz", "hdf5", "parquet", "png", "other"]
"""What the first bytes of a file say it is."""

# Suffixes that box files have by custom; the content decides.
SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".npy", ".txt", ".xml", ".geojson", ".parquet", ".png")

STDIN = Path("-")
"""Standard input, instead of a file."""

_FORMS: dict[bytes, Form] = {
    b"\x93NUMPY": "npy",
    b"PK\x03\x04": "npz",
    b"\x89HDF\r\n\x1a\n": "hdf5",
    b"PAR1": "parquet",
    b"\x89PNG\r\n\x1a\n": "png",
}
# Where a shell puts the output of a command: <(command).
_DESCRIPTORS = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
_GZIP = b"\x1f\x8b"
_HEAD = 1 << 16
_COPIED = 1 << 24
# Far beyond any box with its outlines; a line is read up to here, since a file without line ends would fill the memory.
LONGEST_LINE = 1 << 24
LINE_SUFFIXES = (".jsonl", ".ndjson")
BOM = b"\xef\xbb\xbf"


class BoxFile:
    """An open box file.

    `path`: its name, for messages.
    `stream`: open at its beginning; the content of a compressed file.
    `stamp`: state of the file before its first byte was read; a pipe has none.
    `image_size`: where a layout that needs sizes or ids of images finds them: a file, or one height and width.

    Attributes
    ----------
    head : bytes
        Its first 64 KiB.
    notes : list of str
        What was assumed while the file was decoded.
    beside : dict of str to Stamp
        Other files that its reader has read.
    mapped : bool
        Whether arrays may stay in the file, to be read where they are used.
    """

    mapped = False

    def __init__(
        self,
        path: Path,
        stream: IO[bytes],
        stamp: Stamp | None = None,
        image_size: Path | tuple[float, float] | None = None,
    ) -> None:
        self.path = path
        self.stream = stream
        self.stamp = stamp
        self.image_size = image_size
        self.head = stream.read(_HEAD)
        self.notes: list[str] = []
        self.beside: dict[str, Stamp] = {}

    @property
    def suffix(self) -> str:
        """Its suffix in lower case, without that of compression."""
        return plain_name(self.path).suffix.lower()

    @property
    def stem(self) -> str:
        """Its name without suffix and folder: the image, where there is one file an image."""
        return plain_name(self.path).stem

    @property
    def on_disk(self) -> Path:
        """The path, for libraries that open files themselves; FileError if the file does not exist."""
        if self.stamp is None or self.size != self.stamp.size:
            raise FileError(f"{self.path}: this format is read from plain files only", "Unpack it, or name a file.")
        return self.path

    @property
    def size(self) -> int:
        """Its bytes, once it is unpacked."""
        return Stamp.of(self.stream.fileno()).size

    @property
    def form(self) -> Form:
        """What the first bytes say the file is."""
        known = next((form for magic, form in _FORMS.items() if self.head.startswith(magic)), None)
        if known is not None:
            return known
        if self._first == b"<" and b"<html" not in self.head[:1024].lower() and b"<!doctype" not in self.head[:1024]:
            return "xml"
        if signature(self.head):
            return "other"
        return "json" if self._first in (b"[", b"{") else "text"

    @property
    def _first(self) -> bytes:
        return self.head.removeprefix(BOM).lstrip()[:1]

    def rewind(self) -> IO[bytes]:
        """Return the stream, to be read from its beginning."""
        self.stream.seek(0)
        return self.stream

    @contextmanager
    def text(self) -> Iterator[TextIO]:
        """Give the file from its beginning as text in UTF-8; line ends are left as they are."""
        text = TextIOWrapper(self.rewind(), encoding="utf-8-sig", newline="")
        try:
            yield text
        finally:
            text.detach()  # or it would close the stream

    def _parts(self) -> Iterator[bytes]:
        """Yield lines, and in pieces those longer than `LONGEST_LINE`."""
        return iter(partial(self.rewind().readline, LONGEST_LINE), b"")

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield every line that is not blank, with its number from 1; BoxError if one has no end."""
        for number, line in enumerate(self._parts(), 1):
            if len(line) == LONGEST_LINE:
                raise BoxError(
                    f"{self.path}, line {number}: longer than 16,777,216 characters", "Write one box a line."
                )
            if not line.isspace():
                yield number, line.removeprefix(BOM)

    @cached_property
    def data(self) -> bytes:
        """The whole content, without a byte order mark; an error if there is nothing, or not text."""
        # A NUL is looked for before gigabytes of them are read and decoded, as in a file never filled.
        data = (self.head if b"\0" in self.head else self.rewind().read()).removeprefix(BOM)
        if b"\0" in data:
            raise self.not_text()
        if not data or data.isspace():
            raise BoxError(f"{self.path}: empty", "Write [] for no boxes at all.")
        return data

    @cached_property
    def document(self) -> list[Raw] | dict[str, Raw]:
        """The content as one JSON document, parsed to its first level; BoxError if it is malformed."""
        from roicli.boxfiles.jsontext import parse_document

        return parse_document(self)

    @cached_property
    def is_lines(self) -> bool:
        """Whether each line is a JSON value: the suffix says so, or the first line is one and another follows."""
        from roicli.boxfiles.jsontext import is_value

        if self.suffix in LINE_SUFFIXES:
            return True
        if b"\n" not in self.head and self._first == b"[":
            return False  # a list too long to be one box
        lines = self.lines()
        with suppress(BoxError, StopIteration):  # a line without an end is a document
            first, _ = next(lines), next(lines)
            return is_value(first[1])
        return False

    def not_text(self) -> FileError:
        """Make the error for a file that is not UTF-8 text, with its first faulty line.

        The decoders' own errors count bytes from wherever their last buffer began.
        """
        utf8, number, fault = getincrementaldecoder("utf-8")(), 1, "not UTF-8 text"
        with suppress(UnicodeDecodeError):
            for part in self._parts():
                if "\0" in utf8.decode(part):
                    fault = "a NUL byte, so this is not UTF-8 text"
                    break
                number += part.endswith(b"\n")
        return FileError(f"{self.path}, line {number}: {fault}", "Save the file as UTF-8.")


@contextmanager
def opened(path: Path, image_size: Path | tuple[float, float] | None = None) -> Iterator[BoxFile]:
    """Open a box file; at the end refuse it if it has changed since its first byte was read.

    Whatever a reader meets in a bad file becomes an error that names it. Gzip is unpacked, and a pipe or an object
    of a store is copied, into a temporary file.
    """
    try:
        forget(str(path))
        with _source(path) as stream:
            stamp = stamp_of(stream) if path != STDIN and stream.seekable() else None
            head = stream.read(len(_GZIP)) if stamp else b""
            if stamp:
                stream.seek(0)
            if stamp and head != _GZIP and not is_store(path):
                file = BoxFile(path, stream, stamp, image_size)
                yield from _watched(file)
            else:
                with _copy(path, stream, stamp) as copied:
                    file = BoxFile(path, copied, stamp, image_size)
                    yield from _watched(file)
            if stamp and not stamp == stamp_of(stream) == Stamp.of(path):
                raise ChangedInputError(
                    f"{path}: changed while it was read", "Run it again once nothing writes to the file."
                )
    except RoicliError:
        raise
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}", "Check the name and its permissions.") from error
    except RecursionError as error:
        raise BoxError(f"{path}: nested too deeply to hold boxes", "Check that this is the right file.") from error


def _watched(file: BoxFile) -> Iterator[BoxFile]:
    try:
        yield file
    except UnicodeDecodeError as error:
        raise file.not_text() from error


def _source(path: Path) -> AbstractContextManager[IO[bytes]]:
    """Open what lies under a name: a file, a pipe, or standard input."""
    if path == STDIN:
        return nullcontext(sys.stdin.buffer)
    mode = path.stat().st_mode
    opened = stat.S_ISFIFO(mode) and str(path).startswith(_DESCRIPTORS)  # another pipe may never have a writer
    if not (stat.S_ISREG(mode) or opened):
        what = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise FileError(f"{path}: {what}", "Name a box file, or read standard input as -.")
    return path.open("rb")


@contextmanager
def _copy(path: Path, stream: IO[bytes], stamp: Stamp | None) -> Iterator[IO[bytes]]:
    """Give the content of a pipe, of an object, or of a compressed file, as a file that can be read again."""
    from shutil import copyfileobj
    from tempfile import TemporaryFile

    with TemporaryFile() as copied:
        copyfileobj(stream, copied, _COPIED)
        copied.seek(0)
        if copied.read(len(_GZIP)) != _GZIP:
            copied.seek(0)
            yield copied
            return
        import gzip
        import zlib

        copied.seek(0)
        packed = os.fstat(copied.fileno()).st_size
        with gzip.open(copied) as inside, TemporaryFile() as unpacked:
            try:
                while block := inside.read(_COPIED):
                    unpacked.write(block)
                    check_ratio(str(path), unpacked.tell(), unpacked.tell(), lambda: packed)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise FileError(f"{path}: damaged gzip data: {error}", COPY_AGAIN) from error
            unpacked.seek(0)
            yield unpacked


def plain_name(path: Path) -> Path:
    """Return a name without the suffix of compression."""
    return path.with_suffix("") if path.suffix.lower() == ".gz" else path
