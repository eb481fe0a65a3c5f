"""Values to colours: one perceptually even map, and the few colours that are drawn over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
Pixels = NDArray[np.uint8]

# Viridis at nine even steps. It holds no red, so that ORANGE stands out on all of it, to the colour-blind as well.
ANCHORS = np.array(
    [
        *((68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141)),
        *((39, 173, 129), (92, 200, 99), (170, 220, 50), (253, 231, 37)),
    ]
)
WHITE: Colour = (255, 255, 255)
INK: Colour = (25, 25, 25)
GREY: Colour = (105, 105, 105)
BLANK: Colour = (238, 238, 238)
ORANGE: Colour = (255, 106, 20)
PALE: Colour = (255, 199, 167)
HATCH = np.array([(120, 120, 120), (175, 175, 175)], np.uint8)


@dataclass(frozen=True)
class Scale:
    """The range of values that the colours span, the same in all panels of a picture; NaN where nothing is finite."""

    low: float
    high: float

    @classmethod
    def of(cls, *arrays: NDArray[Any]) -> Scale:
        """Span all finite values of `arrays`."""
        values = np.concatenate([array.ravel() for array in arrays])
        finite = values[np.isfinite(values)]
        return cls(float(finite.min()), float(finite.max())) if len(finite) else cls(np.nan, np.nan)

    def colours(self, values: NDArray[Any]) -> Pixels:
        """Colour of each value; values that are not finite get any, and are to be hatched.

        Parameters
        ----------
        values : (...) array

        Returns
        -------
        (..., 3) uint8
            Where the scale has no extent, the colour of its middle.
        """
        # Halves, since the distance of two finite values may be infinite.
        low, span = self.low / 2, self.high / 2 - self.low / 2
        finite = np.where(np.isfinite(values), values, self.low).astype(np.float64)
        place = np.clip((finite / 2 - low) / span, 0, 1) if span > 0 else np.full(finite.shape, 0.5)
        steps = np.linspace(0, 1, len(ANCHORS))
        channels = [np.interp(place, steps, anchors) for anchors in ANCHORS.T]
        return np.stack(channels, axis=-1).round().astype(np.uint8)


def _blend(one: Colour, other: Colour, number: int) -> Pixels:
    steps = np.linspace(0, 1, number)[:, None]
    return (np.array(one) * (1 - steps) + np.array(other) * steps).round().astype(np.uint8)


# One palette for all frames of an animation, so that nothing flickers: the map's colours, the same under the cell grid,
# and what is drawn over them with smoothed edges. No grey is near white: Pillow would take it for white.
_RAMP = Scale(0, 1).colours(np.linspace(0, 1, 156))
_OVERLAYS = [_blend(INK, WHITE, 20), _blend(INK, ORANGE, 16), _blend(ORANGE, WHITE, 9), [BLANK], HATCH]
PALETTE: Pixels = np.concatenate([_RAMP, _RAMP[::3] // 4 * 3 + 64, *_OVERLAYS]).astype(np.uint8)


def hatch(pixels: Pixels, where: NDArray[np.bool_]) -> None:
    """Replace `pixels`, (height, width, 3), by grey diagonal stripes `where` values are not finite."""
    y, x = np.nonzero(where)
    pixels[y, x] = HATCH[(y + x) // 3 % 2]


def ink_on(colour: Pixels | Colour) -> Colour:
    """Black or white: the one that reads better on `colour`."""
    red, green, blue = (int(part) for part in colour)
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 125 else WHITE
