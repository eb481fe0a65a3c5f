"""The adjoint of pooling: what each bin holds goes back to the cells that it reads, with the same weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from roicli.errors import BoxError, FeatureError, UsageError
from roicli.pooling.arguments import compute_dtype, make_spec, split_boxes
from roicli.pooling.contraction import runs
from roicli.pooling.kernels.choose import NUMPY_KERNEL
from roicli.pooling.operators import find
from roicli.pooling.placement import Placement, place
from roicli.pooling.sampling import FloatArray
from roicli.pooling.turned import place_turned
from roicli.spec import PoolSpec

# Regions that are placed at once.
_AT_ONCE = 1024


def roi_align_backward(
    grad: ArrayLike,
    boxes: ArrayLike | Sequence[ArrayLike],
    input_shape: tuple[int, ...],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
    *,
    op: str = "roi_align",
) -> FloatArray:
    """Return the gradient of the maps, given that of pooled blocks: the adjoint of `roi_align`.

    For all maps x and blocks y, ``(roi_align(x) * y).sum() == (x * roi_align_backward(y)).sum()`` but for rounding.

    Parameters
    ----------
    grad : (K, C, PH, PW) array
        What goes back: the gradient of a loss by the pooled blocks, or any value a bin.
    boxes, spatial_scale, sampling_ratio, aligned
        As in `roi_align`; turned boxes for "roi_align_rotated".
    input_shape : (N, C, H, W) or (C, H, W)
        Of the maps that were pooled.
    op : str
        An operator that takes means: "roi_align", "roi_align_rotated", "ps_roi_align", "ps_roi_pool",
        "precise_roi_pool", "window_mean" or "cell".

    Returns
    -------
    float32 array of `input_shape`, or float64 for float64 `grad`

    Raises
    ------
    UsageError
        An operator that takes maxima, a setting out of its range.
    FeatureError, BoxError
        Shapes that do not fit one another; see `roi_align`.

    Examples
    --------
    One bin, whose value is shared among the cells that it reads:

    >>> roi_align_backward(np.ones((1, 1, 1, 1)), [[0.5, 0, 2.5, 1]], (1, 1, 4), aligned=True)[0].tolist()
    [[0.25, 0.5, 0.25, 0.0]]
    """
    given = np.asarray(grad)
    shape = (1, *input_shape) if len(input_shape) == 3 else tuple(input_shape)
    if given.ndim != 4 or len(shape) != 4 or 0 in shape[1:]:
        raise FeatureError(
            f"grad of shape {given.shape}, input_shape {tuple(input_shape)}: expected (K, C, PH, PW) and (N, C, H, W)",
            "Give a value a bin, and the shape of the maps.",
        )
    dtype = compute_dtype(given.dtype)
    spec = make_spec(given.shape[2:], sampling_ratio=sampling_ratio, aligned=aligned, op=op)
    operator = find(spec.op)
    index, numbers = split_boxes(boxes, shape[0], dtype, 5 if operator.turns else 4)
    channels = operator.channels(shape[1], spec)
    if given.shape[:2] != (len(numbers), channels):
        raise BoxError(
            f"grad has {given.shape[0]} blocks of {given.shape[1]} channels, expected {len(numbers)} of {channels}",
            "Give a block for each box, with the channels of the pooled maps.",
        )
    placement = (place_turned if operator.turns else place)(index, numbers.astype(np.float64), spatial_scale)
    return scatter(given, placement, shape, spec, dtype).reshape(input_shape)


def scatter(
    blocks: NDArray[np.generic],
    placement: Placement,
    shape: tuple[int, ...],
    spec: PoolSpec,
    dtype: np.dtype[np.floating],
) -> FloatArray:
    """Add (K, C, PH, PW) blocks to (N, C, H, W) maps of zeros, with the weights of the operator.

    Raises
    ------
    UsageError
        The operator is not linear.
    """
    operator = find(spec.op)
    if spec.mode != "avg" or spec.reduce != "none":
        raise UsageError(
            f"{operator.title} has no adjoint", "Give an operator that takes means, such as `op=roi_align`."
        )
    maps = np.zeros((shape[0], *shape[2:], shape[1]), dtype)
    order = np.argsort(placement.map_index, kind="stable")
    order = order[placement.map_index[order] >= 0]
    for begin in range(0, len(order), _AT_ONCE):
        rows = order[begin : begin + _AT_ONCE]
        regions = placement.take(rows).rounded(dtype)
        placed = operator.place(regions, shape[2:], spec, NUMPY_KERNEL)
        for first, stop in runs(regions.map_index):
            part = blocks[rows[first:stop]].astype(dtype)
            placed.scatter(part, first, stop, maps[regions.map_index[first]])
    return np.ascontiguousarray(maps.transpose(0, 3, 1, 2))
