"""The definitions of the operators as plain loops, those of torchvision from its C++: the oracle of the tests.

Slow on purpose, and sharing no code with `sampling`, so that a mistake there cannot hide here. Follows
torchvision/csrc/ops/cpu/roi_align_kernel.cpp, order of operations included. The one deliberate second copy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.spec import Edge, PoolSpec, Rule


def roi_align_reference(
    features: NDArray[Any], rois: NDArray[Any], spec: PoolSpec, spatial_scale: float | NDArray[np.float64] = 1.0
) -> NDArray[Any]:
    """Pool (N, C, H, W) features by RoIAlign, one sample at a time, in their dtype.

    `rois` are (K, 5): batch index, then x1, y1, x2, y2 in image pixels. The scale is one number, or (K, 2): y and x.

    Examples
    --------
    >>> ramp = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4)
    >>> roi_align_reference(ramp, np.array([[0, 0, 0, 4, 1]]), PoolSpec((1, 2), aligned=True)).tolist()
    [[[[0.5, 2.5]]]]
    """
    real = features.dtype.type
    _, channels, height, width = features.shape
    bins_y, bins_x = spec.output_size
    join = max if spec.mode == "weighted-max" else sum
    rule = spec.rule or Rule()
    offset = real(0.5) if spec.aligned else real(0)
    least = not spec.aligned if rule.least is None else rule.least
    scales = np.broadcast_to(spatial_scale, (len(rois), 2))
    pooled = np.zeros((len(rois), channels, bins_y, bins_x), dtype=real)
    for k, (batch, *box) in enumerate(rois):
        scale_y, scale_x = map(real, scales[k])
        moves = (rule.before, rule.before, rule.before + rule.end, rule.before + rule.end)
        ends = [real(side) + real(move) for side, move in zip(box, moves, strict=True)]
        if rule.corners_meet:
            last_y, last_x = real(height / scales[k, 0] - 1), real(width / scales[k, 1] - 1)
            ends = [end / last for end, last in zip(ends, (last_x, last_y) * 2, strict=True)]
            scale_y, scale_x = real(height - 1), real(width - 1)
        x1, y1, x2, y2 = (end * scale - offset for end, scale in zip(ends, (scale_x, scale_y) * 2, strict=True))
        roi_width, roi_height = x2 - x1, y2 - y1
        if least:
            roi_width, roi_height = max(roi_width, real(1)), max(roi_height, real(1))
        bin_height, bin_width = roi_height / real(bins_y), roi_width / real(bins_x)
        ratio = 1 if rule.samples == "middle" else spec.sampling_ratio
        whole = math.floor if rule.floor else math.ceil
        grid_y = ratio if ratio > 0 else max(whole(bin_height), 0)
        grid_x = ratio if ratio > 0 else max(whole(bin_width), 0)
        if rule.samples == "corners":
            y1, bin_height = _on_corners(y1, (ends[3] - ends[1]) * scale_y, bins_y)
            x1, bin_width = _on_corners(x1, (ends[2] - ends[0]) * scale_x, bins_x)
            grid_y = grid_x = 1
        half = real(0 if rule.samples == "corners" else 0.5)
        for c in range(channels):
            plane = features[int(batch), c]
            for ph in range(bins_y):
                for pw in range(bins_x):
                    values = []
                    for iy in range(grid_y):
                        y = y1 + real(ph) * bin_height + (real(iy) + half) * bin_height / real(grid_y)
                        for ix in range(grid_x):
                            x = x1 + real(pw) * bin_width + (real(ix) + half) * bin_width / real(grid_x)
                            off = rule.edge == "inside" and not (0 <= y <= height - 1 and 0 <= x <= width - 1)
                            values.append(real(0) if off else _bilinear(plane, y, x, join, rule.edge))
                    if spec.mode != "avg":
                        values += [real(0)] * (rule.positive or not values)
                        pooled[k, c, ph, pw] = np.max(values)
                    else:
                        pooled[k, c, ph, pw] = sum(values, real(0)) / real(max(grid_y * grid_x, 1))
    return pooled.mean(axis=(2, 3)) if spec.reduce == "mean" else pooled


def _on_corners(start: Any, extent: Any, bins: int) -> tuple[Any, Any]:
    """Return the first sample, and the distance, of those that lie evenly over `extent`, both ends included."""
    real = type(extent)
    return (start, extent / real(bins - 1)) if bins > 1 else (start + extent / real(2), extent)


def roi_align_rotated_reference(
    features: NDArray[Any], rois: NDArray[Any], spec: PoolSpec, spatial_scale: float | NDArray[np.float64] = 1.0
) -> NDArray[Any]:
    """Pool turned boxes; follows detectron2/layers/csrc/ROIAlignRotated/ROIAlignRotated_cpu.cpp.

    `rois` are (K, 6): batch index, cx, cy, w, h in image pixels, degrees counter-clockwise.

    Examples
    --------
    >>> ramp = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4)
    >>> roi_align_rotated_reference(ramp, np.array([[0, 2, 0.5, 4, 1, 180]]), PoolSpec((1, 2))).round(6).tolist()
    [[[[2.5, 0.5]]]]
    """
    real = features.dtype.type
    bins_y, bins_x = spec.output_size
    scales = np.broadcast_to(spatial_scale, (len(rois), 2))
    pooled = np.zeros((len(rois), features.shape[1], bins_y, bins_x), dtype=real)
    for k, (batch, cx, cy, w, h, degrees) in enumerate(rois):
        scale_y, scale_x = map(real, scales[k])
        center_y, center_x = real(cy) * scale_y - real(0.5), real(cx) * scale_x - real(0.5)
        height, width = real(h) * scale_y, real(w) * scale_x
        theta = float(real(degrees)) * math.pi / 180
        cosine, sine = real(math.cos(theta)), real(math.sin(theta))
        high, wide = height / real(bins_y), width / real(bins_x)
        ny = spec.sampling_ratio if spec.sampling_ratio > 0 else math.ceil(high)
        nx = spec.sampling_ratio if spec.sampling_ratio > 0 else math.ceil(wide)
        for c, ph, pw in np.ndindex(pooled.shape[1:]):
            total = real(0)
            for iy in range(ny):
                yy = -height / real(2) + real(ph) * high + real(iy + 0.5) * high / real(ny)
                for ix in range(nx):
                    xx = -width / real(2) + real(pw) * wide + real(ix + 0.5) * wide / real(nx)
                    y, x = yy * cosine - xx * sine + center_y, yy * sine + xx * cosine + center_x
                    total += _bilinear(features[int(batch), c], y, x)
            pooled[k, c, ph, pw] = total / real(max(ny * nx, 1))
    return pooled


def roi_pool_reference(
    features: NDArray[Any], rois: NDArray[Any], spec: PoolSpec, spatial_scale: float | NDArray[np.float64] = 1.0
) -> NDArray[Any]:
    """Pool by RoIPool, one cell at a time; follows torchvision/csrc/ops/cpu/roi_pool_kernel.cpp.

    Examples
    --------
    >>> features = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4)
    >>> roi_pool_reference(features, np.array([[0, 0, 0, 2.5, 0]]), PoolSpec((1, 2))).tolist()
    [[[[1.0, 3.0]]]]
    """
    real = features.dtype.type
    _, channels, height, width = features.shape
    bins_y, bins_x = spec.output_size
    scales = np.broadcast_to(spatial_scale, (len(rois), 2))
    pooled = np.zeros((len(rois), channels, bins_y, bins_x), dtype=real)
    for k, (batch, *box) in enumerate(rois):
        scale_y, scale_x = map(real, scales[k])
        x1, y1, x2, y2 = (_c_round(real(side) * scale) for side, scale in zip(box, (scale_x, scale_y) * 2, strict=True))
        bin_height = real(max(y2 - y1 + 1, 1)) / real(bins_y)
        bin_width = real(max(x2 - x1 + 1, 1)) / real(bins_x)
        for c in range(channels):
            for ph in range(bins_y):
                top = min(max(math.floor(real(ph) * bin_height) + y1, 0), height)
                bottom = min(max(math.ceil(real(ph + 1) * bin_height) + y1, 0), height)
                for pw in range(bins_x):
                    left = min(max(math.floor(real(pw) * bin_width) + x1, 0), width)
                    right = min(max(math.ceil(real(pw + 1) * bin_width) + x1, 0), width)
                    largest = -np.finfo(np.float32).max
                    for y in range(top, bottom):
                        for x in range(left, right):
                            if features[int(batch), c, y, x] > largest:
                                largest = features[int(batch), c, y, x]
                    pooled[k, c, ph, pw] = largest if bottom > top and right > left else 0
    return pooled


def ps_roi_align_reference(
    features: NDArray[Any], rois: NDArray[Any], spec: PoolSpec, spatial_scale: float | NDArray[np.float64] = 1.0
) -> NDArray[Any]:
    """Pool by position-sensitive RoIAlign; follows torchvision/csrc/ops/cpu/ps_roi_align_kernel.cpp."""
    return _own_channels(roi_align_reference(features, rois, replace(spec, aligned=True), spatial_scale))


def ps_roi_pool_reference(
    features: NDArray[Any], rois: NDArray[Any], spec: PoolSpec, spatial_scale: float | NDArray[np.float64] = 1.0
) -> NDArray[Any]:
    """Pool by position-sensitive RoIPool; follows torchvision/csrc/ops/cpu/ps_roi_pool_kernel.cpp."""
    real = features.dtype.type

    def range_of(low: Any, high: Any, part: int, parts: int, length: int) -> range:
        first, last = _c_round(low), _c_round(high)
        size = real(max(last - first, 1)) / real(parts)
        begin, end = math.floor(real(part) * size) + first, math.ceil(real(part + 1) * size) + first
        return range(min(max(begin, 0), length - 1), min(max(end, 0), length - 1))

    return _own_channels(_mean_of_cells(features, rois, spec, spatial_scale, range_of))


def window_mean_reference(
    features: NDArray[Any], rois: NDArray[Any], spec: PoolSpec, spatial_scale: float | NDArray[np.float64] = 1.0
) -> NDArray[Any]:
    """Take the mean of the cells that each bin touches.

    Examples
    --------
    >>> features = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4)
    >>> window_mean_reference(features, np.array([[0, 0.5, 0, 2.5, 1]]), PoolSpec((1, 1))).tolist()
    [[[[1.0]]]]
    """
    real = features.dtype.type

    def range_of(low: Any, high: Any, part: int, parts: int, length: int) -> range:
        size = max(high - low, real(0)) / real(parts)
        end = max(low, high) if part + 1 == parts else low + real(part + 1) * size
        begin = math.floor(low + real(part) * size)
        return range(max(begin, 0), min(max(math.ceil(end), begin + 1), length))

    return _mean_of_cells(features, rois, spec, spatial_scale, range_of)


def cell_reference(
    features: NDArray[Any], rois: NDArray[Any], spec: PoolSpec, spatial_scale: float | NDArray[np.float64] = 1.0
) -> NDArray[Any]:
    """Take the cell that holds the centre of each bin."""
    real = features.dtype.type

    def range_of(low: Any, high: Any, part: int, parts: int, length: int) -> range:
        cell = math.floor(low + (real(part) + real(0.5)) / real(parts) * (high - low))
        return range(max(cell, 0), min(cell + 1, length))

    return _mean_of_cells(features, rois, spec, spatial_scale, range_of)


def precise_roi_pool_reference(
    features: NDArray[Any], rois: NDArray[Any], spec: PoolSpec, spatial_scale: float | NDArray[np.float64] = 1.0
) -> NDArray[Any]:
    """Integrate the bilinear surface over each bin in float64, piece by piece between the centres of cells.

    On each piece the surface is linear along both axes, so that its value at the middle is its mean.
    """
    _, channels, height, width = features.shape
    bins_y, bins_x = spec.output_size
    scales = np.broadcast_to(spatial_scale, (len(rois), 2)).astype(features.dtype)
    pooled = np.zeros((len(rois), channels, bins_y, bins_x))
    surface = np.pad(features.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))

    def pieces(low: float, high: float, length: int) -> list[tuple[float, float]]:
        """Middle and length of each piece."""
        knots = [low, *(float(cell) for cell in range(-1, length + 1) if low < cell < high), high]
        return [((a + b) / 2, b - a) for a, b in pairwise(knots) if a >= -1 and b <= length]

    for k, (batch, *box) in enumerate(rois):
        scale_y, scale_x = scales[k]
        x1, y1, x2, y2 = (
            float(features.dtype.type(side) * scale) for side, scale in zip(box, (scale_x, scale_y) * 2, strict=True)
        )
        high, wide = (y2 - y1) / bins_y, (x2 - x1) / bins_x
        if high <= 0 or wide <= 0:
            continue
        for c, ph, pw in np.ndindex(channels, bins_y, bins_x):
            plane = surface[int(batch), c]
            total = 0.0
            for y, tall in pieces(y1 + ph * high, y1 + (ph + 1) * high, height):
                for x, broad in pieces(x1 + pw * wide, x1 + (pw + 1) * wide, width):
                    total += float(_bilinear(plane, np.float64(y + 1), np.float64(x + 1))) * tall * broad
            pooled[k, c, ph, pw] = total / (high * wide)
    return pooled.astype(features.dtype)


def _mean_of_cells(
    features: NDArray[Any],
    rois: NDArray[Any],
    spec: PoolSpec,
    spatial_scale: float | NDArray[np.float64],
    range_of: Callable[[Any, Any, int, int, int], range],
) -> NDArray[Any]:
    """Take the mean of the cells that ``range_of(low, high, bin, bins, length)`` gives along each axis."""
    real = features.dtype.type
    _, channels, height, width = features.shape
    bins_y, bins_x = spec.output_size
    scales = np.broadcast_to(spatial_scale, (len(rois), 2))
    pooled = np.zeros((len(rois), channels, bins_y, bins_x), dtype=real)
    for k, (batch, *box) in enumerate(rois):
        scale_y, scale_x = map(real, scales[k])
        x1, y1, x2, y2 = (real(side) * scale for side, scale in zip(box, (scale_x, scale_y) * 2, strict=True))
        for c, ph, pw in np.ndindex(channels, bins_y, bins_x):
            rows, columns = range_of(y1, y2, ph, bins_y, height), range_of(x1, x2, pw, bins_x, width)
            cells = [features[int(batch), c, y, x] for y in rows for x in columns]
            pooled[k, c, ph, pw] = sum(cells, real(0)) / real(max(len(cells), 1))
    return pooled


def _own_channels(pooled: NDArray[Any]) -> NDArray[Any]:
    """Take bin (ph, pw) of channel c from channel (c * PH + ph) * PW + pw."""
    rois, channels, bins_y, bins_x = pooled.shape
    own = np.zeros((rois, channels // (bins_y * bins_x), bins_y, bins_x), dtype=pooled.dtype)
    for k, c, ph, pw in np.ndindex(own.shape):
        own[k, c, ph, pw] = pooled[k, (c * bins_y + ph) * bins_x + pw, ph, pw]
    return own


def _c_round(value: Any) -> int:
    """Round as C does: halves go away from zero."""
    whole = math.floor(abs(value))
    return int(math.copysign(whole + (abs(value) - whole >= 0.5), value))


def _bilinear(plane: NDArray[Any], y: Any, x: Any, join: Callable[..., Any] = sum, edge: Edge = "clamp") -> Any:
    height, width = plane.shape
    real = plane.dtype.type
    if edge != "extend":
        if y < -1 or y > height or x < -1 or x > width:
            return real(0)
        y, x = max(y, real(0)), max(x, real(0))
    y_low, y_high, ly = _between(y, height)
    x_low, x_high, lx = _between(x, width)
    hy, hx = real(1) - ly, real(1) - lx
    return join(
        [
            hy * hx * plane[y_low, x_low],
            hy * lx * plane[y_low, x_high],
            ly * hx * plane[y_high, x_low],
            ly * lx * plane[y_high, x_high],
        ]
    )


def _between(at: Any, length: int) -> tuple[int, int, Any]:
    low = max(int(at), 0)
    return (low, low + 1, at - type(at)(low)) if low < length - 1 else (length - 1, length - 1, type(at)(0))
