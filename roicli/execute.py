"""Work off a plan: serially, in threads, in processes, or in anything that is a `concurrent.futures.Executor`.

What happens to one unit does not depend on which task, batch or worker it is in, so neither do the bytes written.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.engine import channels_last, pool_boxes
from roicli.errors import WorkerError
from roicli.plan import Plan, Strategy, Task
from roicli.sampling import FloatArray
from roicli.signals import held_off
from roicli.sinks import RowFile
from roicli.sources import FeatureSource
from roicli.spec import PoolSpec


@dataclass(frozen=True)
class Done:
    """What became of some boxes.

    Attributes
    ----------
    boxes : int
        Rows written.
    not_finite : int
        Rows among them with a NaN or an infinity, because their boxes read such cells.
    overflowed : int
        Rows among them with a number too large for the dtype of the output, written as an infinity.
    """

    boxes: int = 0
    not_finite: int = 0
    overflowed: int = 0

    def __add__(self, other: Done) -> Done:
        return Done(self.boxes + other.boxes, self.not_finite + other.not_finite, self.overflowed + other.overflowed)


class Pooler:
    """Pools units: reads their map, pools their boxes, writes their rows. Picklable; may be shared by threads.

    Parameters
    ----------
    source : FeatureSource
        The maps.
    boxes : (K, 4) float64
        One box for each output row, in image pixels.
    order : (K',) intp
        Output rows in the order of the plan.
    spec : PoolSpec
        What to compute.
    target : RowFile
        Where row i of `boxes` goes.
    """

    def __init__(
        self,
        source: FeatureSource,
        boxes: NDArray[np.float64],
        order: NDArray[np.intp],
        spec: PoolSpec,
        target: RowFile,
    ) -> None:
        self._source, self._boxes, self._order, self._spec, self._target = source, boxes, order, spec, target
        self._lock = threading.Lock()
        self._held: tuple[int, FloatArray] | None = None

    def pool(self, task: Task) -> Done:
        """Work off one task."""
        done = Done()
        for map_index, units in groupby(task, key=lambda unit: unit.map_index):
            feature_map = self._feature_map(map_index)
            for unit in units:
                done += self._pool_rows(feature_map, self._order[unit.first : unit.stop])
        return done

    def _pool_rows(self, feature_map: FloatArray, rows: NDArray[np.intp]) -> Done:
        block = np.empty((len(rows), *self._target.row_shape), feature_map.dtype)
        not_finite = pool_boxes(feature_map, self._boxes[rows], self._spec, block)
        overflowed = 0
        if block.dtype != self._target.dtype:
            with np.errstate(over="ignore"):
                narrow = block.astype(self._target.dtype)
            lost = np.isfinite(block) & ~np.isfinite(narrow)
            overflowed = int(lost.reshape(len(rows), -1).any(axis=1).sum())
            block = narrow
        self._target.write(rows, block)
        return Done(len(rows), not_finite, overflowed)

    def _feature_map(self, map_index: int) -> FloatArray:
        """Read a map once, also for threads that pool it together."""
        with self._lock:
            if self._held is None or self._held[0] != map_index:
                self._held = None
                self._held = (map_index, channels_last(self._source.read(map_index)))
            return self._held[1]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_lock": None, "_held": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


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
