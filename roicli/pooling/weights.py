"""Axis weights: the samples of RoIs along one axis, summed into one small matrix a RoI, for the kernels to contract.

``pooled[c] = rows @ F[c][cells of rows][:, cells of columns] @ columns.T``
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.pooling.sampling import FloatArray, IntArray, SampleGrid


class Cells(NamedTuple):
    """Which cells of one axis each of K RoIs reads."""

    first: IntArray  # (K,) the window: the smallest range of cells that holds all that are read; empty if none is
    stop: IntArray
    gaps: NDArray[np.bool_]  # (K,) whether it may hold cells that are not read: the samples lie far apart
    read: NDArray[np.bool_]  # (number of gaps, L) which cells each of those RoIs reads, with whatever weight

    def number(self) -> IntArray:
        """Return how many cells each RoI reads, (K,)."""
        number = self.stop - self.first
        number[self.gaps] = self.read.sum(axis=1)
        return number


def cells_read(grid: SampleGrid) -> Cells:
    """Find the cells that each RoI reads along this axis."""
    bins = grid.bins
    rois = len(bins.start)
    roi = grid.bin_index // bins.number
    first, stop = _extent(grid.low, grid.high + 1, roi, rois)
    # A sample reads two cells, so samples up to two cells apart leave none out between them; half a cell to be safe.
    gaps = np.abs(bins.size) > 1.5 * bins.samples
    read = np.zeros((int(gaps.sum()), bins.length), dtype=np.bool_)
    if len(read):
        sample = gaps[roi]
        line = (np.cumsum(gaps) - 1)[roi[sample]]
        read[line, grid.low[sample]] = True
        read[line, grid.high[sample]] = True
    return Cells(first, stop, gaps, read)


class AxisWeights(NamedTuple):
    """One small matrix a RoI: the weights with which its bins take the cells of this axis."""

    bins: int  # rows of every matrix (P, or 1 where the bins are averaged)
    cell_splits: IntArray  # (K + 1,) where the cells of each RoI begin in `cell`: one a column of its matrix
    run: IntArray  # (K,) first cell of each RoI whose cells follow one another; -1 where there are gaps, or no cells
    cell: IntArray  # (sum of cells,) the cells, ascending
    weight: FloatArray  # (bins * sum of cells,) the matrices (bins, cells), one after the other
    first: IntArray  # (K, bins) the columns that each bin reads lie in first:stop; all others are zero
    stop: IntArray

    def part(self, first: int, stop: int) -> AxisWeights:
        """Return the matrices of the RoIs ``first:stop``, as a view."""
        return self._replace(
            cell_splits=self.cell_splits[first : stop + 1],
            run=self.run[first:stop],
            first=self.first[first:stop],
            stop=self.stop[first:stop],
        )

    def matrix(self, roi: int) -> tuple[IntArray, FloatArray]:
        """Return the cells of one RoI, and its matrix (bins, cells)."""
        first, stop = self.cell_splits[roi : roi + 2].tolist()
        weight = self.weight[self.bins * first : self.bins * stop]
        return self.cell[first:stop], weight.reshape(self.bins, stop - first)


def axis_weights(grid: SampleGrid, cells: Cells, whole_window: NDArray[np.bool_], *, mean: bool = False) -> AxisWeights:
    """Sum the samples' bilinear weights into one matrix a RoI; of one row if `mean` averages the bins too.

    A matrix has a column for every cell of its RoI's window where `whole_window`, else only for those that are read.
    """
    bins, rois = grid.bins, len(cells.first)
    roi, bin_of_roi = np.divmod(grid.bin_index, bins.number)
    width, cell, low, high = _columns(grid, cells, cells.gaps & ~whole_window, roi)
    splits = np.concatenate([[0], np.cumsum(width)])

    number = 1 if mean else bins.number
    row = splits[roi] * number + (0 if mean else bin_of_roi * width[roi])
    share = 1 / (bins.samples[roi] * (bins.number if mean else 1))
    fraction = grid.fraction.astype(np.float64)
    place = np.concatenate([row + low, row + high])
    value = np.concatenate([(1 - fraction) * share, fraction * share])
    weight = np.bincount(place, weights=value, minlength=number * int(splits[rois])).astype(bins.start.dtype)
    first, stop = (
        ends.reshape(rois, number) for ends in _extent(low, high + 1, roi if mean else grid.bin_index, rois * number)
    )
    return AxisWeights(number, splits, _runs(cell, splits), cell, weight, first, stop)


def window_weights(
    first: IntArray,
    stop: IntArray,
    weights_of: Callable[[IntArray, IntArray], NDArray[np.float64]],
    dtype: np.dtype[Any],
    *,
    mean: bool = False,
) -> AxisWeights:
    """Make one matrix a RoI of the weights that its bins give to the cells ``first:stop``; of one row if `mean`.

    ``weights_of(roi, cell)`` returns them for (T,) cells of as many RoIs, (T, P).
    """
    width = np.maximum(stop - first, 0)
    splits = np.concatenate([[0], np.cumsum(width)])
    roi = np.repeat(np.arange(len(width)), width)
    column = np.arange(splits[-1]) - splits[roi]
    cell = first[roi] + column
    values = weights_of(roi, cell)
    if mean:
        values = values.mean(axis=1, keepdims=True)
    number = values.shape[1]
    weight = np.empty(number * len(cell), dtype)
    weight[(splits[roi] * number + column)[:, None] + np.arange(number) * width[roi][:, None]] = values
    begin, end = np.zeros((2, len(width), number), np.intp)
    some = np.flatnonzero(width)
    if len(some):
        read, place = values != 0, column[:, None]
        begin[some] = np.minimum.reduceat(np.where(read, place, len(cell)), splits[some])
        end[some] = np.maximum.reduceat(np.where(read, place + 1, 0), splits[some])
        begin = np.minimum(begin, end)
    return AxisWeights(number, splits, _runs(cell, splits), cell, weight, begin, end)


def _runs(cell: IntArray, splits: IntArray) -> IntArray:
    """Return the first of each RoI's cells where they follow one another; -1 elsewhere."""
    begin, number = splits[:-1], np.diff(splits)
    runs = np.full(len(number), -1)
    some = number > 0
    first, last = cell[begin[some]], cell[(begin + number - 1)[some]]
    runs[some] = np.where(last - first == number[some] - 1, first, -1)
    return runs


