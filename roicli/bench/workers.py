"""Our side of the engine's benchmark: worker processes, as a job has them, that pool the boxes of one map together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache, lru_cache, partial
from itertools import pairwise, starmap
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from roicli.bench.jobfiles import temporary_folder
from roicli.errors import WorkerError
from roicli.execution.processes import settle
from roicli.pooling.channels_last import channels_last
from roicli.pooling.contraction import pool_boxes
from roicli.pooling.kernels.choose import Kernel, KernelName, load_kernel
from roicli.spec import PoolSpec


class SharedWork(NamedTuple):
    """Boxes of one map. The map, its channels-last copy and the blocks lie in a file that all workers map to memory.

    As in a job, the copy and the blocks go where the last ones were.
    """

    path: Path
    shape: tuple[int, int, int]
    boxes: NDArray[np.float32]
    spec: PoolSpec

    def arrays(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Return the (C, H, W) map, its (H, W, C) copy, and the (K, C, PH, PW) blocks."""
        channels, height, width = self.shape
        cells = channels * height * width
        values = _map(self.path)
        blocks = values[2 * cells :].reshape(len(self.boxes), *self.spec.row_shape(channels))
        return values[:cells].reshape(self.shape), values[cells : 2 * cells].reshape(height, width, channels), blocks


@contextmanager
def shared_work(features: NDArray[np.float32], boxes: NDArray[np.float32], spec: PoolSpec) -> Iterator[SharedWork]:
    """Put a workload into a temporary file.

    Raises
    ------
    OutputError
        The disk of temporary files has no room for it.
    """
    size = 2 * features.nbytes + len(boxes) * math.prod(spec.row_shape(len(features))) * features.itemsize
    with temporary_folder(size) as folder:
        path = folder / "workload"
        with path.open("wb") as file:
            file.write(features.data)
            file.truncate(size)
        yield SharedWork(path, features.shape, boxes, spec)


class Workers:
    """Processes with one thread each, that end with the context.

    Parameters
    ----------
    number : int
        How many.
    """

    def __init__(self, number: int) -> None:
        # Started afresh: the threads of peers make it unsafe to fork.
        self._executor = ProcessPoolExecutor(number, get_context("spawn"), settle)
        self._number = number

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(cancel_futures=True)

    def pool(self, kernel: KernelName, work: SharedWork) -> NDArray[np.float32]:
        """Lay the map out in stripes, one a worker; then pool the boxes in parts, one a worker.

        Raises
        ------
        WorkerError
            A process died.
        """
        self._share(partial(_lay_out, work), work.shape[1])
        self._share(partial(_pool, work, kernel), len(work.boxes))
        return work.arrays()[2]

    def _share(self, task: Callable[[slice], None], length: int) -> None:
        ends = np.linspace(0, length, self._number + 1).astype(int).tolist()
        try:
            list(self._executor.map(task, starmap(slice, pairwise(ends))))
        except BrokenExecutor as error:
            raise WorkerError("a worker process died", "If memory ran out, give --quick.") from error


def _lay_out(work: SharedWork, rows: slice) -> None:
    features, copy, _ = work.arrays()
    channels_last(features, (rows, slice(0, work.shape[2])), copy)


def _pool(work: SharedWork, kernel: KernelName, part: slice) -> None:
    _, copy, blocks = work.arrays()
    pool_boxes(copy, work.boxes[part], work.spec, blocks[part], _kernel(kernel))


@cache
def _kernel(name: KernelName) -> Kernel:
    return load_kernel(name, np.dtype(np.float32))


@lru_cache(maxsize=1)
def _map(path: Path) -> NDArray[np.float32]:
    """Keep one workload mapped: the one that is timed."""
    return np.asarray(np.memmap(path, np.float32, "r+"))
