"""What the axes of a stored array mean: every reader asks a `MapLayout`, and none looks at axes itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from roicli.errors import UsageError


@dataclass(frozen=True)
class MapLayout:
    """The order of the axes of a stored map.

    Attributes
    ----------
    name : str
        One letter an axis: "chw" or "hwc".

    Examples
    --------
    >>> hwc = MapLayout("hwc")
    >>> hwc.is_map((20, 30, 256)), hwc.is_stack((8, 20, 30, 256)), hwc.map_shape((20, 30, 256))
    (True, True, (256, 20, 30))
    """

    name: str

    @property
    def axes(self) -> str:
        """The axes of one map, for messages."""
        return ", ".join(self.name.upper())

    def is_map(self, shape: tuple[int, ...]) -> bool:
        """Tell whether an array of this shape is one map."""
        return len(shape) == len(self.name)

    def is_stack(self, shape: tuple[int, ...]) -> bool:
        """Tell whether an array of this shape holds several maps, one after the other."""
        return len(shape) == len(self.name) + 1

    def map_shape(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Return (C, H, W) of a stored map."""
        channels, height, width = (shape[axis] for axis in self._order())
        return channels, height, width

    def as_chw(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a stored map as a view of axes (C, H, W)."""
        return array.transpose(self._order())

    def _order(self) -> tuple[int, ...]:
        return tuple(map(self.name.index, "chw"))


LAYOUTS = {name: MapLayout(name) for name in ("chw", "hwc")}


def layout_of(layout: str | MapLayout) -> MapLayout:
    """Return the layout of a name, or raise UsageError."""
    if isinstance(layout, MapLayout):
        return layout
    if layout not in LAYOUTS:
        raise UsageError(f"unknown layout {layout!r}", f"Use one of {', '.join(map(repr, LAYOUTS))}.")
    return LAYOUTS[layout]
