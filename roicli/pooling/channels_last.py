"""Feature maps as the kernels read them: channels last."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.pooling.arguments import compute_dtype
from roicli.pooling.sampling import FloatArray
from roicli.pooling.team import Share, alone

# Maps are transposed in tiles: whole lines of the map, so many cells, and channels. Long runs of channels, since each
# costs as much to begin as 25 of them to copy; not longer, since a run touches so many lines of the cache.
_TILE_CELLS, _TILE_CHANNELS = 2048, 512


def channels_last(
    feature_map: NDArray[Any],
    window: tuple[slice, slice] | None = None,
    buffer: FloatArray | None = None,
    share: Share = alone,
) -> FloatArray:
    """Lay one map out for the kernels: (C, H, W) of any dtype and strides to contiguous (H, W, C).

    Returns the map itself, transposed, where it lies in memory like that already; a copy otherwise, which is made in
    `buffer` if that has its shape and dtype. Of a copy, only the rows and columns of `window` are filled.
    """
    dtype = compute_dtype(feature_map.dtype)
    view = feature_map.transpose(1, 2, 0)
    if view.flags.c_contiguous and view.dtype == dtype:
        return view
    copy = buffer
    if copy is None or (copy.shape, copy.dtype) != (view.shape, dtype):
        copy = np.empty(view.shape, dtype)
    height, width, channels = view.shape
    rows, columns = window or (slice(0, height), slice(0, width))
    lines = max(1, _TILE_CELLS // max(1, columns.stop - columns.start))

    def fill(part: slice) -> None:
        first, stop = rows.start + part.start, rows.start + part.stop
        for y in range(first, stop, lines):
            for c in range(0, channels, _TILE_CHANNELS):
                tile = np.s_[y : min(y + lines, stop), columns, c : c + _TILE_CHANNELS]
                copy[tile] = view[tile]

    share(fill, rows.stop - rows.start)
    return copy
