"""An open box file: its first bytes, its whole content, its lines. Only what a layout asks for is read."""

from __future__ import annotations

import stat
from codecs import getincrementaldecoder
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from io import TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, TextIO

from roicli.errors import BoxError, ChangedInputError, FileError, RoicliError
from roicli.files import Stamp, signature

if TYPE_CHECKING:
    from msgspec import Raw

Form = Literal["json", "text", "npy", "other"]
"""What the first bytes of a file say it is."""

_HEAD = 1 << 16
# Far beyond any box with its outlines; a line is read up to here, since a file without line ends would fill the memory.
LONGEST_LINE = 1 << 24
LINE_SUFFIXES = (".jsonl", ".ndjson")
BOM = b"\xef\xbb\xbf"


class BoxFile:
    """An open box file.

    Parameters
    ----------
    path : Path
        Its name, for messages.
    stream : binary file
        Open at its beginning.

    Attributes
    ----------
    stamp : Stamp
        State of the file before its first byte was read.
    head : bytes
        Its first 64 KiB.
    notes : list of str
        What was assumed while the file was decoded.
    """

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self.path = path
        self.stream = stream
        self.stamp = Stamp.of(stream.fileno())
        self.head = stream.read(_HEAD)
        self.notes: list[str] = []

    @property
    def form(self) -> Form:
        """What the first bytes say the file is."""
        if self.head.startswith(b"\x93NUMPY"):
            return "npy"
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

        if self.path.suffix.lower() in LINE_SUFFIXES:
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
def opened(path: Path) -> Iterator[BoxFile]:
    """Open a box file; at the end refuse it if it has changed since its first byte was read.

    Whatever a reader meets in a bad file becomes an error that names it.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # a pipe would wait
            raise FileError(f"{path}: {'a folder' if stat.S_ISDIR(mode) else 'not a regular file'}", "Name a box file.")
        with path.open("rb") as stream:
            file = BoxFile(path, stream)
            try:
                yield file
            except UnicodeDecodeError as error:
                raise file.not_text() from error
            if not file.stamp == Stamp.of(stream.fileno()) == Stamp.of(path):
                raise ChangedInputError(
                    f"{path}: changed while it was read", "Run it again once nothing writes to the file."
                )
    except RoicliError:
        raise
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}", "Check the name and its permissions.") from error
    except RecursionError as error:
        raise BoxError(f"{path}: nested too deeply to hold boxes", "Check that this is the right file.") from error
