"""What was done to images before the network saw them: where a pixel of the original lies on the network's input.

Each name is a function from the sizes of originals to an `ImageTransform`. Its docstring names the code that it follows
to the pixel. Numbers are float64, as in that code; sides are whole pixels.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.errors import UsageError

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ImageTransform:
    """Pixels of n original images to pixels of the network's input: ``x * rx + px``, ``y * ry + py``."""

    # (n,) each: input pixels per original pixel
    rx: Array
    ry: Array
    # Where the left and the upper border of the original lie on the input; negative if they were cropped
    px: Array
    py: Array
    input_sizes: Array  # (n, 2): height and width of the input, NaN if unknown
    multiple: int = 1  # batches may be padded further, right and below, to a multiple of so many pixels

    def apply(self, boxes: Array, image: NDArray[np.intp]) -> Array:
        """Return xyxy boxes (K, 4) of the originals `image` (K,) in input pixels.

        Examples
        --------
        >>> transform = letterbox(np.array([[480.0, 640.0]]), 320, 320)
        >>> transform.apply(np.array([[0.0, 0.0, 640.0, 480.0]]), np.array([0])).tolist()
        [[0.0, 40.0, 320.0, 280.0]]
        """
        moved = np.empty_like(boxes)
        for column, (ratio, offset) in enumerate(2 * ((self.rx, self.px), (self.ry, self.py))):
            # Column by column: less memory than arrays of four numbers a box.
            moved[:, column] = boxes[:, column] * ratio[image] + offset[image]
        return moved


def resized(sizes: Array, new: Array, *, input_sizes: Array | None = None, multiple: int = 1) -> ImageTransform:
    """Return the transform of originals (n, 2) resized to `new` (n, 2), both height and width."""
    zeros = np.zeros(len(sizes))
    ry, rx = (new / sizes).T
    return ImageTransform(rx, ry, zeros, zeros, new if input_sizes is None else input_sizes, multiple)


def padded(transform: ImageTransform, top: Array, left: Array, input_sizes: Array) -> ImageTransform:
    """Return a transform whose result is padded, or cropped by negative numbers, at the top and on the left."""
    return ImageTransform(transform.rx, transform.ry, left, top, input_sizes)


def shortest_edge(sizes: Array, short: float, longest: float) -> ImageTransform:
    """Resize the shorter side to `short`, the longer one to at most `longest`: ``int(side * scale + 0.5)``.

    detectron2, data/transforms/augmentation_impl.py, ResizeShortestEdge.get_output_shape; mmdet's Resize with
    keep_ratio rounds the same way.
    """
    height, width = sizes.T
    ratio = short / sizes.min(axis=1)
    new = np.stack([np.where(height < width, short, ratio * height), np.where(height < width, ratio * width, short)], 1)
    too_long = new.max(axis=1) > longest
    new[too_long] *= (longest / new[too_long].max(axis=1))[:, None]
    return resized(sizes, np.floor(new + 0.5), multiple=32)


def shortest_edge_floor(sizes: Array, short: float, longest: float) -> ImageTransform:
    """Resize the shorter side to `short`, the longer one to at most `longest`, rounded down.

    torchvision, models/detection/transform.py, GeneralizedRCNNTransform: interpolate with recompute_scale_factor.
    """
    ratio = np.minimum(short / sizes.min(axis=1), longest / sizes.max(axis=1))
    return resized(sizes, np.floor(sizes * ratio[:, None]), multiple=32)


def longest_edge(sizes: Array, longest: float) -> ImageTransform:
    """Resize the longer side to `longest` and pad right and below to a square.

    segment_anything, utils/transforms.py, ResizeLongestSide.get_preprocess_shape; modeling/sam.py, Sam.preprocess.
    """
    ratio = longest / sizes.max(axis=1)
    return resized(sizes, np.floor(sizes * ratio[:, None] + 0.5), input_sizes=np.full(sizes.shape, longest))


def letterbox(sizes: Array, height: float, width: float) -> ImageTransform:
    """Resize to fit and pad to height x width on both sides; the left and the upper side get half a pixel less.

    ultralytics, data/augment.py, LetterBox with auto=False. Boxes go by the rounded sides, as in utils/ops.py,
    scale_boxes: so does the picture.
    """
    frame = np.array([height, width])
    ratio = (frame / sizes).min(axis=1)
    new = np.maximum(np.rint(sizes * ratio[:, None]), 1)
    top, left = np.rint((frame - new) / 2 - 0.1).T
    return padded(resized(sizes, new), top, left, np.broadcast_to(frame, sizes.shape))


def squash(sizes: Array, height: float, width: float) -> ImageTransform:
    """Resize to height x width, whatever the shape of the image.

    torchvision.transforms.Resize((height, width)); so do most ViT processors without a crop.
    """
    return resized(sizes, np.broadcast_to(np.array([height, width]), sizes.shape))


