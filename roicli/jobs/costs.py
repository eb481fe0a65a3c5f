"""What a job costs, and which kernel is worth loading for it."""

from __future__ import annotations

import math
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
    return Costs(maps, row, _block_bytes(job, work))


def _bytes(info: MapInfo) -> int:
    """Return the memory of a map while it is pooled."""
    return math.prod(info.shape) * (info.dtype.itemsize + compute_dtype(info.dtype).itemsize)


def _block_bytes(job: PoolJob, work: Prepared) -> int:
    """Return the size of the pooled block of one box, averaged away or not."""
    return work.row_shape[0] * math.prod(job.spec.output_size) * work.computed.itemsize


def choose_kernel(job: PoolJob, work: Prepared) -> Literal["numpy", "numba"]:
    """Choose by the whole job, not by how it is shared out: the last bits of the numbers depend on the kernel."""
    contracts = find(job.spec.op).contracts(job.spec)
    if job.kernel == "numba" and not contracts:
        raise UsageError("the kernel numba computes averages only", "Leave `kernel` out, or give `mode=avg`.")
    if job.kernel == "auto":
        large = is_large(len(work.placement) * _block_bytes(job, work))
        return "numba" if contracts and large and numba_is_installed() else "numpy"
    return job.kernel
