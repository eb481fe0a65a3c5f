"""The engine on arrays: from the same (C, H, W) map to the pooled blocks, our kernels and the peers in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from roicli.bench.peers import Blocks, installed_peers
from roicli.bench.report import Comparison, Run
from roicli.bench.timing import interleaved, seconds
from roicli.bench.workloads import Workload
from roicli.engine import channels_last, pool_boxes
from roicli.kernels.choose import Kernel, KernelName, load_kernel, numba_is_installed
from roicli.spec import PoolSpec


def our_kernels() -> dict[str, Kernel]:
    """Kernels of ours that are installed here, the one that always is first."""
    names = [KernelName.NUMPY] + [KernelName.NUMBA] * numba_is_installed()
    return {str(name): load_kernel(name, np.dtype(np.float32)) for name in names}


def time_engine(
    workloads: Iterable[Workload], *, threads: int, repeat: int, say: Callable[[str], None]
) -> Iterator[Comparison]:
    """Time every kernel and every peer that is installed, with `threads` threads each."""
    peers, kernels = installed_peers(), our_kernels()
    # Our threads share the RoIs; BLAS starting its own beside them would only slow both.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as executor:
        for workload in workloads:
            say(f"engine: {', '.join(workload_lines(workload))}")
            features, boxes, spec = workload.features(), workload.boxes(), workload.spec
            calls = {
                name: kernel_call(kernel, features, boxes, spec, executor, threads) for name, kernel in kernels.items()
            }
            calls |= {name: prepare(features, boxes, spec, threads) for name, prepare in peers.items()}
            yield _compare(calls, tuple(kernels), workload, repeat)


def kernel_call(
    kernel: Kernel,
    features: NDArray[np.float32],
    boxes: NDArray[np.float32],
    spec: PoolSpec,
    executor: Executor,
    threads: int,
) -> Callable[[], Blocks]:
    """Prepare a kernel of ours: the map to channels-last, then the RoIs in contiguous parts, one a thread.

    As in a job, the copy of the map and the blocks go where those of the map before went.
    """
    parts = [slice(*ends) for ends in pairwise(np.linspace(0, len(boxes), threads + 1).astype(int).tolist())]
    out = np.empty((len(boxes), *spec.row_shape(len(features))), np.float32)
    buffer = channels_last(features)

    def call() -> Blocks:
        feature_map = channels_last(features, buffer=buffer)
        list(executor.map(lambda part: pool_boxes(feature_map, boxes[part], spec, out[part], kernel), parts))
        return out

    return call


def workload_lines(workload: Workload) -> tuple[str, ...]:
    """Describe a workload in three lines."""
    sampling = "adaptive" if workload.spec.adaptive else f"sampling ratio {workload.sampling_ratio}"
    size = " x ".join(map(str, workload.shape))
    return size, f"{workload.rois} RoIs at 1/{workload.stride}", sampling


def _compare(
    calls: dict[str, Callable[[], Blocks]], ours: tuple[str, ...], workload: Workload, repeat: int
) -> Comparison:
    first = next(iter(calls.values()))().copy()
    differences = {name: float(np.abs(call() - first).max()) for name, call in calls.items()}
    times = interleaved({name: partial(seconds, call) for name, call in calls.items()}, repeat)
    runs = tuple(Run(name, tuple(times[name]), difference=differences[name]) for name in calls)
    return Comparison(workload_lines(workload), ours, runs)
