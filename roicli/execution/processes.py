"""Worker processes: tasks go out and results come back by a pipe for each worker.

Workers share no lock and no queue, so one that dies at any instant harms no other, and nobody waits for it. They alone
map files: a mapped file that is cut short ends its process by SIGBUS, and then that is a worker.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

from roicli import arrays, child
from roicli.errors import WorkerError
from roicli.interrupts import held_off, leave_to_parent
from roicli.stores import requests

# Seconds that workers have to leave when all is done, and to end when they are terminated, then killed.
_TO_LEAVE, _TO_END = 5.0, 1.0
# Seconds between two looks at workers whose pipe does not tell of their death, since a child of theirs holds it open.
_LOOK = 1.0


@contextmanager
def worker_processes(
    work: Callable[[Any], Any], tasks: Sequence[Any], number: int, threads: int = 1
) -> Iterator[Iterator[tuple[Any, Any]]]:
    """Start processes that work off tasks; yields each task and its result as they come.

    Where a task raises or a process dies, all processes end without finishing their tasks.

    `work`: does a task.
    `tasks`: what it is called with.
    `number`, `threads`: of processes, and of workers in each, which share memory.
    """
    context = start_context()
    inherited = work if context.get_start_method() == "fork" else None
    crew: dict[Connection, BaseProcess] = {}
    patience = 0.0
    try:
        for _ in range(number):
            with held_off():
                ours, theirs = zip(*(context.Pipe() for _ in range(threads)), strict=True)
                process = context.Process(target=_serve, args=(inherited, theirs), daemon=True)  # type: ignore[attr-defined]
                process.start()
                crew |= dict.fromkeys(ours, process)
                for pipe in theirs:
                    pipe.close()
        for pipe in [] if inherited else list(crew)[::threads]:
            with suppress(OSError):  # it died, which is seen below
                pipe.send(work)
        yield _results(crew, tasks)
        for pipe in crew:
            with suppress(OSError):  # it died after its last task
                pipe.send(None)
        patience = _TO_LEAVE
    finally:
        _end(set(crew.values()), patience)


def can_fork() -> bool:
    """Whether processes may start by fork, which loads nothing again."""
    return child.can_fork() and not requests.in_use()


def start_context() -> BaseContext:
    """Choose how processes start: by fork where it is safe, else afresh."""
    return get_context("fork" if can_fork() else "spawn")


def _results(crew: dict[Connection, BaseProcess], tasks: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Hand each worker one task at a time; yield results as they come."""
    waiting, idle = deque(tasks), list(crew)
    given: dict[Connection, Any] = {}
    while waiting or given:
        while waiting and idle:
            pipe = idle.pop()
            given[pipe] = waiting.popleft()
            with suppress(OSError):  # it died, which is seen below
                pipe.send(given[pipe])
        dead = [pipe for pipe in given if not crew[pipe].is_alive()]
        ready = connection.wait(given, 0 if dead else _LOOK)
        for pipe in [pipe for pipe in given if pipe in ready]:
            try:
                result = pipe.recv()
            except (EOFError, OSError) as error:
                raise _death(crew[pipe]) from error
            if isinstance(result, BaseException):
                raise result
            idle.append(pipe)
            yield given.pop(pipe), result
        for pipe in dead:
            if pipe in given:
                raise _death(crew[pipe])


def _death(process: BaseProcess) -> WorkerError:
    """Make the error that tells of what a worker died."""
    process.join(_TO_END)
    code = process.exitcode or 0
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    hint = "If memory ran out, try `max_memory` or fewer `workers`; else run again with `workers=1`."
    if code == -signal.SIGBUS:
        hint = "Check that no input is cut short while it is read, and that the disks are well; then run it again."
    return WorkerError(f"a worker process died before its work was done ({how})", hint)


def _end(processes: Collection[BaseProcess], patience: float) -> None:
    """Wait for processes, terminate those that are left, kill those that are left then; wait no longer."""
    for order, seconds in (None, patience), (BaseProcess.terminate, _TO_END), (BaseProcess.kill, _TO_END):
        alive = [process for process in processes if process.is_alive()]
        for process in alive:
            if order is not None:
                order(process)
        deadline = time.monotonic() + seconds
        for process in alive:
            process.join(max(0.0, deadline - time.monotonic()))


def _serve(work: Callable[[Any], Any] | None, pipes: Sequence[Connection]) -> None:
    """Work off tasks in a new process, by a thread for each pipe, until all are done or the parent is gone.

    Work that is not inherited comes first by a pipe; it ends early, in silence, where the parent is killed meanwhile.
    """
    from threadpoolctl import threadpool_limits

    gc.freeze()  # a collection that looked through what is inherited would copy the pages of all of it
    threadpool_limits(1)
    leave_to_parent()
    arrays.may_map = True
    try:
        threading.Thread(target=_end_with_parent, daemon=True).start()
        work = work or pipes[0].recv()
        others = [threading.Thread(target=_work_off, args=(work, pipe)) for pipe in pipes[1:]]
        for thread in others:
            thread.start()
    except (RuntimeError, EOFError, OSError):  # the system starts no more threads, or the parent is gone
        os._exit(1)
    _work_off(work, pipes[0])
    for thread in others:
        thread.join()
    os._exit(0)  # nothing is left to clean up


def _work_off(work: Callable[[Any], Any], pipe: Connection) -> None:
    with suppress(EOFError, OSError):
        while (task := pipe.recv()) is not None:
            try:
                result = work(task)
            except Exception as error:
                result = portable(error)
            pipe.send(result)


def portable(error: Exception) -> Exception:
    """Return an exception that reaches the parent, with its traceback as its cause."""
    from multiprocessing.pool import ExceptionWithTraceback  # type: ignore[attr-defined]

    trace = error.__traceback__
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = WorkerError(f"unexpected {type(error).__name__}: {error}")
    made: Exception = ExceptionWithTraceback(error, trace)
    return made


def _end_with_parent() -> None:
    """Leave when the parent is gone, however it went: a worker without one would write where others may write."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
