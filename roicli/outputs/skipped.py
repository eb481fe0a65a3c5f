"""Boxes that are not pooled because the user said so; they are listed beside the output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NO_FEATURES = "no features"


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

    def of(self, fate: str) -> tuple[int, ...]:
        """Which boxes of the box file met a fate."""
        return tuple(row for row, its in zip(self.rows.tolist(), self.fates, strict=True) if its == fate)

    def missing_images(self) -> int:
        """How many images have no features."""
        return len({image for image, why in zip(self.image_ids, self.reasons, strict=True) if why == NO_FEATURES})
