"""The strings of the command line, and the values that they stand for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from roicli.stores.path import is_store, path_of

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


class _Name(click.Path):
    """A file name. The empty name is refused: Path takes it for the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not value:
            self.fail("the name is empty.", param, ctx)
        if is_store(value):  # which may have a password
            return path_of(value) if self.type is Path else str(path_of(value))
        return super().convert(value, param, ctx)


# The reader of a file says whether it can be read; its message is better than click's.
FILE = _Name(path_type=Path, readable=False)
# A file, a folder or a quoted pattern, kept as it was typed; a shell completes it.
PATTERN = _Name(path_type=str, readable=False)


def matched(pattern: str, text: str, expected: str) -> re.Match[str]:
    """Match a whole text in lower case, without blanks around it."""
    found = re.fullmatch(pattern, text.strip().lower())
    if not found:
        raise click.BadParameter(f"expected {expected}, got {text!r}.")
    return found


def whole(least: int, most: int = 10**9) -> Callable[[str], int]:
    """Return what reads a whole number within bounds."""

    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,10}", text.strip()) or not least <= int(text) <= most:
            raise click.BadParameter(f"expected a whole number from {least} to {most:,}, got {text!r}.")
        return int(text)

    return read


def output_size(text: str) -> tuple[int, int]:
    """Read `7`, or height x width as in `7x5`."""
    found = matched(r"(\d{1,6})(?:[x,](\d{1,6}))?", text, "N or HxW, such as 7 or 7x5")
    return int(found[1]), int(found[2] or found[1])


def grid(text: str) -> tuple[int, int] | None:
    """Read `37x37`, or `auto`, which is None."""
    if text.strip().lower() == "auto":
        return None
    found = matched(r"([1-9]\d{0,5})[x,]([1-9]\d{0,5})", text, "HxW or auto, such as 37x37")
    return int(found[1]), int(found[2])


def prefix(text: str) -> int | None:
    """Read a number of tokens, or `auto`, which is None."""
    return None if text.strip().lower() == "auto" else whole(0, 10**6)(text)


def scale(text: str) -> float | tuple[float, float]:
    """Read a positive number or a fraction such as `1/16`; or two of them, y and x."""
    y, comma, x = text.partition(",")
    return (positive(y), positive(x)) if comma else positive(y)


def positive(text: str) -> float:
    """Read a positive number or a fraction."""
    numerator, slash, denominator = text.partition("/")
    try:
        number = float(numerator) / (float(denominator) if slash else 1)
    except (ValueError, ZeroDivisionError):
        number = 0.0
    if not 0 < number < math.inf:
        raise click.BadParameter(f"expected a positive number or fraction, such as 0.0625 or 1/16, got {text!r}.")
    return number


def tolerance(text: str) -> float:
    """Read a number from 0 on."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise click.BadParameter(f"expected a number from 0 on, such as 1e-5, got {text!r}.")
    return number


def sampling_ratio(text: str) -> int:
    """Read a number of samples, or `auto`, which is -1."""
    if text.strip().lower() in ("auto", "0", "-1"):
        return -1
    return int(matched(r"\d{1,9}", text, "a whole number or auto")[0])


def over_time(text: str) -> str | int:
    """Read what is taken over the frames of a clip: `mean`, `max`, or the number of one."""
    plain = matched(r"mean|max|\d{1,6}", text, "mean, max or the number of a frame")[0]
    return int(plain) if plain.isdecimal() else plain


def memory(text: str) -> int:
    """Read bytes with a unit, `2GiB` or `500M`; units are powers of 1024."""
    form = r"(\d{1,15}(?:\.\d{1,9})?)\s*([kmgt]?)(?:i?b)?"
    found = matched(form, text, "an amount of memory, such as 2GiB or 500MiB")
    return int(float(found[1]) * _UNITS[found[2]])


class Registered(click.Choice):  # type: ignore[type-arg, unused-ignore]
    """A name of a registry, which is loaded when its names are wanted, and may have grown by then."""

    def __init__(self, names: Callable[[], Iterable[str]]) -> None:
        super().__init__(())
        self._names = names

    @property
    def choices(self) -> tuple[str, ...]:
        """All names."""
        return tuple(self._names())

    @choices.setter
    def choices(self, _: object) -> None: ...


def operators() -> Iterable[str]:
    """Return the names of operators, with hyphens."""
    from roicli.pooling.operators import names

    return (name.replace("_", "-") for name in names())


def box_layouts() -> Iterable[str]:
    """Return the names of layouts of box files."""
    from roicli.boxfiles.registry import layout_names

    return layout_names()


def output_layouts() -> Iterable[str]:
    """Return the names of layouts of outputs."""
    from roicli.outputs import LAYOUTS

    return LAYOUTS
