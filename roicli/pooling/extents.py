"""Where boxes lie on their maps, as a whole: in cells, and how much of them is on the map."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from roicli.pooling.placement import Placement
from roicli.pooling.sampling import FloatArray, cell_ranges, in_map, make_bins, sides, too_large
from roicli.spec import PoolSpec


def lie_outside(placement: Placement, sizes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which boxes have no part on their map.

    Parameters
    ----------
    placement : Placement
        K boxes.
    sizes : (K, 2) float64
        Height and width of each box's map, in cells.
    """
    scaled, ends = in_map(placement.boxes, placement.scale), sizes[:, ::-1]
    return np.asarray(((scaled[:, :2] > ends) | (scaled[:, 2:] < 0)).any(axis=1))


def shares_inside(placement: Placement, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of each box's area that lies on its map; of a box without extent, whether it lies there.

    Parameters
    ----------
    placement, sizes
        As in `lie_outside`.

    Returns
    -------
    (K,) float64
        From 0 to 1.

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


def beyond_sampling(placement: Placement, dtype: np.dtype[np.floating], spec: PoolSpec) -> NDArray[np.bool_]:
    """Tell which boxes are so large at their scale that their samples cannot be counted; RoIPool has no samples.

    Parameters
    ----------
    placement : Placement
        K boxes, finite in `dtype`.
    dtype : numpy.dtype
        Of the computation.
    spec : PoolSpec
        What is computed.
    """
    if spec.op == "roi_pool":
        return np.zeros(len(placement), np.bool_)
    rows, columns = sides(placement.boxes.astype(dtype), placement.scale)
    height, width = spec.output_size
    return too_large(rows, height, spec) | too_large(columns, width, spec)


def has_no_samples(placement: Placement, dtype: np.dtype[np.floating], spec: PoolSpec) -> NDArray[np.bool_]:
    """Tell which boxes have no sample since they have no width or no height.

    Adaptive sampling takes as many samples as a bin has cells; unless `aligned`, a box is made one cell wide first.

    Parameters
    ----------
    placement, dtype, spec
        As in `beyond_sampling`.
    """
    if spec.op == "roi_pool" or not (spec.adaptive and spec.aligned):
        return np.zeros(len(placement), np.bool_)
    boxes = placement.boxes.astype(dtype)
    return np.asarray((boxes[:, 2:] == boxes[:, :2]).any(axis=1))


def in_cells(placement: Placement, dtype: np.dtype[np.floating], spec: PoolSpec) -> FloatArray:
    """Place boxes as they are pooled: scaled, shifted by half a cell or made one cell wide where the spec says so.

    Parameters
    ----------
    placement, dtype, spec
        As in `beyond_sampling`. RoIPool rounds to whole cells, whose edges lie half a cell from their centres.

    Returns
    -------
    (K, 4) float32 or float64
        xyxy in cells, 0 at the centre of the first one.

    Examples
    --------
    >>> from roicli.pooling.placement import place
    >>> placement = place(np.array([0]), np.array([[16.0, 32, 48, 80]]), 1 / 16)
    >>> in_cells(placement, np.dtype("f8"), PoolSpec((7, 7), aligned=True)).tolist()
    [[0.5, 1.5, 2.5, 4.5]]
    """
    placed = np.empty((len(placement), 4), dtype)
    both = sides(placement.boxes.astype(dtype), placement.scale)
    for axis, ends, number in zip((1, 0), both, spec.output_size, strict=True):
        if spec.op == "roi_pool":
            cells = cell_ranges(ends, number, 1)
            placed[:, axis] = cells.start - 0.5
            placed[:, axis + 2] = placed[:, axis] + cells.extent
        else:
            bins = make_bins(ends, number, 1, spec)
            placed[:, axis] = bins.start
            placed[:, axis + 2] = bins.start + bins.number * bins.size
    return placed
