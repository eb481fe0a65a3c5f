"""What is proved to be done of an unfinished output: a text file beside it, one checksum and one JSON object a line.

The first line says whose journal it is. Each further line is a checkpoint: rows that lay on the disk before the line
was written. The last one, written when all do, says which file is about to be published: a journal that stays is the
proof of what that was made from. `past` reads it back, and believes a line only if its checksum fits it and the line
before.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from roicli.outputs.rowfile import RowFile
from roicli.resume.partial import JOURNAL, beside, flush_folder, writing

FORMAT = "roicli journal 1"

Range = tuple[int, int]


class Progress(NamedTuple):
    """Some work that is done.

    Attributes
    ----------
    ranges : tuple of (first, stop)
        Positions in the order of the plan, which is the same for any workers and batches.
    not_finite, overflowed : int
        As in `RunReport`, of these rows.
    """

    ranges: tuple[Range, ...] = ()
    not_finite: int = 0
    overflowed: int = 0

    @property
    def rows(self) -> int:
        """How many rows are done."""
        return sum(stop - first for first, stop in self.ranges)

    @classmethod
    def sum(cls, parts: Iterable[Progress]) -> Progress:
        """Return all parts as one, with ranges sorted, and joined where they touch.

        Examples
        --------
        >>> Progress.sum([Progress(((4, 6),)), Progress(((0, 2), (2, 3)), 1)])
        Progress(ranges=((0, 3), (4, 6)), not_finite=1, overflowed=0)
        """
        parts = list(parts)
        joined: list[Range] = []
        for first, stop in sorted(span for part in parts for span in part.ranges):
            if joined and first <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
            else:
                joined.append((first, stop))
        return cls(tuple(joined), sum(part.not_finite for part in parts), sum(part.overflowed for part in parts))


class Journal:
    """The journal of a running job; one process writes it."""

    def __init__(self, output: Path, mode: str, last: bytes = b"") -> None:
        self._output = output
        self._last = last
        self._named = False
        with writing(output):
            # Without a buffer, which would try again to write what a full disk did not take.
            self._file = journal_path(output).open(mode, buffering=0)

    @classmethod
    def create(cls, output: Path, job: dict[str, Any], total: int, rows: RowFile) -> Journal:
        """Begin the journal of a new output: `total` rows to compute for `job`, into `rows`."""
        journal = cls(output, "xb")
        try:
            of = {"format": FORMAT, "output": final_name(output), "job": job, "total": total}
            journal._append(of | {"offset": rows.offset, "size": rows.end})
        except BaseException:
            journal.remove()
            raise
        return journal

    @classmethod
    def reopen(cls, output: Path, end: int, last: bytes) -> Journal:
        """Go on with a journal where the last line that is believed ends, whose checksum is `last`."""
        journal = cls(output, "r+b", last)
        with writing(output):
            journal._file.truncate(end)
            journal._file.seek(end)
        return journal

    def add(self, done: Progress) -> None:
        """Write a checkpoint; its rows must be on the disk."""
        self._append({"done": done.ranges, "not_finite": done.not_finite, "overflowed": done.overflowed})

    def add_publishing(self, path: Path, others: Iterable[Path], done: Progress) -> None:
        """Write that all is `done` and flushed, and `path` will now become the output, after `others` beside it."""
        counts = {"not_finite": done.not_finite, "overflowed": done.overflowed}
        with writing(self._output):
            line = {"publishing": identity(path), "beside": [os.path.realpath(other) for other in others]}
        self._append(line | counts)

    def flush(self) -> None:
        """Force what was written onto the disk, and the names of the journal and the file that it speaks of."""
        with writing(self._output):
            os.fsync(self._file.fileno())
            if not self._named:
                flush_folder(journal_path(self._output))
                self._named = True

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def remove(self) -> None:
        """Close and remove it, if it can be: without the rows it speaks of, the next run begins anew."""
        self.close()
        with suppress(OSError):
            journal_path(self._output).unlink()

    def _append(self, line: dict[str, Any]) -> None:
        content = json.dumps(line).encode() + b"\n"
        self._last = checksum(content, self._last)
        text = self._last + b" " + content
        with writing(self._output):
            while text:
                text = text[self._file.write(text) :]


def checksum(content: bytes, before: bytes) -> bytes:
    """Return what a line begins with: it fits no other line, nor this one after another line than that of `before`."""
    return b"%08x" % zlib.crc32(before + content)


def final_name(output: Path) -> str:
    """Return the name by which a journal knows its output, wherever the folder moves; links are followed."""
    return Path(os.path.realpath(output)).name


def journal_path(output: Path) -> Path:
    """Return where the journal of an output lies."""
    return beside(output, JOURNAL)


def identity(path: Path) -> list[int]:
    """Tell a file from what it is once it was written to, whatever its name; a copy that keeps its time is the same."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def discard_journal(output: Path) -> None:
    """Remove the journal of an earlier run, on the disk too: it must never speak of the partial file of the next."""
    path = journal_path(output)
    with writing(output):
        if path.exists():
            path.unlink()
            flush_folder(path)
