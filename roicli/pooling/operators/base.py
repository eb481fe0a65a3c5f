"""What an operator answers: its settings, where it reads, what it computes, and what one bin reads."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from roicli.errors import UsageError
from roicli.pooling.kernels.choose import Kernel
from roicli.pooling.placement import Placement
from roicli.pooling.sampling import FloatArray, IntArray
from roicli.spec import Mode, PoolSpec, Reduce

if TYPE_CHECKING:
    from roicli.pooling.reads import Reads


class Operator(ABC):
    """One way to pool regions.

    Boxes are in the dtype of the computation.
    """

    name: str  # by which it is asked for: "roi_align"
    title: str  # as people write it: "RoIAlign"
    bin: str  # what a bin is: the guide's table of operators has this line
    noun: str = "sample"  # what a bin is made of
    modes: tuple[Mode, ...] = ("avg",)  # the first one is the default
    may_miss: bool = False  # whether a region that lies on its map with half of either side may read nothing of it
    turns: bool = False  # whether it pools turned boxes: `Placement.turned`
    masks: bool = False  # whether it pools masks of regions: `Placement.masks`
    interpolates: bool = True  # whether a sample is the weighted sum of four cells; if not, one cell with weight 1
    unread: int = 0  # last rows and columns of a map that are never read

    def check(self, spec: PoolSpec) -> None:
        """Raise UsageError for settings that the operator does not have."""
        if spec.mode not in self.modes:
            raise UsageError(f"{self.title} has no mode {spec.mode}", f"Give `mode={self.modes[0]}`, or leave it out.")

    def settle(self, spec: PoolSpec) -> PoolSpec:
        """Return settings that a caller gave, with those that the operator decides itself."""
        return spec

    def adopt(self, spec: PoolSpec) -> PoolSpec:
        """Return the settings of another operator as far as this one has them."""
        return spec if spec.op == self.name else replace(spec, op=self.name, mode=self.modes[0])

    def channels(self, channels: int, spec: PoolSpec) -> int:
        """Return how many channels it makes of a map's channels."""
        return channels

    def plane(self, channel: int, bin: tuple[int, int], spec: PoolSpec) -> int:
        """Return the channel of the map that one bin of a channel of the result reads."""
        return channel

    def seen(self, plane: NDArray[np.generic], region: Placement, spec: PoolSpec) -> NDArray[np.generic]:
        """Return a channel of the map as one region finds it."""
        return plane

    def contracts(self, spec: PoolSpec) -> bool:
        """Tell whether a `Kernel` computes it, so that loading a compiled one may pay."""
        return False

    @abstractmethod
    def place(self, regions: Placement, size: tuple[int, ...], spec: PoolSpec, kernel: Kernel) -> Placed:
        """Place regions on maps of one size, height and width."""

    @abstractmethod
    def extents(self, regions: Placement, size: tuple[int, ...] | NDArray[np.float64], spec: PoolSpec) -> FloatArray:
        """Return the regions as they are pooled: (K, 4) xyxy in cells, 0 at the centre of the first one.

        A region beyond -1 or beyond the size of its map reads nothing of it; one that lies on its map with half of its
        width and half of its height reads something, unless the operator may miss it. `size` is the height and the
        width of all maps, or of that of each region: two numbers, or two arrays (K,).
        """

    @abstractmethod
    def reads(self, regions: Placement, size: tuple[int, ...], spec: PoolSpec) -> NDArray[np.bool_]:
        """Tell which regions read a cell of maps of one size; one without samples counts as if it had one a bin."""

    def is_empty(self, regions: Placement, spec: PoolSpec) -> NDArray[np.bool_]:
        """Tell which regions have no samples since they have no width or no height."""
        return np.zeros(len(regions), np.bool_)

    def is_too_large(self, regions: Placement, spec: PoolSpec) -> NDArray[np.bool_]:
        """Tell which regions are so large that their samples cannot be counted."""
        return np.zeros(len(regions), np.bool_)

    @abstractmethod
    def trace(self, region: Placement, size: tuple[int, ...], spec: PoolSpec, bin: tuple[int, int]) -> Reads:
        """Return what one bin of one region, reads of a map of some height and width."""

    def combine(self, values: FloatArray, spec: PoolSpec) -> tuple[float, int | None]:
        """Return the value of a bin of some samples, and the first sample that is the maximum if it is one."""
        return float(values.sum(dtype=np.float64) / max(len(values), 1)), None

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

    def scatter(self, grad: FloatArray, first: int, stop: int, out: FloatArray) -> None:
        """Add the adjoint of `pool` on (stop - first, C, PH, PW) to an (H, W, C) map, for operators that are linear."""
        raise NotImplementedError

    @contextmanager
    def blocks(self, out: FloatArray) -> Iterator[FloatArray]:
        """Yield where whole blocks go: `out` itself, or a buffer whose bins become one vector there afterwards."""
        if self._spec.reduce == "none":
            yield out
        else:
            blocks = np.empty((*out.shape[:2], *self._spec.output_size), out.dtype)
            yield blocks
            reduce_bins(blocks, self._spec.reduce, out)


def reduce_bins(blocks: FloatArray, how: Reduce, out: FloatArray) -> None:
    """Make one vector of the bins of (K, C, PH, PW), in (K, C, 1, 1); a mean of length 0 stays so."""
    if how == "max":
        np.max(blocks, axis=(2, 3), keepdims=True, out=out)
        return
    np.mean(blocks, axis=(2, 3), keepdims=True, out=out)
    if how == "l2":
        length = np.sqrt(np.square(out, dtype=np.float64).sum(axis=1, keepdims=True))
        np.divide(out, length, out=out, where=length != 0, casting="same_kind")


def not_finite(blocks: FloatArray) -> IntArray:
    """Find regions with a NaN or an infinity; the sums tell it for all values at the price of reading them once."""
    if math.isfinite(blocks.sum()):
        return np.empty(0, np.intp)
    flat = blocks.reshape(len(blocks), -1)
    suspects = np.flatnonzero(~np.isfinite(flat.sum(axis=1)))
    return suspects[~np.isfinite(flat[suspects]).all(axis=1)]
