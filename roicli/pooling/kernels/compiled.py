"""Average pooling compiled by Numba: the weights of the NumPy kernel, contracted without the zeros.

Each bin takes the lines that it reads, summed with their weights into one line of cells, and from that line the cells
that it reads; both are sums of contiguous runs of channels, which the compiler makes of vector instructions.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from roicli.pooling.sampling import FloatArray, IntArray
from roicli.pooling.weights import AxisWeights

# Added to the channels of a block: bins a power of two apart would share the same places of the cache.
_PADDING = 16


def pool_compiled(feature_map: FloatArray, rows: AxisWeights, columns: AxisWeights, out: FloatArray) -> None:
    """Contract the rows of each RoI's cells, then their columns; see `pool_separable` for the arguments.

    Releases Python's lock. Compiled at the first call for each dtype, and kept on disk for later processes.
    """
    blocks = out.reshape(*out.shape[:2], rows.bins * columns.bins)
    row_arguments = (rows.cell, rows.cell_splits, rows.weight, rows.first, rows.stop)
    column_arguments = (columns.cell, columns.cell_splits, columns.weight, columns.first, columns.stop)
    _pool(feature_map.reshape(-1), feature_map.shape[1:], *row_arguments, *column_arguments, blocks)


def compile_for(dtype: np.dtype[Any]) -> None:
    """Compile, or load what was compiled before, by pooling nothing."""
    none, value = np.zeros(0, dtype=np.intp), np.zeros(1, dtype=dtype)
    weights = AxisWeights(1, np.zeros(1, dtype=np.intp), none, none, value[:0], none.reshape(0, 1), none.reshape(0, 1))
    pool_compiled(value.reshape(1, 1, 1), weights, weights, np.zeros((0, 1, 1, 1), dtype=dtype))


def _compile(function: Any) -> Any:
    # Products may be fused with sums, which rounds once less; sums keep their order, so results do not vary.
    settings: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **settings)(function)
    except RuntimeError:  # nowhere to keep what was compiled: a read-only installation and no home
        return numba.njit(**settings)(function)


@_compile
def _weighted_sum(
    out: FloatArray,
    to: int,
    source: FloatArray,
    cells: IntArray,
    first: int,
    stop: int,
    stride: int,
    shift: int,
    weights: FloatArray,
    weight: int,
    number: int,
) -> None:
    """Sum runs of `number` values, one a cell of ``cells[first:stop]``, with ``weights[weight:]``, to ``out[to:]``.

    The run of a cell begins at ``cell * stride + shift``. Four terms at a time; places are unsigned, because those
    that may be negative are checked value by value.
    """
    begin, length = np.uint64(to), np.uint64(number)
    if first == stop:
        for i in range(length):
            out[begin + i] = 0
        return
    done = (stop - first) % 4
    a, u = np.uint64(cells[first] * stride + shift), weights[weight]
    if done == 1:
        for i in range(length):
            out[begin + i] = u * source[a + i]
    elif done == 2:
        b, v = np.uint64(cells[first + 1] * stride + shift), weights[weight + 1]
        for i in range(length):
            out[begin + i] = u * source[a + i] + v * source[b + i]
    elif done == 3:
        b, v = np.uint64(cells[first + 1] * stride + shift), weights[weight + 1]
        c, w = np.uint64(cells[first + 2] * stride + shift), weights[weight + 2]
        for i in range(length):
            out[begin + i] = u * source[a + i] + v * source[b + i] + w * source[c + i]
    else:
        b, v = np.uint64(cells[first + 1] * stride + shift), weights[weight + 1]
        c, w = np.uint64(cells[first + 2] * stride + shift), weights[weight + 2]
        d, x = np.uint64(cells[first + 3] * stride + shift), weights[weight + 3]
        for i in range(length):
            out[begin + i] = u * source[a + i] + v * source[b + i] + w * source[c + i] + x * source[d + i]
        done = 4
    for term in range(done, stop - first, 4):
        a, u = np.uint64(cells[first + term] * stride + shift), weights[weight + term]
        b, v = np.uint64(cells[first + term + 1] * stride + shift), weights[weight + term + 1]
        c, w = np.uint64(cells[first + term + 2] * stride + shift), weights[weight + term + 2]
        d, x = np.uint64(cells[first + term + 3] * stride + shift), weights[weight + term + 3]
        for i in range(length):
            out[begin + i] += u * source[a + i] + v * source[b + i] + w * source[c + i] + x * source[d + i]


@_compile
def _pool(
    flat: FloatArray,
    width_and_channels: tuple[int, int],
    y_cell: IntArray,
    y_splits: IntArray,
    y_weight: FloatArray,
    y_first: IntArray,
    y_stop: IntArray,
    x_cell: IntArray,
    x_splits: IntArray,
    x_weight: FloatArray,
    x_first: IntArray,
    x_stop: IntArray,
    out: FloatArray,
) -> None:
    width, channels = width_and_channels
    bins_y, bins_x = y_first.shape[1], x_first.shape[1]
    widest = 0
    for roi in range(len(out)):
        widest = max(widest, x_splits[roi + 1] - x_splits[roi])
    banded = np.empty(widest * channels, dtype=flat.dtype)
    banded_cell = np.arange(widest)
    padded = channels + _PADDING
    block = np.empty(bins_y * bins_x * padded, dtype=flat.dtype)
    for roi in range(len(out)):
        y, x = y_splits[roi], x_splits[roi]
        h, w = y_splits[roi + 1] - y, x_splits[roi + 1] - x
        for bin_y in range(bins_y):
            first, stop = y_first[roi, bin_y], y_stop[roi, bin_y]
            weight = bins_y * y + bin_y * h + first
            begin = 0
            while begin < w:
                # Cells that follow one another are one run of channels.
                cell, end = x_cell[x + begin], begin + 1
                while end < w and x_cell[x + end] == cell + end - begin:
                    end += 1
                to, shift, number = begin * channels, cell * channels, (end - begin) * channels
                line = width * channels
                _weighted_sum(banded, to, flat, y_cell, y + first, y + stop, line, shift, y_weight, weight, number)
                begin = end
            for bin_x in range(bins_x):
                first, stop = x_first[roi, bin_x], x_stop[roi, bin_x]
                weight = bins_x * x + bin_x * w + first
                to = (bin_y * bins_x + bin_x) * padded
                _weighted_sum(block, to, banded, banded_cell, first, stop, channels, 0, x_weight, weight, channels)
        for channel in range(channels):
            pooled = out[roi, channel]
            for place in range(bins_y * bins_x):
                pooled[place] = block[place * padded + channel]
