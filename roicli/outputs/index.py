"""The rows of an output as a table of their own: what an .npy cannot hold beside the features."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

from roicli.errors import OutputError
from roicli.outputs.csvfile import CsvFile
from roicli.outputs.record import Record
from roicli.resume.partial import check_name

# Lines are made so many at once: all of them as Python objects would take far more memory than the arrays.
_BLOCK = 10_000
_COLUMNS = ("row", "image_id", "box_id", "x1", "y1", "x2", "y2", "box_file_row")


class IndexFile(CsvFile):
    """A CSV with one line a row of the output: row, image_id, box_id, x1, y1, x2, y2, box_file_row.

    Can be read back as a box file.
    """

    @staticmethod
    def check(path: Path, *, overwrite: bool) -> None:
        """Refuse a name that cannot or must not be written."""
        if path.suffix.lower() != ".csv":
            raise OutputError(f"{path}: the index is a CSV file", "Give it a name that ends in .csv.")
        check_name(path, overwrite=overwrite)

    def __init__(self, path: Path, record: Record, *, overwrite: bool) -> None:
        super().__init__(path, _COLUMNS, _lines(record), overwrite=overwrite)


def _lines(record: Record) -> Iterator[list[object]]:
    for first in range(0, len(record.rows), _BLOCK):
        part = slice(first, first + _BLOCK)
        boxes, rows = record.boxes[part].tolist(), record.rows[part].tolist()
        ids = [""] * len(rows) if record.box_ids is None else record.box_ids[part].tolist()
        for number, image, box_id, box, place in zip(
            count(first), record.image_ids[part], ids, boxes, rows, strict=False
        ):
            yield [number, image, box_id, *box, place]
