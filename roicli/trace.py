"""One bin of one RoI in one channel, sample by sample: where a pooled number comes from.

A trace is made by the coordinates of `sampling`, as the engine's weights are, but adds the samples up one by one, so
that the number can be followed by hand; `BinTrace.pooled` holds what the engine computes, for comparison.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from roicli.arguments import make_spec
from roicli.engine import roi_align, roi_pool
from roicli.errors import FeatureError, UsageError
from roicli.sampling import (
    Bins,
    FloatArray,
    IntArray,
    cell_ranges,
    in_range,
    make_bins,
    neighbours,
    sample_coordinates,
)
from roicli.spec import Mode, Op, PoolSpec

MAX_SAMPLES = 2**20


@dataclass(frozen=True, eq=False)
class BinTrace:
    """What one bin reads and how that becomes its value.

    All coordinates are in feature cells as samples are: coordinate 0 is the centre of the first cell, and cell i
    reaches from i - 0.5 to i + 0.5. Pairs and arrays of two are y first; n is the number of samples of the bin, in
    order of rows, then columns. RoIPool has no samples: each of the bin's cells stands as one, at its centre.

    Attributes
    ----------
    spec : PoolSpec
        How it was pooled.
    box : (4,) tuple of float
        xyxy in image pixels, rounded to the dtype of the computation.
    shape : (int, int, int)
        C, H, W of the feature map.
    channel : int
        The channel that is traced.
    bin : (int, int)
        The bin that is traced: row and column of the pooled block.
    plane : (H, W)
        The channel's values, as stored.
    grid : (int, int)
        Samples of one bin along y and x, in range or not.
    bin_rows, bin_columns : (PH, 2), (PW, 2)
        Where each bin of the RoI begins and ends.
    sample_rows, sample_columns : (PH, ny), (PW, nx)
        Where the samples of all bins of the RoI lie along y and x; no columns for RoIPool.
    iy, ix : (n,) intp
        Number of each sample within its bin; for RoIPool, of each cell.
    y, x : (n,)
        Where each sample lies, before it is clamped.
    rows, columns : (n, 2) intp
        The two rows and the two columns that it lies between.
    weights, values : (n, 4)
        Weights and values of its four neighbours: upper left, upper right, lower left, lower right.
    interpolated : (n,)
        Value of each sample: the sum of weights times values; 0 where it is out of range.
    in_range, clamped : (n,) bool
        Whether a sample counts, and whether it was moved onto the border of the map first.
    result : float
        The mean or the maximum of `interpolated`, as the traced sum gives it.
    pooled : (PH, PW)
        The whole block of this RoI and channel as the engine computes it.
    """

    spec: PoolSpec
    box: tuple[float, float, float, float]
    shape: tuple[int, int, int]
    channel: int
    bin: tuple[int, int]
    plane: NDArray[Any]
    grid: tuple[int, int]
    bin_rows: FloatArray
    bin_columns: FloatArray
    sample_rows: FloatArray
    sample_columns: FloatArray
    iy: IntArray
    ix: IntArray
    y: FloatArray
    x: FloatArray
    rows: IntArray
    columns: IntArray
    weights: FloatArray
    values: FloatArray
    interpolated: FloatArray
    in_range: NDArray[np.bool_]
    clamped: NDArray[np.bool_]
    result: float
    pooled: FloatArray

    @property
    def count(self) -> int:
        """Samples of the bin, those out of range included: the divisor of the mean."""
        return len(self.y)

    @property
    def total(self) -> float:
        """Sum of the interpolated values."""
        return float(self.interpolated.sum(dtype=np.float64))

    @property
    def engine_value(self) -> float:
        """What the engine computes for this bin."""
        return float(self.pooled[self.bin])

    @property
    def roi(self) -> tuple[float, float, float, float]:
        """The RoI as xyxy in feature cells."""
        (top, left), (bottom, right) = (
            (float(self.bin_rows[at, at]), float(self.bin_columns[at, at])) for at in (0, -1)
        )
        return left, top, right, bottom

    def footprint(self) -> tuple[IntArray, IntArray, NDArray[np.float64]]:
        """Total weight with which the bin takes each cell: the gradient of its value by the map.

        Returns
        -------
        rows, columns : (h,), (w,) intp
            The smallest window of cells that holds all that are read; empty if none is.
        weights : (h, w) float64
            For a mean, each sample's weights over the number of samples. For a maximum, the weights of the first
            sample that attains it, all zero if that is one out of range.
        """
        read = np.flatnonzero(self.in_range)
        if not len(read):
            return np.empty(0, np.intp), np.empty(0, np.intp), np.empty((0, 0))
        top, left = self.rows[read].min(), self.columns[read].min()
        bottom, right = self.rows[read].max() + 1, self.columns[read].max() + 1
        if self.spec.mode == "max":
            best = int(np.argmax(self.interpolated))
            share = (np.arange(self.count) == best).astype(np.float64)
        else:
            share = np.full(self.count, 1 / self.count)
        weights = np.zeros((bottom - top, right - left))
        for corner in range(4):
            y, x = self.rows[read, corner // 2] - top, self.columns[read, corner % 2] - left
            np.add.at(weights, (y, x), self.weights[read, corner] * share[read])
        return np.arange(top, bottom), np.arange(left, right), weights


def trace_bin(
    features: ArrayLike,
    box: ArrayLike,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
    *,
    mode: Mode = "avg",
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
        As in `roi_align`; RoIPool takes the first two only.
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
        A bin or a channel out of range, a bin of more than a million samples, a setting out of its range.
    FeatureError, BoxError
        As in `roi_align`.

    Examples
    --------
    >>> trace = trace_bin(np.arange(12.0).reshape(1, 3, 4), [0.5, 0.5, 2.5, 2.5], 1, aligned=True)
    >>> trace.y.tolist(), trace.x.tolist(), trace.interpolated.tolist(), trace.result
    ([0.5, 0.5, 1.5, 1.5], [0.5, 1.5, 0.5, 1.5], [2.5, 3.5, 6.5, 7.5], 5.0)
    """
    if op == "roi_pool":
        mode = "max"
    spec = make_spec(
        output_size, spatial_scale=spatial_scale, sampling_ratio=sampling_ratio, aligned=aligned, mode=mode, op=op
    )
    maps = np.asarray(features)
    if maps.ndim != 3:
        raise FeatureError(f"features of shape {maps.shape} are no single map", "Give (C, H, W).")
    _check_place(spec, maps.shape[0], bin, channel)
    # The checks of features and box are the engine's own.
    settings = (spec.output_size, spec.spatial_scale)
    if op == "roi_pool":
        block = roi_pool(maps, np.reshape(box, (1, -1)), *settings)
    else:
        block = roi_align(maps, np.reshape(box, (1, -1)), *settings, spec.sampling_ratio, spec.aligned, mode=mode)
    corners = np.asarray(box).reshape(4).astype(block.dtype)
    samples = (_cells if op == "roi_pool" else _samples)(maps[channel], corners, spec, bin)
    return BinTrace(
        spec=spec,
        box=(float(corners[0]), float(corners[1]), float(corners[2]), float(corners[3])),
        shape=maps.shape,
        channel=channel,
        bin=bin,
        plane=maps[channel],
        pooled=block[0, channel],
        **samples,
    )


