"""Read an output and its checksums: rows that a disk, a memory or a copy has changed are found, whatever they hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from roicli.errors import FileError
from roicli.files import printable, reading
from roicli.outputs import find_stored
from roicli.outputs.base import REMEDY, OutputFormat


@dataclass(frozen=True)
class Damage:
    """What the checksums of an output say."""

    rows: int  # how many rows were read
    # Those that do not fit their checksums, as runs: the first and the last row
    damaged: tuple[tuple[int, int], ...]


def find_damage(path: Path) -> Damage:
    """Compare all rows of an output with their checksums.

    Raises FileError: it cannot be read, what it says of its rows is damaged, or it holds no checksums.
    """
    return damage_of(find_stored(path), path)


def damage_of(output_format: OutputFormat, path: Path) -> Damage:
    """Compare all rows of an output of some format with their checksums."""
    with reading(printable(str(path)), REMEDY):
        stored = output_format.read(path)
    if stored.sums is None and not output_format.checked:
        raise FileError(
            f"{path} holds no checksums",
            "Outputs have them in .h5, .npz, .safetensors, .zarr, and beside .npy with `sidecar`.",
        )
    number, runs = 0, [(-2, -2)]
    for block, rows in output_format.damaged(path, stored):
        number += len(block)
        for row in rows.tolist():
            runs[-1:] = [(runs[-1][0], row)] if row == runs[-1][1] + 1 else [runs[-1], (row, row)]
    return Damage(number, tuple(runs[1:]))
