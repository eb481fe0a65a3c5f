"""Masks of regions on the grid of a map: with which weight each cell is taken.

A mask is separable as RoIAlign is: whichever rule weighs the cells, it does so along y and x apart. So a mask M of
(h, w) pixels weighs the cells by ``Ay.T @ M @ Ax``, where Ay (h, H) and Ax (w, W) say how the pixels of a line and the
cells of the map see each other. Nothing of the size of the image is ever made of the map.

One mask, three pixels wide of six (0 1 1 1 0 0), on three cells of two pixels; the weights before they are divided by
their sum:

================ ================== ============================================================================
rule             weights            what it is
================ ================== ============================================================================
coverage         0.5  1    0        share of each cell that the mask covers
upsampled        1.0  1.75 0.25     the map is enlarged to the image (bilinear), then averaged under the mask
resize           0.5  1    0        the mask is resized to the map: bilinear, between two pixels
resize-antialias 0.57 0.88 0.14     the same with a filter as wide as the cells (torchvision since 0.17, Pillow)
resize-any       1    1    0        1 where `resize` gives more than 0
nearest          1    1    0        the pixel at the centre of each cell; between two pixels, the second one
================ ================== ============================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from roicli.errors import UsageError
from roicli.pooling.placement import Placement
from roicli.pooling.sampling import FloatArray, neighbours, pixels_in_map
from roicli.spec import MaskRule

# Places are rounded to this part of a pixel or a cell: a scale such as 1 / 14 is not exact, and a pixel that misses a
# cell by 1e-16 must miss it.
_GRAIN = 2.0**-32


class PixelLine(NamedTuple):
    """The pixels of an image and the cells of a map along one axis; see `pixels_in_map`."""

    pixels: int
    cells: int
    step: float
    begin: float

    def in_cells(self, pixel: FloatArray) -> FloatArray:
        """Return where places in the image lie on the map; 0 is the border of either."""
        return _rounded(self.begin + pixel * self.step)

    def in_pixels(self, cell: FloatArray) -> FloatArray:
        """Return where places on the map lie in the image."""
        return _rounded((cell - self.begin) / self.step)

    def frame(self) -> tuple[int, int]:
        """Return the first pixel of the network's input and the one after the last; the image may be a part of it."""
        first, stop = np.rint(self.in_pixels(np.array([0.0, self.cells]))).astype(int).tolist()
        return first, max(stop, first + 1)


def coverage(line: PixelLine) -> FloatArray:
    """Weigh a cell by the share of it that a pixel covers.

    exactextract, `coverage_fraction` with its `mean` weighted by it. The mask is one of pixels, not an outline.
    """
    edges = line.in_cells(np.arange(line.pixels + 1.0))[:, None]
    cells = np.arange(float(line.cells))
    until = np.clip(edges, cells, cells + 1)
    return np.diff(until, axis=0)


def upsampled(line: PixelLine) -> FloatArray:
    """Weigh a cell by how much of it a pixel has once the map is enlarged to the padded image.

    michalsr/dino_sam, process_regions.py, region_features: the features by torch.nn.functional.upsample(mode=
    "bilinear") to the size of the padded image, then the mean over the pixels of the mask.
    """
    at = line.in_cells(np.arange(line.pixels) + 0.5)
    inside = (at >= 0) & (at <= line.cells)  # others are cropped away
    low, high, fraction = neighbours(at - 0.5, line.cells)
    pixel, weights = np.arange(line.pixels), np.zeros((line.pixels, line.cells))
    np.add.at(weights, (pixel, low), (1 - fraction) * inside)
    np.add.at(weights, (pixel, high), fraction * inside)
    return weights


def resize(line: PixelLine) -> FloatArray:
    """Weigh a cell by the mask resized to the map: at its centre, between two pixels.

    mlzxy/devit, demo/build_prototypes.ipynb: the mask by torchvision's resize, whose default for tensors was
    antialias=False before version 0.17, then the weighted mean. What pads the image is not in the mask.
    """
    first, stop = line.frame()
    at = np.clip(line.in_pixels(np.arange(line.cells) + 0.5) - 0.5, first, stop - 1)
    low = np.floor(at).astype(int)
    weights = np.zeros((line.pixels, line.cells))
    for pixel, weight in ((low, 1 - (at - low)), (np.minimum(low + 1, stop - 1), at - low)):
        image = (pixel >= 0) & (pixel < line.pixels)
        np.add.at(weights, (pixel[image], np.flatnonzero(image)), weight[image])
    return weights


