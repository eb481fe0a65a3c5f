"""Average pooling compiled by Numba: the weights of the NumPy kernel, contracted without the zeros.

Each bin takes the lines that it reads, summed with their weights into one line of cells, and from that line the cells
that it reads; both are sums of contiguous runs of channels, which the compiler makes of vector instructions.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from roicli.sampling import FloatArray, IntArray
from roicli.weights import AxisWeights

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
    weights = AxisWeights(1, np.zeros(1, dtype=np.intp), none, value[:0], none.reshape(0, 1), none.reshape(0, 1))
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
    out: FloatArray, source: FloatArray, places: IntArray, shift: int, weights: FloatArray, number: int
) -> None:
    """``out[:number] = sum(weights[i] * source[places[i] + shift :][:number])``, four terms at a time."""
    terms = len(weights)
    done = terms % 4
    if terms == 0:
        out[:number] = 0
        return
    a, u = source[places[0] + shift :], weights[0]
    if done == 1:
        for i in range(number):
            out[i] = u * a[i]
    elif done == 2:
        b, v = source[places[1] + shift :], weights[1]
        for i in range(number):
            out[i] = u * a[i] + v * b[i]
    elif done == 3:
        b, v = source[places[1] + shift :], weights[1]
        c, w = source[places[2] + shift :], weights[2]
        for i in range(number):
            out[i] = u * a[i] + v * b[i] + w * c[i]
    else:
        b, v = source[places[1] + shift :], weights[1]
        c, w = source[places[2] + shift :], weights[2]
        d, x = source[places[3] + shift :], weights[3]
        for i in range(number):
            out[i] = u * a[i] + v * b[i] + w * c[i] + x * d[i]
        done = 4
    for term in range(done, terms, 4):
        a, u = source[places[term] + shift :], weights[term]
        b, v = source[places[term + 1] + shift :], weights[term + 1]
        c, w = source[places[term + 2] + shift :], weights[term + 2]
        d, x = source[places[term + 3] + shift :], weights[term + 3]
        for i in range(number):
            out[i] += u * a[i] + v * b[i] + w * c[i] + x * d[i]


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
    map_width, channels = width_and_channels
    bins_y, bins_x = y_first.shape[1], x_first.shape[1]
    widest = 0
    for roi in range(len(out)):
        widest = max(widest, x_splits[roi + 1] - x_splits[roi])
    banded = np.empty(widest * channels, dtype=flat.dtype)
    places = np.arange(widest) * channels
    block = np.empty((bins_y * bins_x, channels + _PADDING), dtype=flat.dtype)
    for roi in range(len(out)):
        y, x = y_splits[roi], x_splits[roi]
        h, w = y_splits[roi + 1] - y, x_splits[roi + 1] - x
        lines = y_cell[y : y + h] * (map_width * channels)
        for bin_y in range(bins_y):
            first, stop = y_first[roi, bin_y], y_stop[roi, bin_y]
            matrix = bins_y * y + bin_y * h
            weights = y_weight[matrix + first : matrix + stop]
            begin = 0
            while begin < w:
                # Cells that follow one another are one run of channels.
                cell, end = x_cell[x + begin], begin + 1
                while end < w and x_cell[x + end] == cell + end - begin:
                    end += 1
                run = banded[begin * channels : end * channels]
                _weighted_sum(run, flat, lines[first:stop], cell * channels, weights, (end - begin) * channels)
                begin = end
            for bin_x in range(bins_x):
                first, stop = x_first[roi, bin_x], x_stop[roi, bin_x]
                matrix = bins_x * x + bin_x * w
                weights = x_weight[matrix + first : matrix + stop]
                _weighted_sum(block[bin_y * bins_x + bin_x], banded, places[first:stop], 0, weights, channels)
        for channel in range(channels):
            pooled = out[roi, channel]
            for place in range(bins_y * bins_x):
                pooled[place] = block[place, channel]
