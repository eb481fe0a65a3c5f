"""What an array of features is taken for where its shape allows several readings, and what is said of that."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from roicli.errors import FeatureError, RoicliError, UsageError
from roicli.execution.executors import apart
from roicli.jobs.imageids import Match
from roicli.jobs.likeness import better_reading, is_better
from roicli.regions import AngleUnit, BoxFormat, MaskFill
from roicli.sources import FeatureSource
from roicli.sources.layout import CLIPS
from roicli.sources.retyped import MapDtype
from roicli.sources.tokens import TokenLayout, TokenOrder
from roicli.words import count

OverTime = str | int
"""What is taken over the frames of a clip: "mean", "max", or the number of one."""
Layout = Literal["chw", "hwc", "cwh", "whc", "tokens"]
Note = Callable[[str], None]

# Channels of tokens are so many at least, and a multiple of 32.
_TOKEN_CHANNELS = 192
# Maps are seldom that many times longer than wide, and have seldom fewer channels.
_LONG, _CHANNELS = 20, 64


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the user says of how the two inputs are read."""

    dataset: str | None = None  # which dataset holds the maps, where several would do
    layout: Layout | None = None  # how the maps are stored; by default chw, unless the shape allows tokens too
    # Of sequences of tokens; see `TokenLayout`
    grid: tuple[int, int] | None = None
    prefix: int | None = None
    token_order: TokenOrder | None = None
    patch: int | None = None  # side of a patch in pixels: with the size of an image it gives the grid
    time: OverTime | None = None  # what is taken over the frames of clips (C, T, H, W) or (T, H, W, C)
    map_dtype: MapDtype | None = None  # what integers in the maps are the bits of
    # JSON or CSV that says in which file, and where in it, the map of each image lies
    map_index: str | os.PathLike[str] | None = None
    box_format: BoxFormat | None = None  # where it is not what the box file says
    boxes_as: str | None = None  # layout of the box file, where its content does not say
    mask_fill: MaskFill | None = None  # how outlines become masks; by default as their format does
    angle: AngleUnit | None = None  # unit and direction of angles, where they are not what the box file says
    match: Match | None = None  # what decides about an image whose id and file name are different maps

    def of_maps(self) -> dict[str, Any]:
        """Return what `open_source` is told, besides the dataset.

        Raises UsageError: settings of tokens for maps, or two that say the grid.
        """
        layout: str | TokenLayout = self.layout or "chw"
        if self.time is not None:
            layout = self._clips(self.layout or "chw")
        if layout == "tokens":
            if self.grid is not None and self.patch is not None:
                raise UsageError("`grid` and `patch` both say the grid of the tokens", "Leave one of them out.")
            layout = TokenLayout(self.grid, self.prefix, self.token_order)
        else:
            for name in ("grid", "prefix", "token_order", "patch"):
                if getattr(self, name) is not None:
                    raise UsageError(f"`{name}` is for sequences of tokens", "Give `layout=tokens` with it.")
        map_index = None if self.map_index is None else os.fspath(self.map_index)
        return {"layout": layout, "map_dtype": self.map_dtype, "map_index": map_index}

    def _clips(self, layout: str) -> str:
        if layout not in CLIPS:
            raise UsageError(f"`time` is for clips, not for the layout {layout}", "Give `layout=chw` or `layout=hwc`.")
        if self.time not in ("mean", "max") and not (isinstance(self.time, int) and self.time >= 0):
            raise UsageError(f"time must be 'mean', 'max' or the number of a frame, got {self.time!r}")
        return f"{CLIPS[layout]}:{self.time}"

    def parameters(self) -> dict[str, str | int | float | bool]:
        """Return what an output says of how its maps were read."""
        said: dict[str, str | int | float | bool] = {"dataset": self.dataset or "", "layout": self.layout or "chw"}
        if self.layout == "tokens":
            said["grid"] = "x".join(map(str, self.grid)) if self.grid else "auto"
            said["prefix"] = "auto" if self.prefix is None else self.prefix
            said |= {"token_order": self.token_order or "auto", "patch": self.patch or 0}
        if self.time is not None:
            said["time"] = self.time
        return said | {"map_dtype": self.map_dtype or "as stored", "map_index": str(self.map_index or "")}


def check_readings(source: FeatureSource, index: int, note: Note) -> None:
    """Refuse an array that may be sequences of tokens, if nobody said that it is a map and its values do not either.

    Raises FeatureError: the message lists the readings.
    """
    try:
        info = source.info(index)
    except RoicliError:  # whoever pools the map raises it
        return
    channels, height, width = info.shape
    if info.where.rpartition(", map ")[2].isdigit():  # of a stack of four axes
        return
    long = max(height, width) > _LONG * min(height, width)
    if (channels >= _CHANNELS and channels % 32 == 0) or not (long or (width >= _TOKEN_CHANNELS and width % 32 == 0)):
        return
    try:
        tokens = TokenLayout().resolve(height, "")
    except FeatureError:
        return
    taken, other = better_reading(source, index, "chw")
    if other is None and not long and not math.isnan(taken) and is_better(taken, 0.0):
        note(
            f"{info.where}, shape {info.shape}, is taken for maps of axes C, H, W, not for tokens: neighboring cells "
            f"correlate by {taken:.2f}"
        )
        return
    if other is None and height == width and not tokens.prefix and channels > 1:
        note(f"{info.where}, shape {info.shape}, is taken for maps of axes C, H, W; for tokens, give `layout=tokens`")
        return
    raise FeatureError(
        f"{info.where} has shape {info.shape}, which is either\n"
        f"  sequences of {height:,} tokens with {width:,} channels: {tokens} (`layout=tokens`)\n"
        f"  one map of {count(channels, 'channel')}, {height:,} cells high and {width:,} wide (`layout=chw`)",
        "Give one of the two.",
    )


def _judge_zeros(source: FeatureSource, indices: list[int]) -> str:
    """Return a warning if maps of which nothing could be measured are all zeros."""
    with suppress(RoicliError):  # whoever pools the map raises it
        if indices and not any(apart(partial(_is_filled, source, index), source.info(index)) for index in indices):
            where = " and of ".join(source.info(index).where for index in indices)
            return f"all values of {where} are zero: were they never written?"
    return ""


def _is_filled(source: FeatureSource, index: int) -> bool:
    return bool(source.read(index).any())


def judge_reading(source: FeatureSource, indices: list[int], layout: str) -> tuple[float, str]:
    """Measure one or two maps: the likeness of neighbors; warn if another reading is clearly better, or all is zero."""
    alike = math.nan
    found = None
    looked_at = indices[:1] + indices[1:][-1:]
    for index in looked_at:
        measured, other = better_reading(source, index, layout)
        if math.isnan(alike):
            alike = measured
        if other is None and not math.isnan(measured):  # of two maps both must look wrong
            return alike, ""
        if other is not None:
            found = found or (index, measured, other)
    if found is None:
        return alike, _judge_zeros(source, looked_at)
    index, measured, other = found
    as_taken = "cannot be compared" if math.isnan(measured) else f"correlate by {measured:.2f}"
    return alike, (
        f"{source.info(index).where}: neighboring cells {as_taken} as the array is taken, and correlate by "
        f"{other.alike:.2f} as {other.words}; give {other.options}"
    )
