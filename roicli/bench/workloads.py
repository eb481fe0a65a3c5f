"""What is pooled: seeded maps and boxes, the same for everyone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from roicli.spec import PoolSpec

BINS = 7
# Box sides in image pixels, log-uniform: from a small object of COCO to one that fills half an image.
_SIDES = (16, 500)


@dataclass(frozen=True)
class Workload:
    """One map, and RoIs of it.

    Attributes
    ----------
    shape : (int, int, int)
        Of the map: (C, H, W).
    rois : int
        How many boxes.
    stride : int
        Image pixels per feature cell.
    sampling_ratio : int
        Sample points per bin and axis; -1 is adaptive.
    """

    shape: tuple[int, int, int]
    rois: int
    stride: int
    sampling_ratio: int = -1

    @property
    def spec(self) -> PoolSpec:
        """What is computed: 7 x 7 bins, aligned."""
        return PoolSpec((BINS, BINS), 1 / self.stride, self.sampling_ratio, aligned=True)

    def smaller(self) -> Workload:
        """Return a quarter of the channels."""
        channels, height, width = self.shape
        return replace(self, shape=(channels // 4, height, width))

    def features(self) -> NDArray[np.float32]:
        """Make the map: normal numbers, negative ones zero, as a layer of a network leaves them."""
        cells = np.random.default_rng(0).standard_normal(self.shape, dtype=np.float32)
        return np.maximum(cells, 0, out=cells)

    def boxes(self, seed: int = 1) -> NDArray[np.float32]:
        """Make the boxes, (K, 4) xyxy in image pixels, each within the image."""
        image = np.array(self.shape[:0:-1]) * self.stride
        rng = np.random.default_rng(seed)
        low, high = np.log(_SIDES)
        sides = np.minimum(np.exp(rng.uniform(low, high, (self.rois, 2))), image)
        corners = rng.uniform(0, image - sides)
        return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


WORKLOADS = tuple(
    Workload(shape, rois, stride, sampling_ratio)
    for shape, rois, stride in (((256, 200, 272), 1000, 4), ((1024, 50, 68), 300, 16), ((256, 50, 68), 1000, 16))
    for sampling_ratio in (2, -1)
)
