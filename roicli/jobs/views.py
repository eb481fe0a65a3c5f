"""What may have been done to maps before they were pooled: views, orders of channels, a token more in means."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.jobs.evidence import Evidence

Array = NDArray[np.float64]
View = Callable[[NDArray[Any]], NDArray[Any]]
TOKEN = "a class token in the mean"
_SHOWN = 8  # channels of an order


def bfloat16(values: NDArray[Any]) -> NDArray[np.float32]:
    """Round to bfloat16, in float32."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


# Of maps (H, W, C); NaN stands for cells that they do not hold.
VIEWS: dict[str, View] = {
    "y and x of the maps swapped": lambda m: m.transpose(1, 0, 2),
    "maps (C, H, W) in memory taken for (H, W, C)": lambda m: m.transpose(2, 0, 1).reshape(m.shape),
    "maps (H, W, C) in memory taken for (C, H, W)": lambda m: m.reshape(m.shape[2], *m.shape[:2]).transpose(1, 2, 0),
    "maps (C, W, H) in memory taken for (C, H, W)": lambda m: m.transpose(1, 0, 2).reshape(m.shape),
    "maps mirrored": lambda m: m[:, ::-1],
    "maps upside down": lambda m: m[::-1],
    "maps rounded to float16": lambda m: m.astype(np.float16).astype(m.dtype),
    "maps rounded to bfloat16": lambda m: bfloat16(m).astype(m.dtype),
    "a token before the first: all cells one later": lambda m: _later(m, 1),
    "a token less: all cells one earlier": lambda m: _later(m, -1),
}


def _later(cells: NDArray[Any], step: int) -> NDArray[Any]:
    moved = np.roll(cells.reshape(-1, cells.shape[2]), step, axis=0)
    moved[slice(step) if step > 0 else slice(step, None)] = np.nan
    return moved.reshape(cells.shape)


def matching_order(made: Array, wanted: Array) -> NDArray[np.intp]:
    """Find which channel of `made` each channel of `wanted` is most like, each once.

    Parameters
    ----------
    made, wanted : (C, n)
        Values of channels.

    Returns
    -------
    (C,) intp
        For each channel of `wanted` one of `made`.

    Examples
    --------
    >>> values = np.random.default_rng(0).standard_normal((5, 20))
    >>> matching_order(values, values[[4, 2, 0, 1, 3]]).tolist()
    [4, 2, 0, 1, 3]
    """
    alike = _normed(wanted) @ _normed(made).T
    number = np.arange(len(alike))
    order = np.full(len(alike), -1)
    alike -= 1e-9 * np.abs(number[:, None] - number)  # channels that are alike stay in their order
    while (order < 0).any():
        best, back = alike.argmax(axis=1), alike.argmax(axis=0)
        rows = np.flatnonzero((order < 0) & (back[best] == number))
        order[rows] = best[rows]
        alike[rows], alike[:, best[rows]] = -np.inf, -np.inf
    return order


def _normed(values: Array) -> Array:
    off = values - values.mean(axis=1, keepdims=True)
    length = np.sqrt(np.square(off).sum(axis=1, keepdims=True))
    return np.asarray(off / np.where(length > 0, length, 1))


def order_in_words(order: NDArray[np.intp]) -> str:
    """Say an order of channels.

    Examples
    --------
    >>> order_in_words(np.array([0, 3, 1, 4, 2, 5])), order_in_words(np.array([1, 0, 2]))
    ('channels in 2 groups, interleaved', 'channels in another order: 1, 0, 2')
    """
    count = len(order)
    number = np.arange(count)
    if (order == number[::-1]).all():
        return "channels in reverse order"
    for groups in (one for one in range(2, count) if count % one == 0):
        if (order == number.reshape(groups, -1).T.ravel()).all():
            return f"channels in {groups} groups, interleaved"
    return f"channels in another order: {', '.join(map(str, order[:_SHOWN].tolist()))}" + ", ..." * (count > _SHOWN)


class Views:
    """Evidence whose maps were taken otherwise, by the words for it; "" is that with the maps as they are.

    Parameters
    ----------
    whole : Evidence
        That of all channels.
    some : slice
        The channels that are compared.
    levels : bool
        Whether the maps are levels of pyramids.
    """

    def __init__(self, whole: Evidence, some: slice, *, levels: bool = False) -> None:
        self._whole, self._some, self._levels = whole, some, levels
        self._known = {"": whole.part(slice(None), some)}

    @cached_property
    def names(self) -> list[str]:
        """Views that change the maps; others are orders of channels."""
        first = next(iter(self._known[""].maps.values()))
        return [name for name, view in VIEWS.items() if not np.array_equal(view(first), first, equal_nan=True)]

    @property
    def of_means(self) -> list[str]:
        """What may have been done to means."""
        return [TOKEN] * (self._whole.mean and not self._whole.unit and not self._levels)

    def __getitem__(self, name: str) -> Evidence:
        if name == TOKEN:
            return self._known[""]._replace(token=True)
        if name not in self._known:
            self._add(name, VIEWS[name])
        return self._known[name]

    def _add(self, name: str, view: View) -> None:
        maps = {index: view(one) for index, one in self._whole.maps.items()}
        self._known[name] = self._whole._replace(maps=maps, holes=True).part(slice(None), self._some)

    def part(self, keep: NDArray[np.intp]) -> Evidence:
        """Return some RoIs with all channels."""
        return self._whole.part(keep, slice(None))

    def ordered(self, made: Array, wanted: Array) -> str:
        """Add the order of channels by which `made` (K, C, ...) is most like `wanted`, and return its name."""
        order = matching_order(*(np.moveaxis(one, 1, 0).reshape(one.shape[1], -1) for one in (made, wanted)))
        name = order_in_words(order)
        self._add(name, lambda m: m[:, :, order])
        return name
