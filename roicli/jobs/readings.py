"""What an array of features is taken for where its shape allows several readings, and what is said of that."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from roicli.errors import FeatureError, RoicliError, UsageError
from roicli.jobs.likeness import better_reading, is_better
from roicli.sources import FeatureSource
from roicli.sources.tokens import TokenLayout, TokenOrder
from roicli.words import count

Layout = Literal["chw", "hwc", "cwh", "whc", "tokens"]
Note = Callable[[str], None]

# Channels of tokens are so many at least, and a multiple of 32.
_TOKEN_CHANNELS = 192
# Maps are seldom that many times longer than wide, and have seldom fewer channels.
_LONG, _CHANNELS = 20, 64


def token_layout(
    layout: Layout | None, grid: tuple[int, int] | None, prefix: int | None, order: TokenOrder | None, patch: int | None
) -> TokenLayout | None:
    """Return how tokens lie in their sequence; None for maps, to which the other settings do not apply."""
    given = {"grid": grid, "prefix": prefix, "token_order": order, "patch": patch}
    if layout == "tokens":
        if grid is not None and patch is not None:
            raise UsageError("`grid` and `patch` both say the grid of the tokens", "Leave one of them out.")
        return TokenLayout(grid, prefix, order)
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"`{name}` is for sequences of tokens", "Give `layout=tokens` with it.")
    return None


def check_readings(source: FeatureSource, index: int, note: Note) -> None:
    """Refuse an array that may be sequences of tokens, if nobody said that it is a map and its values do not either.

    Raises
    ------
    FeatureError
        The message lists the readings.
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


def judge_reading(source: FeatureSource, indices: list[int], layout: str) -> tuple[float, str]:
    """Measure one or two maps: the likeness of neighbors, and a warning if another reading is clearly better."""
    alike = math.nan
    found = None
    for index in indices[:1] + indices[1:][-1:]:
        measured, other = better_reading(source, index, layout)
        if math.isnan(alike):
            alike = measured
        if other is None and not math.isnan(measured):  # of two maps both must look wrong
            return alike, ""
        if other is not None:
            found = found or (index, measured, other)
    if found is None:
        return alike, ""
    index, measured, other = found
    as_taken = "cannot be compared" if math.isnan(measured) else f"correlate by {measured:.2f}"
    return alike, (
        f"{source.info(index).where}: neighboring cells {as_taken} as the array is taken, and correlate by "
        f"{other.alike:.2f} as {other.words}; give {other.options}"
    )
