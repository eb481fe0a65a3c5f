"""A worker that pools each box from every level of a pyramid, and combines what it finds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from roicli.execution.plan import Task
from roicli.execution.worker import Pooler
from roicli.pooling.placement import Placement
from roicli.pooling.sampling import FloatArray
from roicli.progress import Progress

# Blocks of the levels, each (K, C, ...) -> one block.
Combine = Callable[[Sequence[FloatArray]], FloatArray]

COMBINES: dict[str, Combine] = {
    "concat": lambda blocks: np.concatenate(blocks, axis=1),
    "sum": lambda blocks: np.sum(blocks, axis=0, dtype=blocks[0].dtype),
    "mean": lambda blocks: np.mean(blocks, axis=0, dtype=blocks[0].dtype),
    "max": lambda blocks: np.max(blocks, axis=0),
}


class LevelsPooler(Pooler):
    """Pools units from all levels; see `Pooler`.

    `placements`: where the box of each output row lies on each level.
    `how`: one of `COMBINES`.
    """

    def __init__(self, placements: Sequence[Placement], how: str, *arguments: Any) -> None:
        source, infos, *others = arguments
        super().__init__(source, infos, placements[0], *others)
        self._levels = [Pooler(source, infos, placement, *others) for placement in placements]
        self._how = how

    def pool(self, task: Task) -> Progress:
        """Work off one task."""
        for level in self._levels:
            level.enter()
        try:
            return super().pool(task)
        finally:
            for level in self._levels:
                level.leave()

    def _maps_of(self, task: Task) -> list[int]:
        return sorted(index for level in self._levels for index in Pooler._maps_of(level, task))

    def _pool_rows(self, rows: Any) -> tuple[int, int, int]:
        blocks = [
            np.concatenate([level.pool_alike(part)[0].copy() for part in level.alike(rows)]) for level in self._levels
        ]
        combined = COMBINES[self._how](blocks)
        not_finite = int((~np.isfinite(combined)).reshape(len(rows), -1).any(axis=1).sum())
        return not_finite, self._write(rows, combined), self.count_empty(combined)
