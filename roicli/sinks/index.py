"""The rows of an output as a table of their own: what an .npy cannot hold beside the features."""

from __future__ import annotations

import csv
from pathlib import Path

from roicli.errors import OutputError
from roicli.sinks.partial import check_name, partial_path, publish, writing
from roicli.sinks.protocol import Record


class IndexFile:
    """A CSV with one line a row of the output: row, image_id, box_id, x1, y1, x2, y2, box_file_row.

    Can be read back as a box file.
    """

    @staticmethod
    def check(path: Path, *, overwrite: bool) -> None:
        """Refuse a name that cannot or must not be written."""
        if path.suffix.lower() != ".csv":
            raise OutputError(f"{path}: the index is a CSV file", "Give it a name that ends in .csv.")
        check_name(path, overwrite=overwrite)

    def __init__(self, path: Path, record: Record) -> None:
        self._path, self._partial = path, partial_path(path)
        ids = record.box_ids if record.box_ids is not None else [""] * len(record.rows)
        with writing(path), self._partial.open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file)
            lines.writerow(["row", "image_id", "box_id", "x1", "y1", "x2", "y2", "box_file_row"])
            for row, (image, box_id, box, place) in enumerate(
                zip(record.image_ids, ids, record.boxes.tolist(), record.rows, strict=True)
            ):
                lines.writerow([row, image, box_id, *box, place])

    def commit(self) -> None:
        """Move the file to its final name."""
        publish(self._partial, self._path)

    def abort(self) -> None:
        """Remove the temporary file."""
        self._partial.unlink(missing_ok=True)
