"""The rows of an output by their image, as loaders read them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.regions import Names


class ByImage(NamedTuple):
    """The rows of an output, image after image, in the order in which images come first.

    Attributes
    ----------
    images : (n,) int64
        Each image, as a number of `Record.image_ids`.
    counts : (n,) int64
        How many rows it has.
    number : (K,) int64
        The image of each row, as a position in `images`.
    rank : (K,) int64
        Which row of its image each is, from 0.
    order : (K,) int64
        All rows, those of an image side by side.
    """

    images: NDArray[np.int64]
    counts: NDArray[np.int64]
    number: NDArray[np.int64]
    rank: NDArray[np.int64]
    order: NDArray[np.int64]

    @classmethod
    def of(cls, image_ids: Names) -> ByImage:
        """Group rows by their image."""
        distinct, first, inverse, counts = np.unique(
            image_ids.index, return_index=True, return_inverse=True, return_counts=True
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
        """Where the rows of each image begin in `order`."""
        return np.cumsum(self.counts) - self.counts


def vectors(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of features whose single bins are dropped: loaders read vectors."""
    return shape[:2] if shape[2:] == (1, 1) else shape
