"""Runs in turn, A B C A B C: what slows the machine for a while slows all of them alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

Result = TypeVar("Result")


def interleaved(runs: Mapping[str, Callable[[], Result]], repeat: int) -> dict[str, list[Result]]:
    """Call every run once, in order, then all of them again, `repeat` times in all.

    Examples
    --------
    >>> from itertools import count
    >>> clock = count()
    >>> interleaved({"a": lambda: next(clock), "b": lambda: next(clock)}, 3)
    {'a': [0, 2, 4], 'b': [1, 3, 5]}
    """
    results: dict[str, list[Result]] = {name: [] for name in runs}
    for _ in range(repeat):
        for name, run in runs.items():
            results[name].append(run())
    return results


def seconds(call: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Return the power of the size that a cost grows with: the least-squares slope of its logarithm.

    Examples
    --------
    >>> round(exponent([8, 32, 128], [3 * size**1.5 for size in (8, 32, 128)]), 9)
    1.5
    """
    x, y = [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    centre_x, centre_y = math.fsum(x) / len(x), math.fsum(y) / len(y)
    covariance = math.fsum((a - centre_x) * (b - centre_y) for a, b in zip(x, y, strict=True))
    return covariance / math.fsum((a - centre_x) ** 2 for a in x)
