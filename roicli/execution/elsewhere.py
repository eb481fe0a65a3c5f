"""Pool by workers of somebody else: anything that is a `concurrent.futures.Executor`, here or on other machines.

Paths and ranges of rows travel to them, and counts come back. What a worker must know lies in the work file, hidden
beside the output: by seeing this very file it proves that it sees the folder. When a run ends, or another begins, the
file goes, and workers that nobody told of it refuse what they still have to do.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import pickle
import threading
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, wait
from contextlib import closing, contextmanager, suppress
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, cast

from roicli import __version__
from roicli.errors import RoicliError, WorkerError
from roicli.execution.engines import has_forgotten, patience, workers_of
from roicli.execution.plan import Plan, Task
from roicli.execution.processes import portable
from roicli.execution.worker import Pooler
from roicli.files import Stamp, StampElsewhere
from roicli.newfiles import WORK, NewFile
from roicli.pooling.kernels.blas import blas_kernel
from roicli.progress import Progress
from roicli.protocols import OpenedTarget
from roicli.stores.path import is_store

# Tasks that an executor has at once: enough for thousands of workers, few enough to begin and to stop soon.
_AT_ONCE = 4096
# Tasks go out together, up to so many, as long as each worker gets so many times some: Dask takes 5 ms each time, a
# task 20 ms. If there are more, all go out so often: Dask hands out a thousand a second, to all workers together.
_TOGETHER, _EACH, _MOST = 8, 10, 20_000
# Seconds between two looks for workers while none is done with a task.
_LOOK = 5.0
# How often a task is given to an executor that loses it; Dask itself tries four workers each time.
_TRIES = 3
# Seconds that tasks which have begun have to finish after a failure.
_TO_FINISH = 5.0
# Where arrays begin in the work file.
_ALIGNED = 64


@contextmanager
def pooled_elsewhere(
    worker: Pooler, plan: Plan, executor: Executor, output: Path
) -> Iterator[Iterator[tuple[Task, Progress]]]:
    """Hand out the tasks of a plan; yields their results as they come. On any failure, those not begun are canceled.

    The journal says what is done, not the executor: a task that was lost is given out again, and one that is done
    twice writes the same bytes.
    """
    with _handed_over(worker, output) as handed, closing(_results(executor, handed, plan)) as results:
        yield results


def _results(executor: Executor, handed: _Handed, plan: Plan) -> Generator[tuple[Task, Progress], None, None]:
    tasks = plan.tasks
    together = max(1, min(_TOGETHER, len(tasks) // (_EACH * plan.workers)), -(-len(tasks) // _MOST))
    waiting = deque(tasks[first : first + together] for first in range(0, len(tasks), together))
    given: dict[Future[Progress | bytes], tuple[Task, ...]] = {}
    ready, lost = SimpleQueue[Future[Progress | bytes]](), Counter[tuple[Task, ...]]()
    try:
        while waiting or given:
            while waiting and len(given) < _AT_ONCE:
                future = _submit(executor, handed, waiting[0])
                given[future] = waiting.popleft()
                future.add_done_callback(ready.put)
            bundle = given.pop(future := _next(ready, executor))
            try:
                result = future.result()
            except Exception as error:
                lost[bundle] += 1
                if lost[bundle] == _TRIES or isinstance(error, _FINAL):
                    raise _failure(error) from error
                waiting.appendleft(bundle)
            else:
                if isinstance(result, bytes):
                    raise pickle.loads(result)
                yield sum(bundle, ()), result
    finally:
        wait([future for future in given if not future.cancel()], _TO_FINISH)


def _next(ready: SimpleQueue[Future[Progress | bytes]], executor: Executor) -> Future[Progress | bytes]:
    """Wait for a task to be done, if need be for workers, but not for ever."""
    since = time.monotonic()
    while True:
        with suppress(Empty):
            return ready.get(timeout=_LOOK)
        if has_forgotten(executor):
            raise _failure(CancelledError())
        if workers_of(executor) != 0:
            since = time.monotonic()
        elif (waited := time.monotonic() - since) > patience():
            raise WorkerError(
                f"the executor has had no worker for {waited:,.0f} s", "Start some; then continue with `resume`."
            )


# After these, to try again is in vain: the executor has ended, or its workers lack what they must run.
_FINAL = (BrokenExecutor, CancelledError, ImportError, AttributeError)


def _submit(executor: Executor, handed: _Handed, tasks: Sequence[Task]) -> Future[Progress | bytes]:
    try:
        return executor.submit(pool_rows, __version__, *handed, tasks)
    except Exception as error:  # whatever an executor raises that has ended
        raise _failure(error) from error


def _failure(error: Exception) -> WorkerError:
    """Make the error for what the executor, not the task, has raised."""
    said = f"{type(error).__name__}: {error}".splitlines()[0].removesuffix(": ")
    if isinstance(error, ImportError | AttributeError):
        return WorkerError(
            f"a worker of the executor cannot run roicli ({said})",
            f"Install roicli {__version__} where its workers run.",
        )
    return WorkerError(f"the executor lost its workers ({said})", "Look at its own messages.")


class _Handed(NamedTuple):
    """What each task tells of the job, in plain values that any version of roicli can read."""

    kernel: str  # of BLAS
    machine: str
    folder: str  # that paths of the features start from; nothing if they are absolute
    path: str  # of the work file
    length: int  # of its front
    digest: str


@contextmanager
def _handed_over(worker: Pooler, output: Path) -> Iterator[_Handed]:
    """Write the work file of a worker; remove it at the end."""
    arrays: list[pickle.PickleBuffer] = []
    stream = BytesIO()
    _Pickler(stream, 5, buffer_callback=arrays.append).dump(worker)
    raw = [array.raw() for array in arrays]
    # The random bytes tell this work file from any other.
    front = pickle.dumps((os.urandom(16), stream.getvalue(), [part.nbytes for part in raw]))
    file = NewFile(output, overwrite=True, ending=WORK)
    digest = hashlib.sha256(front).hexdigest()
    relative = not all(os.path.isabs(path) or is_store(path) for path in worker.source.paths)  # noqa: PTH117
    folder = str(Path.cwd()) if relative else ""
    handed = _Handed(blas_kernel(), _machine(), folder, str(file.path), len(front), digest)
    try:
        pieces = (piece for part in (memoryview(front), *raw) for piece in (part, bytes(-part.nbytes % _ALIGNED)))
        file.write(pieces, 0o600)  # an address of HTTP may hold a password
        yield handed
    finally:
        file.remove()


class _Pickler(pickle.Pickler):
    """Forgets of files what differs from machine to machine."""

    def reducer_override(self, value: Any) -> Any:
        return (StampElsewhere, tuple(value)) if isinstance(value, Stamp) else NotImplemented


class _Held(NamedTuple):
    """The last worker of this process, which keeps what it holds from task to task."""

    handed: tuple[Any, ...]
    stamp: Stamp  # of its work file
    worker: Pooler


_held: _Held | None = None
_at_work = 0  # threads that use it
_turn = threading.Condition()


def pool_rows(version: str, *given: Any) -> Progress | bytes:
    """Work off some tasks in a worker of somebody else; an error comes back pickled, unlike those of the executor."""
    try:
        if version != __version__:
            raise WorkerError(
                f"the worker on {_host()} has roicli {__version__}, the job {version}", "Install one version for all."
            )
        return _pool(_Handed(*given[:-1]), given[-1])
    except Exception as error:
        return pickle.dumps(portable(error))


def _pool(handed: _Handed, tasks: Sequence[Task]) -> Progress:
    if blas_kernel() != handed.kernel:
        raise WorkerError(
            f"the worker on {_host()} multiplies by {blas_kernel()}, the job by {handed.kernel}: "
            "their last bits differ",
            "Set OPENBLAS_CORETYPE=Haswell for the job and all workers, before they start.",
        )
    with _taken(handed) as held:
        # The file is open before the look at the work file: what a later run has put in its place is never written to.
        target = cast(OpenedTarget, held.worker.target)
        target.open()
        if _stamp(handed) != held.stamp:
            raise WorkerError(f"another run has taken the place of {handed.path}, which these rows belong to")
        here = handed.machine == _machine()
        try:
            done = Progress.sum(map(held.worker.pool, tasks))
            if not here:
                target.flush()  # what was written is in the memory of this machine, which no other could flush
        except RoicliError as error:
            if here:
                raise
            raise type(error)(f"on {_host()}: {error.message}", error.hint) from error
        return done


@contextmanager
def _taken(handed: _Handed) -> Iterator[_Held]:
    """Yield the worker of a job, when no thread is at that of another: a process is in one folder at a time."""
    global _at_work
    with _turn:
        _turn.wait_for(lambda: not _at_work or (_held is not None and _held.handed == handed))
        held = _take(handed)
        _at_work += 1
    try:
        yield held
    finally:
        with _turn:
            _at_work -= 1
            _turn.notify_all()


def _take(handed: _Handed) -> _Held:
    """Load the worker of a job, or return the one that is there."""
    global _held
    if _held is None or _held.handed != handed:
        from threadpoolctl import threadpool_limits

        _held = None  # first, to hold one at a time
        threadpool_limits(1)  # for good: workers that are threads cannot each set it for a while
        stamp = _stamp(handed)
        with Path(handed.path).open("rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        front = data[: handed.length]
        if hashlib.sha256(front).hexdigest() != handed.digest:  # before anything in it is run
            raise _other_view(handed.path)
        _, pickled, sizes = pickle.loads(front)
        padded = [size + -size % _ALIGNED for size in (handed.length, *sizes)]
        arrays = [data[start : start + size] for start, size in zip(accumulate(padded), sizes, strict=False)]
        if handed.folder:
            try:
                os.chdir(handed.folder)
            except OSError as error:
                raise _other_view(handed.folder) from error
        _held = _Held(handed, stamp, pickle.loads(pickled, buffers=arrays))
    return _held


def _stamp(handed: _Handed) -> Stamp:
    """Return the state of the work file."""
    try:
        return Stamp.of(handed.path)
    except OSError as error:
        raise _other_view(handed.path) from error


def _other_view(path: str) -> WorkerError:
    return WorkerError(
        f"the worker on {_host()} does not see {path} as the job does",
        "Give paths on a file system that all workers share.",
    )


def _host() -> str:
    return os.uname().nodename


def _machine() -> str:
    """Name what shares one memory for files: a machine since its boot, whatever containers it runs."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii")
    except OSError:  # not Linux
        return _host()
