"""Boxes that are not pooled because the user said so, listed beside the output: nothing is left out in silence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.outputs.csvfile import CsvFile
from roicli.resume.partial import led_to, writing

NO_FEATURES = "no features"
_COLUMNS = ("box_file_row", "image_id", "x1", "y1", "x2", "y2", "reason", "fate")


class Skipped(NamedTuple):
    """Boxes, (K, ...) each, and why they are not pooled.

    Attributes
    ----------
    rows : (K,) int64
        Which box of the box file each is, from 0.
    image_ids : sequence of str
        Of their maps; of images without features as the box file has them.
    boxes : (K, 4) float64
        xyxy.
    reasons, fates : sequence of str
        "no features", "absent", "not finite" or "inverted"; "skipped" or "zeroed".
    """

    rows: NDArray[np.int64]
    image_ids: Sequence[str]
    boxes: NDArray[np.float64]
    reasons: Sequence[str]
    fates: Sequence[str]

    def take(self, index: NDArray[np.intp]) -> Skipped:
        """Return the same with some of the boxes only."""
        ids, reasons, fates = ([texts[i] for i in index] for texts in (self.image_ids, self.reasons, self.fates))
        return Skipped(self.rows[index], ids, self.boxes[index], reasons, fates)

    def of(self, fate: str) -> tuple[int, ...]:
        """Which boxes of the box file met a fate."""
        return tuple(row for row, its in zip(self.rows.tolist(), self.fates, strict=True) if its == fate)

    def missing_images(self) -> int:
        """How many images have no features."""
        return len({image for image, why in zip(self.image_ids, self.reasons, strict=True) if why == NO_FEATURES})


class SkippedFile(CsvFile):
    """A CSV with one line a box that is not pooled."""

    @staticmethod
    def beside(output: Path) -> Path:
        """Return the name of the list that belongs to an output."""
        output = led_to(output)
        return output.with_name(f"{output.name}.skipped.csv")

    def __init__(self, output: Path, skipped: Skipped, *, overwrite: bool) -> None:
        lines = (
            [row, image, *box.tolist(), reason, fate]
            for row, image, box, reason, fate in zip(
                skipped.rows, skipped.image_ids, skipped.boxes, skipped.reasons, skipped.fates, strict=True
            )
        )
        super().__init__(self.beside(output), _COLUMNS, lines, overwrite=overwrite)


class StaleFile:
    """A list that belongs to the output before: it goes when the new one comes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def publish(self) -> None:
        """Remove it."""
        with writing(self.path):
            self.path.unlink(missing_ok=True)

    def abort(self) -> None:
        """Leave it."""
