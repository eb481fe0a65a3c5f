"""Whether neighboring cells are alike, which a wrong layout or grid undoes: readings of an array, measured on a map."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.errors import FeatureError, RoicliError
from roicli.execution.executors import apart
from roicli.sources import FeatureSource
from roicli.sources.layout import LAYOUTS, layout_of
from roicli.sources.pyramid import PyramidSource
from roicli.sources.tokens import TokenLayout, TokenSource, grids_of

# Channels and cells a side that are measured: a millisecond a reading.
_CHANNELS, _SIDE = 8, 256
# Another reading is better if its neighbors are that much more alike, and the unlikeness at most half.
_BETTER, _ALIKE = 0.1, 0.2
_MOST_GRIDS = 40


class Reading(NamedTuple):
    """A reading of an array: what it is in words, the options that choose it, and how alike its neighbors are."""

    words: str
    options: str
    alike: float


def likeness(feature_map: NDArray[np.generic]) -> float:
    """Return the correlation of neighbors along y or x, the smaller one; NaN where nothing can be measured.

    Examples
    --------
    >>> y, x = np.mgrid[:20, :30] / 5
    >>> round(likeness(np.sin(y + x)[None]), 2)
    0.98
    >>> abs(likeness(np.random.default_rng(0).normal(size=(8, 20, 30)))) < 0.1
    True
    """
    channels, height, width = feature_map.shape
    if min(height, width) < 3:
        return math.nan
    step = max(1, channels // _CHANNELS)
    some = feature_map[::step][: 2 * _CHANNELS, :_SIDE, :_SIDE].astype(np.float64)
    some = some[np.isfinite(some).all(axis=(1, 2))]
    variance = some.var(axis=(1, 2))
    some = some[variance > 0]
    if not len(some):
        return math.nan
    some /= np.sqrt(variance[variance > 0])[:, None, None]
    along = (1 - np.square(np.diff(some, axis=axis)).mean() / 2 for axis in (1, 2))
    return float(min(along))


def better_reading(source: FeatureSource, index: int, layout: str) -> tuple[float, Reading | None]:
    """Measure a map under the reading taken and under others: the likeness, and a reading that is clearly better."""
    try:
        taken, others = apart(partial(_measure, source, index, layout), source.info(index))
    except RoicliError:  # whoever pools the map raises it
        return math.nan, None
    best = max(others, key=lambda reading: reading.alike, default=None)
    if best is None or not is_better(best.alike, taken):
        return taken, None
    return taken, best


def _measure(source: FeatureSource, index: int, layout: str) -> tuple[float, list[Reading]]:
    """Measure a map as it is taken, and under other readings."""
    levels = source.levels
    if isinstance(source, PyramidSource):
        source, index = source.locate(index)
    with np.errstate(over="ignore", invalid="ignore"):
        feature_map = source.read(index)
        if isinstance(source, TokenSource):
            others = _turned(source, index) if levels else _of_tokens(source, index)
        else:
            others = _of_map(feature_map, layout)
        return likeness(feature_map), [other for other in others if not math.isnan(other.alike)]


def is_better(other: float, taken: float) -> bool:
    """Tell whether neighbors are clearly more alike under another reading."""
    taken = 0.0 if math.isnan(taken) else taken
    return other >= _ALIKE and other - taken >= _BETTER and 1 - other <= (1 - taken) / 2


def _of_map(feature_map: NDArray[np.generic], layout: str) -> Iterator[Reading]:
    """Other readings of three axes: the channels at the other end, or sequences of tokens."""
    axes = tuple(map("chw".index, layout))
    stored = feature_map.transpose(axes)
    other = layout_of(layout).other
    yield Reading(f"maps of axes {other.axes}", f"`layout={other.name}`", likeness(other.as_chw(stored)))
    length = stored.shape[1]
    for sequence in (stored[0], stored[-1]):
        try:
            tokens = TokenLayout().resolve(length, "")
        except FeatureError:
            return
        alike = likeness(tokens.as_chw(sequence))
        yield Reading(f"sequences of {length:,} tokens, {tokens}", "`layout=tokens`", alike)


def _turned(source: TokenSource, index: int) -> Iterator[Reading]:
    """Read the grid of a level with its sides exchanged."""
    _, taken = source.reading(index)
    assert taken.grid is not None
    grid = taken.grid[::-1]
    alike = likeness(replace(taken, grid=grid).as_chw(source.tokens(index)))
    yield Reading(f"a grid of {grid[0]} x {grid[1]}", "the sides of grids as height, width", alike)


def _of_tokens(source: TokenSource, index: int) -> Iterator[Reading]:
    """Other grids, prefixes and orders of a sequence; sequences that are the rows of a map."""
    tokens = source.tokens(index)
    length, taken = source.reading(index)
    tokens = tokens[:, :: max(1, tokens.shape[1] // _CHANNELS)][:, : 2 * _CHANNELS]
    pairs = [(taken.prefix, taken.grid), *grids_of(length)[:_MOST_GRIDS]]
    for prefix, grid in dict.fromkeys(pairs):
        assert grid is not None
        for order in ("raster", "merge-2x2"):
            if order == "merge-2x2" and (grid[0] % 2 or grid[1] % 2):
                continue
            other = TokenLayout(grid, prefix, "merge-2x2" if order == "merge-2x2" else None)
            if (other.grid, other.prefix, other.order == "merge-2x2") == (
                *(taken.grid, taken.prefix),
                taken.order == "merge-2x2",
            ):
                continue
            alike = likeness(other.as_chw(tokens))
            options = f"`prefix={prefix}`, `grid={grid[0]}x{grid[1]}`, `token_order={order}`"
            yield Reading(str(other), options, alike)
    if not source.labelled and len(source) > 2:
        rows = [source.tokens(number) for number in range(min(len(source), _SIDE))]
        if len({row.shape for row in rows}) == 1:
            stack = np.stack(rows)
            for name in ("hwc", "chw"):
                alike = likeness(LAYOUTS[name].as_chw(stack))
                yield Reading(f"a map of axes {', '.join(name.upper())}", f"`layout={name}`", alike)
