"""What an operator answers: its settings, where it reads, what it computes, and how one bin comes about."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.errors import UsageError
from roicli.pooling.kernels.choose import Kernel
from roicli.pooling.sampling import FloatArray, IntArray
from roicli.spec import Mode, PoolSpec


class Operator(ABC):
    """One way to pool regions.

    Boxes are (K, 4) xyxy in the dtype of the computation; their scale is (K, 2) or (1, 2).

    Attributes
    ----------
    name : str
        By which it is asked for: "roi_align".
    title : str
        As people write it: "RoIAlign".
    noun : str
        What a bin is made of: "sample".
    modes : tuple of str
        The modes that it has, the default first.
    interpolates : bool
        Whether what a bin is made of is the weighted sum of four cells. If not, each is one cell, which has weight 1.
    """

    name: str
    title: str
    noun: str = "sample"
    modes: tuple[Mode, ...] = ("avg",)
    interpolates: bool = True

    def check(self, spec: PoolSpec) -> None:
        """Check that the operator has these settings.

        Raises
        ------
        UsageError
            It has not.
        """
        if spec.mode not in self.modes:
            raise UsageError(f"{self.title} has no mode {spec.mode}", f"Give `mode={self.modes[0]}`, or leave it out.")

    def adopt(self, spec: PoolSpec) -> PoolSpec:
        """Return the settings of another operator as far as this one has them."""
        return spec if spec.op == self.name else replace(spec, op=self.name, mode=self.modes[0])

    def channels(self, channels: int) -> int:
        """Return how many channels it makes of a map's channels."""
        return channels

    def contracts(self, spec: PoolSpec) -> bool:
        """Tell whether a `Kernel` computes it, so that loading a compiled one may pay."""
        return False

    @abstractmethod
    def place(
        self, boxes: FloatArray, scale: FloatArray, size: tuple[int, ...], spec: PoolSpec, kernel: Kernel
    ) -> Placed:
        """Place regions on maps of one size, height and width."""

    @abstractmethod
    def extents(self, boxes: FloatArray, scale: FloatArray, spec: PoolSpec) -> FloatArray:
        """Return the regions as they are pooled: (K, 4) xyxy in cells, 0 at the centre of the first one.

        A region beyond -1 or beyond the size of its map reads nothing of it; one that lies on its map with half of its
        width and half of its height reads something.
        """

    @abstractmethod
    def reads(self, boxes: FloatArray, scale: FloatArray, size: tuple[int, ...], spec: PoolSpec) -> NDArray[np.bool_]:
        """Tell which regions read a cell of maps of one size; one without samples counts as if it had one a bin."""

    def is_empty(self, boxes: FloatArray, scale: FloatArray, spec: PoolSpec) -> NDArray[np.bool_]:
        """Tell which regions have no samples since they have no width or no height."""
        return np.zeros(len(boxes), np.bool_)

    def is_too_large(self, boxes: FloatArray, scale: FloatArray, spec: PoolSpec) -> NDArray[np.bool_]:
        """Tell which regions are so large that their samples cannot be counted."""
        return np.zeros(len(boxes), np.bool_)

    @abstractmethod
    def trace(
        self, box: FloatArray, scale: FloatArray, size: tuple[int, ...], spec: PoolSpec, bin: tuple[int, int]
    ) -> Reads:
        """Return what one bin of one region, a (1, 4) box, reads of a map of some height and width."""

    @abstractmethod
    def combine(self, values: FloatArray, spec: PoolSpec) -> tuple[float, int | None]:
        """Return the value of a bin of some samples, and the first sample that is the maximum if it is one."""

    def convention(self, spec: PoolSpec) -> str:
        """Name the operator with the settings that change its numbers."""
        return self.title

    def inverted(self, spec: PoolSpec) -> str:
        """Say what becomes of boxes with x2 < x1 or y2 < y1 that are pooled."""
        return "pooled one cell wide or high, as torchvision does"

    def sampling(self, spec: PoolSpec) -> str:
        """Say how many samples a bin has, and why."""
        return ""


class Placed(ABC):
    """Regions that are placed on maps of one size."""

    def __init__(self, spec: PoolSpec) -> None:
        self._spec = spec

    @abstractmethod
    def pool(self, feature_map: FloatArray, first: int, stop: int, out: FloatArray) -> None:
        """Pool the regions ``first:stop`` from an (H, W, C) map into (stop - first, C, PH, PW)."""

    def repair(self, feature_map: FloatArray, first: int, stop: int, out: FloatArray) -> int:
        """Repair regions in `out` that cells have reached without being read; return how many are not finite."""
        return len(not_finite(out))

    @contextmanager
    def blocks(self, out: FloatArray) -> Iterator[FloatArray]:
        """Yield where whole blocks go: `out` itself, or a buffer whose bins are averaged into it afterwards."""
        if self._spec.reduce == "none":
            yield out
        else:
            blocks = np.empty((*out.shape[:2], *self._spec.output_size), out.dtype)
            yield blocks
            np.mean(blocks, axis=(2, 3), keepdims=True, out=out)


