"""The rows of an output by their image, as loaders read them, or by another group."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.regions import Names


class ByGroup(NamedTuple):
    """The rows of an output, group after group, in the order in which groups come first."""

    groups: NDArray[np.int64]  # (n,): each group, such as an image, as a number of its names
    counts: NDArray[np.int64]  # (n,): how many rows it has
    number: NDArray[np.int64]  # (K,): the group of each row, as a position in `groups`
    rank: NDArray[np.int64]  # (K,): which row of its group each is, from 0
    order: NDArray[np.int64]  # (K,): all rows, those of a group side by side

    @classmethod
    def of(cls, names: Names) -> ByGroup:
        """Group rows by a name that each has."""
        distinct, first, inverse, counts = np.unique(
            names.index, return_index=True, return_inverse=True, return_counts=True
        )
        by_first = np.argsort(first)
        counts = counts[by_first]
        number = np.argsort(by_first)[inverse]
        order = np.argsort(number, kind="stable")
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        return cls(distinct[by_first], counts, number, rank, order)

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where the rows of each group begin in `order`."""
        return np.cumsum(self.counts) - self.counts


def vectors(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of features whose single bins are dropped: loaders read vectors."""
    return shape[:2] if shape[2:] == (1, 1) else shape
