"""Lines of a text file, which need not have any."""

from __future__ import annotations

from pathlib import Path

from roicli.errors import BoxError

# Far beyond any box with its outlines; read up to here only, since a file without a line's end would fill the memory.
LONGEST_LINE = 1 << 24


def check_line(line: str | bytes, path: Path, number: int) -> None:
    """Raise BoxError if `line`, number `number` of a file, has been cut by `LONGEST_LINE`."""
    if len(line) == LONGEST_LINE:
        raise BoxError(f"{path}, line {number}: longer than {LONGEST_LINE:,} characters", "Write one box a line.")