def not_finite(blocks: FloatArray) -> IntArray:
    """Find regions with a NaN or an infinity; the sums tell it for all values at the price of reading them once."""
    if math.isfinite(blocks.sum()):
        return np.empty(0, np.intp)
    flat = blocks.reshape(len(blocks), -1)
    suspects = np.flatnonzero(~np.isfinite(flat.sum(axis=1)))
    return suspects[~np.isfinite(flat[suspects]).all(axis=1)]


class Axis(NamedTuple):
    """What one bin of one region reads along one axis, n samples.

    Attributes
    ----------
    edges : (P, 2)
        Where each bin of the region begins and ends, in cells.
    samples : (P, n)
        Where the samples of all bins lie; (P, 0) if there are none to show.
    at : (n,)
        Where the samples of the bin lie, before they are clamped.
    cells : (n, 2) intp
        The two cells that each lies between.
    weights : (n, 2)
        Their weights.
    in_range, clamped : (n,) bool
        Whether a sample counts, and whether it is moved onto the border.
    """

    edges: FloatArray
    samples: FloatArray
    at: FloatArray
    cells: IntArray
    weights: FloatArray
    in_range: NDArray[np.bool_]
    clamped: NDArray[np.bool_]


@dataclass(frozen=True, eq=False, kw_only=True)
class Reads:
    """What one bin of one region reads of a map.

    All coordinates are in feature cells as samples are: coordinate 0 is the centre of the first cell, and cell i
    reaches from i - 0.5 to i + 0.5. Pairs and arrays of two are y first; n is the number of samples of the bin, in
    order of rows, then columns. If an operator reads whole cells, each cell of the bin is a sample at its centre.

    Attributes
    ----------
    grid : (int, int)
        Samples of one bin along y and x, in range or not.
    roi : tuple of float
        The region as it is pooled, xyxy.
    change : str
        Why that is not just the box times the spatial scale, in words.
    bin_rows, bin_columns : (PH, 2), (PW, 2)
        Where each bin of the region begins and ends, on the map or beyond it.
    sample_rows, sample_columns : (PH, ny), (PW, nx)
        Where the samples of all bins lie along y and x; no columns if the operator reads whole cells.
    y, x : (n,)
        Where each sample lies, before it is clamped.
    rows, columns : (n, 2) intp
        The two rows and the two columns that it lies between.
    weights : (n, 4)
        Weights of its four neighbours: upper left, upper right, lower left, lower right.
    in_range, clamped : (n,) bool
        Whether a sample counts, and whether it was moved onto the border of the map first.
    """

    grid: tuple[int, int]
    roi: tuple[float, float, float, float]
    change: str
    bin_rows: FloatArray
    bin_columns: FloatArray
    sample_rows: FloatArray
    sample_columns: FloatArray
    y: FloatArray
    x: FloatArray
    rows: IntArray
    columns: IntArray
    weights: FloatArray
    in_range: NDArray[np.bool_]
    clamped: NDArray[np.bool_]


def crossed(y: Axis, x: Axis, roi: FloatArray, change: str = "") -> Reads:
    """Cross the samples along y with those along x, row by row.

    Parameters
    ----------
    y, x : Axis
        Of an operator that treats them apart.
    roi : (4,)
        The region as it is pooled, xyxy in cells.
    change : str
        Why that is not just the box times the spatial scale.
    """
    grid = len(y.at), len(x.at)
    iy, ix = (index.ravel() for index in np.indices(grid))
    in_range = y.in_range[iy] & x.in_range[ix]
    left, top, right, bottom = roi.tolist()
    return Reads(
        grid=grid,
        roi=(left, top, right, bottom),
        change=change,
        bin_rows=y.edges,
        bin_columns=x.edges,
        sample_rows=y.samples,
        sample_columns=x.samples,
        y=y.at[iy],
        x=x.at[ix],
        rows=y.cells[iy],
        columns=x.cells[ix],
        weights=(y.weights[iy][:, :, None] * x.weights[ix][:, None, :]).reshape(-1, 4),
        in_range=in_range,
        clamped=(y.clamped[iy] | x.clamped[ix]) & in_range,
    )
