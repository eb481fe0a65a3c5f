"""Where regions lie: on which map, at which input pixels, at which spatial scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from roicli.errors import UsageError
from roicli.protocols import Masks

# Beyond these, float32 cannot hold the extent of a box of image pixels.
MIN_SCALE, MAX_SCALE = 1e-9, 1e9


@dataclass(frozen=True, eq=False)
class PlacedMasks:
    """Masks of K regions, and where their pixels lie in the network's input: ``pixel * ratio + offset``."""

    masks: Masks
    sizes: NDArray[np.float64]  # (K, 2) height and width of the image of each, NaN where unknown
    ratio: NDArray[np.float64]  # (K, 2) input pixels per image pixel along y and x
    offset: NDArray[np.float64]  # (K, 2) where the upper and the left border of the image lie

    def take(self, rows: Any) -> PlacedMasks:
        """Return the masks at `rows`, an index or a slice, in that order."""
        return PlacedMasks(self.masks.take(rows), self.sizes[rows], self.ratio[rows], self.offset[rows])

    def decode(self, row: int, canvas: tuple[int, int]) -> NDArray[np.bool_]:
        """Decode the mask of one region; an outline within `canvas`, if the size of its image is not known."""
        known = np.isfinite(self.sizes[row]).all()
        height, width = self.sizes[row].astype(int).tolist() if known else canvas
        return self.masks.decode(row, (height, width) if known else None, canvas)


@dataclass(frozen=True, eq=False)
class Placement:
    """K regions on their maps. It is made once; only `sampling` multiplies boxes by the scale."""

    map_index: NDArray[np.intp]  # (K,) the map of each region; -1 for a region without one
    boxes: NDArray[np.floating[Any]]  # (K, 4) xyxy in pixels of the network's input; float64 until they are rounded
    scale: NDArray[np.float64]  # (K, 2) or (1, 2) feature cells per pixel along y and x; one line holds for all regions
    masks: PlacedMasks | None = None  # of the regions, if their operator pools masks
    turned: NDArray[np.floating[Any]] | None = None  # (K, 5) cx, cy, w, h, degrees counter-clockwise; boxes are around

    def __post_init__(self) -> None:
        if self.scale.shape not in ((1, 2), (len(self.boxes), 2)) or self.boxes.shape != (len(self.map_index), 4):
            raise ValueError(f"{len(self.map_index)} maps, boxes {self.boxes.shape} and scales {self.scale.shape}")
        check_scale(self.scale)

    def __len__(self) -> int:
        return len(self.map_index)

    def take(self, rows: Any) -> Placement:
        """Return the regions at `rows`, an index or a slice, in that order."""
        scale = self.scale if len(self.scale) == 1 else self.scale[rows]
        masks = None if self.masks is None else self.masks.take(rows)
        turned = None if self.turned is None else self.turned[rows]
        boxes, map_index = self.boxes[rows], self.map_index[rows]
        return self._with(map_index=map_index, boxes=boxes, scale=scale, masks=masks, turned=turned)

    def rounded(self, dtype: np.dtype[Any]) -> Placement:
        """Return the same with boxes in the dtype of the computation, as operators take them."""
        turned = None if self.turned is None else self.turned.astype(dtype)
        return self._with(boxes=self.boxes.astype(dtype), turned=turned)

    def _with(self, **arrays: Any) -> Placement:
        """Return the same with other arrays, which are not checked again: small calls would take 4% longer."""
        made = object.__new__(Placement)
        vars(made).update(vars(self) | arrays)
        return made


def place(map_index: NDArray[np.intp], boxes: NDArray[np.floating[Any]], spatial_scale: ArrayLike = 1.0) -> Placement:
    """Place (K, 4) xyxy boxes of input pixels; the scale is one number, y and x, or y and x of each box."""
    pixels: NDArray[np.float64] = boxes.astype(np.float64, copy=False)
    scale = _as_numbers(spatial_scale)
    return Placement(map_index, pixels, scale if scale.ndim == 2 else np.broadcast_to(scale, (1, 2)))


def check_scale(spatial_scale: ArrayLike) -> None:
    """Raise UsageError for scales that are not positive numbers from 1e-9 to 1e9."""
    scale = _as_numbers(spatial_scale)
    bad = ~((scale >= MIN_SCALE) & (scale <= MAX_SCALE))
    if bad.any():
        raise UsageError(
            f"spatial scale {scale[bad][0]} is not a positive number from {MIN_SCALE:g} to {MAX_SCALE:g}",
            "Give feature cells per image pixel, that is 1 / stride, such as `spatial_scale=1/16`.",
        )


def _as_numbers(spatial_scale: ArrayLike) -> NDArray[np.float64]:
    try:
        return np.asarray(spatial_scale, np.float64)
    except (TypeError, ValueError):
        raise UsageError(
            f"spatial scale must be a number, or two for y and x, got {spatial_scale!r}", "Give 1 / stride."
        ) from None


def envelope(turned: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the upright boxes around turned ones, (K, 4) xyxy of (K, 5) cx, cy, w, h, angle.

    Examples
    --------
    >>> envelope(np.array([[10.0, 5.0, 4.0, 2.0, 90.0]])).round(6).tolist()
    [[9.0, 3.0, 11.0, 7.0]]
    """
    cx, cy, w, h, angle = turned.T
    cosine, sine = np.abs(np.cos(np.deg2rad(angle))), np.abs(np.sin(np.deg2rad(angle)))
    across, down = (w * cosine + h * sine) / 2, (w * sine + h * cosine) / 2
    return np.stack([cx - across, cy - down, cx + across, cy + down], axis=1)
