"""Average pooling as two matrix products a RoI: ``pooled[c] = Wy @ F[c] @ Wx.T``."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from roicli.sampling import AxisWeights, FloatArray


def pool_separable(feature_map: FloatArray, rows: AxisWeights, columns: AxisWeights, out: FloatArray) -> None:
    """Contract the rows of each RoI's cells, then their columns.

    Parameters
    ----------
    feature_map : (H, W, C)
        Channels last, contiguous, in the dtype of the weights.
    rows, columns : AxisWeights
        Weights of K RoIs along y and along x.
    out : (K, C, PH, PW)
        Where the blocks go; each block contiguous, PH and PW the rows of the two matrices.

    Notes
    -----
    A RoI whose cells are the whole of its window is read in place, as a strided view that BLAS takes as it is; else
    the few cells that it reads are gathered first. A non-finite cell of the window spreads to the whole block
    (0 * NaN is NaN): the caller looks for that.
    """
    height, width, channels = feature_map.shape
    lines = feature_map.reshape(height, width * channels)
    flat = feature_map.reshape(height * width, channels)
    widest = max((stop - first for first, stop in pairwise(columns.cell_splits)), default=0)
    scratch = np.empty(rows.bins * widest * channels, dtype=feature_map.dtype)
    for roi, block in enumerate(out):
        y, x = rows.cells(roi), columns.cells(roi)
        h, w = len(y), len(x)
        if h == 0 or w == 0:
            block[...] = 0
            continue
        y0, x0 = int(y[0]), int(x[0])
        if y[-1] - y0 == h - 1 and x[-1] - x0 == w - 1:
            window = lines[y0 : y0 + h, x0 * channels : (x0 + w) * channels]
        else:
            window = flat.take((y[:, None] * width + x).ravel(), axis=0).reshape(h, w * channels)
        banded = scratch[: rows.bins * w * channels].reshape(rows.bins, w * channels)
        np.matmul(rows.matrix(roi), window, out=banded)
        by_channel = banded.reshape(rows.bins, w, channels).transpose(0, 2, 1)
        np.matmul(by_channel, columns.matrix(roi).T, out=block.transpose(1, 0, 2))
