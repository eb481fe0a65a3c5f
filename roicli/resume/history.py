"""What an earlier run has left of an output: its journal, read back.

A line counts only if its checksum fits it and the line before. A crash may tear the last line; then that line is lost.
"""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

from roicli.errors import OutputError, RoicliError
from roicli.newfiles import PARTIAL, beside, final_of, hidden_of, identity, real
from roicli.progress import Progress, Range
from roicli.resume.journal import FORMAT, checksum, journal_path
from roicli.stores.path import StorePath, path_of

# No checkpoint is longer; a longer line is not read into memory.
_LONGEST_LINE = 2**26


class EarlierRun(NamedTuple):
    """What an earlier run has left."""

    job: dict[str, Any]  # its fingerprint, which must be the same to resume
    total: int  # rows to compute, done or not
    offset: int  # byte of the partial file at which row 0 begins
    done: Progress  # what is proved to be done
    published: bool  # whether the output is complete and has its final name
    # All files that it was about to publish, by final name; several if it was killed and resumed meanwhile
    files: dict[Path, list[list[int]]]
    # Length of the valid part of the journal, and checksum of its last line
    end: int
    last: bytes
    damaged: int | None  # number of the first line whose checksum does not fit; it and later ones do not count

    def is_there(self, path: Path) -> bool:
        """Whether one of its files has its final name."""
        final = real(path)
        return final.exists() and identity(final) in self.files.get(final, ())

    def is_pending(self, path: Path) -> bool:
        """Whether one of its files is complete, and waits for its final name."""
        hidden = beside(path, PARTIAL)
        return hidden.exists() and not self.is_there(path) and identity(hidden) in self.files.get(real(path), ())

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do: no file waits for its final name, no rows lie beside a complete output."""
        return self.published and not any(map(hidden_of, self.files))


def find_history(output: Path) -> EarlierRun | None:
    """Read what an earlier run has left; None if that is nothing of use.

    Raises OutputError: the journal is of another version of roicli, or damaged from its first line on, or cannot be
    read.
    """
    journal = journal_path(output)
    try:
        if isinstance(journal, StorePath):
            return _history(output, BytesIO(journal.read_bytes()))
        if journal.exists() and not journal.is_file():  # a pipe would wait
            raise OutputError(f"{journal} is not a regular file", "Remove it.")
        with journal.open("rb") as file:
            return _history(output, file)
    except RoicliError:
        raise
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(
            f"{journal} cannot be read: {error.strerror}", "Check its permissions, or name another output."
        ) from error
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise OutputError(
            f"{journal} is damaged, of another output, or of another version of roicli",
            "Give `overwrite` without `resume` to start over.",
        ) from error


def _history(output: Path, file: IO[bytes]) -> EarlierRun | None:
    lines: list[dict[str, Any]] = []
    end, last, damaged = 0, b"", None
    while (text := file.readline(_LONGEST_LINE)).endswith(b"\n"):
        written, _, content = text.partition(b" ")
        if written != checksum(content, last):
            if not lines and b"\0" in text:
                return None  # its first block never reached the disk, so nothing was proved
            damaged = len(lines) + 1
            break
        lines.append(json.loads(content))
        end, last = end + len(text), written
    if not lines and not damaged:
        return None
    header, *rest = lines
    if header["format"] != FORMAT or header["output"] != real(output).name:
        raise ValueError(header["format"], header["output"])
    total = header["total"]
    for name in ("total", "offset", "size"):
        _check_count(header[name])
    publishing = [line for line in rest if "publishing" in line]
    final, hidden, remote = final_of(output), beside(output, PARTIAL), isinstance(output, StorePath)
    files: dict[Path, list[list[int]]] = {}
    for line in publishing:
        for name, known in line["publishing"]:  # names are relative to the output, whose folder may be moved
            files.setdefault(path_of(name) if remote else real(final.parent / name), []).append(list(known))
    ours = files.get(final, [])
    linked = hidden.exists() and final.exists() and hidden.samefile(final)  # killed between link and unlink
    complete = hidden.exists() and identity(hidden) in ours
    published = bool(ours) and final.exists() and identity(final) in ours
    if not (published or remote) and (linked or not hidden.exists() or hidden.stat().st_size < header["size"]):
        return None
    if not published and remote and header["size"]:  # rows that were not in shards lay on the machine of that run
        done, files = Progress(), {}
    elif published or complete:
        done = _progress(publishing[-1] | {"done": [(0, total)] if total else []}, total)
    else:
        done = Progress.sum(_progress(line, total) for line in rest if "done" in line)
    job = dict(header["job"])
    return EarlierRun(job, total, header["offset"], done, published, files, end, last, damaged)


def _progress(line: dict[str, Any], total: int) -> Progress:
    ranges: list[Range] = []
    for first, stop in line["done"]:
        if type(first) is not int or type(stop) is not int or not 0 <= first < stop <= total:
            raise ValueError(f"rows {first} to {stop} of {total}")
        ranges.append((first, stop))
    counts = line["not_finite"], line["overflowed"], line.get("empty", 0)
    for count in counts:
        _check_count(count)
    return Progress(tuple(ranges), *counts)


def _check_count(value: Any) -> None:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is not a count")
