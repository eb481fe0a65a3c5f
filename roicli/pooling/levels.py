"""Which level of a feature pyramid a box is pooled from: one function a rule, each that of a framework.

A rule takes the sides of boxes, ``sqrt(width * height)`` in pixels of the network's input, in the dtype of the
computation, since a box at an edge turns on the last bit. It returns levels counted from the first one, not yet limited
to those that there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.errors import UsageError
from roicli.pooling.sampling import FloatArray, IntArray

# Sides, canonical scale, canonical level and the number of the first level (p2 is 2) -> levels from the first one.
Rule = Callable[[FloatArray, float, int, int], Any]


def torchvision(sides: FloatArray, canonical_scale: float, canonical_level: int, first: int) -> Any:
    """Return ``floor(level + log2(side / scale) + 1e-6)``: equation 1 of [1]_, as torchvision has it [2]_.

    References
    ----------
    .. [1] T.-Y. Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, equation 1.
    .. [2] torchvision/ops/poolers.py, LevelMapper.
    """
    canonical, tiny = _numbers(sides, canonical_scale, 1e-6)
    return np.floor(canonical_level + np.log2(sides / canonical) + tiny) - first


def detectron2(sides: FloatArray, canonical_scale: float, canonical_level: int, first: int) -> Any:
    """Return ``floor(level + log2(side / scale + 1e-8))`` [1]_.

    References
    ----------
    .. [1] detectron2/modeling/poolers.py, assign_boxes_to_levels.
    """
    canonical, tiny = _numbers(sides, canonical_scale, 1e-8)
    return np.floor(canonical_level + np.log2(sides / canonical + tiny)) - first


def mmdet(sides: FloatArray, canonical_scale: float, canonical_level: int, first: int) -> Any:
    """Return ``floor(log2(side / finest + 1e-6))`` from the first level, whatever its number [1]_.

    The finest scale is ``scale / 2 ** (level - 2)``: 56 by default.

    References
    ----------
    .. [1] mmdet/models/roi_heads/roi_extractors/single_level_roi_extractor.py, map_roi_levels.
    """
    finest, tiny = _numbers(sides, canonical_scale / 2.0 ** (canonical_level - 2), 1e-6)
    return np.floor(np.log2(sides / finest + tiny))


def matterport(sides: FloatArray, canonical_scale: float, canonical_level: int, first: int) -> Any:
    """Return ``level + round(log2(side / scale))``, half to even [1]_.

    There, boxes are in 0..1 of the image, and the scale is divided by the side of the image: in pixels that cancels.

    References
    ----------
    .. [1] matterport/Mask_RCNN, mrcnn/model.py, PyramidROIAlign.
    """
    (canonical,) = _numbers(sides, canonical_scale)
    return canonical_level + np.round(np.log2(sides / canonical)) - first


RULES: dict[str, Rule] = {rule.__name__: rule for rule in (torchvision, detectron2, mmdet, matterport)}


def assign_levels(
    boxes: FloatArray,
    strides: Sequence[float],
    rule: str = "torchvision",
    canonical_scale: float = 224.0,
    canonical_level: int = 4,
) -> IntArray:
    """Return the level of each box, an index into `strides`.

    Parameters
    ----------
    boxes : (K, 4)
        xyxy in pixels of the network's input, in the dtype of the computation.
    strides : sequence of float
        Input pixels per cell of each level: powers of two, each twice the one before.
    rule : str
        One of `RULES`.
    canonical_scale, canonical_level
        A box of this side belongs to the level with this number; level n has stride ``2 ** n``.

    Returns
    -------
    (K,) intp
        -1 for a box with only one inverted axis: its area is negative, and the frameworks give zeros.

    Raises
    ------
    UsageError
        A rule that is unknown, strides that no rule is for.

    Examples
    --------
    >>> boxes = np.array([[0, 0, side, side] for side in (50, 112, 224, 1000)], np.float32)
    >>> assign_levels(boxes, (4, 8, 16, 32)).tolist()
    [0, 1, 2, 3]
    """
    if rule not in RULES:
        raise UsageError(f"level rule {rule!r} is unknown", f"Give one of {', '.join(map(repr, RULES))}.")
    first = round(np.log2(strides[0]))
    if [*strides] != [2.0 ** (first + step) for step in range(len(strides))]:
        raise UsageError(
            f"a level rule needs strides that are powers of two, each twice the one before, got {_listed(strides)}",
            "Give such `levels`, or one `level`, or `levels_combine`.",
        )
    if not 0 < canonical_scale < np.inf:
        raise UsageError(f"canonical_scale must be a positive number, got {canonical_scale:g}", "Give 224.")
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        sides = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
        found = np.clip(RULES[rule](sides, canonical_scale, canonical_level, first), 0, len(strides) - 1)
    levels: IntArray = np.where(np.isnan(found), -1, found).astype(np.intp)
    return levels


def _numbers(like: NDArray[Any], *numbers: float) -> list[Any]:
    """Return numbers as scalars of the dtype of an array, as a tensor takes them."""
    return [like.dtype.type(number) for number in numbers]


def _listed(strides: Sequence[float]) -> str:
    return ", ".join(f"{stride:g}" for stride in strides)
