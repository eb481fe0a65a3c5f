"""What the axes of a stored array mean: every reader asks a `MapLayout`, and none looks at axes itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.errors import UsageError


@dataclass(frozen=True)
class MapLayout:
    """The order of the axes of a stored map.

    Examples
    --------
    >>> hwc = MapLayout("hwc")
    >>> hwc.is_map((20, 30, 256)), hwc.is_stack((8, 20, 30, 256)), hwc.map_shape((20, 30, 256))
    (True, True, (256, 20, 30))
    >>> MapLayout("cthw:mean").map_shape((256, 8, 20, 30))
    (256, 20, 30)
    """

    # One letter an axis: "chw", "hwc"; "cwh", "whc" as MATLAB, whose axes are reversed, writes (H, W, C), (C, H, W).
    # "cthw:mean", "thwc:max" or "cthw:3" is a clip, and what is taken over its frames: a mean, a maximum, or one.
    name: str

    @cached_property
    def rank(self) -> int:
        """How many axes one map has."""
        return len(self.letters)

    @cached_property
    def letters(self) -> str:
        """One letter an axis."""
        return self.name.partition(":")[0]

    @cached_property
    def over_time(self) -> str:
        """What is taken over the frames of a clip: "mean", "max" or the number of one; empty for maps."""
        return self.name.partition(":")[2]

    @property
    def axes(self) -> str:
        """The axes of one map, for messages."""
        return ", ".join(self.letters.upper())

    def is_map(self, shape: tuple[int, ...]) -> bool:
        """Tell whether an array of this shape is one map."""
        return len(shape) == self.rank

    def is_stack(self, shape: tuple[int, ...]) -> bool:
        """Tell whether an array of this shape holds several maps, one after the other."""
        return len(shape) == self.rank + 1

    def map_shape(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Return (C, H, W) of a stored map."""
        if self.name == "ld":
            return shape[1], 1, shape[0]
        channels, height, width = (shape[axis] for axis in self._order)
        return channels, height, width

    @property
    def other(self) -> MapLayout:
        """The layout with the channels at the other end: the usual mistake."""
        return MapLayout(self.name[1:] + "c" if self.name[0] == "c" else "c" + self.name[:-1])

    def other_shape(self, shape: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        """Return what (C, H, W), numbers or columns of them, would be if the map were stored the other way."""
        return self.other.map_shape(tuple(shape["chw".index(axis)] for axis in self.name))

    def as_chw(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a stored map as a view of axes (C, H, W)."""
        if self.name == "ld":
            return array.T[:, None, :]
        if not self.over_time:
            return array.transpose(self._order)
        frames = np.moveaxis(array.transpose(*self._order, self.letters.index("t")), -1, 0)
        if self.over_time == "mean":
            return np.asarray(frames.mean(axis=0, dtype=self.dtype(array.dtype)))
        return np.asarray(frames.max(axis=0) if self.over_time == "max" else frames[int(self.over_time)])

    def dtype(self, stored: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of a map: means are not in half precision, nor integers."""
        if self.over_time != "mean" or (stored.kind == "f" and stored.itemsize > 2):
            return stored
        return np.dtype(np.float32)

    def lacks_frame(self, shape: tuple[int, ...]) -> bool:
        """Tell whether a clip of this shape has not the frame that is asked for."""
        return self.over_time.isdecimal() and int(self.over_time) >= shape[self.letters.index("t")]

    @cached_property
    def _order(self) -> tuple[int, ...]:
        return tuple(map(self.letters.index, "chw"))


# Sequences of tokens, (L, D): a `TokenSource` lays them out as maps. Until then they are maps of one row.
SEQUENCES = MapLayout("ld")
CLIPS = {"chw": "cthw", "hwc": "thwc"}
LAYOUTS = {name: MapLayout(name) for name in ("chw", "hwc", "cwh", "whc")}


def layout_of(layout: str | MapLayout) -> MapLayout:
    """Return the layout of a name, or raise UsageError."""
    if isinstance(layout, MapLayout):
        return layout
    if layout == SEQUENCES.name:
        return SEQUENCES
    if layout.partition(":")[0] in CLIPS.values():
        return MapLayout(layout)
    if layout not in LAYOUTS:
        raise UsageError(f"unknown layout {layout!r}", f"Use one of {', '.join(map(repr, (*LAYOUTS, 'tokens')))}.")
    return LAYOUTS[layout]
