"""What a worker does: read a map, pool some of its boxes, write their rows.

What happens to one unit does not depend on which task, batch or worker it is in, so neither do the bytes written.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.engine import channels_last, pool_boxes
from roicli.kernels.choose import NUMPY_KERNEL, Kernel
from roicli.plan import Plan, Task
from roicli.sampling import FloatArray, cells_in_reach
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
    plan : Plan
        Which units there will be, and the order of the output rows that they name.
    spec : PoolSpec
        What to compute.
    target : RowFile
        Where row i of `boxes` goes.
    kernel : Kernel
        What contracts averages.
    """

    def __init__(
        self,
        source: FeatureSource,
        boxes: NDArray[np.float64],
        plan: Plan,
        spec: PoolSpec,
        target: RowFile,
        kernel: Kernel = NUMPY_KERNEL,
    ) -> None:
        self._source, self._boxes, self._order, self._spec, self._target = source, boxes, plan.order, spec, target
        self._kernel = kernel
        self._ranges: dict[int, tuple[int, int]] = {}
        for unit in chain.from_iterable(plan.tasks):  # in order, so the first unit of a map begins its range
            first, _ = self._ranges.get(unit.map_index, (unit.first, 0))
            self._ranges[unit.map_index] = (first, unit.stop)
        self._most_rows = max((unit.stop - unit.first for task in plan.tasks for unit in task), default=0)
        self._lock = threading.Lock()
        self._held: tuple[int, FloatArray] | None = None
        self._active = 0
        self._own = threading.local()

    def pool(self, task: Task) -> Done:
        """Work off one task."""
        done = Done()
        with self._lock:
            self._active += 1
        try:
            for map_index, units in groupby(task, key=lambda unit: unit.map_index):
                feature_map = self._feature_map(map_index)
                for unit in units:
                    done += self._pool_rows(feature_map, self._order[unit.first : unit.stop])
        finally:
            with self._lock:
                self._active -= 1
        return done

    def _pool_rows(self, feature_map: FloatArray, rows: NDArray[np.intp]) -> Done:
        block = self._block(len(rows), feature_map.dtype)
        not_finite = pool_boxes(feature_map, self._boxes[rows], self._spec, block, self._kernel)
        overflowed = 0
        if block.dtype != self._target.dtype:
            with np.errstate(over="ignore"):
                narrow = block.astype(self._target.dtype)
            lost = np.isfinite(block) & ~np.isfinite(narrow)
            overflowed = int(lost.reshape(len(rows), -1).any(axis=1).sum())
            block = narrow
        self._target.write(rows, block)
        return Done(len(rows), not_finite, overflowed)

    def _block(self, rows: int, dtype: np.dtype[Any]) -> FloatArray:
        """Return where this thread's next rows go: always the same memory, whose pages are there by then."""
        held: FloatArray | None = getattr(self._own, "block", None)
        if held is None or held.dtype != dtype:
            held = self._own.block = np.empty((self._most_rows, *self._target.row_shape), dtype)
        return held[:rows]

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
        feature_map = self._source.read(map_index)
        rows = self._order[slice(*self._ranges[map_index])]
        _, height, width = feature_map.shape
        window = cells_in_reach(self._boxes[rows], height, width, self._spec)
        return channels_last(feature_map, window, buffer)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_lock": None, "_held": None, "_own": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
        self._own = threading.local()
