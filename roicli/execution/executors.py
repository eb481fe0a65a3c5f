"""Work off a plan: serially, in processes, or in anything that is a `concurrent.futures.Executor`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from roicli.errors import WorkerError
from roicli.execution.plan import Plan, Strategy, Task
from roicli.execution.worker import Pooler
from roicli.interrupts import check
from roicli.progress import Progress
from roicli.protocols import MapInfo

if TYPE_CHECKING:
    from concurrent.futures import Executor

# What Python says where the system refuses a thread.
_NO_THREAD = "can't start new thread"
# To start a process takes 18 ms, as long as to read so many bytes.
_APART_BYTES = 64 * 2**20

Results = Iterator[tuple[Task, Progress]]
Result = TypeVar("Result")


def run(
    plan: Plan,
    worker: Pooler,
    on_begin: Callable[[], None],
    on_done: Callable[[Task, Progress], None],
    executor: Executor | None = None,
    output: Path | None = None,
) -> Progress:
    """Work off all tasks of a plan; whatever a task raises ends it, and the tasks not begun are given up.

    `plan`, `worker`: the tasks, by how many workers of what kind, and what does one task.
    `on_begin`: called once, when the workers have started: before, a thread would make it unsafe to fork them.
    `on_done`: called with each task that is done, in whatever order, and what became of it.
    `executor`: takes the tasks instead of workers of our own; it is not shut down.
    `output`: beside it, workers of an executor find what they need.
    """
    from threadpoolctl import threadpool_limits

    parts: list[Progress] = []
    try:
        # Every worker is a thread or process of ours; BLAS starting its own beside them would only slow both.
        with threadpool_limits(1), _begin(plan, worker, executor, output) as results:
            on_begin()
            for task, part in results:
                parts.append(part)
                on_done(task, part)
                check()
    except MemoryError as error:
        raise WorkerError("memory ran out", "Try `max_memory`, fewer `workers`, or a smaller `batch_size`.") from error
    except RuntimeError as error:
        if _NO_THREAD not in str(error):
            raise
        raise WorkerError(
            "the system starts no more threads", "Raise its limits (ulimit -u, ulimit -v), or free some memory."
        ) from error
    return Progress.sum(parts)


def _begin(
    plan: Plan, worker: Pooler, executor: Executor | None, output: Path | None
) -> AbstractContextManager[Results]:
    """Start the workers; the context is that of their results."""
    if executor is not None and output is not None:
        from roicli.execution.elsewhere import pooled_elsewhere

        return pooled_elsewhere(worker, plan, executor, output)
    if plan.strategy is not Strategy.SERIAL or worker.mapped_bytes > _APART_BYTES:
        from roicli.execution.processes import can_fork, worker_processes  # a small job does not pay for it

        if plan.strategy is Strategy.THREADS:
            return worker_processes(worker.pool, plan.tasks, 1, plan.workers)
        if plan.strategy is Strategy.PROCESSES or can_fork():
            return worker_processes(worker.pool, plan.tasks, plan.workers)
    return nullcontext((task, worker.pool(task)) for task in plan.tasks)


def apart(work: Callable[[], Result], info: MapInfo) -> Result:
    """Do what reads one map outside of a plan: in a worker process, which may map its file, if the map is large."""
    if info.nbytes > _APART_BYTES:
        from roicli.execution.processes import can_fork, worker_processes

        if can_fork():
            with worker_processes(lambda _: work(), [()], 1) as results:
                return cast(Result, next(results)[1])
    return work()
