"""Work off a plan: serially, in processes, or in anything that is a `concurrent.futures.Executor`."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache, partial
from typing import TYPE_CHECKING, TypeVar, cast

from roicli.errors import WorkerError
from roicli.execution.plan import Plan, Strategy, Task
from roicli.execution.worker import Pooler
from roicli.interrupts import check
from roicli.pooling.kernels.blas import blas_kernel
from roicli.progress import Progress
from roicli.protocols import MapInfo

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

# What Python says where the system refuses a thread.
_NO_THREAD = "can't start new thread"
# Seconds that tasks which have begun have to finish after a failure.
_TO_FINISH = 5.0
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
) -> Progress:
    """Work off all tasks of a plan; whatever a task raises ends it, and the tasks not begun are given up.

    Parameters
    ----------
    plan, worker
        The tasks, by how many workers of what kind, and what does one task.
    on_begin : callable
        Called once, when the workers have started: before, a thread would make it unsafe to fork them.
    on_done : callable
        Called with each task that is done, in whatever order, and what became of it.
    executor : concurrent.futures.Executor, optional
        Takes the tasks instead of workers of our own. The worker and the tasks reach it pickled; its processes must
        see the same files. It is not shut down.
    """
    from threadpoolctl import threadpool_limits

    parts: list[Progress] = []
    try:
        # Every worker is a thread or process of ours; BLAS starting its own beside them would only slow both.
        with threadpool_limits(1), _begin(plan, worker, executor) as results:
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


def _begin(plan: Plan, worker: Pooler, executor: Executor | None) -> AbstractContextManager[Results]:
    """Start the workers; the context is that of their results."""
    if executor is not None:
        return _submitted(executor, partial(_pool_elsewhere, pickle.dumps(worker), blas_kernel()), plan.tasks)
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


@contextmanager
def _submitted(executor: Executor, work: Callable[[Task], Progress], tasks: Sequence[Task]) -> Iterator[Results]:
    """Hand out all tasks; yields their results as they come. On any failure, those not begun are canceled."""
    from concurrent.futures import BrokenExecutor, as_completed, wait

    futures: dict[Future[Progress], Task] = {}
    try:
        for task in tasks:
            futures[executor.submit(work, task)] = task
        yield ((futures[future], future.result()) for future in as_completed(futures))
    except BaseException as error:
        for future in futures:
            future.cancel()
        wait(futures, _TO_FINISH)
        if isinstance(error, BrokenExecutor):
            raise WorkerError(f"the executor lost a worker: {error}", "Look at its own messages.") from error
        raise


def _pool_elsewhere(pickled: bytes, kernel: str, task: Task) -> Progress:
    """Work off one task in a process of somebody else's executor."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        if blas_kernel() != kernel:
            raise WorkerError(
                f"a worker of the executor multiplies by {blas_kernel()}, the job by {kernel}: their last bits differ",
                "Set OPENBLAS_CORETYPE=Haswell for both, before NumPy loads.",
            )
        return _unpickled(pickled).pool(task)


@lru_cache(maxsize=1)
def _unpickled(pickled: bytes) -> Pooler:
    """Keep one worker in each process, with what it holds from task to task."""
    worker = pickle.loads(pickled)
    assert isinstance(worker, Pooler)
    return worker
