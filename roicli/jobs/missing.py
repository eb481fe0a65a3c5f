"""Which parts of a job are not done."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from roicli.errors import FileError, OutputError, RoicliError
from roicli.files import printable, reading
from roicli.jobs.shards import Shard
from roicli.outputs import find_format, suffixes
from roicli.outputs.base import REMEDY
from roicli.resume.session import is_settled
from roicli.sources.open import matches
from roicli.stores.path import path_of


class MissingReport(NamedTuple):
    """Which parts of a job are done."""

    parts: int  # how many there are in all
    done: tuple[int, ...]  # those that are complete, counted from 1
    missing: tuple[int, ...]  # all others

    @property
    def array(self) -> str:
        """Return the missing parts as Slurm takes the tasks of an array: "3,7-9"."""
        runs = [[number for _, number in run] for _, run in groupby(enumerate(self.missing), lambda p: p[1] - p[0])]
        return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON can hold them."""
        return {"parts": self.parts, "done": [*self.done], "missing": [*self.missing], "array": self.array}


def missing(patterns: Sequence[str]) -> MissingReport:
    """Find the parts of a job among files, and say which ones lack.

    Raises OutputError: files that are not parts, or of jobs with other numbers of parts. FileError: no file matches, or
    one cannot be read.
    """
    found = [path_of(path) for pattern in patterns for path in matches(pattern)]
    paths = [path for path in found if path.suffix.lower() in suffixes()]  # not the small files beside outputs
    if not paths:
        raise FileError(f"no file matches {', '.join(patterns)}", "Check the folder and the pattern.")
    done: dict[int, Path] = {}
    parts, first = 0, paths[0]
    for path in paths:
        index, count = _part(path)
        if parts and count != parts:
            raise OutputError(
                f"{first} is one of {parts} parts, {path} one of {count}", "Give the parts of one job at a time."
            )
        parts = count
        if is_settled(path):
            done[index] = path
    return MissingReport(parts, tuple(sorted(done)), tuple(set(range(1, parts + 1)).difference(done)))


def _part(path: Path) -> tuple[int, int]:
    """Return which part of how many a file is."""
    name = printable(str(path))
    try:
        with reading(name, REMEDY):
            said = find_format(path).parameters(path)
    except RoicliError as error:
        raise type(error)(error.message, "Make this part again, or leave it out of the pattern.") from error
    if (shard := Shard.recorded(said.get("shard"))) is None:
        raise OutputError(f"{name} is not a part of a job", "Give the outputs of roicli align with `shard=I/N`.")
    return shard.index, shard.count
