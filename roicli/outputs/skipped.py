"""Boxes that are not pooled because the user said so; they are listed beside the output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NO_FEATURES = "no features"


class Skipped(NamedTuple):
    """Boxes, (K, ...) each, and why they are not pooled."""

    rows: NDArray[np.int64]  # (K,): which box of the box file each is, from 0
    image_ids: Sequence[str]  # of their maps; of images without features as the box file has them
    boxes: NDArray[np.float64]  # (K, 4): xyxy
    # "no features", "absent", "not finite" or "inverted"; "skipped" or "zeroed"
    reasons: Sequence[str]
    fates: Sequence[str]

    def of(self, fate: str) -> tuple[int, ...]:
        """Which boxes of the box file met a fate."""
        return tuple(row for row, its in zip(self.rows.tolist(), self.fates, strict=True) if its == fate)

    def missing_images(self) -> int:
        """How many images have no features."""
        return len({image for image, why in zip(self.image_ids, self.reasons, strict=True) if why == NO_FEATURES})
