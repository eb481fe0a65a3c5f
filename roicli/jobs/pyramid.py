"""Feature pyramids: which levels there are, and from which of them each box is pooled."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from roicli.errors import FeatureError, FileError, UsageError
from roicli.jobs.readings import Reading
from roicli.pooling.levels import assign_levels
from roicli.pooling.placement import Placement
from roicli.regions import Names
from roicli.sources import FeatureSource, Level, MapInfo, open_source
from roicli.sources.pyramid import (
    PLACEHOLDER,
    PyramidSource,
    find_levels,
    has_digits,
    open_pyramid,
    size_fault,
    stride_of,
)

LevelRule = Literal["torchvision", "detectron2", "mmdet", "matterport"]
Combine = Literal["concat", "sum", "mean", "max"]
Levels = str | Mapping[str, float]
"""``"p2:4,p3:8"``, or a mapping of names to strides."""

# A source of more maps or files is not looked at as the levels of one image.
_MOST = 10


@dataclass(frozen=True, kw_only=True)
class Pyramid:
    """What the user says of the levels."""

    # Name and stride of each. By default they are those that names and sizes leave no doubt of.
    levels: Levels | None = None
    level_rule: LevelRule = "torchvision"  # what decides from which level a box is pooled; see `roicli.pooling.levels`
    # A box of this side is pooled from the level of this number
    canonical_scale: float = 224.0
    canonical_level: int = 4
    level: str | None = None  # pool all boxes from this one instead
    levels_combine: Combine | None = None  # pool every box from every level, and make one block of them

    def __post_init__(self) -> None:
        if self.level is not None and self.levels_combine is not None:
            raise UsageError("`level` and `levels_combine` contradict each other", "Give one of them.")
        if not 0 < self.canonical_scale < math.inf:
            raise UsageError(f"canonical_scale must be a positive number, got {self.canonical_scale}", "Give pixels.")
        if self.levels is not None:
            self.named()

    @property
    def is_stated(self) -> bool:
        """Whether the user says anything of levels."""
        return self != Pyramid()

    def named(self) -> tuple[Level, ...]:
        """Return the levels that the user names.

        Raises UsageError: a level without a stride, or a name that says none.
        """
        if self.levels is None:
            return ()
        if isinstance(self.levels, str):
            pairs = [part.strip().partition(":") for part in self.levels.split(",")]
            given: dict[str, Any] = {name.strip(): stride.strip() or stride_of(name) for name, _, stride in pairs}
            if len(given) < len(pairs):
                raise UsageError(f"a level comes twice in {self.levels!r}", "Name each level once.")
        else:
            given = dict(self.levels)
        found = []
        for name, stride in given.items():
            try:
                found.append(Level(str(name), float(stride)))
            except (TypeError, ValueError):
                raise UsageError(
                    f"levels must be NAME:STRIDE,..., got {self.levels!r}", "Give `levels=p2:4,p3:8,p4:16,p5:32`."
                ) from None
        return tuple(found)

    def parameters(self, levels: Sequence[Level]) -> dict[str, str | int | float | bool]:
        """Return what an output says of its levels; nothing if there are none."""
        if not levels:
            return {}
        made: dict[str, str | int | float | bool] = {"levels": in_words(levels)}
        if self.levels_combine is not None:
            return made | {"levels_combine": self.levels_combine}
        if len(levels) == 1:
            return made
        rule = {"level_rule": self.level_rule, "canonical_scale": self.canonical_scale}
        return made | rule | {"canonical_level": self.canonical_level}


def in_words(levels: Sequence[Level]) -> str:
    """Return levels as the user would give them.

    Examples
    --------
    >>> in_words([Level("p2", 4.0), Level("p3", 8.0)])
    'p2:4,p3:8'
    """
    return ",".join(f"{level.name}:{level.stride:g}" for level in levels)


def open_maps(features: str, reading: Reading, pyramid: Pyramid, note: Callable[[str], None]) -> FeatureSource:
    """Open features, as a pyramid if the user says so, or if they are one without doubt; see `open_source`.

    Raises RoicliError: what cannot be opened; settings of levels for features that have none.
    """
    dataset, how = reading.dataset, reading.of_maps()
    source: FeatureSource
    if pyramid.levels is not None:
        source = open_pyramid(features, pyramid.named(), dataset=dataset, **how)
    else:
        source = _open(features, note, dataset, how)
    if not isinstance(source, PyramidSource):
        if pyramid.is_stated:
            raise UsageError(
                f"{source.name} has one map an image, not several levels",
                "Name the levels, such as `levels=p2:4,p3:8,p4:16,p5:32`, or leave out what is said of them.",
            )
        return source
    return source if pyramid.level is None else source.only(pyramid.level)


def _open(features: str, note: Callable[[str], None], dataset: str | None, how: Mapping[str, Any]) -> FeatureSource:
    if PLACEHOLDER in features:
        raise UsageError(f"{features}: the names of the levels are missing", "Give `levels=p2:4,p3:8,p4:16,p5:32`.")
    plain: FeatureSource | None = None
    try:
        plain = open_source(features, dataset=dataset, **how)
    except (FeatureError, FileError) as error:
        if (found := find_levels(features, dataset=dataset, **how)) is None:
            if has_digits(features, dataset):
                hint = "If 0, 1, 2, 3 are levels of torchvision, give `levels=0:4,1:8,2:16,3:32`."
                raise type(error)(error.message, f"{error.hint} {hint}") from None
            raise
    else:
        from pathlib import Path

        names = plain.ids if plain.labelled else [Path(path).stem for path in plain.paths]
        if not 1 < len(names) <= _MOST or not all(map(stride_of, names)):
            return plain
        if (found := find_levels(features, dataset=dataset, **how)) is None:
            return plain
    note(f"{found.name} has the levels {in_words(found.levels)}, known by their names and sizes")
    return found


def check_levels(source: FeatureSource, images: Sequence[int]) -> None:
    """Refuse levels whose sizes do not fit their strides.

    Raises FeatureError: the level of an image that is too large or too small.
    """
    for image in images:
        if text := size_fault(source, image):
            raise FeatureError(text, "Check the names and strides that `levels` gives.")


def place_on_levels(
    finest: Placement, levels: Sequence[Level], pyramid: Pyramid, dtype: np.dtype[Any]
) -> tuple[Placement, ...]:
    """Place boxes on their levels.

    `finest`: the image of each box as its map, and the boxes in pixels of the network's input; the scale is not looked
    at.
    `dtype`: of the computation: a box at the edge between two levels turns on its last bit.

    Returns
    -------
    tuple of Placement
        One; or one a level, if all levels are combined. The map of a box is ``image * len(levels) + level``.
    """
    count = len(levels)
    cells_a_pixel = np.array([[1 / level.stride] * 2 for level in levels])

    def on(level: Any) -> Placement:
        level = np.broadcast_to(level, len(finest))
        maps = np.where((finest.map_index < 0) | (level < 0), -1, finest.map_index * count + level)
        return Placement(maps, finest.boxes, cells_a_pixel[level])

    if pyramid.levels_combine is not None:
        return tuple(map(on, range(count)))
    if count == 1:
        return (on(0),)
    with np.errstate(over="ignore"):
        boxes = finest.boxes.astype(dtype)
    rule = pyramid.level_rule, pyramid.canonical_scale, pyramid.canonical_level
    return (on(assign_levels(boxes, [level.stride for level in levels], *rule)),)


def levels_of(placement: Placement, levels: Sequence[Level]) -> Names:
    """Return the name of the level of each box; an empty one where it has none."""
    count = len(levels)
    index = np.where(placement.map_index < 0, count, placement.map_index % count)
    return Names(index, [*(level.name for level in levels), ""])


def tally(names: Names) -> dict[str, int]:
    """Count the boxes of each level."""
    counts = np.bincount(names.index, minlength=len(names.names)).tolist()
    return {name: number for name, number in zip(names.names, counts, strict=True) if number}


def channels_of(infos: Mapping[int, MapInfo], count: int, pyramid: Pyramid) -> int:
    """Return how many channels a row comes from: those of all levels if they are joined, else those of any."""
    first = min(infos) // count * count
    channels = [infos[first + level].shape[0] for level in range(count)]
    return sum(channels) if pyramid.levels_combine == "concat" else channels[0]
