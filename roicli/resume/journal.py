"""What is proved to be done of an unfinished output: a text file beside it, one checksum and one JSON object a line.

The first line says whose journal it is. Each further line is a checkpoint: rows that lay on the disk before the line
was written. The last one, written when all do, names the files that are about to be published. A journal that stays
proves what a complete output was made from. `history` reads it back.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from roicli.newfiles import (
    JOURNAL,
    NewFile,
    beside,
    close_file,
    create_file,
    flush_folder,
    real,
    remove_hidden,
    write_all,
    writing,
)
from roicli.outputs.rowfile import RowFile
from roicli.progress import Progress
from roicli.stores.path import is_store

FORMAT = "roicli journal 2"


class Journal:
    """The journal of a running job; one process writes it."""

    def __init__(self, output: Path, descriptor: int, last: bytes = b"") -> None:
        self._output, self._descriptor, self._last = output, descriptor, last
        self._named = False

    @classmethod
    def create(cls, output: Path, job: dict[str, Any], total: int, rows: RowFile) -> Journal:
        """Begin the journal of a new output: `total` rows to compute for `job`, into `rows`."""
        with writing(output):
            journal = cls(output, create_file(journal_path(output)))
        try:
            journal._append(first_line(output, job, total, rows))
        except BaseException:
            journal.remove()
            raise
        return journal

    @classmethod
    def reopen(cls, output: Path, end: int, last: bytes) -> Journal:
        """Continue a journal after its last valid line, which ends at `end` and has the checksum `last`."""
        with writing(output):
            descriptor = os.open(journal_path(output), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            os.ftruncate(descriptor, end)
            os.lseek(descriptor, 0, os.SEEK_END)
        return cls(output, descriptor, last)

    def add(self, done: Progress) -> None:
        """Write a checkpoint; its rows must be on the disk."""
        self._append(done_line(done))

    def add_publishing(self, files: Iterable[NewFile], done: Progress) -> None:
        """Write that all is `done` and flushed, and that each file is about to get its final name."""
        with writing(self._output):
            names = [[self._name(file.final), file.identity] for file in files]
        self._append({"publishing": names, **_counts(done)})
        self.flush()

    def flush(self) -> None:
        """Force what was written onto the disk, and the names of the journal and of the file with the rows."""
        with writing(self._output):
            os.fsync(self._descriptor)
            if not self._named:
                flush_folder(journal_path(self._output))
                self._named = True

    def close(self) -> None:
        """Release the file."""
        if self._descriptor >= 0:
            close_file(self._descriptor)
            self._descriptor = -1

    def remove(self) -> None:
        """Close and remove it if that is possible. Without the rows that it proves, the next run starts over."""
        self.close()
        with suppress(OSError):
            journal_path(self._output).unlink()

    def _name(self, path: Path) -> str:
        return os.path.relpath(path, real(self._output).parent)

    def _append(self, line: dict[str, Any]) -> None:
        content = json.dumps(line).encode() + b"\n"
        self._last = checksum(content, self._last)
        with writing(self._output):
            write_all(self._descriptor, self._last + b" " + content)


def first_line(output: Path, job: dict[str, Any], total: int, rows: RowFile) -> dict[str, Any]:
    """Return what says whose journal it is."""
    of = {"format": FORMAT, "output": real(output).name, "job": job, "total": total}
    return of | {"offset": rows.offset, "size": rows.end}


def done_line(done: Progress) -> dict[str, Any]:
    """Return what is written of rows that are done."""
    return {"done": done.ranges, **_counts(done)}


def _counts(done: Progress) -> dict[str, int]:
    """Return what is counted; masks are rare."""
    empty = {"empty": done.empty} if done.empty else {}
    return {"not_finite": done.not_finite, "overflowed": done.overflowed, **empty}


def checksum(content: bytes, before: bytes) -> bytes:
    """Return what a line begins with: it fits this line after the line with the checksum `before`, and no other."""
    return b"%08x" % zlib.crc32(before + content)


def journal_path(output: Path) -> Path:
    """Return where the journal of an output lies."""
    return beside(output, JOURNAL)


def discard(output: Path) -> None:
    """Remove what an earlier run has left, the journal first and from the disk too: it proves nothing of a new file."""
    path = journal_path(output)
    with writing(output):
        if is_store(path) or path.exists():
            path.unlink()
            flush_folder(path)
    remove_hidden(output)
