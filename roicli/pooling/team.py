"""Threads that share one call on arrays."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

# To start a thread for fewer pooled values takes longer than to pool them.
_VALUES_A_THREAD = 2**20


# ``share(work, number)`` calls `work` with parts of ``range(number)``, one for each thread.
Share = Callable[[Callable[[slice], Any], int], None]


def alone(work: Callable[[slice], Any], number: int) -> None:
    """Do all of the work in this thread: a `Share` of one."""
    work(slice(0, number))


@contextmanager
def team(threads: int | None, values: int) -> Iterator[Share]:
    """Start as many threads as pay for pooling so many values; BLAS has one thread meanwhile."""
    size = min(threads or usable_cores(), max(1, values // _VALUES_A_THREAD))
    with _blas().limit(limits=1):
        if size == 1:
            yield alone
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(size) as executor:

            def share(work: Callable[[slice], Any], number: int) -> None:
                ends = [number * part // size for part in range(size + 1)]
                list(executor.map(work, map(slice, ends, ends[1:])))  # raises what the work raised

            yield share


def usable_cores() -> int:
    """Count the cores that this process may use; a container or a batch system may have limited them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _blas() -> Any:
    """Find the libraries of this process once: to look for them takes a millisecond."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
