"""The definitions of the mask rules as plain loops, one pixel and one cell at a time: the oracle of the tests.

Slow on purpose, and sharing no code with `masks`; see there for the sources. Pixel i of the image reaches from
``begin + i * step`` to ``begin + (i + 1) * step`` on the map, where cell c reaches from c to c + 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.pooling.reference import roi_align_reference
from roicli.spec import PoolSpec

Place = tuple[float, float]  # step and begin along one axis


def mask_mean_reference(
    features: NDArray[Any], mask: NDArray[np.bool_], rule: str, y: Place, x: Place, reduce: str = "mean"
) -> NDArray[np.float64]:
    """Pool a (C, H, W) map under one mask (h, w) by a rule; zeros if the mask reaches no cell.

    Examples
    --------
    >>> ramp, mask = np.arange(3.0).reshape(1, 1, 3), np.array([[False, True, True, True, False, False]])
    >>> mask_mean_reference(ramp, mask, "coverage", (1, 0), (1 / 2, 0)).round(4).tolist()
    [0.6667]
    """
    channels, height, width = features.shape
    if rule == "upsampled":
        return _mean_of_pixels(features, mask, y, x)
    values = grid_mask_reference(mask, rule, (height, width), y, x)
    pooled = np.zeros(channels)
    for c in range(channels):
        total, weight = 0.0, 0.0
        largest = -math.inf
        for i in range(height):
            for j in range(width):
                if values[i, j] > 0:
                    total += values[i, j] * float(features[c, i, j])
                    weight += values[i, j]
                    largest = max(largest, float(features[c, i, j]))
        if weight > 0:
            pooled[c] = largest if reduce == "max" else total / weight
    return pooled


def mask_in_box_reference(
    features: NDArray[Any], mask: NDArray[np.bool_], box: NDArray[Any], spec: PoolSpec, scale: Place
) -> NDArray[Any]:
    """Pool one box of a (C, H, W) map by RoIAlign, after each cell was multiplied by the mask on it; (C, PH, PW)."""
    values = grid_mask_reference(mask, spec.mask_rule, features.shape[1:], (scale[0], 0), (scale[1], 0))
    masked = features.copy()
    for c, i, j in np.ndindex(features.shape):
        masked[c, i, j] *= features.dtype.type(values[i, j])
    pooled = roi_align_reference(masked[None], np.array([[0, *box]], features.dtype), spec, np.array([scale]))
    return pooled.reshape(pooled.shape[1:])


def grid_mask_reference(
    mask: NDArray[np.bool_], rule: str, size: tuple[int, int], y: Place, x: Place
) -> NDArray[np.float64]:
    """Put one mask onto the grid of a map by any rule but `upsampled`: (H, W), from 0 to 1."""
    values = np.zeros(size)
    for i in range(size[0]):
        for j in range(size[1]):
            for pixel_y, weight_y in _taps(rule, i, size[0], *y):
                for pixel_x, weight_x in _taps(rule, j, size[1], *x):
                    if 0 <= pixel_y < mask.shape[0] and 0 <= pixel_x < mask.shape[1] and mask[pixel_y, pixel_x]:
                        values[i, j] += weight_y * weight_x
    return (values > 0).astype(float) if rule == "resize-any" else values


def _mean_of_pixels(features: NDArray[Any], mask: NDArray[np.bool_], y: Place, x: Place) -> NDArray[np.float64]:
    channels, height, width = features.shape
    total, number = np.zeros(channels), 0
    for i in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            at_y, at_x = y[1] + (i + 0.5) * y[0], x[1] + (j + 0.5) * x[0]
            if not mask[i, j] or not (0 <= at_y <= height and 0 <= at_x <= width):
                continue
            number += 1
            for cell_y, weight_y in _neighbours(at_y - 0.5, height):
                for cell_x, weight_x in _neighbours(at_x - 0.5, width):
                    for c in range(channels):
                        total[c] += weight_y * weight_x * float(features[c, cell_y, cell_x])
    return total / max(number, 1)


def _neighbours(at: float, length: int) -> list[tuple[int, float]]:
    at = min(max(at, 0.0), length - 1.0)
    low = math.floor(at)
    return [(low, 1 - (at - low)), (min(low + 1, length - 1), at - low)]


def _taps(rule: str, cell: int, cells: int, step: float, begin: float) -> Iterator[tuple[int, float]]:
    """Yield the pixels that one cell sees along one axis, in the image or beside it, and their weights."""
    low, centre, high = (_whole((cell + part - begin) / step) for part in (0, 0.5, 1))
    first, stop = round((0 - begin) / step), round((cells - begin) / step)
    stop = max(stop, first + 1)
    if rule == "coverage":
        for pixel in range(math.floor(low), math.ceil(high)):
            yield pixel, (min(high, pixel + 1) - max(low, pixel)) * step
    elif rule == "nearest":
        yield math.floor(centre), 1.0
    elif rule == "resize-antialias":
        support = max(1 / step, 1.0)
        seen = [pixel for pixel in range(first, stop) if abs(pixel + 0.5 - centre) < support]
        weights = [1 - abs(pixel + 0.5 - centre) / support for pixel in seen]
        yield from ((pixel, weight / sum(weights)) for pixel, weight in zip(seen, weights, strict=True))
    else:
        at = min(max(centre - 0.5, first), stop - 1)
        below = math.floor(at)
        yield below, 1 - (at - below)
        if at > below:
            yield min(below + 1, stop - 1), at - below


def _whole(place: float) -> float:
    """Return a place, whole if only rounding keeps it from that."""
    return float(round(place)) if abs(place - round(place)) < 1e-9 else place