def _columns(
    grid: SampleGrid, cells: Cells, packed: NDArray[np.bool_], roi: IntArray
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Return the columns a matrix, the cell of each column, and the two columns that each sample reads."""
    width = np.where(packed, cells.number(), cells.stop - cells.first)
    splits = np.concatenate([[0], np.cumsum(width)])
    cell = np.arange(splits[-1]) + np.repeat(cells.first - splits[:-1], width)
    low, high = grid.low - cells.first[roi], grid.high - cells.first[roi]
    if packed.any():
        read = cells.read[packed[cells.gaps]]
        cell[np.repeat(packed, width)] = np.nonzero(read)[1]
        rank = np.cumsum(read, axis=1) - 1
        sample = packed[roi]
        line = (np.cumsum(packed) - 1)[roi[sample]]
        low[sample], high[sample] = rank[line, grid.low[sample]], rank[line, grid.high[sample]]
    return width, cell, low, high


def _extent(low: IntArray, high: IntArray, group: IntArray, groups: int) -> tuple[IntArray, IntArray]:
    """Return the smallest `low` and largest `high` of each group of samples; 0 and 0 without samples.

    Samples of a group go one way along the axis, so the first and the last of them tell.
    """
    smallest, largest = np.zeros(groups, dtype=np.intp), np.zeros(groups, dtype=np.intp)
    if len(group):
        change = np.flatnonzero(np.diff(group)) + 1
        begin, end = np.concatenate([[0], change]), np.concatenate([change, [len(group)]]) - 1
        smallest[group[begin]] = np.minimum(low[begin], low[end])
        largest[group[begin]] = np.maximum(high[begin], high[end])
    return smallest, largest
