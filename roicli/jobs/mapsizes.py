"""Whether maps have the sizes that their images should give them, and what would explain it if they have not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from roicli.jobs import preprocess as known
from roicli.jobs.geometry import Array
from roicli.jobs.preprocess import ImageTransform
from roicli.pooling.sampling import in_map
from roicli.words import count

# Strides of networks, smallest first; 14 and its kin are those of ViTs.
STRIDES = (2, 4, 7, 8, 14, 16, 28, 32, 64, 128)
# What people do to images, tried where nothing is said.
_USUAL = (
    *("shortest-edge:800,1333", "shortest-edge-floor:800,1333", "longest-edge:1024", "letterbox:640"),
    *("squash:224", "squash:336", "squash:448", "squash:518", "center-crop:224", "shortest-edge:600,1000"),
)


def _multiple(transform: ImageTransform | None) -> int:
    return 32 if transform is None else transform.multiple


def cells(pixels: Array, scale: tuple[float, float]) -> Array:
    """Return heights and widths (n, 2) of pixels in cells, not rounded."""
    frame = np.concatenate([np.zeros_like(pixels), pixels[:, ::-1]], axis=1)
    return in_map(frame, np.array([scale]))[:, [3, 2]].astype(np.float64, copy=False)


def agree(
    input_sizes: Array, map_sizes: Array, scale: tuple[float, float], multiple: int, slack: int = 1
) -> NDArray[np.bool_]:
    """Tell for each image whether its map may be of its input: rounded down, up, or of the padded input."""
    exact, filled = cells(input_sizes, scale), cells(np.ceil(input_sizes / multiple) * multiple, scale)
    fits = np.zeros(exact.shape, np.bool_)
    for expected in (np.floor(exact + 1e-6), np.ceil(exact - 1e-6), np.ceil(filled - 1e-6)):
        fits |= np.abs(map_sizes - expected) <= slack
    return np.asarray(fits.all(axis=1) | np.isnan(input_sizes).any(axis=1), np.bool_)


def infer_stride(input_sizes: Array, map_sizes: Array, multiple: int) -> int | None:
    """Return the stride that sizes of inputs and maps have in common; None if none or several have."""
    if not len(input_sizes) or np.isnan(input_sizes).any():
        return None
    found = [n for n in STRIDES if agree(input_sizes, map_sizes, (1 / n, 1 / n), multiple, slack=0).all()]
    return found[0] if len(found) == 1 else None


def guess(sizes: Array, map_sizes: Array, scale: tuple[float, float] | None = None) -> str:
    """Say what may have been done to images of known sizes, if something usual fits all maps; or nothing.

    `sizes`, `map_sizes` (n, 2): of the originals and of their maps.
    `scale`: what the user gave; by default all usual strides are tried.
    """
    sure = ~np.isnan(sizes).any(axis=1)
    sizes, map_sizes = sizes[sure], map_sizes[sure]
    if not len(sizes):
        return ""
    if scale is None and (stride := infer_stride(sizes, map_sizes, 32)) is not None:
        return f"`spatial_scale=1/{stride}`"
    scales = [scale] if scale is not None else [(1 / stride, 1 / stride) for stride in STRIDES]
    for text in _USUAL:
        entry, numbers = known.parse(text) or (None, ())
        assert entry is not None
        transform = entry.make(sizes, *numbers)
        for one in scales:
            if agree(transform.input_sizes, map_sizes, one, transform.multiple, slack=0).all():
                return f"`preprocess={text}`" + ("" if scale is not None else f" with `stride={1 / one[0]:g}`")
    return ""


def disagreement(
    features: str,
    names: Sequence[str],
    sizes: Array,
    transform: ImageTransform | None,
    map_sizes: Array,
    with_boxes: NDArray[np.bool_],
    scale: tuple[float, float],
) -> tuple[str, str]:
    """Say which map does not have the size that its image should give it, and what may help; nothing if all agree."""
    input_sizes = sizes if transform is None else transform.input_sizes
    wrong = np.flatnonzero(~agree(input_sizes, map_sizes, scale, _multiple(transform)) & with_boxes)
    if not len(wrong):
        return "", ""
    first = int(wrong[0])
    low = np.ceil(cells(input_sizes, scale)[first] - 1e-6)
    high = np.ceil(cells(np.ceil(input_sizes / _multiple(transform)) * _multiple(transform), scale)[first] - 1e-6)
    expected = _by(low) if (low == high).all() else f"{_by(low)} to {_by(high)}"
    network = "" if transform is None else f", {_by(input_sizes[first])} as the network's input"
    y, x = scale
    stride = f"{1 / y:g}" if x == y else f"{1 / y:g},{1 / x:g}"
    text = (
        f"{features}: {len(wrong):,} of {count(int(with_boxes.sum()), 'map')} do not have the size of their "
        f"images; image {names[first]!r} is {_by(sizes[first])} pixels{network}: expected {expected} cells at "
        f"stride {stride}, found {_by(map_sizes[first])}"
    )
    return text, f"{_remedy(sizes, transform, map_sizes, with_boxes, scale)} `size_check=False` pools all the same."


def _remedy(
    sizes: Array,
    transform: ImageTransform | None,
    map_sizes: Array,
    used: NDArray[np.bool_],
    scale: tuple[float, float],
) -> str:
    """Say what would make maps agree with their images."""
    input_sizes, multiple = (sizes if transform is None else transform.input_sizes)[used], _multiple(transform)
    map_sizes = map_sizes[used]
    if len(map_sizes) > 1 and (map_sizes == map_sizes[0]).all():
        exact = np.floor(cells(input_sizes, scale) + 1e-6)
        if (map_sizes >= exact).all() and (exact.max(axis=0) + 2 >= map_sizes[0]).all():
            return "The maps may have been padded to the largest one, right and below: then they are right."
    if transform is None:
        found = guess(sizes[used], map_sizes, scale) or guess(sizes[used], map_sizes)
    else:
        stride = infer_stride(input_sizes, map_sizes, multiple)
        found = "" if stride is None else f"`stride={stride}`"
    if found:
        return f"{found} would fit."
    return "Give the `stride` of the maps, and say what was done to the images by `preprocess`."


def _by(size: Array) -> str:
    return " x ".join("?" if np.isnan(side) else f"{side:g}" for side in size.tolist())