def _check_place(spec: PoolSpec, channels: int, bin: tuple[int, int], channel: int) -> None:
    height, width = spec.output_size
    if not (0 <= bin[0] < height and 0 <= bin[1] < width):
        raise UsageError(
            f"bin {bin[0]},{bin[1]} is not in a block of {height} x {width}",
            f"Give a row from 0 to {height - 1} and a column from 0 to {width - 1}.",
        )
    if not 0 <= channel < channels:
        raise UsageError(f"channel {channel} is not in a map of {channels}", f"Give 0 to {channels - 1}.")


def _samples(plane: NDArray[Any], box: FloatArray, spec: PoolSpec, bin: tuple[int, int]) -> dict[str, Any]:
    """Trace a bin of RoIAlign: the fields of BinTrace that its samples give."""
    x1, y1, x2, y2 = box[:, None]
    axes = [
        make_bins(low, high, number, length, spec)
        for low, high, number, length in zip((y1, x1), (y2, x2), spec.output_size, plane.shape, strict=True)
    ]
    grid = (int(axes[0].count[0]), int(axes[1].count[0]))
    if math.prod(grid) > MAX_SAMPLES:
        raise UsageError(
            f"bin {bin[0]},{bin[1]} has {grid[0]} x {grid[1]} samples, more than can be traced",
            "Is --spatial-scale missing? Else give a --sampling-ratio.",
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
        interpolated = np.where(inside, (weights * values).sum(axis=1), 0)
        if spec.mode == "max":
            result = float(interpolated.max(initial=-np.inf)) if len(interpolated) else 0.0
        else:
            result = float(interpolated.sum()) / max(len(interpolated), 1)
    return {
        "grid": grid,
        "bin_rows": _edges(axes[0]),
        "bin_columns": _edges(axes[1]),
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


def _cells(plane: NDArray[Any], box: FloatArray, spec: PoolSpec, bin: tuple[int, int]) -> dict[str, Any]:
    """Trace a bin of RoIPool: the fields of BinTrace that its cells give."""
    x1, y1, x2, y2 = box[:, None]
    rows = cell_ranges(y1, y2, spec.output_size[0], plane.shape[0], spec)
    columns = cell_ranges(x1, x2, spec.output_size[1], plane.shape[1], spec)
    y = np.arange(rows.first[0, bin[0]], rows.stop[0, bin[0]])
    x = np.arange(columns.first[0, bin[1]], columns.stop[0, bin[1]])
    iy, ix = (index.ravel() for index in np.indices((len(y), len(x))))
    value = plane[y[iy], x[ix]].astype(box.dtype)
    number = len(value)
    weights = np.zeros((number, 4), box.dtype)
    weights[:, 0] = 1
    lowest = -float(np.finfo(np.float32).max)
    return {
        "grid": (len(y), len(x)),
        "bin_rows": np.stack([rows.first[0], rows.stop[0]], axis=1) - box.dtype.type(0.5),
        "bin_columns": np.stack([columns.first[0], columns.stop[0]], axis=1) - box.dtype.type(0.5),
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
        "result": float(np.fmax.reduce(value, initial=lowest)) if number else 0.0,
    }
