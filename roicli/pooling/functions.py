"""The operators other than RoIAlign on arrays, under the names and with the numbers of other libraries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from numpy.typing import ArrayLike

from roicli.errors import UsageError
from roicli.pooling.engine import pool_batch
from roicli.pooling.sampling import FloatArray

Boxes = ArrayLike | Sequence[ArrayLike]


def roi_align_rotated(
    features: ArrayLike,
    boxes: Boxes,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    *,
    angle_unit: Literal["degree", "radian"] = "degree",
    clockwise: bool = False,
    out: FloatArray | None = None,
    threads: int | None = None,
) -> FloatArray:
    """Pool turned boxes by RoIAlign, with the meaning and the numbers of detectron2's and mmcv's `roi_align_rotated`.

    Parameters
    ----------
    features, output_size, spatial_scale, sampling_ratio, out, threads
        As in `roi_align`.
    boxes : (K, 6), (K, 5) or a list of N (L, 5) arrays
        cx, cy, w, h in image pixels, and the angle by which the box is turned about its centre. With six columns the
        batch index comes first.
    angle_unit : {"degree", "radian"}
        detectron2 takes degrees, mmcv and OpenVINO radians.
    clockwise : bool
        Whether angles count clockwise as the image is seen, as with mmcv's ``clockwise=True``.

    Returns
    -------
    (K, C, PH, PW) float32, or float64 for float64 features
        Bins count from the upper left corner of the box before it is turned.

    Notes
    -----
    The half-pixel shift is always there: with an angle of 0 the numbers are those of ``roi_align(..., aligned=True)``.

    References
    ----------
    .. [1] detectron2/layers/csrc/ROIAlignRotated/ROIAlignRotated_cpu.cpp.

    Examples
    --------
    A ramp along x. The box is turned by a quarter: its upper left corner is below now, and x grows downwards in it.

    >>> import numpy as np
    >>> ramp = np.tile(np.arange(8.0), (1, 8, 1))
    >>> roi_align_rotated(ramp, [[4, 4, 4, 4, 90]], 2)[0, 0].round(6).tolist()
    [[2.5, 2.5], [4.5, 4.5]]
    """
    if angle_unit not in ("degree", "radian"):
        raise UsageError(f"angle_unit must be 'degree' or 'radian', got {angle_unit!r}")
    degrees = (1.0 if angle_unit == "degree" else math.degrees(1)) * (-1 if clockwise else 1)
    return pool_batch(
        *(features, boxes, output_size, spatial_scale, out, threads),
        degrees=degrees,
        sampling_ratio=sampling_ratio,
        op="roi_align_rotated",
    )


def ps_roi_align(
    features: ArrayLike,
    boxes: Boxes,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    *,
    out: FloatArray | None = None,
    threads: int | None = None,
) -> FloatArray:
    """Pool by position-sensitive RoIAlign, with the meaning and the numbers of ``torchvision.ops.ps_roi_align``.

    Parameters, result and errors are those of `roi_align`. A map of C * PH * PW channels gives C channels: bin
    (ph, pw) of channel c reads channel ``(c * PH + ph) * PW + pw``. A box without samples gives zeros, where
    torchvision divides by zero.

    References
    ----------
    .. [1] torchvision/csrc/ops/cpu/ps_roi_align_kernel.cpp.

    Examples
    --------
    >>> import numpy as np
    >>> maps = np.arange(4.0)[:, None, None] + np.zeros((4, 8, 8))  # channel n holds n
    >>> ps_roi_align(maps, [[1, 1, 5, 5]], 2)[0].tolist()
    [[[0.0, 1.0], [2.0, 3.0]]]
    """
    return pool_batch(
        *(features, boxes, output_size, spatial_scale, out, threads), sampling_ratio=sampling_ratio, op="ps_roi_align"
    )


def ps_roi_pool(
    features: ArrayLike,
    boxes: Boxes,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    *,
    out: FloatArray | None = None,
    threads: int | None = None,
) -> FloatArray:
    """Pool by position-sensitive RoIPool, with the meaning and the numbers of ``torchvision.ops.ps_roi_pool``.

    As `ps_roi_align`, but a bin is the mean of whole cells. As in torchvision, the last row and column of a map are
    never read.

    References
    ----------
    .. [1] torchvision/csrc/ops/cpu/ps_roi_pool_kernel.cpp.

    Examples
    --------
    >>> import numpy as np
    >>> ps_roi_pool(np.arange(16.0).reshape(1, 4, 4), [[0, 0, 2, 2]], 1).tolist()
    [[[[2.5]]]]
    """
    return pool_batch(features, boxes, output_size, spatial_scale, out, threads, op="ps_roi_pool")


def precise_roi_pool(
    features: ArrayLike,
    boxes: Boxes,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    *,
    out: FloatArray | None = None,
    threads: int | None = None,
) -> FloatArray:
    """Pool by Precise RoI pooling: the exact mean of the interpolated map over each bin.

    Parameters, result and errors are those of `roi_align`. The map is interpolated between the centres of its cells,
    at whole coordinates, and falls to zero within a cell beyond the first and the last. A box without area gives zeros.

    References
    ----------
    .. [1] B. Jiang, R. Luo, J. Mao, T. Xiao, Y. Jiang, "Acquisition of Localization Confidence for Accurate Object
       Detection", ECCV 2018, section 3.2.

    Examples
    --------
    A ramp along x: the mean over a bin is the x of its middle.

    >>> import numpy as np
    >>> precise_roi_pool(np.tile(np.arange(8.0), (1, 8, 1)), [[1, 1, 5, 5]], 2)[0, 0].round(6).tolist()
    [[2.0, 4.0], [2.0, 4.0]]
    """
    return pool_batch(features, boxes, output_size, spatial_scale, out, threads, op="precise_roi_pool")
