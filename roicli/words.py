"""Counts, sizes and lists in words, for messages and tables."""

from __future__ import annotations

from collections.abc import Sequence

_UNITS = (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun.

    Examples
    --------
    >>> count(1, "box"), count(12096, "box"), count(2, "index", "indices")
    ('1 box', '12,096 boxes', '2 indices')
    """
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {plural or noun + ('es' if noun.endswith(('x', 's', 'ch')) else 's')}"


def size(number: int) -> str:
    """Return a number of bytes with three digits and its unit.

    Examples
    --------
    >>> size(0), size(1023), size(1536), size(600 * 2**20), size(5 * 2**30)
    ('0 bytes', '1,023 bytes', '1.50 KiB', '600 MiB', '5.00 GiB')
    """
    for unit, scale in _UNITS:
        if number >= scale:
            value = number / scale
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
    return count(number, "byte")


def listing(items: Sequence[object], limit: int = 5) -> str:
    """Return the first items of a list, and how many follow.

    Examples
    --------
    >>> listing([2, 7]), listing(range(9), limit=3)
    ('2, 7', '0, 1, 2 and 6 more')
    """
    shown = ", ".join(map(str, items[:limit]))
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit:,} more"
