"""Small files that lie beside a complete output: what they are, and which output they belong to."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from roicli.errors import FileError
from roicli.files import file_size
from roicli.outputs.npy import count_part_rows
from roicli.outputs.sidefiles import shard_file, skipped_file

# Names of columns that only the tables of roicli have.
_SKIPPED_COLUMNS = {"box_file_row", "reason", "fate"}
_INDEX_COLUMNS = {"row", "box_file_row"}
_LONGEST_HEADER = 1000
_HINT = "Run the job again to have it written anew."


@dataclass(frozen=True)
class SideInfo:
    """A small file that belongs to an output.

    Attributes
    ----------
    kind : {"part", "skipped", "index"}
        The record of a part that is an .npy; the list of boxes that are not pooled; whose features each row is.
    output : str
        The output; empty for an index, which does not say it.
    output_exists : bool
        Whether that is there.
    rows : int
        Rows of the output that it tells of; boxes that are not pooled.
    fates : dict of str to dict of str to int
        How many of those are "skipped" and "zeroed", by reason.
    """

    kind: Literal["part", "skipped", "index"]
    output: str
    output_exists: bool
    rows: int
    fates: dict[str, dict[str, int]]


def part_of(path: Path) -> Path | None:
    """Return the .npy that a record of a part belongs to; None for any other file."""
    output = _owner(path, shard_file(Path("x")).name[1:])
    return output if output is not None and output.suffix.lower() == ".npy" else None


def describe_part(output: Path) -> SideInfo:
    """Describe the record of a part; FileError if it is damaged."""
    return SideInfo("part", str(output), output.exists(), count_part_rows(output), {})


def describe_skipped(path: Path) -> SideInfo | None:
    """Describe a list of boxes that are not pooled; None for any other file."""
    output = _owner(path, skipped_file(Path("x")).name[1:])
    if output is None or not set(_header(path)) >= _SKIPPED_COLUMNS:
        return None
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        try:
            counts = Counter((row["fate"], row["reason"]) for row in csv.DictReader(file))
        except csv.Error as error:
            raise FileError(f"{path} cannot be read: {error}", _HINT) from error
    fates: dict[str, dict[str, int]] = {}
    for (fate, reason), number in counts.most_common():
        fates.setdefault(str(fate), {})[str(reason)] = number
    return SideInfo("skipped", str(output), output.exists(), counts.total(), fates)


def describe_index(path: Path, rows: int) -> SideInfo | None:
    """Describe an index of so many rows; None for any other table."""
    return SideInfo("index", "", False, rows, {}) if set(_header(path)) >= _INDEX_COLUMNS else None


def _owner(path: Path, ending: str) -> Path | None:
    name = path.name.removesuffix(ending)
    return path.with_name(name) if name and name != path.name else None


def _header(path: Path) -> Sequence[str]:
    file_size(path)
    with suppress(OSError, UnicodeDecodeError), path.open(encoding="utf-8") as file:
        return file.readline(_LONGEST_HEADER).strip().split(",")
    return ()
