"""How many of the boxes of a file, in words."""

from __future__ import annotations


def some_of(number: int, total: int) -> str:
    """Say how many of all boxes: ``"3 of 1,200 boxes"``, ``"the only box"``."""
    return "the only box" if number == total == 1 else f"{number:,} of {total:,} {'box' if total == 1 else 'boxes'}"


def verb(number: int, one: str, many: str) -> str:
    """Return the form of a verb, or of what follows it, that goes with a number."""
    return one if number == 1 else many
