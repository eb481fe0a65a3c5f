"""An open box file: its first bytes, its whole content, its lines. Only what a layout asks for is read."""

from __future__ import annotations

import re
import stat
from codecs import getincrementaldecoder
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from io import TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING, TextIO

from roicli.boxfiles.layout import Form
from roicli.errors import BoxError, ChangedInputError, FileError, RoicliError
from roicli.files import Stamp, signature

if TYPE_CHECKING:
    from roicli.boxfiles.jsontext import Document

_HEAD = 1 << 16
# Far beyond any box with its outlines; a line is read up to here, since a file without line ends would fill the memory.
LONGEST_LINE = 1 << 24
LINE_SUFFIXES = (".jsonl", ".ndjson")
BOM = b"\xef\xbb\xbf"

# How to make a box file of what is not one, by the beginning of its description.
_REMEDIES = {
    "gzip": "Unpack it first: `gunzip`.",
    "a Git LFS pointer": "Fetch the file itself: git lfs pull.",
    "a web page": "Download the file again: the server sent a page, perhaps to log in.",
    "a zip archive": "Unpack it; of an .npz save one (K, 4) array with numpy.save.",
    "an HDF5 file": "Save its boxes as an array: numpy.save('boxes.npy', file['boxes'][()]).",
    "a Parquet": "Convert it: pandas.read_parquet(...).to_csv('boxes.csv', index=False).",
    "a pickle": "Save the boxes as JSON, as CSV, or with numpy.save as a (K, 4) array.",
    "UTF-16": "Save the file as UTF-8.",
}


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
    has_tokens : bool
        Whether numbers stand for NaN and Infinity in what was parsed; see `jsontext.without_tokens`.
    """

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self.path = path
        self.stream = stream
        self.stamp = Stamp.of(stream.fileno())
        self.head = stream.read(_HEAD)
        self.notes: list[str] = []
        self.has_tokens = False

    @property
    def signature(self) -> str:
        """What the file is, if its first bytes say so and it is not text or an array."""
        return "" if self.head.startswith(b"\x93NUMPY") else signature(self.head)

    @property
    def remedy(self) -> str:
        """What to do with a file of this signature."""
        return next((remedy for kind, remedy in _REMEDIES.items() if self.signature.startswith(kind)), "")

    @property
    def form(self) -> Form:
        """What the first bytes say the file is."""
        if self.head.startswith(b"\x93NUMPY"):
            return "npy"
        if self.signature:
            return "other"
        return "json" if self.head.removeprefix(BOM).lstrip()[:1] in (b"[", b"{") else "text"

    def rewind(self, position: int = 0) -> IO[bytes]:
        """Return the stream, to be read from `position` on."""
        self.stream.seek(position)
        return self.stream

    @contextmanager
    def text(self) -> Iterator[TextIO]:
        """Give the file from its beginning as text in UTF-8; line ends are left as they are."""
        text = TextIOWrapper(self.rewind(), encoding="utf-8-sig", newline="")
        try:
            yield text
        finally:
            text.detach()  # or it would close the stream

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield every line that is not blank, with its number from 1; BoxError if one has no end."""
        for number, line in enumerate(iter(partial(self.rewind().readline, LONGEST_LINE), b""), 1):
            self.check_line(line, number)
            if not (line := line.removeprefix(BOM) if number == 1 else line).isspace():
                yield number, line

    def check_line(self, line: str | bytes, number: int) -> None:
        """Raise BoxError if a line has been cut by `LONGEST_LINE`."""
        if len(line) == LONGEST_LINE:
            raise BoxError(f"{self.path}, line {number}: longer than 16,777,216 characters", "Write one box a line.")

    @cached_property
    def data(self) -> bytes:
        """The whole content, without a byte order mark; BoxError if there is nothing, or not text."""
        # A NUL is looked for before gigabytes of them are read and decoded, as in a file never filled.
        data = (self.head if b"\0" in self.head else self.rewind().read()).removeprefix(BOM)
        if re.search(rb"\S", data) is None:
            raise BoxError(f"{self.path}: empty", "Write [] for no boxes at all.")
        if (nul := data.find(b"\0")) >= 0:
            data[: min(nul, 4)].decode()  # UTF-16 begins in bytes that are not UTF-8
            raise BoxError(f"{self.path}, byte {nul}: a NUL byte, so this is not a text in UTF-8", "Save it as UTF-8.")
        return data

    @cached_property
    def document(self) -> Document:
        """The content as one JSON document, parsed to its first level; BoxError if it is malformed."""
        from roicli.boxfiles.jsontext import Document

        return Document(self)

    @cached_property
    def is_lines(self) -> bool:
        """Whether each line is a JSON value: the suffix says so, or the first line is one and another follows."""
        from roicli.boxfiles.jsontext import is_value

        if self.path.suffix.lower() in LINE_SUFFIXES:
            return True
        if b"\n" not in self.head and self.head.removeprefix(BOM).lstrip()[:1] == b"[":
            return False  # a list too long to be one box
        lines = self.lines()
        with suppress(BoxError, StopIteration):  # a line without an end is a document
            first, _ = next(lines), next(lines)
            return is_value(first[1])
        return False

    def first_undecodable(self) -> str:
        """Name the first line that is not UTF-8; decoders count bytes from wherever their last buffer began."""
        utf8, number = getincrementaldecoder("utf-8")(), 1
        for part in iter(partial(self.rewind().readline, LONGEST_LINE), b""):
            try:
                utf8.decode(part)
            except UnicodeDecodeError:
                return f", line {number}"
            number += part.endswith(b"\n")
        return ""


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
                raise FileError(
                    f"{path}{file.first_undecodable()}: not UTF-8 text", "Save the file as UTF-8."
                ) from error
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
