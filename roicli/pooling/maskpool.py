"""Mask pooling on arrays: arrays in, array out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from roicli.errors import BoxError, FeatureError
from roicli.pooling.arguments import compute_dtype, feature_batch, make_spec
from roicli.pooling.channels_last import channels_last
from roicli.pooling.contraction import pool_maps
from roicli.pooling.placement import PlacedMasks, Placement, place
from roicli.pooling.sampling import FloatArray
from roicli.spec import MaskRule, Reduce


class ArrayMasks:
    """Masks that are an array already; see `roicli.protocols.Masks`.

    Parameters
    ----------
    masks : (K, h, w) array
        Not zero where a pixel is in the mask.
    """

    def __init__(self, masks: NDArray[Any]) -> None:
        self._masks = masks

    def __len__(self) -> int:
        return len(self._masks)

    def take(self, rows: Any) -> ArrayMasks:
        """Return the masks at `rows`."""
        return ArrayMasks(self._masks[rows])

    @property
    def checksum(self) -> int:
        """That of no file."""
        return 0

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which masks there are: all."""
        return np.ones(len(self), np.bool_)

    def size(self, row: int) -> tuple[int, int]:
        """Return height and width of a mask."""
        height, width = self._masks.shape[1:]
        return height, width

    def decode(self, row: int, size: tuple[int, int] | None, canvas: tuple[int, int]) -> NDArray[np.bool_]:
        """Return one mask."""
        mask: NDArray[np.bool_] = self._masks[row].astype(np.bool_, copy=False)
        return mask


def mask_pool(
    features: ArrayLike,
    masks: ArrayLike,
    rule: MaskRule = "coverage",
    *,
    spatial_scale: float | tuple[float, float] | None = None,
    reduce: Reduce = "mean",
) -> FloatArray:
    """Pool one feature map under masks: one vector a mask.

    Parameters
    ----------
    features : (C, H, W) array
        One feature map of any dtype that `roi_align` takes.
    masks : (K, h, w) array
        Masks in pixels of the network's input: not zero where a pixel is in the mask.
    rule : {"coverage", "upsampled", "resize", "resize-antialias", "resize-any", "nearest"}
        How a mask weighs the cells; see `roicli help masks`.
    spatial_scale : float or (float, float), optional
        Feature cells per pixel, y and x if they differ; by default the map covers the masks.
    reduce : {"mean", "max", "l2"}
        Take the weighted mean, the maximum of the cells whose weight is not zero, or the mean scaled to length 1.

    Returns
    -------
    (K, C) float32, or float64 for float64 features
        Zeros for a mask that reaches no cell.

    Raises
    ------
    FeatureError, BoxError, UsageError
        Arrays of another rank, a setting out of its range.

    Examples
    --------
    >>> features = np.arange(4.0).reshape(1, 2, 2)
    >>> masks = np.zeros((1, 4, 4), bool)
    >>> masks[0, :2, 1:] = True
    >>> mask_pool(features, masks).round(3).tolist(), mask_pool(features, masks, reduce="max").tolist()
    ([[0.667]], [[1.0]])
    """
    if np.ndim(features) != 3:
        raise FeatureError(f"features must be one map (C, H, W), got shape {np.shape(features)}", "Give `features[i]`.")
    feature_map, stack = feature_batch(features)[0], np.asarray(masks)
    if stack.ndim != 3 or stack.dtype.kind not in "buif":
        raise BoxError(f"masks must be (K, h, w), got {stack.dtype} {stack.shape}", "Give an array of True and False.")
    spec = make_spec(1, op="mask_mean", reduce=reduce, mask_rule=rule)
    size, number, dtype = feature_map.shape[1:], len(stack), compute_dtype(feature_map.dtype)
    if spatial_scale is None:
        spatial_scale = (size[0] / max(stack.shape[1], 1), size[1] / max(stack.shape[2], 1))
    sizes = np.tile(np.array(stack.shape[1:], np.float64), (number, 1))
    placed = PlacedMasks(ArrayMasks(stack), sizes, np.ones((number, 2)), np.zeros((number, 2)))
    at = place(np.zeros(number, np.intp), np.zeros((number, 4)), spatial_scale)
    pooled = np.empty((number, len(feature_map)), dtype)
    laid_out = channels_last(feature_map)
    pool_maps(lambda _: laid_out, Placement(at.map_index, at.boxes, at.scale, placed), size, spec, pooled)
    return pooled