def resize_antialias(line: PixelLine) -> FloatArray:
    """Weigh a cell by the mask resized to the map with a triangle filter as wide as two cells.

    mlzxy/devit with torchvision since version 0.17, whose default is antialias=True; Pillow's BILINEAR is the same.
    """
    first, stop = line.frame()
    centre = line.in_pixels(np.arange(line.cells) + 0.5)
    support = max(1 / line.step, 1.0)
    pixel = np.arange(first, stop) + 0.5
    weights = np.maximum(0, 1 - np.abs(pixel[:, None] - centre) / support)
    weights /= np.maximum(weights.sum(axis=0), np.finfo(float).tiny)
    image = np.zeros((line.pixels, line.cells))
    begin, end = max(first, 0), min(stop, line.pixels)
    image[begin:end] = weights[begin - first : max(end - first, begin - first)]
    return image


def nearest(line: PixelLine) -> FloatArray:
    """Weigh a cell by the pixel at its centre.

    torch.nn.functional.interpolate(mode="nearest-exact"), Pillow's NEAREST, and whoever asks which centres of patches
    lie in the mask. (PyTorch's older mode="nearest" takes the pixel at the upper left of the cell.)
    """
    pixel = np.floor(line.in_pixels(np.arange(line.cells) + 0.5)).astype(int)
    weights = np.zeros((line.pixels, line.cells))
    image = (pixel >= 0) & (pixel < line.pixels)
    weights[pixel[image], np.flatnonzero(image)] = 1
    return weights


# `resize-any` is that of NVlabs/ODISE, odise/modeling/meta_arch/odise.py, MaskPooling, and of CircleRadon/Osprey,
# osprey/model/layer.py, MaskPooling: F.interpolate(mask, mode="bilinear") > 0, then the mean over these cells.
_RULES: dict[MaskRule, Callable[[PixelLine], FloatArray]] = {
    "coverage": coverage,
    "upsampled": upsampled,
    "resize": resize,
    "resize-antialias": resize_antialias,
    "resize-any": resize,
    "nearest": nearest,
}


def cell_weights(
    regions: Placement, row: int, size: tuple[int, ...], rule: MaskRule, dtype: np.dtype[Any]
) -> FloatArray:
    """Weigh the cells of a map by the mask of one region, (H, W); all zero if the mask reaches none of them.

    For all rules but `upsampled`, a weight is the mask on that cell, from 0 to 1.
    """
    if regions.masks is None:
        raise UsageError("the regions have no masks", "Give regions that have them, or `op=roi_align`.")
    places = pixels_in_map(regions, row)
    # Where outlines do not say the size of their image, it is the network's input.
    canvas = [max(math.ceil((cells - begin) / step), 1) for cells, (step, begin) in zip(size, places, strict=True)]
    mask = regions.masks.decode(row, (canvas[0], canvas[1]))
    weights = np.zeros(size, dtype)
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return weights
    lines = (PixelLine(*axis) for axis in _lines(mask.shape, size, places))
    y, x = (_matrix(rule, line, dtype) for line in lines)
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    np.matmul(y[part[0]].T, mask[part].astype(dtype) @ x[part[1]], out=weights)
    return (weights > 0).astype(dtype) if rule == "resize-any" else weights


def _lines(pixels: tuple[int, ...], cells: tuple[int, ...], places: tuple[tuple[float, float], ...]) -> Any:
    return ((*ends, *place) for *ends, place in zip(pixels, cells, places, strict=True))


# Masks of one image come one after the other, and images are often of one size.
@lru_cache(maxsize=8)
def _matrix(rule: MaskRule, line: PixelLine, dtype: np.dtype[Any]) -> FloatArray:
    weights: FloatArray = _RULES[rule](line).astype(dtype)
    return weights


def _rounded(place: FloatArray) -> FloatArray:
    rounded: FloatArray = np.rint(place / _GRAIN) * _GRAIN
    return rounded
