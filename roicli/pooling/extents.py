"""Where boxes lie on their maps, as a whole: in cells, and how much of them is on the map."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from roicli.pooling.sampling import FloatArray, cell_ranges, make_bins, too_large
from roicli.spec import PoolSpec


def lie_outside(boxes: NDArray[np.float64], sizes: NDArray[np.float64], spec: PoolSpec) -> NDArray[np.bool_]:
    """Tell which boxes have no part on their map.

    Parameters
    ----------
    boxes : (K, 4) float64
        xyxy in image pixels.
    sizes : (K, 4) float64
        Width, height, width, height of each box's map, in cells.
    spec : PoolSpec
        Gives the spatial scale.
    """
    scaled = boxes * spec.spatial_scale
    return np.asarray(((scaled[:, :2] > sizes[:, :2]) | (scaled[:, 2:] < 0)).any(axis=1))


def shares_inside(boxes: NDArray[np.float64], sizes: NDArray[np.float64], spec: PoolSpec) -> NDArray[np.float64]:
    """Share of each box's area that lies on its map; of a box without extent, whether it lies there.

    Parameters
    ----------
    boxes, sizes, spec
        As in `lie_outside`.

    Returns
    -------
    (K,) float64
        From 0 to 1.

    Examples
    --------
    >>> boxes = np.array([[0, 0, 32, 32.0], [96, 0, 160, 64], [7, 7, 7, 7]])
    >>> shares_inside(boxes, np.full((3, 4), 8.0), PoolSpec((7, 7), spatial_scale=1 / 16)).tolist()
    [1.0, 0.5, 1.0]
    """
    scaled = boxes * spec.spatial_scale
    low, high = np.minimum(scaled[:, :2], scaled[:, 2:]), np.maximum(scaled[:, :2], scaled[:, 2:])
    ends = sizes[:, :2]
    with np.errstate(divide="ignore", invalid="ignore"):
        part = (np.clip(high, 0, ends) - np.clip(low, 0, ends)) / (high - low)
    share: NDArray[np.float64] = np.where(high > low, part, (low >= 0) & (low <= ends)).prod(axis=1)
    return share


def beyond_sampling(boxes: FloatArray, spec: PoolSpec) -> NDArray[np.bool_]:
    """Tell which boxes are so large at their scale that their samples cannot be counted.

    Parameters
    ----------
    boxes, spec
        As in `in_cells`. RoIPool has no samples.
    """
    if spec.op == "roi_pool":
        return np.zeros(len(boxes), np.bool_)
    height, width = spec.output_size
    x1, y1, x2, y2 = boxes.T
    return too_large(x1, x2, width, spec) | too_large(y1, y2, height, spec)


def has_no_samples(boxes: FloatArray, spec: PoolSpec) -> NDArray[np.bool_]:
    """Tell which boxes have no sample since they have no width or no height.

    Adaptive sampling takes as many samples as a bin has cells; unless `aligned`, a box is made one cell wide first.

    Parameters
    ----------
    boxes, spec
        As in `in_cells`.
    """
    if spec.op == "roi_pool" or not (spec.adaptive and spec.aligned):
        return np.zeros(len(boxes), np.bool_)
    return np.asarray((boxes[:, 2:] == boxes[:, :2]).any(axis=1))


def in_cells(boxes: FloatArray, spec: PoolSpec) -> FloatArray:
    """Place boxes as they are pooled: scaled, shifted by half a cell or made one cell wide where the spec says so.

    Parameters
    ----------
    boxes : (K, 4) float32 or float64
        xyxy in image pixels, finite, in the dtype of the computation.
    spec : PoolSpec
        What is computed. RoIPool rounds to whole cells, whose edges lie half a cell from their centres.

    Returns
    -------
    (K, 4) float32 or float64
        xyxy in cells, 0 at the centre of the first one.

    Examples
    --------
    >>> in_cells(np.array([[16.0, 32, 48, 80]]), PoolSpec((7, 7), spatial_scale=1 / 16, aligned=True)).tolist()
    [[0.5, 1.5, 2.5, 4.5]]
    """
    placed = np.empty_like(boxes)
    for axis, number in enumerate(spec.output_size[::-1]):
        low, high = boxes[:, axis], boxes[:, axis + 2]
        if spec.op == "roi_pool":
            cells = cell_ranges(low, high, number, 1, spec)
            placed[:, axis] = cells.start - 0.5
            placed[:, axis + 2] = placed[:, axis] + cells.extent
        else:
            bins = make_bins(low, high, number, 1, spec)
            placed[:, axis] = bins.start
            placed[:, axis + 2] = bins.start + bins.number * bins.size
    return placed
