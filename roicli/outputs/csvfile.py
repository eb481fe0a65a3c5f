"""Tables beside an output, as CSV files that appear complete or not at all."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from roicli.resume.partial import Partial, writing


class CsvFile:
    """A CSV that is written and flushed at once, and published later.

    Parameters
    ----------
    path : Path
        Its final name.
    header : sequence of str
        Names of the columns.
    lines : iterable of iterable
        The lines, made while they are written.
    overwrite : bool
        Whether a file that exists is replaced.
    """

    def __init__(
        self, path: Path, header: Iterable[str], lines: Iterable[Iterable[object]], *, overwrite: bool
    ) -> None:
        self.path = path
        self._partial = Partial(path, overwrite=overwrite)
        with self._partial.begun():
            with writing(path), self._partial.path.open("w", newline="", encoding="utf-8") as file:
                table = csv.writer(file)
                table.writerow(header)
                table.writerows(lines)
            self._partial.flush()

    def publish(self) -> None:
        """Move the file to its final name."""
        self._partial.publish()

    def abort(self) -> None:
        """Remove the partial file."""
        self._partial.remove()
