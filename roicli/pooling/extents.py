"""Where boxes lie on their maps, as a whole: in cells, and how much of them is on the map."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from roicli.pooling.operators import find
from roicli.pooling.placement import Placement
from roicli.pooling.sampling import in_map
from roicli.spec import PoolSpec

_MARGIN = 1e-6
# Boxes that are sampled at once.
_AT_ONCE = 4096


def lie_outside(regions: Placement, sizes: NDArray[np.float64], spec: PoolSpec) -> NDArray[np.bool_]:
    """Tell which boxes read no cell of their maps, because of where they lie; `sizes` are height and width, (K, 2).

    A sample reads cells up to one cell beyond the map's first and last centre. So a box beside its map may be pooled.
    Boxes are in the dtype of the computation, and not too large for their operator.
    """
    operator = find(spec.op)
    if spec.rule is not None and spec.rule.edge == "extend":  # each reads the cells that are nearest
        return np.zeros(len(regions), np.bool_)
    # Column by column: reductions along an axis of two are slow.
    extents = np.ascontiguousarray(operator.extents(regions, sizes.T, spec).T, np.float64)
    outside, in_doubt = np.zeros((2, len(regions)), np.bool_)
    for low, high, length in zip(extents[:2], extents[2:], sizes.T[::-1] - operator.unread, strict=True):
        if (high < low).any():
            low, high = np.minimum(low, high), np.maximum(low, high)
        extent = high - low
        margin = _MARGIN * (100 + extent)  # extents are rounded by less
        outside |= (high + margin < -1) | (low - margin > length)
        # Samples lie evenly, so that one of them is in any half of a box. For the few other boxes the samples tell.
        in_doubt |= np.minimum(high, length - 0.5) - np.maximum(low, -0.5) < (
            extent if operator.may_miss else extent / 2
        )
    unsure = np.flatnonzero(in_doubt & ~outside)
    for size in set(map(tuple, sizes[unsure].tolist())):
        same = unsure[(sizes[unsure] == size).all(axis=1)]
        for begin in range(0, len(same), _AT_ONCE):
            rows = same[begin : begin + _AT_ONCE]
            outside[rows] = ~operator.reads(regions.take(rows), tuple(map(int, size)), spec)
    return outside


def shares_inside(placement: Placement, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of each box's area that lies on its map; of a box without extent, whether it lies there.

    Examples
    --------
    >>> from roicli.pooling.placement import place
    >>> boxes = np.array([[0, 0, 32, 32.0], [96, 0, 160, 64], [7, 7, 7, 7]])
    >>> shares_inside(place(np.zeros(3, np.intp), boxes, 1 / 16), np.full((3, 2), 8.0)).tolist()
    [1.0, 0.5, 1.0]
    """
    scaled, ends = in_map(placement.boxes, placement.scale), sizes[:, ::-1]
    low, high = np.minimum(scaled[:, :2], scaled[:, 2:]), np.maximum(scaled[:, :2], scaled[:, 2:])
    with np.errstate(divide="ignore", invalid="ignore"):
        part = (np.clip(high, 0, ends) - np.clip(low, 0, ends)) / (high - low)
    share: NDArray[np.float64] = np.where(high > low, part, (low >= 0) & (low <= ends)).prod(axis=1)
    return share
