"""The parts of a job as files: read, and checked that they are all of one job and that none is missing or doubled."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.errors import OutputError
from roicli.jobs.part import NAMES
from roicli.jobs.shards import Shard
from roicli.outputs import find_format
from roicli.outputs.base import Stored, read_output
from roicli.outputs.sidefiles import shard_file
from roicli.resume.session import is_settled
from roicli.words import listing

_MADE_BY = "Give the outputs of roicli align with `shard=I/N`, all of one job."
_SHOWN = 10


@dataclass(frozen=True)
class StoredPart:
    """A part of a job, read back; see `Part`."""

    path: Path
    output: Stored
    shard: Shard
    total: int
    job: str
    rows: NDArray[np.int64]

    def blocks(self) -> Generator[NDArray[Any], None, None]:
        """Yield the features in order, some rows at a time."""
        return find_format(self.path).blocks(self.path, self.output)


def read_parts(paths: Sequence[Path]) -> list[StoredPart]:
    """Read all of the parts of one job but their features; part 1 comes first.

    Raises OutputError: files that are not parts, parts of different jobs, parts that are missing or given twice.
    FileError: a file that cannot be read.
    """
    parts = [_read(path) for path in paths]
    _check_together(parts)
    _check_complete(parts)
    _check_rows(parts)
    return sorted(parts, key=lambda part: part.shard.index)


def _read(path: Path) -> StoredPart:
    if not is_settled(path):
        raise OutputError(f"{path} is unfinished", "Finish it: roicli align with `resume`.")
    output = read_output(find_format(path), path)
    said = output.parameters
    shard = Shard.recorded(said.get("shard"))
    total, rows = said.get("shard_total_rows"), output.columns.get("output_rows")
    if shard is None or not isinstance(total, int) or not isinstance(rows, np.ndarray):
        what = f"{path} is not a part of a job: it does not say which rows of the whole it holds"
        if path.suffix.lower() == ".npy" and not (beside := shard_file(path)).exists():
            raise OutputError(
                f"{what}, and {beside.name} is missing beside it", f"Restore that file, if it was one. {_MADE_BY}"
            )
        raise OutputError(what, _MADE_BY)
    recorded = output.columns.keys() >= {"image_ids", "boxes", "rows"} or path.suffix.lower() == ".npy"
    legal = rows.dtype == np.int64 and rows.shape == output.features.shape[:1] and bool((np.diff(rows) > 0).all())
    inside = legal and (not len(rows) or 0 <= rows[0] <= rows[-1] < total)
    if not (recorded and inside):
        raise OutputError(f"{path}: what it says of its rows is damaged", "Make this part again.")
    return StoredPart(path, output, shard, total, str(said.get("shard_job")), rows)


def _check_together(parts: Sequence[StoredPart]) -> None:
    """Refuse parts of different jobs; says what differs."""
    first = parts[0]
    for part in parts[1:]:
        names = f"{first.path} and {part.path} are parts of different jobs"
        if part.shard.count != first.shard.count:
            raise OutputError(f"{names}: one is {first.shard}, the other {part.shard}", _MADE_BY)
        ours, theirs = first.output.parameters, part.output.parameters
        for name in [*ours, *(name for name in theirs if name not in ours)]:
            differ = ours.get(name) != theirs.get(name)
            if differ and name not in (*NAMES, "shard", "shard_job", "shard_total_rows"):
                raise OutputError(
                    f"{names}: {name} is {ours.get(name)!r} in one, {theirs.get(name)!r} in the other", _MADE_BY
                )
        one, other = (f"{found.shape[1:]} of {found.dtype}" for found in (first.output.features, part.output.features))
        if one != other:
            raise OutputError(f"{names}: rows are {one} in one, {other} in the other", _MADE_BY)
        this, that = ((one.job, one.total, one.output.columns.keys()) for one in (part, first))
        if this != that:
            raise OutputError(f"{names}: their boxes or feature maps are not the same", _MADE_BY)


def _check_complete(parts: Sequence[StoredPart]) -> None:
    count = parts[0].shard.count
    given: dict[int, Path] = {}
    for part in parts:
        if (other := given.setdefault(part.shard.index, part.path)) is not part.path:
            raise OutputError(
                f"part {part.shard.index} of {count} is given twice: {other} and {part.path}",
                "Leave one of them out.",
            )
    if len(given) == count:
        return
    missing = [index for index in range(1, count + 1) if index not in given]
    raise OutputError(
        f"missing parts of {count}: {listing(missing, _SHOWN)}",
        f"Make each by roicli align with `shard={missing[0]}/{count}`, or name it too.",
    )


def _check_rows(parts: Sequence[StoredPart]) -> None:
    """Refuse parts that do not cover the whole once, which only damage can bring about."""
    total = parts[0].total
    rows = np.concatenate([part.rows for part in parts])
    if len(rows) != total or len(np.unique(rows)) != total:
        raise OutputError(
            f"the parts hold {len(rows)} rows, {len(np.unique(rows))} of them different, of {total}",
            "Make the parts again.",
        )
