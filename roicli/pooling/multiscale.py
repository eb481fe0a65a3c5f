"""RoIAlign on feature pyramids: each box is pooled from the level that fits its size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from roicli.errors import FeatureError, UsageError
from roicli.pooling.arguments import compute_dtype, feature_batch, split_boxes
from roicli.pooling.engine import roi_align
from roicli.pooling.levels import assign_levels
from roicli.pooling.placement import check_scale
from roicli.pooling.sampling import FloatArray
from roicli.spec import Mode


def multiscale_roi_align(
    features: Sequence[ArrayLike] | Mapping[str, ArrayLike],
    boxes: ArrayLike | Sequence[ArrayLike],
    output_size: int | tuple[int, int],
    sampling_ratio: int = 2,
    image_shapes: Sequence[tuple[int, int]] | None = None,
    *,
    featmap_names: Sequence[str] | None = None,
    scales: Sequence[float] | None = None,
    canonical_scale: float = 224,
    canonical_level: int = 4,
    level_rule: str = "torchvision",
    aligned: bool = False,
    mode: Mode = "avg",
) -> FloatArray:
    """Pool regions of a feature pyramid, with the numbers of ``torchvision.ops.MultiScaleRoIAlign``.

    Parameters
    ----------
    features : sequence or mapping of (N, C, H, W) arrays
        The levels, the finest first, each half as high and wide as the one before.
    boxes : (K, 5), (K, 4) or a list of N (L, 4) arrays
        xyxy in pixels of the network's input; see `roi_align`.
    output_size, sampling_ratio, aligned, mode
        See `roi_align`. torchvision does not align here; detectron2 does, with the adaptive sampling ratio.
    image_shapes : sequence of (int, int), optional
        Height and width of each image as the network saw it. The scales follow from the largest, as in torchvision.
    featmap_names : sequence of str, optional
        Which levels of a mapping to use; all of them by default.
    scales : sequence of float, optional
        Cells per pixel of each level, such as ``[1/4, 1/8, 1/16, 1/32]``, instead of `image_shapes`.
    canonical_scale, canonical_level, level_rule
        See `roicli.pooling.levels`: "torchvision", "detectron2", "mmdet" or "matterport".

    Returns
    -------
    (K, C, PH, PW) float32, or float64 for float64 features

    Raises
    ------
    FeatureError, BoxError, UsageError
        As in `roi_align`; levels that do not fit together.

    Examples
    --------
    >>> levels = [np.full((1, 1, side, side), side, np.float32) for side in (64, 32, 16, 8)]
    >>> boxes = [[0, 0, 50, 50], [0, 0, 224, 224]]
    >>> multiscale_roi_align(levels, boxes, 1, image_shapes=[(256, 256)]).ravel().tolist()
    [64.0, 16.0]
    """
    maps = [feature_batch(level) for level in _chosen(features, featmap_names)]
    if len({level.shape[:2] for level in maps}) != 1:
        raise FeatureError(
            f"levels must be alike in images and channels, got shapes {[level.shape for level in maps]}",
            "Give one level of all images as one array.",
        )
    scales = _infer_scales([level.shape[2:] for level in maps], image_shapes) if scales is None else scales
    if len(scales) != len(maps):
        raise UsageError(f"expected one scale a level, got {len(scales)} for {len(maps)} levels", "Give one each.")
    check_scale(scales)
    dtype = np.result_type(*{compute_dtype(level.dtype) for level in maps})
    index, corners = split_boxes(boxes, len(maps[0]), dtype)
    strides = np.reciprocal(np.asarray(scales, np.float64)).tolist()
    level_of = np.zeros(len(corners), np.intp)
    if len(maps) > 1:
        level_of = assign_levels(corners, strides, level_rule, canonical_scale, canonical_level)
    rois = np.column_stack([index, corners])
    size = np.broadcast_to(output_size, 2)
    out: FloatArray = np.zeros((len(corners), maps[0].shape[1], *size), dtype)
    for number, (level, scale) in enumerate(zip(maps, scales, strict=True)):
        rows = np.flatnonzero(level_of == number)
        out[rows] = roi_align(level, rois[rows], output_size, scale, sampling_ratio, aligned, mode=mode)
    return out


def _chosen(
    features: Sequence[ArrayLike] | Mapping[str, ArrayLike], names: Sequence[str] | None
) -> Sequence[ArrayLike]:
    if not isinstance(features, Mapping):
        if names is not None:
            raise UsageError("featmap_names is for a mapping of levels", "Leave it out.")
        chosen = [*features]
    else:
        missing = [name for name in names or () if name not in features]
        if missing:
            raise FeatureError(f"features have no level {missing[0]!r}", f"Give some of {', '.join(features)}.")
        chosen = [features[name] for name in (features if names is None else names)]
    if not chosen:
        raise FeatureError("features have no levels", "Give one array a level.")
    return chosen


def _infer_scales(sizes: Sequence[tuple[int, ...]], image_shapes: Sequence[tuple[int, int]] | None) -> list[float]:
    """Return the power of two that is nearest to cells per pixel, as torchvision's `_infer_scale` does.

    Raises
    ------
    UsageError
        Nothing to infer from, or an axis that disagrees with the other.
    """
    if image_shapes is None or not len(image_shapes):
        raise UsageError("the scales of the levels are missing", "Give image_shapes or scales.")
    largest = np.max(np.asarray(image_shapes, np.float64), axis=0)
    scales = 2.0 ** np.round(np.log2(np.asarray(sizes, np.float64) / largest))
    bad = np.flatnonzero(scales[:, 0] != scales[:, 1])
    if len(bad):
        raise UsageError(
            f"the axes of level {bad[0]} differ in scale: {sizes[bad[0]]} cells for images of {largest.tolist()} px",
            "Check that image_shapes are (height, width) of the padded input, or give scales.",
        )
    found: list[float] = scales[:, 0].tolist()
    return found
