"""What is done of a plan: by a task, by a run, or by all runs before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

Range = tuple[int, int]


class Progress(NamedTuple):
    """Some work that is done: positions in the order of the plan, which is the same for any workers and batches."""

    ranges: tuple[Range, ...] = ()  # (first, stop)
    not_finite: int = 0  # rows among them with a NaN or an infinity, because their boxes read such cells
    overflowed: int = 0  # rows with a number too large for the dtype of the output, written as an infinity
    empty: int = 0  # rows of zeros: their masks reach no cell, or their block has no other number

    @property
    def rows(self) -> int:
        """How many rows are done."""
        return sum(stop - first for first, stop in self.ranges)

    @classmethod
    def sum(cls, parts: Iterable[Progress]) -> Progress:
        """Return all parts as one, with ranges sorted, and joined where they touch.

        Examples
        --------
        >>> Progress.sum([Progress(((4, 6),)), Progress(((0, 2), (2, 3)), 1)])
        Progress(ranges=((0, 3), (4, 6)), not_finite=1, overflowed=0, empty=0)
        """
        parts = list(parts)
        joined: list[Range] = []
        for first, stop in sorted(span for part in parts for span in part.ranges):
            if joined and first <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
            else:
                joined.append((first, stop))
        counts = zip(*(part[1:] for part in parts), strict=True)
        return cls(tuple(joined), *map(sum, counts))
