"""What runs in the worker processes of a pool, and how they are started."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import active_children, connection, get_context, parent_process
from multiprocessing.context import BaseContext

from roicli.execution.interrupts import leave_to_parent
from roicli.execution.plan import Task
from roicli.execution.worker import Done, Pooler

_pooler: Pooler | None = None


def start_context() -> BaseContext:
    """Choose how processes start: by fork where it is safe, since it loads nothing again; else afresh."""
    forks = sys.platform == "linux" and threading.active_count() == 1
    return get_context("fork" if forks else "spawn")


@contextmanager
def stopped_at_once() -> Iterator[None]:
    """On any failure inside, end the processes started there without waiting for the tasks that they are at."""
    others = set(active_children())
    try:
        yield
    except BaseException:
        for process in set(active_children()) - others:
            process.terminate()
        raise


def begin(pooler: Pooler) -> None:
    """Prepare a new worker process for the tasks of one job."""
    global _pooler
    _pooler = pooler
    settle()


def settle() -> None:
    """Make this process a worker: one thread, that ends when its parent says so or is gone."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    leave_to_parent()
    try:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    except RuntimeError:  # the system starts no more
        os._exit(1)  # its parent tells that a worker died; the pool would print a traceback


def pool_in_process(task: Task) -> Done:
    """Work off one task in this worker process."""
    assert _pooler is not None, "begin() ran first"
    return _pooler.pool(task)


def _end_with_parent() -> None:
    """Leave when the parent is gone, however it went: a worker without one would wait for tasks forever."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
