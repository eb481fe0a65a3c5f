"""Work off a plan: serially, in threads, in processes, or in anything that is a `concurrent.futures.Executor`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor
from contextlib import contextmanager
from functools import partial

from roicli.errors import WorkerError
from roicli.plan import Plan, Strategy, Task
from roicli.pooler import Done, Pooler
from roicli.signals import held_off


def run(plan: Plan, pooler: Pooler, on_progress: Callable[[int], None]) -> Done:
    """Work off all tasks of a plan; `on_progress` is called with the number of boxes done since the last call.

    Raises
    ------
    WorkerError
        A worker process died, or ran out of memory.
    RoicliError
        Whatever a task raised; the tasks not begun are given up.
    """
    from threadpoolctl import threadpool_limits

    done = Done()
    # Every worker is a thread or process of ours; BLAS starting its own beside them would only slow both.
    with threadpool_limits(1), _workers(plan, pooler) as work_off:
        try:
            for part in work_off(plan.tasks):
                done += part
                on_progress(part.boxes)
        except BrokenExecutor as error:
            raise WorkerError(
                "a worker process died before its work was done",
                "If memory ran out, try --max-memory or fewer --workers; else run again with --workers 1.",
            ) from error
        except MemoryError as error:
            raise WorkerError(
                "memory ran out", "Try --max-memory, fewer --workers, or a smaller --batch-size."
            ) from error
    return done


@contextmanager
def _workers(plan: Plan, pooler: Pooler) -> Iterator[Callable[[tuple[Task, ...]], Iterator[Done]]]:
    """Start the workers that the plan asks for; yields what works off tasks with them."""
    # Pools are imported where they are needed: a small job must not pay for them.
    if plan.strategy is Strategy.PROCESSES:
        from concurrent.futures import ProcessPoolExecutor

        from roicli.processes import begin, pool_in_process, start_context, stopped_at_once

        with ProcessPoolExecutor(plan.workers, start_context(), begin, (pooler,)) as processes, stopped_at_once():
            yield partial(_gather, processes, pool_in_process)
    elif plan.strategy is Strategy.THREADS:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(plan.workers) as threads:
            try:
                yield partial(_gather, threads, pooler.pool)
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise
    else:
        yield partial(map, pooler.pool)


def _gather(executor: Executor, work: Callable[[Task], Done], tasks: tuple[Task, ...]) -> Iterator[Done]:
    """Yield results as they come, whatever their order."""
    from concurrent.futures import as_completed

    # Processes start here, and must not be torn out of their start by a signal that is meant for their parent.
    with held_off():
        futures = [executor.submit(work, task) for task in tasks]
    for future in as_completed(futures):
        yield future.result()
