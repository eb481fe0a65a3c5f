"""RoIAlign on arrays: arrays in, array out. Chooses the contraction and holds the dtype policy; no files, no threads.

RoIAlign (He et al., "Mask R-CNN", 2017, section 3) is linear in the feature map and separable, so average pooling is
``pooled[c] = Wy @ F[c] @ Wx.T`` with two small matrices a RoI. The numbers are those of torchvision's compiled kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from roicli.arguments import compute_dtype, feature_batch, make_spec, split_boxes
from roicli.errors import UsageError
from roicli.kernels.choose import NUMPY_KERNEL, Kernel
from roicli.kernels.maximum import pool_maximum
from roicli.kernels.pointwise import pool_pointwise
from roicli.sampling import Bins, CellRanges, FloatArray, IntArray, cell_ranges, cells_in_reach, make_bins, sample_grid
from roicli.spec import Mode, PoolSpec
from roicli.weights import axis_weights, cells_read

# Maps are transposed in tiles: whole lines of the map, so many cells, and channels. Long runs of channels, since each
# costs as much to begin as 25 of them to copy; not longer, since a run touches so many lines of the cache.
_TILE_CELLS, _TILE_CHANNELS = 2048, 512
# Samples and weights are made for as many RoIs at once as keep each of their arrays below so many values.
_CHUNK_VALUES = 2**19


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
    settings = {"spatial_scale": spatial_scale, "sampling_ratio": sampling_ratio, "aligned": aligned, "mode": mode}
    return _pool_batch(features, boxes, output_size, out, **settings)


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
    return _pool_batch(features, boxes, output_size, out, spatial_scale=spatial_scale, mode="max", op="roi_pool")


def channels_last(
    feature_map: NDArray[Any], window: tuple[slice, slice] | None = None, buffer: FloatArray | None = None
) -> FloatArray:
    """Lay one map out for the kernels: (C, H, W) of any dtype and strides to contiguous (H, W, C).

    Returns the map itself, transposed, where it lies in memory like that already; a copy otherwise, which is made in
    `buffer` if that has its shape and dtype. Of a copy, only the rows and columns of `window` are filled.
    """
    dtype = compute_dtype(feature_map.dtype)
    view = feature_map.transpose(1, 2, 0)
    if view.flags.c_contiguous and view.dtype == dtype:
        return view
    fits = buffer is not None and (buffer.shape, buffer.dtype) == (view.shape, dtype)
    copy = buffer if buffer is not None and fits else np.empty(view.shape, dtype)
    height, width, channels = view.shape
    rows, columns = window or (slice(0, height), slice(0, width))
    lines = max(1, _TILE_CELLS // max(1, columns.stop - columns.start))
    for y in range(rows.start, rows.stop, lines):
        for c in range(0, channels, _TILE_CHANNELS):
            tile = np.s_[y : min(y + lines, rows.stop), columns, c : c + _TILE_CHANNELS]
            copy[tile] = view[tile]
    return copy


def pool_boxes(
    feature_map: FloatArray, boxes: NDArray[Any], spec: PoolSpec, out: FloatArray, kernel: Kernel = NUMPY_KERNEL
) -> int:
    """Pool K boxes of one map.

    Parameters
    ----------
    feature_map : (H, W, C) float32 or float64
        As `channels_last` makes it; cells that no box has in reach need not be filled.
    boxes : (K, 4)
        xyxy in image pixels, finite; rounded to the dtype of the map.
    spec : PoolSpec
        What to compute.
    out : (K, C, PH, PW), or (K, C) where the bins are averaged away
        Contiguous, of the dtype of the map. A RoI's numbers do not depend on which others are pooled beside it.
    kernel : Kernel
        What contracts averages.

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
    # Where more is written than the map holds, reading the map tells sooner that nothing can go wrong.
    reach = feature_map[cells_in_reach(boxes, height, width, spec)]
    harmless = out.size > reach.size > 0 and _harmless(reach)
    with np.errstate(invalid="ignore", over="ignore"):
        for first in range(0, len(boxes), step):
            part = slice(first, first + step)
            x1, y1, x2, y2 = boxes[part].T
            if spec.op == "roi_pool":
                cells_y = cell_ranges(y1, y2, spec.output_size[0], height, spec)
                cells_x = cell_ranges(x1, x2, spec.output_size[1], width, spec)
                _pool_cells(feature_map, cells_y, cells_x, spec, out[part])
                not_finite += 0 if harmless else len(_not_finite(out[part]))
            else:
                rows = make_bins(y1, y2, spec.output_size[0], height, spec)
                columns = make_bins(x1, x2, spec.output_size[1], width, spec)
                if spec.mode == "max":
                    _pool_samples(feature_map, rows, columns, spec, out[part])
                else:
                    _pool_weights(feature_map, rows, columns, spec, out[part], kernel)
                not_finite += 0 if harmless else _mend(feature_map, rows, columns, spec, out[part])
    return not_finite


