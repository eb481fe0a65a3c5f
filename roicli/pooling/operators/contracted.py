"""Regions whose bins are weighted sums of cells, with weights along y and x apart."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import numpy as np

from roicli.errors import UsageError
from roicli.pooling.kernels.choose import Kernel
from roicli.pooling.operators.base import Operator, Placed, not_finite, reduce_bins
from roicli.pooling.sampling import FloatArray
from roicli.pooling.weights import AxisWeights
from roicli.spec import PoolSpec


class Unsampled(Operator):
    """An operator without a shift and without samples, whose means are contractions."""

    noun = "cell"
    interpolates = False
    takes: str  # what a bin is, for messages

    def check(self, spec: PoolSpec) -> None:
        """Refuse a shift, samples and another mode."""
        if spec.aligned or not spec.adaptive or spec.mode not in self.modes:
            raise UsageError(
                f"{self.title} takes {self.takes}: it has no half-cell shift, no samples and no other mode",
                "Leave out `aligned`, `sampling_ratio` and `mode`, or give `op=roi_align`.",
            )

    def adopt(self, spec: PoolSpec) -> PoolSpec:
        """Return other settings without a shift and without a sampling ratio."""
        return replace(super().adopt(spec), aligned=False, sampling_ratio=-1)

    def contracts(self, spec: PoolSpec) -> bool:
        """Tell that means are contractions."""
        return True


class Contracted(Placed):
    """One weight matrix an axis, contracted with the map: ``pooled[c] = Wy @ F[c] @ Wx.T``.

    If the spec asks for the mean of all bins, the matrices have one row each, which is that mean.
    """

    def __init__(self, rows: AxisWeights, columns: AxisWeights, spec: PoolSpec, kernel: Kernel) -> None:
        super().__init__(spec)
        self._weights_y, self._weights_x = rows, columns
        self._contract = kernel.contract

    def pool(self, feature_map: FloatArray, first: int, stop: int, out: FloatArray) -> None:
        """Contract the cells of each region."""
        with nullcontext(out) if self._spec.reduce == "mean" else self.blocks(out) as blocks:
            self._contract(feature_map, self._weights_y.part(first, stop), self._weights_x.part(first, stop), blocks)

    def scatter(self, grad: FloatArray, first: int, stop: int, out: FloatArray) -> None:
        """Add ``Wy.T @ G @ Wx`` to the cells of each region."""
        for roi, block in enumerate(grad, first):
            (rows, weights_y), (columns, weights_x) = self._weights_y.matrix(roi), self._weights_x.matrix(roi)
            lines = np.tensordot(weights_y, block, axes=(0, 1))  # (h, C, PW)
            out[rows[:, None], columns] += (lines @ weights_x).transpose(0, 2, 1)

    def repair(self, feature_map: FloatArray, first: int, stop: int, out: FloatArray) -> int:
        """Pool regions again bin by bin whose window holds a cell that is not finite: it has spread over all bins."""
        broken = not_finite(out)
        for roi in broken.tolist():
            (rows, weights_y), (columns, weights_x) = (
                weights.matrix(first + roi) for weights in (self._weights_y, self._weights_x)
            )
            block = np.zeros((1, feature_map.shape[2], len(weights_y), len(weights_x)), out.dtype)
            for y, x in np.ndindex(block.shape[2:]):
                down, across = np.flatnonzero(weights_y[y]), np.flatnonzero(weights_x[x])
                if len(down) and len(across):
                    window = feature_map[rows[down][:, None], columns[across]]
                    line = np.tensordot(weights_y[y, down], window, axes=1)
                    block[0, :, y, x] = weights_x[x, across] @ line
            if block.shape[2:] == out.shape[2:]:
                out[roi] = block[0]
            else:
                reduce_bins(block, self._spec.reduce, out[roi : roi + 1])
        return len(not_finite(out[broken]))
