"""Turned boxes: where they lie, and where their samples do. Rows and columns turn together, so all samples are made.

Follows detectron2's `ROIAlignRotated_cpu.cpp`: an angle is in degrees, counter-clockwise as the image is seen, about
the centre of the box, and the half-pixel shift is always there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from roicli.pooling.placement import Placement, envelope, place
from roicli.pooling.sampling import FloatArray, IntArray, in_cells, in_range, neighbours
from roicli.spec import PoolSpec

# Samples of one region, beyond which it is refused: 1024 x 1024, which take 100 MiB.
_MOST = 2**20


class TurnedBins(NamedTuple):
    """The bins of K turned boxes, in feature cells about their centres."""

    centre: FloatArray  # (K, 2) y and x, half-pixel shift included
    size: FloatArray  # (K, 2) height and width of one bin
    samples: IntArray  # (K, 2) of one bin along both sides
    number: tuple[int, int]  # of bins
    cosine: FloatArray  # (K,)
    sine: FloatArray

    def start(self, roi: int) -> FloatArray:
        """Return the upper left corner of the first bin about the centre, before it is turned."""
        start: FloatArray = -self.size[roi] * np.array(self.number, self.size.dtype) / self.size.dtype.type(2)
        return start

    def turn(self, roi: int, y: FloatArray, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Turn places about the centre of a box, and move them onto the map."""
        cosine, sine = self.cosine[roi], self.sine[roi]
        return y * cosine - x * sine + self.centre[roi, 0], y * sine + x * cosine + self.centre[roi, 1]


class Samples(NamedTuple):
    """Samples of some bins of one region, bin by bin."""

    y: FloatArray  # (T,) where each lies, before it is clamped
    x: FloatArray
    rows: IntArray  # (T, 2) the rows and columns that it lies between
    columns: IntArray
    weights: FloatArray  # (T, 4) of its neighbours, row by row
    in_range: NDArray[np.bool_]


def turned_bins(regions: Placement, spec: PoolSpec) -> TurnedBins:
    """Place the bins of turned boxes; upright ones are turned by nothing."""
    dtype = regions.boxes.dtype
    turned = regions.turned
    if turned is None:
        x1, y1, x2, y2 = regions.boxes.T
        turned = np.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, np.zeros_like(x1)], axis=1)
    centre, sides = in_cells(turned[:, [1, 0]], regions), in_cells(turned[:, [3, 2]], regions)
    number = np.array(spec.output_size, dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.maximum(sides, 0) / number
        count = np.ceil(size) if spec.adaptive else np.full_like(size, spec.sampling_ratio)
    samples = np.clip(np.nan_to_num(count, posinf=_MOST), 0, _MOST).astype(np.intp)
    angle = np.deg2rad(turned[:, 4].astype(np.float64))
    return TurnedBins(
        centre - dtype.type(0.5), size, samples, spec.output_size, *(f(angle).astype(dtype) for f in (np.cos, np.sin))
    )


def too_many(bins: TurnedBins) -> NDArray[np.bool_]:
    """Tell which boxes have more samples than are made."""
    each = bins.samples.astype(np.float64) * bins.number
    return np.asarray(each.prod(axis=1) > _MOST)


def turned_samples(bins: TurnedBins, roi: int, bin_rows: range, bin_columns: range, size: tuple[int, ...]) -> Samples:
    """Make the samples of some bins of one region, on a map of some height and width."""
    (high, wide), (ny, nx), dtype = bins.size[roi], bins.samples[roi].tolist(), bins.size.dtype.type
    top, left = bins.start(roi)
    down, across = (
        start
        + np.repeat(np.asarray(parts, bins.size.dtype), n) * side
        + (np.tile(np.arange(n, dtype=bins.size.dtype), len(parts)) + dtype(0.5)) * side / dtype(max(n, 1))
        for start, parts, side, n in ((top, bin_rows, high, ny), (left, bin_columns, wide, nx))
    )
    shape = len(bin_rows), ny, len(bin_columns), nx
    grid_y, grid_x = np.broadcast_arrays(down.reshape(shape[0], 1, ny, 1), across.reshape(1, shape[2], 1, nx))
    y, x = bins.turn(roi, grid_y.ravel(), grid_x.ravel())
    inside = in_range(y, size[0]) & in_range(x, size[1])
    low_y, high_y, fy = neighbours(np.clip(y, -1, size[0]), size[0])
    low_x, high_x, fx = neighbours(np.clip(x, -1, size[1]), size[1])
    weights = np.stack([(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx], axis=1)
    return Samples(y, x, np.stack([low_y, high_y], axis=1), np.stack([low_x, high_x], axis=1), weights, inside)


def place_turned(map_index: NDArray[np.intp], turned: NDArray[np.float64], spatial_scale: ArrayLike = 1.0) -> Placement:
    """Place (K, 5) turned boxes of input pixels: cx, cy, w, h, degrees counter-clockwise."""
    return replace(place(map_index, envelope(turned), spatial_scale), turned=turned)
