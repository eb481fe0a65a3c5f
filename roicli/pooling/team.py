"""Threads that share one call on arrays."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Executor

# To start a thread for fewer pooled values takes longer than to pool them.
_VALUES_A_THREAD = 2**20


class Team:
    """Some threads, or the caller alone.

    Parameters
    ----------
    executor : concurrent.futures.Executor or None
        None if the caller is alone.
    size : int
        How many share the work.
    """

    def __init__(self, executor: Executor | None = None, size: int = 1) -> None:
        self._executor, self._size = executor, size

    def share(self, work: Callable[[slice], Any], number: int) -> None:
        """Call `work` with parts of ``range(number)``, one for each thread."""
        if self._executor is None:
            work(slice(0, number))
            return
        ends = [number * part // self._size for part in range(self._size + 1)]
        for _ in self._executor.map(work, map(slice, ends, ends[1:])):
            pass


@contextmanager
def team(threads: int | None, values: int) -> Iterator[Team]:
    """Start as many threads as pay for pooling so many values; BLAS has one thread meanwhile."""
    size = min(threads or usable_cores(), max(1, values // _VALUES_A_THREAD))
    with _blas().limit(limits=1):
        if size == 1:
            yield Team()
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(size) as executor:
            yield Team(executor, size)


def usable_cores() -> int:
    """Count the cores that this process may use; a container or a batch system may have limited them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _blas() -> Any:
    """Find the libraries of this process once: to look for them takes a millisecond."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
