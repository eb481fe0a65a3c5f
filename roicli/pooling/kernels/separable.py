"""Average pooling as two matrix products a RoI: ``pooled[c] = Wy @ F[c] @ Wx.T``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from roicli.pooling.sampling import FloatArray
from roicli.pooling.weights import AxisWeights

# From so many lines on, multiplying only those that a bin reads is faster than one product with many zeros.
_BANDED = 16
# Blocks are made channels last, then copied to their place so many values at a time.
_GROUP_VALUES = 2**17
# Added to the channels of the block in the making: lines a power of two apart would share the same places of the cache.
_PADDING = 16


def pool_separable(feature_map: FloatArray, rows: AxisWeights, columns: AxisWeights, out: FloatArray) -> None:
    """Contract the rows of each RoI's cells and then their columns, or the other way about.

    The map is (H, W, C), contiguous, in the dtype of the weights; each block of `out` is contiguous.

    A RoI whose cells are the whole of its window is read in place, as a strided view that BLAS takes as it is; else
    the few cells that it reads are gathered first. A non-finite cell of the window spreads to the whole block
    (0 * NaN is NaN): the caller looks for that.
    """
    height, width, channels = feature_map.shape
    bins_y, bins_x = rows.bins, columns.bins
    cells = feature_map.reshape(height * width, channels)
    heights, widths = np.diff(rows.cell_splits), np.diff(columns.cell_splits)
    gathers = (rows.run < 0) | (columns.run < 0)
    gathered = np.empty((int((heights * widths)[gathers].max(initial=0)), channels), dtype=feature_map.dtype)
    longest = max(bins_y * int(widths.max(initial=0)), bins_x * _BANDED)
    scratch = np.empty(longest * channels, dtype=feature_map.dtype)
    group = max(1, _GROUP_VALUES // (bins_y * bins_x * channels))
    blocks = np.empty((group, bins_y, bins_x, channels + _PADDING), dtype=feature_map.dtype)[..., :channels]
    y_splits, x_splits = rows.cell_splits.tolist(), columns.cell_splits.tolist()
    y_first, x_first = rows.run.tolist(), columns.run.tolist()
    for begin in range(0, len(out), group):
        pooled = out[begin : begin + group]
        for roi, block in enumerate(blocks[: len(pooled)], start=begin):
            y, x = y_splits[roi], x_splits[roi]
            h, w = y_splits[roi + 1] - y, x_splits[roi + 1] - x
            if h == 0 or w == 0:
                block[...] = 0
                continue
            y0, x0 = y_first[roi], x_first[roi]
            if y0 >= 0 and x0 >= 0:
                window = feature_map[y0 : y0 + h, x0 : x0 + w]
            else:
                few = (rows.cell[y : y + h, None] * width + columns.cell[x : x + w]).ravel()
                # All cells lie in the map; to "clip" them is what lets NumPy write in place.
                window = cells.take(few, axis=0, out=gathered[: h * w], mode="clip").reshape(h, w, channels)
            weights_y = rows.weight[bins_y * y : bins_y * (y + h)].reshape(bins_y, h)
            weights_x = columns.weight[bins_x * x : bins_x * (x + w)].reshape(bins_x, w)
            # The longer side first, since what comes second is many small products; but many lines in bands.
            if h < min(w, _BANDED):
                columns_done = scratch[: h * bins_x * channels].reshape(h, bins_x, channels)
                np.matmul(weights_x, window, out=columns_done)
                np.matmul(weights_y, columns_done.transpose(1, 0, 2), out=block.transpose(1, 0, 2))
            else:
                lines = window.reshape(h, w * channels)
                rows_done = scratch[: bins_y * w * channels].reshape(bins_y, w * channels)
                if h < _BANDED:
                    np.matmul(weights_y, lines, out=rows_done)
                else:
                    _contract_bands(weights_y, rows.first[roi], rows.stop[roi], lines, rows_done)
                np.matmul(weights_x, rows_done.reshape(bins_y, w, channels), out=block)
        pooled[...] = blocks[: len(pooled)].transpose(0, 3, 1, 2)


def _contract_bands(
    weights: FloatArray, first: NDArray[np.intp], stop: NDArray[np.intp], window: FloatArray, out: FloatArray
) -> None:
    """Multiply each bin's weights with the lines that it reads."""
    for bin_y, (begin, end) in enumerate(zip(first.tolist(), stop.tolist(), strict=True)):
        np.matmul(weights[bin_y, begin:end], window[begin:end], out=out[bin_y])