def _mend(feature_map: FloatArray, rows: Bins, columns: Bins, spec: PoolSpec, out: FloatArray) -> int:
    """Count the RoIs that are not finite, after averages among them are pooled again.

    A non-finite cell has spread over the whole block of each RoI whose window holds it.
    """
    spoilt = _not_finite(out)
    if len(spoilt) and spec.mode == "avg":
        again = np.empty((len(spoilt), *out.shape[1:]), out.dtype)
        _pool_samples(feature_map, rows.take(spoilt), columns.take(spoilt), spec, again)
        out[spoilt] = again
        spoilt = _not_finite(again)
    return len(spoilt)


def _pool_weights(
    feature_map: FloatArray, rows: Bins, columns: Bins, spec: PoolSpec, out: FloatArray, kernel: Kernel
) -> None:
    """Contract with one weight matrix an axis: averages."""
    grid_y, grid_x = sample_grid(rows), sample_grid(columns)
    cells_y, cells_x = cells_read(grid_y), cells_read(grid_x)
    window = (cells_y.stop - cells_y.first) * (cells_x.stop - cells_x.first)
    whole = window <= kernel.sparse * cells_y.number() * cells_x.number()
    mean = spec.reduce == "mean"
    weights_y = axis_weights(grid_y, cells_y, whole, mean=mean)
    weights_x = axis_weights(grid_x, cells_x, whole, mean=mean)
    kernel.contract(feature_map, weights_y, weights_x, out)


def _pool_samples(feature_map: FloatArray, rows: Bins, columns: Bins, spec: PoolSpec, out: FloatArray) -> None:
    """Interpolate every sample: maxima, and averages of RoIs with cells that are not finite."""
    with _blocks(spec, out) as blocks:
        pool_pointwise(feature_map, sample_grid(rows), sample_grid(columns), spec.mode, blocks)


def _pool_cells(
    feature_map: FloatArray, rows: CellRanges, columns: CellRanges, spec: PoolSpec, out: FloatArray
) -> None:
    """Take the maximum over whole cells."""
    with _blocks(spec, out) as blocks:
        pool_maximum(feature_map, rows, columns, blocks)


@contextmanager
def _blocks(spec: PoolSpec, out: FloatArray) -> Iterator[FloatArray]:
    """Yield where whole blocks go: `out` itself, or a buffer whose bins are averaged into it afterwards."""
    if spec.reduce == "none":
        yield out
    else:
        blocks = np.empty((*out.shape[:2], *spec.output_size), out.dtype)
        yield blocks
        np.mean(blocks, axis=(2, 3), keepdims=True, out=out)


def _harmless(feature_map: FloatArray) -> bool:
    """Whether all cells are finite, and too small for any sum of them to overflow."""
    bound = np.finfo(feature_map.dtype).max / 4
    return bool(feature_map.min() > -bound and feature_map.max() < bound)


def _not_finite(blocks: FloatArray) -> IntArray:
    """RoIs with a NaN or an infinity; the sums tell it for all values at the price of reading them once."""
    flat = blocks.reshape(len(blocks), -1)
    suspects = np.flatnonzero(~np.isfinite(flat.sum(axis=1)))
    return suspects[~np.isfinite(flat[suspects]).all(axis=1)]


def _pool_batch(
    features: ArrayLike,
    boxes: ArrayLike | Sequence[ArrayLike],
    output_size: int | tuple[int, int],
    out: FloatArray | None,
    **settings: Any,
) -> FloatArray:
    """Check what a caller gave, and pool map by map."""
    maps = feature_batch(features)
    spec = make_spec(output_size, **settings)
    dtype = compute_dtype(maps.dtype)
    index, corners = split_boxes(boxes, len(maps), dtype)
    shape = (len(corners), *spec.row_shape(maps.shape[1]))
    if out is None:
        out = np.empty(shape, dtype)
    elif out.shape != shape or not np.can_cast(dtype, out.dtype, "same_kind"):
        raise UsageError(f"out is {out.dtype} {out.shape}, the result is {dtype} {shape}", "Give an array like it.")
    for image in np.unique(index):
        rows = np.flatnonzero(index == image)
        block = np.empty((len(rows), *shape[1:]), dtype)
        window = cells_in_reach(corners[rows], maps.shape[2], maps.shape[3], spec)
        pool_boxes(channels_last(maps[image], window), corners[rows], spec, block)
        out[rows] = block
    return out
