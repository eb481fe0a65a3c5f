"""Which cells of a map are worth showing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from roicli.pooling.trace import BinTrace

MARGIN, EDGE = 2, 0.25  # cells around the RoI, at least so many on the map and beside it


def crop(traces: Sequence[BinTrace], fits: Callable[[int, int], bool]) -> list[tuple[int, int]]:
    """First and last row, exclusive, and column of what is worth showing.

    A RoI beside the map that is too far away for a crop is shown with the whole map if that `fits`, else not at all.
    """
    axes = [
        ([float(edge) for trace in traces for edge in trace.roi[axis::2]], length)
        for axis, length in ((1, traces[0].shape[1]), (0, traces[0].shape[2]))
    ]
    crops = [_span(edges, length) for edges, length in axes]
    reached = all(
        first <= min(edges) + 0.5 and max(edges) + 0.5 <= stop
        for (first, stop), (edges, _) in zip(crops, axes, strict=True)
    )
    if reached or not any(outside(edges, length) for edges, length in axes):
        return crops
    whole = [
        (min(0, math.floor(min(edges) + 0.5)) - 1, max(length, math.ceil(max(edges) + 0.5)) + 1)
        for edges, length in axes
    ]
    if fits(*(stop - first for first, stop in whole)):
        return whole
    return [(-1, length + 1) for _, length in axes]


def outside(edges: Sequence[float], length: int) -> float:
    """How many cells lie between `edges` and a map of `length` cells: less than zero before it, zero if they meet."""
    return max(min(edges) - (length - 0.5), 0.0) or min(max(edges) + 0.5, 0.0)


def _span(edges: list[float], length: int) -> tuple[int, int]:
    """First and last cell, exclusive, of a crop with a margin around all `edges` along an axis of `length` cells.

    Off the map the crop follows the RoI for half the map's length, and there is no margin but one cell.
    """
    beyond = max(MARGIN, length // 2)
    low, high = min(edges) + 0.5, max(edges) + 0.5
    low, high = min(low - EDGE, max(low - MARGIN, -1)), max(high + EDGE, min(high + MARGIN, length + 1))
    first = math.floor(np.clip(low, -beyond, length - MARGIN))
    stop = math.ceil(np.clip(high, MARGIN, length + beyond))
    return first, stop


def around(centre: float, span: tuple[int, int], length: int, most: int) -> tuple[int, int]:
    """First cell and number of the cells of `span`; of at most `most`, near `centre` and on the map, if it has more."""
    first, stop = span
    if stop - first > most:
        first, stop = max(first, -1), min(stop, length + 1)
    number = min(stop - first, most)
    return int(np.clip(math.floor(np.clip(centre, first, stop)) - number // 2, first, stop - number)), number
