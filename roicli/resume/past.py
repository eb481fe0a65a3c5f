"""What an earlier run has left of an output: its journal, read back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import IO, Any, NamedTuple

from roicli.errors import OutputError
from roicli.resume.journal import FORMAT, Progress, Range, checksum, final_name, identity, journal_path

# No checkpoint is longer; what claims to be is not read into memory.
_LONGEST_LINE = 2**26


class Past(NamedTuple):
    """What an earlier run has left.

    Attributes
    ----------
    job : dict
        What must be the same to go on.
    total : int
        Rows to compute, done or not.
    offset : int
        Byte of the partial file at which row 0 begins.
    done : Progress
        What is proved to be done.
    published : bool
        Everything is done, and the output lies under its name already.
    beside : tuple of str
        Files that were about to be published with the output, links followed.
    end : int
        Length of the journal up to the last line that is believed.
    last : bytes
        Checksum of that line.
    damaged : int, optional
        Number of the first line that is not believed since its checksum does not fit; nor are those that follow it.
    """

    job: dict[str, Any]
    total: int
    offset: int
    done: Progress
    published: bool
    beside: tuple[str, ...]
    end: int
    last: bytes
    damaged: int | None


class Lines(NamedTuple):
    """What is believed of a journal; `end`, `last` and `damaged` as in `Past`."""

    found: list[dict[str, Any]]
    end: int
    last: bytes
    damaged: int | None


def read_past(output: Path, rows: Path, moved: Path) -> Past | None:
    """Read what an earlier run has left; None if that is nothing of use.

    Parameters
    ----------
    output : Path
        The output.
    rows, moved : Path
        Where its rows lie until they are all done, and the file that is then moved to its name.

    Raises
    ------
    OutputError
        The journal is of another version of roicli, or damaged from its first line on, or cannot be read.
    """
    journal = journal_path(output)
    try:
        if journal.exists() and not journal.is_file():  # a pipe would wait
            raise OutputError(f"{journal} is no regular file, but a journal would lie there", "Remove it.")
        with journal.open("rb") as file:
            lines = _read_lines(file)
        if lines.found or lines.damaged:
            return _past(output, rows, moved, lines)
        return None
    except OutputError:
        raise
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(
            f"{journal} cannot be read: {error.strerror}", "Check its permissions, or name another output."
        ) from error
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise OutputError(
            f"{journal} is damaged, of another output, or not of this version of roicli",
            "Give --overwrite without --resume to begin anew.",
        ) from error


def _read_lines(file: IO[bytes]) -> Lines:
    """Read lines up to one that a crash has torn, and without any from the first on whose checksum does not fit."""
    found: list[dict[str, Any]] = []
    end, last = 0, b""
    while (text := file.readline(_LONGEST_LINE)).endswith(b"\n"):
        said, _, content = text.partition(b" ")
        if said != checksum(content, last):
            return Lines(found, end, last, damaged=len(found) + 1)
        found.append(json.loads(content))
        end, last = end + len(text), said
    return Lines(found, end, last, damaged=None)


def _past(output: Path, rows: Path, moved: Path, lines: Lines) -> Past | None:
    header, *rest = lines.found
    if header["format"] != FORMAT or header["output"] != final_name(output):
        raise ValueError(header["format"], header["output"])
    for name in ("total", "offset", "size"):
        _check_count(header[name])
    # Lines of another run may follow that went on, and was killed too, before it published.
    last: dict[str, Any] = next((line for line in reversed(rest) if "publishing" in line), {})
    final = Path(os.path.realpath(output))
    published = "publishing" in last and not moved.exists() and final.exists() and identity(final) == last["publishing"]
    if not published and not (rows.exists() and rows.stat().st_size >= header["size"]):
        return None
    if published:
        done = _progress(last | {"done": [(0, header["total"])] if header["total"] else []}, header["total"])
    else:
        done = Progress.sum(_progress(line, header["total"]) for line in rest if "done" in line)
    return Past(
        dict(header["job"]),
        header["total"],
        header["offset"],
        done,
        published,
        tuple(last.get("beside", ())),
        lines.end,
        lines.last,
        lines.damaged,
    )


def _progress(line: dict[str, Any], total: int) -> Progress:
    ranges: list[Range] = []
    for first, stop in line["done"]:
        if type(first) is not int or type(stop) is not int or not 0 <= first < stop <= total:
            raise ValueError(f"rows {first} to {stop} of {total}")
        ranges.append((first, stop))
    for name in ("not_finite", "overflowed"):
        _check_count(line[name])
    return Progress(tuple(ranges), line["not_finite"], line["overflowed"])


def _check_count(value: Any) -> None:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no count")
