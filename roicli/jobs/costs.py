"""What a job costs, and which kernel is worth loading for it."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Hashable
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from roicli.errors import UsageError
from roicli.execution.plan import Costs, is_large
from roicli.jobs.match import distinct_maps
from roicli.jobs.prepare import PoolJob, Prepared
from roicli.pooling.arguments import compute_dtype
from roicli.pooling.kernels.choose import numba_is_installed
from roicli.pooling.operators import find
from roicli.sources import MapInfo

# Memory for maps that share chunks, in all workers: one holds a run of 63 maps of 1024 x 38 x 63 as h5py cuts them.
_ROOM = 2 * 2**30


def make_costs(job: PoolJob, work: Prepared, map_index: NDArray[np.intp]) -> Costs:
    """Reckon the bytes that maps and rows take while they are pooled."""
    used = set(distinct_maps(map_index))
    maps = {}
    for index, info in work.infos.items():
        if index in used:
            maps[index] = _bytes(info)
    if count := len(work.levels):  # one after the other is held
        maps = {image: max(_bytes(work.infos[image + level]) for level in range(count)) for image in used}
    values = math.prod(work.row_shape)
    row = values * (work.computed.itemsize + (work.dtype.itemsize if work.dtype != work.computed else 0))
    row += values * work.computed.itemsize * count  # a block of each level
    return Costs(maps, row, _block_bytes(job, work), _shared(work, used), min(_ROOM, memory() // 4))


def _shared(work: Prepared, used: set[int]) -> dict[int, tuple[Hashable, int]]:
    """Find the maps that share storage with another that is used."""
    source, infos = work.inputs.source, work.infos
    found: dict[int, tuple[Hashable, int]] = {}
    for index in sorted(used):
        levels = range(index, index + max(1, len(work.levels)))
        if any(keys := tuple(shared and shared.key for shared in map(source.shared, levels))):
            found[index] = keys, sum(math.prod(infos[n].shape) * infos[n].dtype.itemsize for n in levels)
    maps = Counter(keys for keys, _ in found.values())
    return {index: (keys, nbytes) for index, (keys, nbytes) in found.items() if maps[keys] > 1}


def memory() -> int:
    """Return the bytes of memory that this process may take: the machine's, or fewer if its container has a limit."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with suppress(OSError, ValueError):
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(limits)


def _bytes(info: MapInfo) -> int:
    """Return the memory of a map while it is pooled."""
    return math.prod(info.shape) * (info.dtype.itemsize + compute_dtype(info.dtype).itemsize)


def _block_bytes(job: PoolJob, work: Prepared) -> int:
    """Return the size of the pooled block of one box, averaged away or not."""
    return work.row_shape[0] * math.prod(job.spec.output_size) * work.computed.itemsize


def choose_kernel(job: PoolJob, work: Prepared, total: int) -> Literal["numpy", "numba"]:
    """Choose by the rows of the whole job, not of a part: the last bits of the numbers depend on the kernel."""
    contracts = find(job.spec.op).contracts(job.spec)
    if job.kernel == "numba" and not contracts:
        raise UsageError("the kernel numba computes averages only", "Leave `kernel` out, or give `mode=avg`.")
    if job.kernel == "auto":
        large = is_large(total * _block_bytes(job, work))
        return "numba" if contracts and large and numba_is_installed() else "numpy"
    return job.kernel
