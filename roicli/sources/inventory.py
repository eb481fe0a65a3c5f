"""What arrays a file holds and how they are stored, poolable or not; no values are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from roicli.files import natural_key, printable

# To look at an array takes some 100 microseconds; of a file with more of them, so many are looked at.
LOOKED_AT = 5000
_NAMES = 5
A = TypeVar("A")


class Kind(NamedTuple):
    """In what arrays are alike: their shape, their dtype and how their values are stored."""

    shape: tuple[int, ...]
    dtype: str
    storage: str


@dataclass
class Alike:
    """Arrays of a file that are of one kind."""

    kind: Kind  # what they have in common
    names: list[str] = field(default_factory=list)  # the first few of them
    count: int = 0  # how many there are
    stored: int = 0  # bytes that they take in the file


@dataclass(frozen=True)
class Inventory:
    """The arrays of one file."""

    # How many there are; in a large HDF5 file, members of groups that have not been looked at count as arrays
    arrays: int
    looked_at: int  # how many of them `kinds` tells of
    kinds: tuple[Alike, ...]  # the most frequent first


def group(arrays: Iterable[tuple[str, Kind, int]], others: int = 0) -> Inventory:
    """Group arrays by kind.

    `arrays`: name, kind and stored bytes of each.
    `others`: how many more there are, which were not looked at.
    """
    alike: dict[Kind, Alike] = {}
    for name, kind, stored in arrays:
        found = alike.setdefault(kind, Alike(kind))
        found.count += 1
        found.stored += stored
        if len(found.names) < _NAMES:
            found.names.append(printable(name))
    counts = sorted(alike.values(), key=lambda found: -found.count)
    looked_at = sum(found.count for found in counts)
    return Inventory(looked_at + others, looked_at, tuple(counts))


def group_named(arrays: Mapping[str, A], describe: Callable[[A], tuple[Kind, int]], others: int = 0) -> Inventory:
    """Group the first arrays of a file by name, as `describe` gives their kind and stored bytes."""
    names = sorted(arrays, key=natural_key)
    looked_at = ((name, *describe(arrays[name])) for name in names[:LOOKED_AT])
    return group(looked_at, len(names[LOOKED_AT:]) + others)
