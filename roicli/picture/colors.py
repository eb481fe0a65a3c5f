"""Values to colors: one perceptually even map, and the few colors that are drawn over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Color = tuple[int, int, int]
Pixels = NDArray[np.uint8]

# Viridis at nine even steps. It holds no red, so that ORANGE stands out on all of it, to the color-blind as well.
ANCHORS = np.array(
    [
        *((68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141)),
        *((39, 173, 129), (92, 200, 99), (170, 220, 50), (253, 231, 37)),
    ]
)
WHITE: Color = (255, 255, 255)
INK: Color = (25, 25, 25)
GREY: Color = (105, 105, 105)
BLANK: Color = (238, 238, 238)
HOLE: Color = (165, 165, 165)  # NaN and infinite values
GRID: Color = (190, 196, 208)
FIELD: Color = (190, 214, 217)  # a map whose cells are not drawn
ORANGE: Color = (255, 106, 20)
PALE: Color = (255, 199, 167)


@dataclass(frozen=True)
class Scale:
    """The range of values that the colors span, the same in all panels of a picture; NaN where nothing is finite."""

    low: float
    high: float

    @classmethod
    def of(cls, *arrays: NDArray[Any]) -> Scale:
        """Span all finite values of `arrays`."""
        values = np.concatenate([array.ravel() for array in arrays])
        finite = values[np.isfinite(values)]
        return cls(float(finite.min()), float(finite.max())) if len(finite) else cls(np.nan, np.nan)

    def colors(self, values: NDArray[Any]) -> Pixels:
        """Return the color of each value.

        Parameters
        ----------
        values : (...) array

        Returns
        -------
        (..., 3) uint8
            Grey for NaN and infinities; where the scale has no extent, the color of its middle.
        """
        # Halves, since the distance of two finite values may be infinite.
        low, span = self.low / 2, self.high / 2 - self.low / 2
        finite = np.where(np.isfinite(values), values, self.low).astype(np.float64)
        place = np.clip((finite / 2 - low) / span, 0, 1) if span > 0 else np.full(finite.shape, 0.5)
        steps = np.linspace(0, 1, len(ANCHORS))
        channels = [np.interp(place, steps, anchors) for anchors in ANCHORS.T]
        colors = np.stack(channels, axis=-1).round().astype(np.uint8)
        colors[~np.isfinite(values)] = HOLE
        return colors


def ink_on(color: Pixels | Color) -> Color:
    """Return black or white: the one that reads better on `color`."""
    red, green, blue = (int(part) for part in color)
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 125 else WHITE


def _blend(one: Color, other: Color, number: int) -> Pixels:
    steps = np.linspace(0, 1, number)[:, None]
    return (np.array(one) * (1 - steps) + np.array(other) * steps).round().astype(np.uint8)


# One palette for all frames of an animation, so that nothing flickers: the map's colors, and what is drawn over them
# with smoothed edges. No grey is near white: Pillow would take it for white.
_OVERLAYS = [
    _blend(INK, WHITE, 20),
    _blend(INK, ORANGE, 16),
    _blend(ORANGE, WHITE, 9),
    [BLANK, HOLE, GREY, GRID, FIELD],
]
PALETTE: Pixels = np.concatenate([Scale(0, 1).colors(np.linspace(0, 1, 206)), *_OVERLAYS]).astype(np.uint8)
