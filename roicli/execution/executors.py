"""Work off a plan: serially, in threads, in processes, or in anything that is a `concurrent.futures.Executor`."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from roicli.errors import WorkerError
from roicli.execution.interrupts import held_off
from roicli.execution.plan import Plan, Strategy, Task
from roicli.execution.worker import Done, Pooler

if TYPE_CHECKING:
    from concurrent.futures import Executor

# What Python says where the system refuses a thread.
_NO_THREAD = "can't start new thread"


def run(plan: Plan, pooler: Pooler, on_begin: Callable[[], None], on_done: Callable[[Task, Done], None]) -> Done:
    """Work off all tasks of a plan.

    Parameters
    ----------
    plan : Plan
        The tasks, and by how many workers of what kind.
    pooler : Pooler
        Does one task.
    on_begin : callable
        Called once, when the workers have started: before, a thread would make it unsafe to fork them.
    on_done : callable
        Called with each task that is done, in whatever order, and what became of it.

    Raises
    ------
    WorkerError
        A worker process died, or ran out of memory.
    RoicliError
        Whatever a task raised; the tasks not begun are given up.
    """
    from threadpoolctl import threadpool_limits

    done = Done()
    try:
        # Every worker is a thread or process of ours; BLAS starting its own beside them would only slow both.
        with threadpool_limits(1), _workers(plan, pooler) as work_off:
            results = work_off(plan.tasks)
            on_begin()
            for task, part in results:
                done += part
                on_done(task, part)
    except MemoryError as error:
        raise WorkerError("memory ran out", "Try --max-memory, fewer --workers, or a smaller --batch-size.") from error
    except RuntimeError as error:
        # A pool whose thread has not started fails once more over that.
        if _NO_THREAD not in (str(error), str(error.__context__)):
            raise
        raise WorkerError(
            "the system starts no more threads", "Raise its limits (ulimit -u, ulimit -v), or free some memory."
        ) from error
    return done


@contextmanager
def _workers(plan: Plan, pooler: Pooler) -> Iterator[Callable[[tuple[Task, ...]], Iterable[tuple[Task, Done]]]]:
    """Start the workers that the plan asks for; yields what works off tasks with them."""
    # Pools are imported where they are needed: a small job must not pay for them.
    if plan.strategy is Strategy.PROCESSES:
        from concurrent.futures import BrokenExecutor, ProcessPoolExecutor

        from roicli.execution.processes import begin, pool_in_process, start_context, stopped_at_once

        frozen = gc.get_freeze_count()  # by who calls us
        gc.freeze()  # a worker that looked through what it inherits would copy the pages of all of it
        try:
            with ProcessPoolExecutor(plan.workers, start_context(), begin, (pooler,)) as processes, stopped_at_once():
                yield partial(_gather, processes, pool_in_process)
        except BrokenExecutor as error:
            raise WorkerError(
                "a worker process died before its work was done",
                "If memory ran out, try --max-memory or fewer --workers; else run again with --workers 1.",
            ) from error
        finally:
            if not frozen:
                gc.unfreeze()
    elif plan.strategy is Strategy.THREADS:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(plan.workers) as threads:
            try:
                yield partial(_gather, threads, pooler.pool)
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise
    else:
        yield lambda tasks: ((task, pooler.pool(task)) for task in tasks)


def _gather(executor: Executor, work: Callable[[Task], Done], tasks: tuple[Task, ...]) -> Iterable[tuple[Task, Done]]:
    """Hand out all tasks; return their results as they come, whatever their order."""
    from concurrent.futures import as_completed

    # Processes start here, and must not be torn out of their start by a signal that is meant for their parent.
    with held_off():
        futures = {executor.submit(work, task): task for task in tasks}
    return ((futures[future], future.result()) for future in as_completed(futures))
