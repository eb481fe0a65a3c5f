"""RoIAlign and RoIPool on arrays: arrays in, array out.

RoIAlign (He et al., "Mask R-CNN", 2017, section 3) is linear in the feature map and separable, so average pooling is
``pooled[c] = Wy @ F[c] @ Wx.T`` with two small matrices a RoI. The numbers are those of torchvision's compiled kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from roicli.pooling.arguments import check_out, compute_dtype, feature_batch, make_spec, split_boxes
from roicli.pooling.channels_last import channels_last
from roicli.pooling.contraction import pool_maps, runs
from roicli.pooling.kernels.choose import NUMPY_KERNEL, Kernel, KernelChoice, load_kernel
from roicli.pooling.operators import find
from roicli.pooling.placement import Placement, place
from roicli.pooling.sampling import FloatArray, cells_in_reach
from roicli.pooling.team import Share, team
from roicli.pooling.turned import place_turned
from roicli.spec import Mode, PoolSpec

# Threads of the NumPy kernel pay for regions of so many values on average; with fewer, one thread is as fast.
_LARGE_VALUES = 2**17


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
    threads: int | None = None,
    kernel: KernelChoice = "auto",
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
        Where to write; float64 results may be written to narrower floats, as ``casting="same_kind"`` allows. It must
        not overlap `features`.
    threads : int, optional
        How many threads to use at most; by default one for each usable core, fewer for a small call. The result does
        not depend on it.
    kernel : {"auto", "numpy", "numba"}
        What averages are computed by; "auto" takes Numba where it is installed. The last bits of the two differ.

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
    return pool_batch(
        *(features, boxes, output_size, spatial_scale, out, threads, kernel),
        sampling_ratio=sampling_ratio,
        aligned=aligned,
        mode=mode,
    )


def roi_pool(
    features: ArrayLike,
    boxes: ArrayLike | Sequence[ArrayLike],
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    *,
    out: FloatArray | None = None,
    threads: int | None = None,
) -> FloatArray:
    """Pool regions of feature maps by RoIPool, with the meaning and the numbers of ``torchvision.ops.roi_pool``.

    The predecessor of RoIAlign: corners are rounded to whole cells, bins are rounded outwards, and a bin is the
    maximum of its cells; a bin without a cell on the map is zero. As in torchvision, NaN cells are passed over, and a
    bin of nothing else is the lowest float32. Parameters, result and errors are those of `roi_align`.

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
    return pool_batch(features, boxes, output_size, spatial_scale, out, threads, op="roi_pool")


def pool_batch(
    features: ArrayLike,
    boxes: ArrayLike | Sequence[ArrayLike],
    output_size: int | tuple[int, int],
    spatial_scale: float,
    out: FloatArray | None,
    threads: int | None,
    kernel: KernelChoice = "auto",
    *,
    degrees: float = 1.0,
    **settings: Any,
) -> FloatArray:
    """Check what a caller gave, and pool map by map; a unit of angles is so many degrees counter-clockwise."""
    maps = feature_batch(features)
    spec = make_spec(output_size, **settings)
    dtype = compute_dtype(maps.dtype)
    operator = find(spec.op)
    index, corners = split_boxes(boxes, len(maps), dtype, 5 if operator.turns else 4)
    if operator.turns:
        placement = place_turned(index, corners * np.array([1, 1, 1, 1, degrees]), spatial_scale)
    else:
        placement = place(index, corners, spatial_scale)
    shape = (len(corners), *spec.row_shape(operator.channels(maps.shape[1], spec)))
    if out is None:
        out = np.empty(shape, dtype)
    else:
        check_out(out, shape, dtype, maps)
    chosen = load_kernel(kernel, dtype) if operator.contracts(spec) else NUMPY_KERNEL
    order = None if (np.diff(index) >= 0).all() else np.argsort(index, kind="stable")
    if order is not None:
        placement = placement.take(order)
    in_place = order is None and out.dtype == dtype and out.flags.c_contiguous
    pooled = out if in_place else np.empty(shape, dtype)
    if threads is None and chosen is NUMPY_KERNEL and not _are_large(maps, placement, spec):
        threads = 1
    with team(threads, values=pooled.size) as share:
        _pool_maps(maps, placement, spec, pooled, chosen, share)
    if not in_place:
        out[slice(None) if order is None else order] = pooled
    return out


def _are_large(maps: NDArray[Any], placement: Placement, spec: PoolSpec) -> bool:
    """Whether regions are so large that threads do not wait for each other's Python between two products."""
    height, width = maps.shape[2:]
    left, top, right, bottom = find(spec.op).extents(placement, (height, width), spec).T
    cells = np.clip(bottom - top, 1, height) * np.clip(right - left, 1, width)
    return bool(cells.size and cells.mean() * maps.shape[1] >= _LARGE_VALUES)


def _pool_maps(
    maps: NDArray[Any], placement: Placement, spec: PoolSpec, out: FloatArray, kernel: Kernel, share: Share
) -> None:
    """Pool regions that lie side by side for each map; a team shares the layout of a map, then its regions."""
    buffer = None
    for first, stop in runs(placement.map_index):
        feature_map, here = maps[placement.map_index[first]], placement.take(slice(first, stop))
        window = cells_in_reach(here, spec.rule, *maps.shape[2:])
        laid_out = channels_last(feature_map, window, buffer, share)
        buffer = laid_out if laid_out.flags.owndata else None

        def pool(part: slice, here: Placement = here, first: int = first, laid_out: FloatArray = laid_out) -> None:
            rows = slice(first + part.start, first + part.stop)
            pool_maps(lambda _: laid_out, here.take(part), laid_out.shape[:2], spec, out[rows], kernel)

        share(pool, stop - first)