def center_crop(sizes: Array, crop: float, short: float) -> ImageTransform:
    """Resize the shorter side to `short`, then crop the central square of `crop`.

    CLIP, clip/clip.py, _transform: torchvision's Resize, ``int(short * longer / shorter)``, then CenterCrop, which
    rounds half a pixel to even; it pads an image that is smaller than the crop.
    """
    new = np.where(
        sizes <= sizes[:, ::-1], short, np.floor(short * sizes.max(axis=1) / sizes.min(axis=1))[:, None]
    ).astype(np.float64)
    missing = np.maximum(crop - new, 0)
    offset = np.floor(missing / 2) - np.rint((new + missing - crop) / 2)
    top, left = offset.T
    return padded(resized(sizes, new), top, left, np.full(sizes.shape, crop))


def pad_multiple(sizes: Array, multiple: float) -> ImageTransform:
    """Pad right and below to a multiple.

    mmdet and mmcv, Pad(size_divisor); detectron2, structures/image_list.py, ImageList.from_tensors.
    """
    return resized(sizes, sizes, input_sizes=np.ceil(sizes / multiple) * multiple)


def center_pad(sizes: Array, multiple: float) -> ImageTransform:
    """Pad on both sides to a multiple; right and below get the odd pixel.

    dinov2, eval/segmentation notebooks, CenterPadding.
    """
    new = np.ceil(sizes / multiple) * multiple
    top, left = np.floor((new - sizes) / 2).T
    return padded(resized(sizes, sizes), top, left, new)


def round_multiple(sizes: Array, multiple: float) -> ImageTransform:
    """Resize each side to the nearest multiple, at least one.

    qwen_vl_utils, vision_process.py, smart_resize within its limits of pixels; MiDaS and Depth Anything, Resize with
    ensure_multiple_of. Half a multiple goes to the even one.
    """
    return resized(sizes, np.maximum(np.rint(sizes / multiple), 1) * multiple)


def none(sizes: Array) -> ImageTransform:
    """Leave the image as it is; batches may be padded."""
    return resized(sizes, sizes, multiple=32)


class Preprocess(NamedTuple):
    """A name that `preprocess` takes."""

    # The name, and what follows it: "shortest-edge", "SHORT,LONGEST"
    name: str
    form: str
    make: Callable[..., ImageTransform]  # from sizes (n, 2) and the numbers of the form to an `ImageTransform`
    numbers: int = 1  # how many numbers it takes
    square: bool = False  # one number stands for two that are equal: HxW, or a crop and the side before it
    needs_sizes: bool = True  # whether boxes cannot be placed without sizes of the originals
    # Whether the input is the whole image in a shape that does not depend on it: boxes in 0..1 need no sizes
    whole: bool = False


_KNOWN = {
    entry.name: entry
    for entry in (
        Preprocess("shortest-edge", "SHORT,LONGEST", shortest_edge, 2),
        Preprocess("shortest-edge-floor", "SHORT,LONGEST", shortest_edge_floor, 2),
        Preprocess("longest-edge", "N", longest_edge),
        Preprocess("letterbox", "N|HxW", letterbox, 2, square=True),
        Preprocess("squash", "N|HxW", squash, 2, square=True, whole=True),
        Preprocess("center-crop", "CROP,SHORT", center_crop, 2, square=True),
        Preprocess("pad-multiple", "N", pad_multiple, needs_sizes=False),
        Preprocess("center-pad", "N", center_pad),
        Preprocess("round-multiple", "N", round_multiple),
        Preprocess("none", "", none, 0, needs_sizes=False),
    )
}


def register(entry: Preprocess) -> None:
    """Add a name, or replace the entry of that name."""
    _KNOWN[entry.name] = entry


def names() -> list[str]:
    """Return the names with their forms: "squash:N|HxW"."""
    return [f"{entry.name}:{entry.form}" if entry.form else entry.name for entry in _KNOWN.values()]


def parse(text: str) -> tuple[Preprocess, tuple[float, ...]] | None:
    """Read a name and its numbers, such as ``"shortest-edge:800,1333"``; None if `text` does not begin in a name.

    Raises UsageError: the numbers are not those of the name.

    Examples
    --------
    >>> entry, numbers = parse("squash:518")
    >>> entry.name, numbers
    ('squash', (518.0, 518.0))
    """
    name, colon, rest = text.strip().partition(":")
    entry = _KNOWN.get(name.lower().replace("_", "-"))
    if entry is None:
        return None
    found = re.fullmatch(r"(\d{1,6})(?:[,x](\d{1,6}))?", rest.strip())
    numbers = tuple(float(number) for number in found.groups() if number) if found else ()
    if entry.square and len(numbers) == 1:
        numbers *= 2
    if len(numbers) != entry.numbers or (colon and not numbers) or 0 in numbers:
        form = f"{entry.name}:{entry.form}" if entry.form else entry.name
        raise UsageError(f"preprocess must be {form}, got {text!r}", "Give whole numbers of pixels.")
    return entry, numbers
