"""One bin of one RoI in one channel, sample by sample: where a pooled number comes from.

A trace is made by the coordinates of `sampling`, as the engine's weights are, but adds the samples up one by one, so
that the number can be followed by hand; `BinTrace.pooled` holds what the engine computes, for comparison.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from roicli.errors import BoxError, FeatureError, UsageError
from roicli.pooling.arguments import compute_dtype, feature_batch, make_spec, split_boxes
from roicli.pooling.bintrace import BinTrace
from roicli.pooling.channels_last import channels_last
from roicli.pooling.contraction import pool_maps
from roicli.pooling.placement import Placement, place
from roicli.pooling.sampling import (
    Bins,
    FloatArray,
    IntArray,
    cell_ranges,
    cells_in_reach,
    in_map,
    in_range,
    make_bins,
    neighbours,
    sample_coordinates,
    sides,
)
from roicli.spec import Mode, Op, PoolSpec

__all__ = ["BinTrace", "trace_bin"]

# A table, a JSON document or a picture of more would be of use to nobody.
MAX_SAMPLES = 2**17


def trace_bin(
    features: ArrayLike,
    box: ArrayLike,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
    *,
    mode: Mode | None = None,
    op: Op = "roi_align",
    bin: tuple[int, int] = (0, 0),
    channel: int = 0,
) -> BinTrace:
    """Trace one bin of one RoI in one channel.

    Parameters
    ----------
    features : (C, H, W) array
        One feature map.
    box : (4,)
        xyxy in image pixels.
    output_size, spatial_scale, sampling_ratio, aligned, mode
        As in `roi_align`; RoIPool takes the first two only, and the maximum is its only mode.
    op : {"roi_align", "roi_pool"}
        Which operator.
    bin : (int, int)
        Row and column of the bin in the pooled block.
    channel : int
        Channel of the map.

    Returns
    -------
    BinTrace

    Raises
    ------
    UsageError
        A bin or a channel out of range, a bin of more than 131,072 samples, a setting out of its range.
    FeatureError, BoxError
        As in `roi_align`.

    Examples
    --------
    >>> trace = trace_bin(np.arange(12.0).reshape(1, 3, 4), [0.5, 0.5, 2.5, 2.5], 1, aligned=True)
    >>> trace.y.tolist(), trace.x.tolist(), trace.interpolated.tolist(), trace.result
    ([0.5, 0.5, 1.5, 1.5], [0.5, 1.5, 0.5, 1.5], [2.5, 3.5, 6.5, 7.5], 5.0)
    """
    spec = make_spec(
        output_size,
        sampling_ratio=sampling_ratio,
        aligned=aligned,
        mode=mode or ("max" if op == "roi_pool" else "avg"),
        op=op,
    )
    if np.ndim(features) != 3:
        raise FeatureError(f"features of shape {np.shape(features)} are no single map", "Give (C, H, W).")
    maps = feature_batch(features)[0]
    if np.shape(box) != (4,):
        raise BoxError(f"a box of shape {np.shape(box)} is no box", "Give x1, y1, x2, y2.")
    _, corners = split_boxes(np.reshape(box, (1, 4)), 1, compute_dtype(maps.dtype))
    return trace_placed(maps, place(np.zeros(1, np.intp), corners, spatial_scale), spec, bin, channel)


def trace_placed(
    feature_map: NDArray[Any], placement: Placement, spec: PoolSpec, bin: tuple[int, int], channel: int
) -> BinTrace:
    """Trace one bin of one region that is placed already.

    Parameters
    ----------
    feature_map : (C, H, W) array
        As stored.
    placement : Placement
        One region, finite.
    spec, bin, channel
        As in `trace_bin`.
    """
    at = _whole_numbers(bin, 2, "bin", spec.output_size)
    (plane_index,) = _whole_numbers((channel,), 1, "channel", feature_map.shape[:1])
    size, dtype = feature_map.shape[1:], compute_dtype(feature_map.dtype)
    block = np.empty((1, len(feature_map), *spec.output_size), dtype)
    window = cells_in_reach(placement.boxes, placement.scale, *size)
    pool_maps(lambda _: channels_last(feature_map, window), placement, size, spec, block)
    plane, corners, scale = feature_map[plane_index], placement.boxes[0].astype(dtype), placement.scale
    small = in_map(placement.boxes, scale)[0]
    trace = BinTrace(
        spec=spec,
        scale=(float(scale[0, 0]), float(scale[0, 1])),
        box=(float(corners[0]), float(corners[1]), float(corners[2]), float(corners[3])),
        enlarged=not spec.aligned and bool(((small[2:] - small[:2]) < 1).any()),
        shape=feature_map.shape,
        channel=plane_index,
        bin=(at[0], at[1]),
        plane=plane.view(),
        pooled=block[0, plane_index],
        **(_cells if spec.op == "roi_pool" else _samples)(plane, corners, scale, spec, at),
    )
    for value in vars(trace).values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    return trace


def _whole_numbers(given: Any, number: int, name: str, ends: tuple[int, ...]) -> tuple[int, ...]:
    """Check the place of a bin or of a channel."""
    values = np.asarray(given)
    if values.shape != (number,) or values.dtype.kind not in "iu":
        raise UsageError(f"{name} {given!r} is no place", f"Give {number} whole number{'s' * (number > 1)}.")
    if ((values < 0) | (values >= ends)).any():
        raise UsageError(
            f"{name} {','.join(map(str, values))} is not among {' x '.join(map(str, ends))}",
            f"Give {' and '.join(f'0 to {end - 1}' for end in ends)}.",
        )
    return tuple(values.tolist())


def _samples(
    plane: NDArray[Any], box: FloatArray, scale: FloatArray, spec: PoolSpec, bin: tuple[int, ...]
) -> dict[str, Any]:
    """Trace a bin of RoIAlign: the fields of BinTrace that its samples give."""
    axes = [
        make_bins(axis, number, length, spec)
        for axis, number, length in zip(sides(box[None], scale), spec.output_size, plane.shape, strict=True)
    ]
    grid = (int(axes[0].count[0]), int(axes[1].count[0]))
    if math.prod(grid) > MAX_SAMPLES:
        adaptive = "Is `spatial_scale` missing? Else give a `sampling_ratio`."
        raise UsageError(
            f"bin {bin[0]},{bin[1]} has {grid[0]} x {grid[1]} samples, more than can be traced ({MAX_SAMPLES:,})",
            adaptive if spec.adaptive else "Give a smaller `sampling_ratio`.",
        )
    iy, ix = (index.ravel() for index in np.indices(grid))
    sample_rows, sample_columns = (_all_samples(axis) for axis in axes)
    y, x = sample_rows[bin[0]], sample_columns[bin[1]]
    inside = (in_range(y, plane.shape[0])[:, None] & in_range(x, plane.shape[1])).ravel()
    rows, weights_y, clamped_y = _axis(y, plane.shape[0])
    columns, weights_x, clamped_x = _axis(x, plane.shape[1])
    weights = (weights_y[iy][:, :, None] * weights_x[ix][:, None, :]).reshape(-1, 4)
    values = plane[rows[iy][:, :, None], columns[ix][:, None, :]].reshape(-1, 4).astype(box.dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        interpolated = np.where(inside, (weights * values).sum(axis=1), 0).astype(box.dtype)
        best = int(np.argmax(interpolated)) if spec.mode == "max" and len(interpolated) else None
        mean = interpolated.sum(dtype=np.float64) / max(len(interpolated), 1)
    result = float(mean if best is None else interpolated[best])
    rows_at, columns_at = (_edges(axis) for axis in axes)
    return {
        "grid": grid,
        "roi": (float(columns_at[0, 0]), float(rows_at[0, 0]), float(columns_at[-1, 1]), float(rows_at[-1, 1])),
        "bin_rows": rows_at,
        "bin_columns": columns_at,
        "sample_rows": sample_rows,
        "sample_columns": sample_columns,
        "iy": iy,
        "ix": ix,
        "y": y[iy],
        "x": x[ix],
        "rows": rows[iy],
        "columns": columns[ix],
        "weights": weights,
        "values": values,
        "interpolated": interpolated,
        "in_range": inside,
        "clamped": (clamped_y[:, None] | clamped_x).ravel() & inside,
        "best": best,
        "result": result,
    }


def _axis(coordinate: FloatArray, length: int) -> tuple[IntArray, FloatArray, NDArray[np.bool_]]:
    """Find the two cells of each coordinate and their weights, (n, 2) each, and if it was moved onto the border.

    A coordinate out of range is shown at the border cells that are nearest; its weights are not used.
    """
    low, high, fraction = neighbours(np.clip(coordinate, -1, length), length)
    clamped = (coordinate < 0) | (coordinate > length - 1)
    return np.stack([low, high], axis=1), np.stack([1 - fraction, fraction], axis=1), clamped


def _all_samples(bins: Bins) -> FloatArray:
    """Coordinates of all samples of one RoI along one axis, (P, n)."""
    count = int(bins.count[0])
    number, sample = (index.ravel() for index in np.indices((bins.number, count)))
    return sample_coordinates(bins, number, sample).reshape(bins.number, count)


def _edges(bins: Bins) -> FloatArray:
    """Begin and end of each bin of one RoI, (P, 2)."""
    edge: FloatArray = bins.start + np.arange(bins.number + 1).astype(bins.start.dtype) * bins.size
    return np.stack([edge[:-1], edge[1:]], axis=1)


def _cells(
    plane: NDArray[Any], box: FloatArray, scale: FloatArray, spec: PoolSpec, bin: tuple[int, ...]
) -> dict[str, Any]:
    """Trace a bin of RoIPool: the fields of BinTrace that its cells give."""
    rows, columns = map(cell_ranges, sides(box[None], scale), spec.output_size, plane.shape)
    y = np.arange(rows.first[0, bin[0]], rows.stop[0, bin[0]])
    x = np.arange(columns.first[0, bin[1]], columns.stop[0, bin[1]])
    iy, ix = (index.ravel() for index in np.indices((len(y), len(x))))
    value = plane[y[iy], x[ix]].astype(box.dtype)
    number = len(value)
    weights = np.zeros((number, 4), box.dtype)
    weights[:, 0] = 1
    # Like torchvision, RoIPool begins with the lowest float32 and looks for what is greater, which NaN never is.
    lowest = -float(np.finfo(np.float32).max)
    greater = np.where(value > lowest, value, -np.inf)
    best = int(np.argmax(greater)) if (value > lowest).any() else None
    left, top = float(columns.start[0]) - 0.5, float(rows.start[0]) - 0.5
    return {
        "grid": (len(y), len(x)),
        "roi": (left, top, left + float(columns.extent[0]), top + float(rows.extent[0])),
        "bin_rows": np.stack([rows.begin[0], rows.end[0]], axis=1) - box.dtype.type(0.5),
        "bin_columns": np.stack([columns.begin[0], columns.end[0]], axis=1) - box.dtype.type(0.5),
        "sample_rows": np.empty((spec.output_size[0], 0), box.dtype),
        "sample_columns": np.empty((spec.output_size[1], 0), box.dtype),
        "iy": iy,
        "ix": ix,
        "y": y[iy].astype(box.dtype),
        "x": x[ix].astype(box.dtype),
        "rows": np.stack([y[iy], y[iy]], axis=1),
        "columns": np.stack([x[ix], x[ix]], axis=1),
        "weights": weights,
        "values": np.repeat(value[:, None], 4, axis=1),
        "interpolated": value,
        "in_range": np.ones(number, np.bool_),
        "clamped": np.zeros(number, np.bool_),
        "best": best,
        "result": float(value[best]) if best is not None else lowest if number else 0.0,
    }
