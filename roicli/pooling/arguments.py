"""Arrays and settings as callers give them, checked and put into the shape that the engine works on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from roicli.errors import BoxError, FeatureError, UsageError
from roicli.pooling.operators import find
from roicli.pooling.sampling import FloatArray, IntArray
from roicli.spec import Mode, PoolSpec


def make_spec(
    output_size: int | tuple[int, int],
    *,
    sampling_ratio: int = -1,
    mode: Mode | None = None,
    op: str = "roi_align",
    **settings: Any,
) -> PoolSpec:
    """Make a PoolSpec of arguments as torchvision takes them; the mode is by default that of the operator."""
    size = np.broadcast_to(output_size, 2) if np.shape(output_size) in ((), (2,)) else np.empty(0)
    if size.dtype.kind not in "iu":
        raise UsageError(f"output_size {output_size!r} is not one whole number or two", "Give 7 or (7, 5).")
    if np.asarray(sampling_ratio).dtype.kind not in "iu":
        raise UsageError(f"sampling_ratio {sampling_ratio!r} is not a whole number", "Give 2, or -1 for adaptive.")
    operator = find(op)
    spec = PoolSpec(
        (int(size[0]), int(size[1])), int(sampling_ratio), mode=mode or operator.modes[0], op=op, **settings
    )
    operator.check(spec)
    return operator.settle(spec)


def compute_dtype(features: DTypeLike) -> np.dtype[Any]:
    """Return the dtype of the computation: float64 for float64 features, float32 for all other real numbers."""
    dtype = np.dtype(features)
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise FeatureError(f"features of dtype {dtype} cannot be pooled", "Give float16, float32, float64 or integers.")
    return np.dtype(np.float64 if dtype.kind == "f" and dtype.itemsize == 8 else np.float32)


def feature_batch(features: ArrayLike) -> NDArray[Any]:
    """Return features as (N, C, H, W), with rank, dtype and shape checked; a view where that is possible."""
    if isinstance(features, np.ma.MaskedArray):
        raise FeatureError("features are a masked array, whose mask would be lost", "Fill it: features.filled(0).")
    try:
        maps = np.asarray(features)
    except ValueError as error:
        raise FeatureError("features are a ragged list: all maps must have one shape", "Pool map by map.") from error
    if maps.ndim == 3:
        maps = maps[None]
    if maps.ndim != 4:
        raise FeatureError(
            f"features must be (N, C, H, W), or (C, H, W) for one map, got shape {maps.shape}",
            "Reshape or transpose the array.",
        )
    compute_dtype(maps.dtype)
    if 0 in maps.shape[1:]:
        raise FeatureError(f"features of shape {maps.shape} have no cells", "Give maps with at least one cell.")
    return maps


def check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], maps: NDArray[Any]) -> None:
    """Check that a result of some shape and dtype can be written to `out`, which must not overlap the maps."""
    if not isinstance(out, np.ndarray):
        raise UsageError(f"out must be an array, got {type(out).__name__}", f"Give np.empty({shape}, '{dtype}').")
    if out.shape != shape or not np.can_cast(dtype, out.dtype, "same_kind"):
        raise UsageError(f"out is {out.dtype} {out.shape}, the result is {dtype} {shape}", "Give an array like it.")
    if np.may_share_memory(out, maps):
        raise UsageError(
            "out overlaps the features, which would change while they are read", "Give an array of its own."
        )


def split_boxes(boxes: Any, images: int, dtype: np.dtype[Any], numbers: int = 4) -> tuple[IntArray, FloatArray]:
    """Return batch index and numbers of boxes in any form that `roi_align` takes; numbers rounded to `dtype`."""
    if isinstance(boxes, list | tuple) and len(boxes) == images and all(np.ndim(part) == 2 for part in boxes):
        parts = [_numbers(part, (numbers,)) for part in boxes]
        index = np.repeat(np.arange(images), [len(part) for part in parts])
        corners = np.concatenate(parts) if parts else np.empty((0, numbers))
    else:
        table = _numbers(boxes, (numbers, numbers + 1))
        if table.shape[1] == numbers:
            if images != 1 and len(table):
                raise BoxError(
                    f"boxes of shape {table.shape} do not say which of {images} maps they belong to",
                    f"Give (K, {numbers + 1}) with the batch index first, or a list with one (L, {numbers}) array for "
                    "each map.",
                )
            table = np.insert(table, 0, 0, axis=1)
        corners = table[:, 1:]
        bad = ~((table[:, 0] >= 0) & (table[:, 0] < images) & (table[:, 0] % 1 == 0))
        if bad.any():
            row = int(bad.argmax())
            raise BoxError(
                f"box {row} has batch index {table[row, 0]:g}, expected a whole number below {images}",
                f"Give whole numbers from 0 to {images - 1}.",
            )
        index = table[:, 0].astype(np.intp)
    with np.errstate(over="ignore"):
        rounded: FloatArray = corners.astype(dtype)
    finite = np.isfinite(rounded).all(axis=1)
    if not finite.all():
        row = int(finite.argmin())
        raise BoxError(
            f"box {row} is not finite in {dtype}: {corners[row].tolist()}",
            "Remove the boxes with NaN or infinite numbers.",
        )
    return index, rounded


def _numbers(boxes: ArrayLike, columns: tuple[int, ...]) -> NDArray[Any]:
    if isinstance(boxes, np.ma.MaskedArray):
        raise BoxError("boxes are a masked array, whose mask would be lost", "Leave the masked rows out.")
    try:
        table = np.asarray(boxes)
    except ValueError:  # rows of unequal length
        table = np.empty(0, dtype=object)
    if table.shape == (0,) and table.dtype != object:  # an empty list
        return np.empty((0, columns[-1]))
    if table.dtype.kind not in "iuf" or table.ndim != 2 or table.shape[1] not in columns:
        raise BoxError(
            f"boxes must be rows of {columns[0]} numbers, or of {columns[0] + 1} with the batch index first, got dtype "
            f"{table.dtype} and shape {table.shape}",
            f"Give {'x1, y1, x2, y2' if columns[0] == 4 else 'cx, cy, w, h, angle'} in each row.",
        )
    return table
