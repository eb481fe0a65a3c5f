"""Precise RoI pooling: the exact mean of the bilinear surface over each bin."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from roicli.pooling.kernels.choose import Kernel
from roicli.pooling.operators.base import Placed
from roicli.pooling.operators.contracted import Contracted, Unsampled
from roicli.pooling.placement import Placement
from roicli.pooling.reads import Axis, Reads, crossed
from roicli.pooling.sampling import FloatArray, Surface, sides, surface
from roicli.pooling.weights import window_weights
from roicli.spec import PoolSpec


class PreciseRoIPool(Unsampled):
    """Precise RoI pooling (Jiang et al., "Acquisition of Localization Confidence", 2018).

    The surface is the map interpolated between the centres of its cells, and falls to zero within a cell beyond them.
    """

    name, title, takes = "precise_roi_pool", "PrRoIPool", "the exact mean of the surface"
    bin = "the exact mean of the interpolated surface, without samples"

    def place(self, regions: Placement, size: tuple[int, ...], spec: PoolSpec, kernel: Kernel) -> Placed:
        """Give each cell the mean of its hat over each bin."""
        mean, dtype = spec.reduce == "mean", regions.boxes.dtype
        rows, columns = (
            window_weights(axis.first, axis.stop, axis.weights, dtype, mean=mean)
            for axis in _surfaces(regions, size, spec)
        )
        return Contracted(rows, columns, spec, kernel)

    def extents(self, regions: Placement, size: tuple[int, ...] | NDArray[np.float64], spec: PoolSpec) -> FloatArray:
        """Return the boxes after the scale."""
        rows, columns = _surfaces(regions, (1, 1), spec)
        ends = columns.edges[:, 0], rows.edges[:, 0], columns.edges[:, -1], rows.edges[:, -1]
        return np.stack(ends, axis=1).astype(regions.boxes.dtype)

    def reads(self, regions: Placement, size: tuple[int, ...], spec: PoolSpec) -> NDArray[np.bool_]:
        """Tell which regions reach into the surface; those without extent count as if they had one."""
        found = np.ones(len(regions), np.bool_)
        for axis, length in zip(_surfaces(regions, size, spec), size, strict=True):
            low, high = axis.edges[:, 0], axis.edges[:, -1]
            found &= (high > -1) & (low < length)
        return found

    def is_empty(self, regions: Placement, spec: PoolSpec) -> NDArray[np.bool_]:
        """Tell which regions have no area; inverted ones are not among them."""
        rows, columns = _surfaces(regions, (1, 1), spec)
        upright = (regions.boxes[:, 2:] >= regions.boxes[:, :2]).all(axis=1)
        empty = (rows.edges[:, -1] <= rows.edges[:, 0]) | (columns.edges[:, -1] <= columns.edges[:, 0])
        return np.asarray(upright & empty)

    def trace(self, region: Placement, size: tuple[int, ...], spec: PoolSpec, bin: tuple[int, int]) -> Reads:
        """Return the cells of one bin, and the share of each."""
        dtype = region.boxes.dtype
        y, x = (_axis(axis, at, dtype) for axis, at in zip(_surfaces(region, size, spec), bin, strict=True))
        return crossed(y, x, self.extents(region, size, spec)[0])

    def inverted(self, spec: PoolSpec) -> str:
        """Say what becomes of inverted boxes."""
        return "zeros in the output"

    def sampling(self, spec: PoolSpec) -> str:
        """Say what a bin is made of."""
        return "exact integral: the cells whose surface the bin overlaps"


def _surfaces(regions: Placement, size: tuple[int, ...], spec: PoolSpec) -> list[Surface]:
    return [surface(*axis) for axis in zip(sides(regions), spec.output_size, size, strict=True)]


def _axis(bins: Surface, bin: int, dtype: np.dtype[np.floating]) -> Axis:
    """Return the cells that one bin overlaps along one axis."""
    cells = np.arange(bins.first[0], bins.stop[0])
    shares = bins.weights(np.zeros(len(cells), np.intp), cells)[:, bin]
    cells, shares = cells[shares != 0], shares[shares != 0]
    return Axis(
        edges=np.stack([bins.edges[0, :-1], bins.edges[0, 1:]], axis=1).astype(dtype),
        samples=np.empty((bins.edges.shape[1] - 1, 0), dtype),
        at=cells.astype(dtype),
        cells=np.stack([cells, cells], axis=1),
        weights=np.tile(np.array([1, 0], dtype), (len(cells), 1)),
        in_range=np.ones(len(cells), np.bool_),
        clamped=np.zeros(len(cells), np.bool_),
        shares=shares.astype(dtype),
    )


OPERATOR = PreciseRoIPool()
