"""RoIAlign on arrays: arrays in, array out. No files, no threads.

RoIAlign (He et al., "Mask R-CNN", 2017, section 3) is linear in the feature map and separable, so average pooling is
``pooled[c] = Wy @ F[c] @ Wx.T`` with two small matrices a RoI. The numbers are those of torchvision's compiled kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from roicli.errors import UsageError
from roicli.pooling.arguments import compute_dtype, feature_batch, make_spec, split_boxes
from roicli.pooling.channels_last import channels_last
from roicli.pooling.contraction import pool_maps
from roicli.pooling.operators import find
from roicli.pooling.placement import place
from roicli.pooling.sampling import FloatArray, cells_in_reach
from roicli.spec import Mode


def roi_align(
    features: ArrayLike,
    boxes: ArrayLike | Sequence[ArrayLike],
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
    *,
    mode: Mode = "avg",
    out: FloatArray | None = None,
) -> FloatArray:
    """Pool regions of feature maps by RoIAlign, with the meaning and the numbers of ``torchvision.ops.roi_align``.

    Parameters
    ----------
    features : (N, C, H, W) or (C, H, W) array of float16, float32, float64 or integers
        Feature maps, strided or not, in any byte order. Integers and float16 are computed as float32.
    boxes : (K, 5), (K, 4) or a list of N (L, 4) arrays
        xyxy in image pixels. With five columns the batch index comes first; four columns are for a single map. Boxes
        are rounded to the dtype of the computation first, as a tensor would be.
    output_size : int or (int, int)
        Bins of the pooled block: height PH and width PW.
    spatial_scale : float
        Feature cells per image pixel (1 / stride).
    sampling_ratio : int
        Sample points per bin along each axis; 0 or less takes ``ceil(RoI side / bins)``.
    aligned : bool
        Shift boxes by half a cell, and do not enlarge RoIs below one cell (detectron2's RoIAlignV2).
    mode : {"avg", "max"}
        A bin is the mean or the maximum of its interpolated samples; samples out of range count as zero.
    out : (K, C, PH, PW) array, optional
        Where to write; float64 results may be written to narrower floats, as ``casting="same_kind"`` allows.

    Returns
    -------
    (K, C, PH, PW) float32, or float64 for float64 features
        `out` if that was given.

    Raises
    ------
    FeatureError
        Features of another rank, without cells, or not of real numbers.
    BoxError
        A NaN or infinite box, a batch index that is not whole or out of range, the wrong number of columns.
    UsageError
        A setting out of its range, an `out` of another shape.

    Notes
    -----
    A NaN or infinite cell reaches exactly the bins that read it; samples out of range read nothing, where torchvision
    lets them read cell (0, 0) with weight zero. A box turned inside out is pooled backwards with
    ``aligned=True`` and a fixed sampling ratio, and gives zeros where torchvision aborts (aligned, adaptive).

    References
    ----------
    .. [1] K. He, G. Gkioxari, P. Dollar, R. Girshick, "Mask R-CNN", ICCV 2017, section 3.
    .. [2] torchvision/csrc/ops/cpu/roi_align_kernel.cpp and roi_align_common.h.

    Examples
    --------
    A ramp along x: a bin's mean is the x of its centre.

    >>> ramp = np.tile(np.arange(8.0), (1, 8, 1))
    >>> roi_align(ramp, [[1, 1, 5, 5]], 2, aligned=True)[0, 0]
    array([[1.5, 3.5],
           [1.5, 3.5]])
    """
    settings = {"sampling_ratio": sampling_ratio, "aligned": aligned, "mode": mode}
    return _pool_batch(features, boxes, output_size, spatial_scale, out, **settings)


def roi_pool(
    features: ArrayLike,
    boxes: ArrayLike | Sequence[ArrayLike],
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    *,
    out: FloatArray | None = None,
) -> FloatArray:
    """Pool regions of feature maps by RoIPool, with the meaning and the numbers of ``torchvision.ops.roi_pool``.

    The predecessor of RoIAlign: corners are rounded to whole cells, bins are rounded outwards, and a bin is the
    maximum of its cells; a bin without a cell on the map is zero.

    Parameters
    ----------
    features, boxes, output_size, spatial_scale, out
        As in `roi_align`.

    Returns
    -------
    (K, C, PH, PW) float32, or float64 for float64 features

    Raises
    ------
    FeatureError, BoxError, UsageError
        As in `roi_align`.

    Notes
    -----
    As in torchvision, NaN cells are passed over, and a bin of nothing else is the lowest float32.

    References
    ----------
    .. [1] R. Girshick, "Fast R-CNN", ICCV 2015, section 2.1.
    .. [2] torchvision/csrc/ops/cpu/roi_pool_kernel.cpp.

    Examples
    --------
    >>> roi_pool(np.arange(16.0).reshape(1, 4, 4), [[0.4, 0.0, 3.0, 2.6]], 2)[0, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    """
    return _pool_batch(features, boxes, output_size, spatial_scale, out, op="roi_pool")


def _laid_out(maps: NDArray[Any], window: tuple[slice, slice], image: int) -> FloatArray:
    return channels_last(maps[image], window)


def _pool_batch(
    features: ArrayLike,
    boxes: ArrayLike | Sequence[ArrayLike],
    output_size: int | tuple[int, int],
    spatial_scale: float,
    out: FloatArray | None,
    **settings: Any,
) -> FloatArray:
    """Check what a caller gave, and pool map by map."""
    maps = feature_batch(features)
    spec = make_spec(output_size, **settings)
    dtype = compute_dtype(maps.dtype)
    index, corners = split_boxes(boxes, len(maps), dtype)
    placement = place(index, corners, spatial_scale)
    shape = (len(corners), *spec.row_shape(find(spec.op).channels(maps.shape[1])))
    if out is None:
        out = np.empty(shape, dtype)
    elif out.shape != shape or not np.can_cast(dtype, out.dtype, "same_kind"):
        raise UsageError(f"out is {out.dtype} {out.shape}, the result is {dtype} {shape}", "Give an array like it.")
    for image in np.unique(index):
        rows = np.flatnonzero(index == image)
        block = np.empty((len(rows), *shape[1:]), dtype)
        here = placement.take(rows)
        window = cells_in_reach(here.boxes, here.scale, *maps.shape[2:])
        pool_maps(partial(_laid_out, maps, window), here, maps.shape[2:], spec, block)
        out[rows] = block
    return out
