"""Where regions lie: from the numbers of the box file to pixels of the network's input and to cells of the map."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.errors import UsageError
from roicli.files import Stamp
from roicli.jobs import preprocess as known
from roicli.jobs.imagesizes import ImageSize, one_size, stamps_of
from roicli.jobs.preprocess import ImageTransform
from roicli.pooling.placement import Placement, check_scale, place
from roicli.regions import Regions
from roicli.stores.path import path_of

Scale = float | tuple[float, float]
"""One number, or y and x."""
Array = NDArray[np.float64]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """What the user says of where boxes lie on maps."""

    spatial_scale: Scale = 1.0  # feature cells per pixel of the network's input; y and x if they differ
    stride: Scale | None = None  # its inverse, instead
    # What was done to the images: a name of `preprocess.names`, or a file of numbers an image
    preprocess: str | os.PathLike[str] | None = None
    image_size: ImageSize | None = None  # sizes of the originals: a file, or one size
    normalized: bool = False  # boxes are in 0..1 of the original image
    size_check: bool = True  # refuse maps whose size does not agree with that of the input

    def __post_init__(self) -> None:
        if self.stride is not None and self.spatial_scale != 1.0:
            raise UsageError("`spatial_scale` and `stride` say the same", "Give one of them.")
        if self.stride is not None and not (np.asarray(self.stride, np.float64) > 0).all():
            raise UsageError(f"stride must be positive, got {self.stride}", "Give pixels a cell, such as `stride=16`.")
        check_scale(self.scale)
        if self.preprocess is not None:
            self.named()

    @property
    def scale(self) -> tuple[float, float]:
        """Feature cells per input pixel along y and x, as a caller of torchvision would compute them."""
        given = self.spatial_scale if self.stride is None else self.stride
        y, x = given if isinstance(given, tuple | list) else (given, given)
        return (float(y), float(x)) if self.stride is None else (1 / y, 1 / x)

    def knowing(self, regions: Regions) -> Geometry:
        """Return the same with the unit that regions have by their layout."""
        return replace(self, normalized=True) if regions.normalized else self

    @property
    def is_stated(self) -> bool:
        """Whether the user gave a scale."""
        return self.stride is not None or self.scale != (1.0, 1.0)

    def named(self) -> tuple[known.Preprocess, tuple[float, ...]] | None:
        """Return what `preprocess` names; None if it is a file, or not given.

        Raises UsageError: it is neither.
        """
        if self.preprocess is None:
            return None
        found = known.parse(str(self.preprocess))
        if found is None and not (path := path_of(self.preprocess)).suffix and not path.exists():
            raise UsageError(
                f"preprocess {str(self.preprocess)!r} is not known",
                f"Give one of {', '.join(known.names())}, or a CSV or JSON file with rx, ry, px, py.",
            )
        return found

    def stamps(self) -> dict[str, Stamp]:
        """Return the files that it says to read, and their state.

        Raises FileError: one of them is not there.
        """
        found: list[Any] = []
        if self.preprocess is not None and self.named() is None:
            found.append(self.preprocess)
        if self.image_size is not None and one_size(self.image_size) is None:
            found.append(self.image_size)
        return stamps_of(*found)

    def parameters(self) -> dict[str, str | int | float | bool]:
        """Return what an output says of it."""
        said: dict[str, str | int | float | bool] = {}
        said |= {"spatial_scale": scale_parameter(self.scale), "normalized": self.normalized}
        if self.preprocess is not None:
            said["preprocess"] = str(self.preprocess)
        if self.image_size is not None:
            said["image_size"] = str(self.image_size)
        return said


def scale_parameter(scale: tuple[float, float]) -> float | str:
    """Return a scale as outputs record it: one number, or y and x."""
    y, x = scale
    return y if x == y else f"{y!r},{x!r}"


@dataclass(frozen=True)
class Steps:
    """One box on its way to the network's input."""

    image_size: tuple[float, float] | None  # height and width of the original, if known
    pixels: Box | None  # xyxy
    input_size: tuple[float, float] | None  # of the network's input, if anything was done to the image
    input_pixels: Box | None


class Located(NamedTuple):
    """Regions on their way from the box file to their maps."""

    placement: Placement  # where they lie on the maps
    given: Array  # (K, 4): xyxy as the box file has them
    image: NDArray[np.intp]  # (K,): the image of each: a line of what follows
    sizes: Array  # (n, 2): sizes of the originals, NaN where unknown
    map_sizes: Array  # (n, 2): sizes of their maps, in cells
    unit: Array | None  # (n, 2): height and width by which boxes in 0..1 are multiplied; None for boxes in pixels
    transform: ImageTransform | None  # what was done to the images, if anything was said
    scale: tuple[float, float]  # cells per input pixel along y and x
    warnings: tuple[str, ...] = ()  # what looks like a mistake

    def in_pixels(self, given: Array) -> Array:
        """Return boxes of the box file in pixels of the originals."""
        return given if self.unit is None else given * self.unit[self.image][:, [1, 0, 1, 0]]

    def place(self, given: Array, scale: tuple[float, float] | None = None) -> Placement:
        """Place other boxes of the same regions, perhaps at another scale."""
        with np.errstate(over="ignore", invalid="ignore"):  # boxes that are zeroed may be anything
            pixels = self.in_pixels(given)
            boxes = pixels if self.transform is None else self.transform.apply(pixels, self.image)
        return place(self.placement.map_index, boxes, scale or self.scale)

    def steps(self, row: int) -> Steps:
        """Return the way of one region from the original image to the network's input."""
        here = self.take(np.array([row]))
        image, transform = int(here.image[0]), self.transform
        size = _size(self.sizes[image])
        by_map = self.unit is self.map_sizes
        pixels = None if by_map else as_box(here.in_pixels(here.given)[0])
        if transform is None:
            return Steps(size, pixels, None, None)
        return Steps(size, pixels, _size(transform.input_sizes[image]), as_box(here.placement.boxes[0]))

    def take(self, rows: NDArray[np.intp]) -> Located:
        """Return the regions at `rows`, in that order; the images stay as they are."""
        return self._replace(placement=self.placement.take(rows), given=self.given[rows], image=self.image[rows])


def as_box(box: Array) -> Box:
    """Return a box as four floats."""
    x1, y1, x2, y2 = box.tolist()
    return x1, y1, x2, y2


def _size(size: Array) -> tuple[float, float] | None:
    height, width = size.tolist()
    return None if np.isnan(height + width) else (height, width)
