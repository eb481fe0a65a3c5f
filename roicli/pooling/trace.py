"""One bin of one RoI in one channel, sample by sample: where a pooled number comes from.

A trace is made by the coordinates of `sampling`, as the engine's weights are, but adds the samples up one by one, so
that the number can be followed by hand; `BinTrace.pooled` holds what the engine computes, for comparison.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from roicli.errors import BoxError, FeatureError, UsageError
from roicli.pooling.arguments import compute_dtype, feature_batch, make_spec, split_boxes
from roicli.pooling.bintrace import BinTrace
from roicli.pooling.channels_last import channels_last
from roicli.pooling.contraction import pool_maps
from roicli.pooling.operators import find
from roicli.pooling.placement import Placement, place
from roicli.pooling.sampling import cells_in_reach
from roicli.spec import Mode, PoolSpec
from roicli.words import count

__all__ = ["BinTrace", "trace_bin"]


def trace_bin(
    features: ArrayLike,
    box: ArrayLike,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
    *,
    mode: Mode | None = None,
    op: str = "roi_align",
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
        As in `roi_align`; the mode is by default that of the operator. Operators of whole cells take the
        first two only.
    op : str
        The operator: "roi_align", "roi_pool", or another that is registered.
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
    spec = make_spec(output_size, sampling_ratio=sampling_ratio, aligned=aligned, mode=mode, op=op)
    if np.ndim(features) != 3:
        raise FeatureError(f"features must be one map (C, H, W), got shape {np.shape(features)}", "Give `features[i]`.")
    maps = feature_batch(features)[0]
    if np.shape(box) != (4,):
        raise BoxError(f"box must be x1, y1, x2, y2, got shape {np.shape(box)}", "Give four numbers.")
    _, corners = split_boxes(np.reshape(box, (1, 4)), 1, compute_dtype(maps.dtype))
    return trace_placed(maps, place(np.zeros(1, np.intp), corners, spatial_scale), spec, bin, channel)


def trace_placed(
    feature_map: NDArray[Any], placement: Placement, spec: PoolSpec, bin: tuple[int, int], channel: int
) -> BinTrace:
    """Trace one bin of one region that is placed already, on a (C, H, W) map as stored."""
    row, column = _whole_numbers(bin, 2, "bin", spec.output_size)
    size, dtype = feature_map.shape[1:], compute_dtype(feature_map.dtype)
    operator = find(spec.op)
    channels = operator.channels(len(feature_map), spec)
    (made,) = _whole_numbers((channel,), 1, "channel", (channels,))
    plane_index = operator.plane(made, (row, column), spec)
    block = np.empty((1, channels, *spec.output_size), dtype)
    window = cells_in_reach(placement, spec.rule, *size)
    pool_maps(lambda _: channels_last(feature_map, window), placement, size, spec, block)
    region = placement.rounded(dtype)
    plane = operator.seen(feature_map[plane_index], region, spec)
    reads = operator.trace(region, size, spec, (row, column))
    values = plane[reads.rows[:, [0, 0, 1, 1]], reads.columns[:, [0, 1, 0, 1]]].astype(dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        read = (reads.weights * values).sum(axis=1) if operator.interpolates else values[:, 0]
        if spec.mode == "weighted-max":
            read = (reads.weights * values).max(axis=1)
        interpolated = np.where(reads.in_range, read, 0).astype(dtype)
        result, best = operator.combine(interpolated, spec)
        if reads.shares is not None:
            result, best = float((interpolated * reads.shares).sum(dtype=np.float64)), None
    x1, y1, x2, y2 = region.boxes[0].tolist()
    trace = BinTrace(
        spec=spec,
        scale=(float(placement.scale[0, 0]), float(placement.scale[0, 1])),
        box=(x1, y1, x2, y2),
        shape=feature_map.shape,
        channel=plane_index,
        bin=(row, column),
        plane=plane.view(),
        values=values,
        interpolated=interpolated,
        best=best,
        result=result,
        pooled=block[0, made],
        **vars(reads),
    )
    for value in vars(trace).values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    return trace


def _whole_numbers(given: Any, number: int, name: str, ends: tuple[int, ...]) -> tuple[int, ...]:
    """Check the place of a bin or of a channel."""
    values = np.asarray(given)
    if values.shape != (number,) or values.dtype.kind not in "iu":
        raise UsageError(f"{name} must be {count(number, 'whole number')}, got {given!r}")
    if ((values < 0) | (values >= ends)).any():
        raise UsageError(
            f"{name} {','.join(map(str, values))} is not among {' x '.join(map(str, ends))}",
            f"Give {' and '.join(f'0 to {end - 1}' for end in ends)}.",
        )
    return tuple(values.tolist())
