"""RoIAlign on arrays: arrays in, array out. Chooses the contraction and holds the dtype policy; no files, no threads.

RoIAlign (He et al., "Mask R-CNN", 2017, section 3) is linear in the feature map and separable, so average pooling is
``pooled[c] = Wy @ F[c] @ Wx.T`` with two small matrices a RoI. The numbers are those of torchvision's compiled kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from roicli.errors import BoxError, FeatureError, UsageError
from roicli.kernels.pointwise import pool_pointwise
from roicli.kernels.separable import pool_separable
from roicli.sampling import Bins, FloatArray, IntArray, axis_weights, cells_read, make_bins, sample_grid
from roicli.spec import Mode, PoolSpec

# Measured: above this share of unread cells in a window, gathering the cells that are read is cheaper.
_SPARSE = 3
# Samples and weights are made for as many RoIs at once as keep each of their arrays below so many values.
_CHUNK_VALUES = 2**18


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
        Features of another rank, of no cells, or of a dtype that is no real number.
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
    maps = feature_batch(features)
    size = np.broadcast_to(output_size, 2) if np.shape(output_size) in ((), (2,)) else np.empty(0)
    if size.dtype.kind not in "iu":
        raise UsageError(f"output_size {output_size!r} is not one whole number or two", "Give 7 or (7, 5).")
    if np.asarray(sampling_ratio).dtype.kind not in "iu":
        raise UsageError(f"sampling_ratio {sampling_ratio!r} is not a whole number", "Give 2, or -1 for adaptive.")
    spec = PoolSpec((int(size[0]), int(size[1])), float(spatial_scale), int(sampling_ratio), bool(aligned), mode)
    dtype = compute_dtype(maps.dtype)
    index, corners = _split_boxes(boxes, len(maps), dtype)
    shape = (len(corners), *spec.row_shape(maps.shape[1]))
    if out is None:
        out = np.empty(shape, dtype)
    elif out.shape != shape or not np.can_cast(dtype, out.dtype, "same_kind"):
        raise UsageError(f"out is {out.dtype} {out.shape}, the result is {dtype} {shape}", "Give an array like it.")
    for image in np.unique(index):
        rows = np.flatnonzero(index == image)
        block = np.empty((len(rows), *shape[1:]), dtype)
        pool_boxes(channels_last(maps[image]), corners[rows], spec, block)
        out[rows] = block
    return out


def compute_dtype(features: DTypeLike) -> np.dtype[Any]:
    """Dtype of the computation: float64 for float64 features, float32 for all others.

    Raises
    ------
    FeatureError
        A dtype that is no real number, or wider than float64.
    """
    dtype = np.dtype(features)
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise FeatureError(f"features of dtype {dtype} cannot be pooled", "Give float16, float32, float64 or integers.")
    return np.dtype(np.float64 if dtype.kind == "f" and dtype.itemsize == 8 else np.float32)


def feature_batch(features: ArrayLike) -> NDArray[Any]:
    """Features as (N, C, H, W), with rank, dtype and shape checked; a view where that is possible."""
    maps = np.asarray(features)
    if maps.ndim == 3:
        maps = maps[None]
    if maps.ndim != 4:
        raise FeatureError(
            f"features of shape {maps.shape} are no feature maps", "Give (N, C, H, W), or (C, H, W) for one map."
        )
    compute_dtype(maps.dtype)
    if 0 in maps.shape[1:]:
        raise FeatureError(f"features of shape {maps.shape} have no cells", "Give maps with at least one cell.")
    return maps


def channels_last(feature_map: NDArray[Any]) -> FloatArray:
    """Lay one map out for the kernels: (C, H, W) of any dtype and strides to contiguous (H, W, C).

    Returns the map itself, transposed, where it lies in memory like that already; a copy otherwise.
    """
    dtype = compute_dtype(feature_map.dtype)
    view = feature_map.transpose(1, 2, 0)
    if view.flags.c_contiguous and view.dtype == dtype:
        return view
    return np.ascontiguousarray(view, dtype)


def pool_boxes(feature_map: FloatArray, boxes: NDArray[Any], spec: PoolSpec, out: FloatArray) -> int:
    """Pool K boxes of one map.

    Parameters
    ----------
    feature_map : (H, W, C) float32 or float64
        As `channels_last` makes it.
    boxes : (K, 4)
        xyxy in image pixels, finite; rounded to the dtype of the map.
    spec : PoolSpec
        What to compute.
    out : (K, C, PH, PW), or (K, C) where the bins are averaged away
        Contiguous, of the dtype of the map. A RoI's numbers do not depend on which others are pooled beside it.

    Returns
    -------
    int
        How many RoIs have a number that is not finite, because they read a NaN or infinite cell.
    """
    height, width, channels = feature_map.shape
    boxes = boxes.astype(feature_map.dtype)
    out = out.reshape(len(boxes), channels, *spec.pooled_size)
    per_roi = max(
        bins * max(length, spec.sampling_ratio) for bins, length in zip(spec.output_size, (height, width), strict=True)
    )
    step = max(1, _CHUNK_VALUES // per_roi)
    not_finite = 0
    with np.errstate(invalid="ignore", over="ignore"):
        for first in range(0, len(boxes), step):
            part = slice(first, first + step)
            x1, y1, x2, y2 = boxes[part].T
            rows = make_bins(y1, y2, spec.output_size[0], height, spec)
            columns = make_bins(x1, x2, spec.output_size[1], width, spec)
            not_finite += _pool_bins(feature_map, rows, columns, spec, out[part])
    return not_finite


def _pool_bins(feature_map: FloatArray, rows: Bins, columns: Bins, spec: PoolSpec, out: FloatArray) -> int:
    if spec.mode == "max":
        _pool_samples(feature_map, rows, columns, spec, out)
        return len(_not_finite(out))
    _pool_weights(feature_map, rows, columns, spec, out)
    # A non-finite cell has spread over the block of each RoI whose window holds it: pool these again, exactly.
    spoilt = _not_finite(out)
    if not len(spoilt):
        return 0
    again = np.empty((len(spoilt), *out.shape[1:]), out.dtype)
    _pool_samples(feature_map, rows.take(spoilt), columns.take(spoilt), spec, again)
    out[spoilt] = again
    return len(_not_finite(again))


def _pool_weights(feature_map: FloatArray, rows: Bins, columns: Bins, spec: PoolSpec, out: FloatArray) -> None:
    """Contract with one weight matrix an axis: averages."""
    grid_y, grid_x = sample_grid(rows), sample_grid(columns)
    cells_y, cells_x = cells_read(grid_y), cells_read(grid_x)
    window = (cells_y.stop - cells_y.first) * (cells_x.stop - cells_x.first)
    whole = window <= _SPARSE * cells_y.read.sum(axis=1) * cells_x.read.sum(axis=1)
    mean = spec.reduce == "mean"
    weights_y = axis_weights(grid_y, cells_y, whole, mean=mean)
    weights_x = axis_weights(grid_x, cells_x, whole, mean=mean)
    pool_separable(feature_map, weights_y, weights_x, out)


def _pool_samples(feature_map: FloatArray, rows: Bins, columns: Bins, spec: PoolSpec, out: FloatArray) -> None:
    """Interpolate every sample: maxima, and averages of RoIs with cells that are not finite."""
    mean = spec.reduce == "mean"
    blocks = np.empty((*out.shape[:2], *spec.output_size), out.dtype) if mean else out
    pool_pointwise(feature_map, sample_grid(rows), sample_grid(columns), spec.mode, blocks)
    if mean:
        np.mean(blocks, axis=(2, 3), keepdims=True, out=out)


def _not_finite(blocks: FloatArray) -> IntArray:
    """RoIs with a NaN or an infinity; the sums tell it for all values at the price of reading them once."""
    flat = blocks.reshape(len(blocks), -1)
    suspects = np.flatnonzero(~np.isfinite(flat.sum(axis=1)))
    return suspects[~np.isfinite(flat[suspects]).all(axis=1)]


def _split_boxes(boxes: Any, images: int, dtype: np.dtype[Any]) -> tuple[IntArray, FloatArray]:
    """Batch index and corners of boxes in any form that `roi_align` takes; corners rounded to `dtype`."""
    if isinstance(boxes, list | tuple) and len(boxes) == images and all(np.ndim(part) == 2 for part in boxes):
        parts = [_numbers(part, (4,)) for part in boxes]
        index = np.repeat(np.arange(images), [len(part) for part in parts])
        corners = np.concatenate(parts) if parts else np.empty((0, 4))
    else:
        table = _numbers(boxes, (4, 5))
        if table.shape[1] == 4:
            if images != 1 and len(table):
                raise BoxError(
                    f"boxes of shape {table.shape} do not say which of {images} maps they belong to",
                    "Give (K, 5) with the batch index first, or a list with one (L, 4) array for each map.",
                )
            table = np.insert(table, 0, 0, axis=1)
        corners = table[:, 1:]
        bad = ~((table[:, 0] >= 0) & (table[:, 0] < images) & (table[:, 0] % 1 == 0))
        if bad.any():
            row = int(bad.argmax())
            raise BoxError(
                f"box {row} has batch index {table[row, 0]:g}, which names none of {images} maps",
                f"Give whole numbers from 0 to {images - 1}.",
            )
        index = table[:, 0].astype(np.intp)
    with np.errstate(over="ignore"):
        rounded: FloatArray = corners.astype(dtype)
    finite = np.isfinite(rounded).all(axis=1)
    if not finite.all():
        row = int(finite.argmin())
        raise BoxError(
            f"box {row} is not finite in {dtype}: {corners[row].tolist()}",
            "Remove the boxes with NaN or infinite numbers.",
        )
    return index, rounded


def _numbers(boxes: ArrayLike, columns: tuple[int, ...]) -> NDArray[Any]:
    try:
        table = np.asarray(boxes)
    except ValueError:  # rows of unequal length
        table = np.empty(0, dtype=object)
    if table.shape == (0,) and table.dtype != object:  # an empty list
        return np.empty((0, columns[-1]))
    if table.dtype.kind not in "iuf" or table.ndim != 2 or table.shape[1] not in columns:
        raise BoxError(
            f"boxes of dtype {table.dtype} and shape {table.shape} are no table of boxes",
            "Give rows of x1, y1, x2, y2, or of five numbers with the batch index first.",
        )
    return table
