"""RoIPool: the maximum over whole cells, the predecessor of RoIAlign."""

from __future__ import annotations

import numpy as np

from roicli.pooling.kernels.choose import Kernel
from roicli.pooling.kernels.maximum import LOWEST, pool_maximum
from roicli.pooling.operators.base import Placed
from roicli.pooling.operators.cells import WholeCells
from roicli.pooling.placement import Placement
from roicli.pooling.sampling import CellRanges, FloatArray, Sides, cell_ranges
from roicli.spec import Mode, PoolSpec


class RoIPool(WholeCells):
    """RoIPool (Girshick, "Fast R-CNN", 2015), with the numbers of torchvision."""

    name, title = "roi_pool", "RoIPool"
    bin = "the maximum of whole cells; corners are rounded to cells"
    takes = "the maximum over whole cells"
    modes: tuple[Mode, ...] = ("max",)
    change = "rounded to whole cells, both ends included"

    def ranges(self, sides: Sides, number: int, length: int) -> CellRanges:
        """Round boxes and bins to whole cells."""
        return cell_ranges(sides, number, length)

    def contracts(self, spec: PoolSpec) -> bool:
        """Tell that maxima are not contractions."""
        return False

    def place(self, regions: Placement, size: tuple[int, ...], spec: PoolSpec, kernel: Kernel) -> Placed:
        """Round boxes and bins to whole cells."""
        rows, columns = self.both(regions, size, spec)
        return _Maxima(rows, columns, spec)

    def combine(self, values: FloatArray, spec: PoolSpec) -> tuple[float, int | None]:
        """Return the maximum, which passes over NaN; zero without cells."""
        if not (values > LOWEST).any():
            return LOWEST if len(values) else 0.0, None
        best = int(np.argmax(np.where(values > LOWEST, values, -np.inf)))
        return float(values[best]), best


class _Maxima(Placed):
    """Regions as ranges of whole cells."""

    def __init__(self, rows: CellRanges, columns: CellRanges, spec: PoolSpec) -> None:
        super().__init__(spec)
        self._rows, self._columns = rows, columns

    def pool(self, feature_map: FloatArray, first: int, stop: int, out: FloatArray) -> None:
        rows, columns = (ranges.take(slice(first, stop)) for ranges in (self._rows, self._columns))
        with self.blocks(out) as blocks:
            pool_maximum(feature_map, rows, columns, blocks)


OPERATOR = RoIPool()
