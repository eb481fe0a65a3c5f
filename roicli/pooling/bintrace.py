"""What a trace of one bin holds, as tables and pictures show it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from roicli.pooling.operators import find
from roicli.pooling.placement import envelope
from roicli.pooling.reads import Reads
from roicli.pooling.sampling import FloatArray, IntArray
from roicli.spec import PoolSpec

if TYPE_CHECKING:
    from roicli.pooling.operators.base import Operator


@dataclass(frozen=True, eq=False, kw_only=True)
class BinTrace(Reads):
    """What one bin reads, and how that becomes its value; the attributes of `Reads` come first.

    Attributes
    ----------
    spec : PoolSpec
        How it was pooled.
    scale : (float, float)
        Feature cells per image pixel along y and x.
    box : (4,) tuple of float
        xyxy in image pixels, rounded to the dtype of the computation.
    shape : (int, int, int)
        C, H, W of the feature map.
    channel : int
        The channel of the map that is traced.
    bin : (int, int)
        The bin that is traced: row and column of the pooled block.
    plane : (H, W)
        The channel's values, as stored.
    values : (n, 4)
        Values of the four neighbours of each sample.
    interpolated : (n,)
        Value of each sample: the sum of weights times values; 0 where it is out of range.
    best : int or None
        The first sample that is the maximum; None for a mean, and for RoIPool where no cell is greater than the lowest
        float32, since it passes over NaN.
    result : float
        The mean or the maximum of `interpolated`, as the traced sum gives it.
    pooled : (PH, PW)
        The whole block of this RoI and channel as the engine computes it.
    """

    spec: PoolSpec
    scale: tuple[float, float]
    box: tuple[float, float, float, float]
    shape: tuple[int, int, int]
    channel: int
    bin: tuple[int, int]
    plane: NDArray[Any]
    values: FloatArray
    interpolated: FloatArray
    best: int | None
    result: float
    pooled: FloatArray

    @property
    def operator(self) -> Operator:
        """The operator, which has words for what a trace shows."""
        return find(self.spec.op)

    @property
    def around(self) -> tuple[float, float, float, float]:
        """The upright box around the region, xyxy."""
        if not self.angle:
            return self.roi
        left, top, right, bottom = self.roi
        centre = (left + right) / 2, (top + bottom) / 2
        turned = np.array([[*centre, right - left, bottom - top, self.angle]], np.float64)
        left, top, right, bottom = envelope(turned)[0].tolist()
        return left, top, right, bottom

    @property
    def iy(self) -> IntArray:
        """Number of each sample along y within its bin, (n,)."""
        return np.repeat(np.arange(self.grid[0]), self.grid[1])

    @property
    def ix(self) -> IntArray:
        """Number of each sample along x within its bin, (n,)."""
        return np.tile(np.arange(self.grid[1]), self.grid[0])

    @property
    def count(self) -> int:
        """Samples of the bin, those out of range included: the divisor of the mean."""
        return len(self.y)

    @property
    def total(self) -> float:
        """Sum of the interpolated values, times their shares if they have any."""
        return self.sum_until(self.count)

    def sum_until(self, stop: int) -> float:
        """Return the sum of the first samples."""
        values = self.interpolated if self.shares is None else self.interpolated * self.shares
        with np.errstate(invalid="ignore"):
            return float(values[:stop].sum(dtype=np.float64))

    @property
    def engine_value(self) -> float:
        """What the engine computes for this bin."""
        return float(self.pooled[self.bin])

    @property
    def difference(self) -> float:
        """How far `result` is from `engine_value`; zero also for equal infinities and for NaN on both sides."""
        if self.result == self.engine_value or (math.isnan(self.result) and math.isnan(self.engine_value)):
            return 0.0
        return self.result - self.engine_value

    def footprint(self) -> tuple[IntArray, IntArray, NDArray[np.float64]]:
        """Return the total weight with which the bin takes each cell: the gradient of its value by the map.

        Returns
        -------
        rows, columns : (h,), (w,) intp
            The smallest window of cells that holds all that are read; empty if none is.
        weights : (h, w) float64
            For a mean, each sample's weights over their number, or times its share. For a maximum, the weights of
            the first sample that attains it, all zero if that is one out of range.
        """
        read = np.flatnonzero(self.in_range)
        if not len(read):
            return np.empty(0, np.intp), np.empty(0, np.intp), np.empty((0, 0))
        top, left = self.rows[read].min(), self.columns[read].min()
        bottom, right = self.rows[read].max() + 1, self.columns[read].max() + 1
        if self.spec.mode == "max":
            share = (np.arange(self.count) == self.best).astype(np.float64)
        else:
            share = np.full(self.count, 1 / self.count) if self.shares is None else self.shares
        weights = np.zeros((bottom - top, right - left))
        for corner in range(4):
            y, x = self.rows[read, corner // 2] - top, self.columns[read, corner % 2] - left
            np.add.at(weights, (y, x), self.weights[read, corner] * share[read])
        return np.arange(top, bottom), np.arange(left, right), weights
