"""What is pooled: seeded maps and boxes, the same for everyone."""

from dataclasses import dataclass

import numpy as np

BINS = 7
# Box sides in image pixels, log-uniform: from a small object of COCO to one that fills half an image.
SIDES = (16, 500)


@dataclass(frozen=True)
class Workload:
    """One (C, H, W) map, and boxes on it; a stride is image pixels per cell, sampling ratio -1 is adaptive."""

    shape: tuple[int, int, int]
    rois: int
    stride: int
    sampling_ratio: int = -1

    def features(self):
        """Make the map: normal numbers, negative ones zero, as a layer of a network leaves them."""
        cells = np.random.default_rng(0).standard_normal(self.shape, dtype=np.float32)
        return np.maximum(cells, 0, out=cells)

    def boxes(self, seed=1):
        """Make the boxes, (K, 4) xyxy in image pixels, each within the image."""
        image = np.array(self.shape[:0:-1]) * self.stride
        rng = np.random.default_rng(seed)
        low, high = np.log(SIDES)
        sides = np.minimum(np.exp(rng.uniform(low, high, (self.rois, 2))), image)
        corners = rng.uniform(0, image - sides)
        return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


WORKLOADS = [
    Workload(shape, rois, stride, sampling_ratio)
    for shape, rois, stride in (((256, 200, 272), 1000, 4), ((1024, 50, 68), 300, 16), ((256, 50, 68), 1000, 16))
    for sampling_ratio in (2, -1)
]
