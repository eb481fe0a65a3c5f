"""What a worker does: read maps, pool their boxes, write the rows.

What happens to one unit does not depend on which task, batch or worker it is in, so neither do the bytes written.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.errors import ChangedInputError
from roicli.execution.plan import Task
from roicli.pooling.arguments import compute_dtype
from roicli.pooling.channels_last import channels_last
from roicli.pooling.contraction import pool_maps
from roicli.pooling.kernels.choose import NUMPY_KERNEL, Kernel
from roicli.pooling.operators import find
from roicli.pooling.placement import Placement
from roicli.pooling.sampling import FloatArray, cells_in_reach
from roicli.progress import Progress
from roicli.protocols import FeatureSource, MapInfo, RowTarget
from roicli.spec import PoolSpec

# Boxes whose reach is found at once: a map may have millions.
_AT_ONCE = 2**16


class Pooler:
    """Pools units: reads their maps, pools their boxes, writes their rows. Picklable; may be shared by threads.

    `infos`: shapes and dtypes of those that have boxes, by their index.
    `placement`: where the box of each output row lies.
    `order` (K',): output rows, grouped by map, that the units name by their place.
    `spec`: what to compute.
    `target`: where row i of `placement` goes.
    `kernel`: what contracts averages.

    Attributes
    ----------
    source, target
        As given.
    """

    def __init__(
        self,
        source: FeatureSource,
        infos: Mapping[int, MapInfo],
        placement: Placement,
        order: NDArray[np.intp],
        spec: PoolSpec,
        target: RowTarget,
        kernel: Kernel = NUMPY_KERNEL,
    ) -> None:
        self.source, self._infos, self._placement = source, infos, placement
        self._order, self._spec, self.target, self._kernel = order, spec, target, kernel
        self._lock = threading.Lock()
        self._held: tuple[int, FloatArray] | None = None
        self._active = 0
        self._own = threading.local()

    @property
    def mapped_bytes(self) -> int:
        """Bytes of the maps that are so large that a worker maps their files; other processes read them."""
        return sum(info.nbytes for info in self._infos.values() if info.may_be_mapped)

    def pool(self, task: Task) -> Progress:
        """Work off one task."""
        parts: list[tuple[int, int, int]] = []
        self.enter()
        self.source.expect(self._maps_of(task))
        try:
            for unit in task:
                parts += [self._pool_rows(rows) for rows in self.alike(self._order[unit.first : unit.stop])]
            self.target.commit()
        finally:
            self.leave()
        counts = map(sum, zip(*parts, strict=True))
        return Progress(tuple((unit.first, unit.stop) for unit in task), *counts)

    def _maps_of(self, task: Task) -> list[int]:
        """List the maps of a task, ascending."""
        maps: dict[int, None] = {}
        for unit in task:
            maps |= dict.fromkeys(self._placement.map_index[self._order[unit.first : unit.stop]].tolist())
        return list(maps)

    def enter(self) -> None:
        """Note that a thread begins to pool."""
        with self._lock:
            self._active += 1

    def leave(self) -> None:
        """Note that a thread is done."""
        with self._lock:
            self._active -= 1

    def alike(self, rows: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
        """Cut rows where maps of another size or dtype begin."""
        maps = self._placement.map_index[rows]
        starts = np.flatnonzero(np.diff(maps, prepend=-1)).tolist()
        kinds = [(self._infos[index].shape, self._infos[index].dtype) for index in maps[starts].tolist()]
        changes = [start for start, kind, last in zip(starts, kinds, [None, *kinds], strict=False) if kind != last]
        for first, stop in pairwise([*changes, len(rows)]):
            yield rows[first:stop]

    def _pool_rows(self, rows: NDArray[np.intp]) -> tuple[int, int, int]:
        """Pool and write rows whose maps are alike; count those not finite, those that overflow, and those of zeros."""
        block, not_finite = self.pool_alike(rows)
        return not_finite, self._write(rows, block), self.count_empty(block)

    def count_empty(self, block: FloatArray) -> int:
        """Count rows of zeros: each by itself if they are of masks, which reach no cell, else all or none."""
        if self._placement.masks is not None:
            return int((~block.reshape(len(block), -1).any(axis=1)).sum())
        return 0 if block[0].any() or block.any() else len(block)  # the first row nearly always tells, in 40 us

    def pool_alike(self, rows: NDArray[np.intp]) -> tuple[FloatArray, int]:
        """Pool rows whose maps are alike: a block that this thread overwrites next, and how many are not finite."""
        placement = self._placement.take(rows)
        info = self._infos[int(placement.map_index[0])]
        channels = find(self._spec.op).channels(info.shape[0], self._spec)
        block = self._block((len(rows), *self._spec.row_shape(channels)), compute_dtype(info.dtype))
        return block, pool_maps(self._feature_map, placement, info.shape[1:], self._spec, block, self._kernel)

    def _write(self, rows: NDArray[np.intp], block: FloatArray) -> int:
        """Write rows; count those that overflow."""
        overflowed = 0
        if block.dtype != self.target.dtype:
            with np.errstate(over="ignore"):
                narrow = block.astype(self.target.dtype)
            lost = np.isfinite(block) & ~np.isfinite(narrow)
            overflowed = int(lost.reshape(len(rows), -1).any(axis=1).sum())
            block = narrow
        self.target.write(rows, block)
        return overflowed

    def _block(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> FloatArray:
        """Return where this thread's next rows go: where the last ones went, if that is enough, whose pages exist."""
        held: FloatArray | None = getattr(self._own, "block", None)
        if held is None or held.dtype != dtype or held.shape[1:] != shape[1:] or len(held) < shape[0]:
            held = self._own.block = np.empty(shape, dtype)
        return held[: shape[0]]

    def _feature_map(self, map_index: int) -> FloatArray:
        """Read a map once, also for threads that pool it together."""
        with self._lock:
            if self._held is None or self._held[0] != map_index:
                last = self._held[1] if self._held is not None else None
                # It can hold the next map, unless another thread is still at it, or it is part of a file.
                if last is not None and (self._active > 1 or not last.flags.owndata):
                    last = None
                self._held = None
                self._held = (map_index, self._lay_out(map_index, last))
            return self._held[1]

    def _lay_out(self, map_index: int, buffer: FloatArray | None) -> FloatArray:
        """Read a map as far as any of its boxes reaches."""
        feature_map, info = self.source.read(map_index), self._infos[map_index]
        if (feature_map.shape, feature_map.dtype) != (info.shape, info.dtype):
            raise ChangedInputError(
                f"{info.where} is {feature_map.dtype} {feature_map.shape} now, and was {info.dtype} {info.shape}",
                "Run it again once nothing writes to its inputs.",
            )
        first, stop = self._spans[map_index]
        parts = (self._placement.take(self._order[n : min(n + _AT_ONCE, stop)]) for n in range(first, stop, _AT_ONCE))
        reaches = zip(*(cells_in_reach(part, self._spec.rule, *info.shape[1:]) for part in parts), strict=True)
        y, x = (slice(min(one.start for one in axis), max(one.stop for one in axis)) for axis in reaches)
        return channels_last(feature_map, (y, x), buffer)

    @cached_property
    def _spans(self) -> dict[int, tuple[int, int]]:
        """Return first and stop of the boxes of each map in the order."""
        maps = self._placement.map_index[self._order]
        starts = [0, *(np.flatnonzero(maps[1:] != maps[:-1]) + 1).tolist()][: len(maps)]
        return dict(zip(maps[starts].tolist(), pairwise([*starts, len(maps)]), strict=True))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_lock": None, "_held": None, "_own": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
        self._own = threading.local()
