"""What must be the same to resume a job: settings, input files, maps and boxes."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.errors import ChangedInputError, OutputError
from roicli.files import Stamp, checksum_samples
from roicli.regions import Column, Names
from roicli.resume.history import EarlierRun
from roicli.stores.path import is_store, states

# So many files are named one by one; if there are more, a message says only that one of them has changed.
_FILES_BY_NAME = 200
# Blocks that are compared of all map files together, and at least of each. They find what sizes and times do not:
# another file that was copied with its time (cp -p, rsync -t, tar).
_SAMPLES = 64

Stamps = Mapping[str, Stamp]


def fingerprint(
    settings: Mapping[str, Any],
    boxes: Stamps,
    features: Stamps,
    maps: Iterable[str],
    columns: Iterable[Column | None],
) -> dict[str, Any]:
    """Describe a job as JSON can hold it.

    `settings`: everything that changes numbers.
    `boxes`: the box files, and their state before their first byte was read.
    `features`: the same for each file of the features.
    `maps`: one line for each map that is used.
    `columns`: what is known of each box.
    """
    blocks = max(1, _SAMPLES // max(len(features), 1))
    files = {path: f"{_said(stamp)}, content {_content(path, stamp, blocks):08x}" for path, stamp in features.items()}
    regions = {path: _said(stamp) for path, stamp in boxes.items()}
    return {
        "settings": dict(settings),
        "files": _by_name(regions, "one of the box files") | _by_name(files, "one of the feature files"),
        "maps": _digest(line.encode("utf-8", "surrogatepass") + b"\n" for line in maps),
        "boxes": _digest_columns(columns),
    }


def _by_name(files: Mapping[str, str], all_of_them: str) -> dict[str, str]:
    """Name files one by one, if they are few."""
    if len(files) <= _FILES_BY_NAME:
        return {**files}
    lines = (f"{path} {state}".encode(errors="replace") for path, state in files.items())
    return {all_of_them: _digest(lines)}


def check_unchanged(stamps: Stamps) -> None:
    """Refuse what was computed while any input changed; raises ChangedInputError."""
    for path, now in states(stamps).items():
        if now != stamps[path]:
            raise ChangedInputError(
                f"{path} was modified while the job ran, so its output cannot be trusted",
                "Run the job again when nothing writes to its inputs.",
            )


def is_same(earlier: EarlierRun, now: Mapping[str, Any]) -> bool:
    """Tell whether the job of an earlier run was the same as `now`."""
    return not any(_changes(earlier.job, now))


def check_same(output: Path, earlier: EarlierRun, now: Mapping[str, Any], total: int) -> None:
    """Refuse to resume another job than `now`, with `total` rows; OutputError says what has changed."""
    changes = list(_changes(earlier.job, now))
    if earlier.total != total:
        changes.append(f"{earlier.total:,} rows were to be computed, now {total:,}")
    more = f" and {len(changes) - 5} more" if len(changes) > 5 else ""
    if changes:
        raise OutputError(
            f"{output} was begun by another job: {'; '.join(changes[:5])}{more}",
            "Give the same inputs and options to go on, or `overwrite` without `resume` to start over.",
        )


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    before, after = _table(then, "settings"), now["settings"]
    for name in {**before, **after}:
        if before.get(name) != after.get(name):
            yield f"{name} was {before.get(name, 'unknown')}, is {after.get(name, 'unknown')}"
    before, after = _table(then, "files"), now["files"]
    for name in {**before, **after}:
        if name not in after:
            yield f"{name} is not an input any more"
        elif name not in before:
            yield f"{name} was not an input"
        elif before[name] != after[name]:
            yield f"{name} was modified since"
    for name, changed in (("maps", "other maps or shapes of maps"), ("boxes", "other boxes")):
        if then.get(name) != now[name]:
            yield changed


def _table(job: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a part of the job in a journal; nothing if it is not as we write it."""
    found = job.get(name)
    return found if isinstance(found, dict) else {}


def _content(path: str, stamp: Stamp, blocks: int) -> int:
    """Return what tells a file from others of its size and time; a store says it of an object."""
    return stamp.inode if is_store(path) else checksum_samples(path, blocks)


def _said(stamp: Stamp) -> str:
    # Neither device nor inode nor time of change: a job may go on where a copy of its folder is mounted.
    return f"{stamp.size} bytes, {stamp.modified} ns"


def _digest(parts: Iterable[bytes | memoryview]) -> str:
    """Return a checksum against accidents; sizes and times are compared too, so CRC-32 does."""
    number = 0
    for part in parts:
        number = zlib.crc32(part, number)
    return f"{number:08x}"


def _digest_columns(columns: Iterable[Column | None]) -> str:
    def parts() -> Iterator[bytes | memoryview]:
        for column in columns:
            if isinstance(column, Names):
                yield from (b"text", column.tobytes())
            elif column is not None:
                yield f"{column.dtype.str} {column.shape}".encode()
                array: NDArray[Any] = np.ascontiguousarray(column)
                yield array.reshape(-1).view(np.uint8).data if array.size else b""

    return _digest(parts())
