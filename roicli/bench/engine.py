"""The engine on arrays: from the same (C, H, W) map to the pooled blocks, our kernels and the peers in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

import numpy as np

from roicli.bench.peers import Blocks, Prepare
from roicli.bench.report import Comparison, Run
from roicli.bench.timing import interleaved, seconds
from roicli.bench.workers import Workers, shared_work
from roicli.bench.workloads import Workload
from roicli.pooling.kernels.choose import KernelName, numba_is_installed


def our_kernels() -> list[KernelName]:
    """Kernels of ours that are installed here, the one that always is first."""
    return [KernelName.NUMPY] + [KernelName.NUMBA] * numba_is_installed()


def time_engine(
    workloads: Iterable[Workload],
    peers: Mapping[str, Prepare],
    *,
    threads: int,
    repeat: int,
    say: Callable[[str], None],
) -> Iterator[Comparison]:
    """Time every kernel that is installed and all peers, with `threads` threads each; ours in as many processes."""
    kernels = our_kernels()
    with Workers(threads) as ours:
        for workload in workloads:
            say(f"engine: {', '.join(workload_lines(workload))}")
            features, boxes, spec = workload.features(), workload.boxes(), workload.spec
            with shared_work(features, boxes, spec) as work:
                calls: dict[str, Callable[[], Blocks]] = {str(name): partial(ours.pool, name, work) for name in kernels}
                calls |= {name: prepare(features, boxes, spec, threads) for name, prepare in peers.items()}
                yield _compare(calls, tuple(map(str, kernels)), workload, repeat)


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
