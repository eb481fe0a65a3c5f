"""What may have made pooled features, as data: ways to take the boxes, and what is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli import conventions
from roicli.jobs import preprocess
from roicli.jobs.geometry import Located
from roicli.jobs.preprocess import ImageTransform
from roicli.jobs.pyramid import Pyramid, place_on_levels
from roicli.jobs.views import bfloat16
from roicli.pooling.levels import RULES
from roicli.pooling.operators import find
from roicli.pooling.placement import Placement, place
from roicli.protocols import Level
from roicli.regions import BoxFormat, from_xyxy, to_xyxy
from roicli.spec import PoolSpec

Boxes = NDArray[np.float64]
_XYWH, _CXCYWH = BoxFormat.XYWH, BoxFormat.CXCYWH
_SAMPLING, _MORE_SAMPLING = (-1, 1, 2, 3, 4), (5, 6, 7, 8, 9, 10, 12, 14, 16)


class Way(NamedTuple):
    """One way to take the boxes: in words, what it costs to believe, where it puts boxes, and options that say it."""

    words: str
    cost: int
    put: Callable[[Located, Boxes], Placement]
    options: dict[str, Any]


class Candidate(NamedTuple):
    """What may have made a reference."""

    way: Way
    spec: PoolSpec
    view: str = ""  # what was done to the maps
    how: str = ""  # what was done to the values
    dtype: Any = None
    fits: bool = True  # most RoIs of the last sieve

    @property
    def but(self) -> str:
        """What was done that should not have been."""
        return "; ".join(part for part in (self.way.words, self.view, self.how) if part)

    @property
    def settings(self) -> str:
        """What was computed."""
        said = find(self.spec.op).convention(self.spec)
        if self.spec.rule is not None:
            said += f", {conventions.name_of(self.spec)[0]}"
        reduced = self.spec.reduce != "none" and self.spec.output_size != (1, 1)
        return said + f", {self.spec.reduce} of the bins" * reduced

    @property
    def cost(self) -> int:
        """What it costs to believe."""
        return self.way.cost + (self.spec.rule is not None) + bool(self.view) + bool(self.how)


# What may be done to numbers of boxes (K, 4), of images with sides (K, 4) in their unit, which has pixels (K, 4) of it.
_ONE_MORE = np.array([0, 0, 1, 1])
_TAKES: dict[str, Callable[[Boxes, Boxes, Boxes], Boxes]] = {
    "": lambda b, sides, pixel: b,
    "x and y swapped: y1, x1, y2, x2 taken for x1, y1, x2, y2": lambda b, sides, pixel: b[:, [1, 0, 3, 2]],
    "xywh taken for xyxy": lambda b, sides, pixel: from_xyxy(b, _XYWH),
    "cxcywh taken for xyxy": lambda b, sides, pixel: from_xyxy(b, _CXCYWH),
    "xyxy taken for xywh": lambda b, sides, pixel: to_xyxy(b, _XYWH),
    "xyxy taken for cxcywh": lambda b, sides, pixel: to_xyxy(b, _CXCYWH),
    "xywh taken for cxcywh": lambda b, sides, pixel: to_xyxy(from_xyxy(b, _XYWH), _CXCYWH),
    "cxcywh taken for xywh": lambda b, sides, pixel: to_xyxy(from_xyxy(b, _CXCYWH), _XYWH),
    "x1, x2, y1, y2 taken for x1, y1, x2, y2": lambda b, sides, pixel: b[:, [0, 2, 1, 3]],
    "a batch index taken for x1": lambda b, sides, pixel: np.column_stack([b[:, 0] * 0, b[:, :3]]),
    "inclusive ends: x2 + 1, y2 + 1": lambda b, sides, pixel: b + _ONE_MORE * pixel,
    "ends one pixel less: x2 - 1, y2 - 1": lambda b, sides, pixel: b - _ONE_MORE * pixel,
    "pixels counted from 1: all corners + 1": lambda b, sides, pixel: b + pixel,
    "pixels counted from 0: all corners - 1": lambda b, sides, pixel: b - pixel,
    "boxes divided by the size of the image": lambda b, sides, pixel: b / sides,
    "boxes clipped to the image": lambda b, sides, pixel: np.clip(b, 0, sides),
    "boxes clipped to the last pixel": lambda b, sides, pixel: np.clip(b, 0, sides - pixel),
    "boxes rounded to whole pixels": lambda b, sides, pixel: np.rint(b / pixel) * pixel,
    "boxes cut to whole pixels": lambda b, sides, pixel: np.trunc(b / pixel) * pixel,
    "boxes rounded outwards to whole pixels": lambda b, sides, pixel: (
        np.column_stack([np.floor(b / pixel)[:, :2], np.ceil(b / pixel)[:, 2:]]) * pixel
    ),
    "boxes rounded to float16": lambda b, sides, pixel: b.astype(np.float16).astype(np.float64),
    "boxes rounded to bfloat16": lambda b, sides, pixel: bfloat16(b).astype(np.float64),
    "boxes mirrored: W - x": lambda b, sides, pixel: np.column_stack(
        [sides[:, 0] - b[:, 2], b[:, 1], sides[:, 0] - b[:, 0], b[:, 3]]
    ),
}
_FACTORS = (2.0, 0.5, 4.0, 0.25, 8.0, 0.125)
_SCALES = (1.0, 1 / 4, 1 / 8, 1 / 14, 1 / 16, 1 / 32, 1 / 64)


def ways(here: Located, levels: tuple[Level, ...], pyramid: Pyramid) -> Iterator[Way]:
    """Yield the ways in which boxes may have been taken: as they should, then mistaken.

    Parameters
    ----------
    here : Located
        The boxes; of a pyramid, on its finest level.
    levels : tuple of Level
        Of the source, if it is a pyramid.
    pyramid : Pyramid
        What the user says of them.
    """
    onto = list(_levels(levels, pyramid) if levels else _scales(here.scale))
    for words, take in _TAKES.items():
        for said, options, put in onto:
            joined = "; ".join(part for part in (words, said) if part)
            yield Way(joined, bool(words) + bool(said), _after(take, put), options)
    said, options, put = onto[0]
    for words, transform in _transforms(here):
        yield Way(words, 1, _with(transform, put), options)


def _after(take: Callable[[Boxes, Boxes, Boxes], Boxes], put: Any) -> Callable[[Located, Boxes], Placement]:
    def placed(here: Located, numbers: Boxes) -> Placement:
        sides = here.sizes[here.image]
        sides = np.where(np.isnan(sides), _input_sizes(here), sides)
        unit = np.ones_like(sides) if here.unit is None else here.unit[here.image]
        with np.errstate(all="ignore"):
            taken = take(numbers, (sides / unit)[:, [1, 0, 1, 0]], (1 / unit)[:, [1, 0, 1, 0]])
        placement: Placement = put(here, np.nan_to_num(taken, posinf=0, neginf=0))
        return placement

    return placed


def _input_sizes(here: Located) -> Boxes:
    """Return height and width that the map of each box covers, in pixels."""
    ratio = np.array(here.scale)
    return np.asarray(here.map_sizes[here.image] / ratio)


def _scales(right: tuple[float, float]) -> Iterator[tuple[str, dict[str, Any], Any]]:
    scales = [right, *((right[0] * factor, right[1] * factor) for factor in _FACTORS), *((one, one) for one in _SCALES)]
    for y, x in dict.fromkeys(scales):
        words = "" if (y, x) == right else f"spatial scale {y:g}" + (f", {x:g}" if x != y else "")

        def put(here: Located, numbers: Boxes, scale: tuple[float, float] = (y, x)) -> Placement:
            return here.place(numbers, scale)

        yield words, {"spatial_scale": y if x == y else (y, x)}, put


def _levels(levels: tuple[Level, ...], right: Pyramid) -> Iterator[tuple[str, dict[str, Any], Any]]:
    canon = right.canonical_level
    others = [replace(right, level_rule=rule) for rule in RULES]  # type: ignore[arg-type]
    others += [replace(right, canonical_level=canon + step) for step in (-1, 1, -2, 2)]
    for one in dict.fromkeys([right, *others]):
        words = "" if one == right else f"levels by the rule of {one.level_rule}"
        words += f", canonical level {one.canonical_level}" * (one.canonical_level != canon)

        def put(here: Located, numbers: Boxes, pyramid: Pyramid = one) -> Placement:
            return place_on_levels(here.place(numbers), levels, pyramid, np.dtype(np.float32))[0]

        yield words, {"level_rule": one.level_rule, "canonical_level": one.canonical_level}, put
    for number, level in enumerate(levels):

        def put_all(here: Located, numbers: Boxes, number: int = number) -> Placement:
            placed = here.place(numbers)
            return place(placed.map_index * len(levels) + number, placed.boxes, 1 / levels[number].stride)

        yield f"all boxes on level {level.name}", {"level": level.name}, put_all


def _transforms(here: Located) -> Iterator[tuple[str, ImageTransform | None]]:
    """Yield what else may have been done to the images, as far as their sizes are known."""
    done, sizes = here.transform, here.sizes
    if done is not None:
        zeros = np.zeros(len(sizes))
        yield "boxes in pixels of the original image, without what was done to it", None
        yield "without the offset of the image", replace(done, px=zeros, py=zeros)
        yield "the offset of the image counted twice", replace(done, px=2 * done.px, py=2 * done.py)
        yield "without the resize of the image", replace(done, rx=zeros + 1, ry=zeros + 1)
    frame = _input_sizes(here)[0]
    if np.isfinite(sizes).all() and len(sizes):
        height, width = frame.tolist()
        yield f"images letterboxed to {height:g} x {width:g}", preprocess.letterbox(sizes, height, width)
        yield f"images stretched to {height:g} x {width:g}", preprocess.squash(sizes, height, width)
        fit = (frame / sizes).min(axis=1)[:, None]
        yield "images resized to fit, padded on the right and below", preprocess.resized(sizes, np.rint(sizes * fit))


def _with(transform: ImageTransform | None, put: Any) -> Callable[[Located, Boxes], Placement]:
    def placed(here: Located, numbers: Boxes) -> Placement:
        placement: Placement = put(here._replace(transform=transform), numbers)
        return placement

    return placed


def specs(base: PoolSpec, *, more: bool = False) -> Iterator[PoolSpec]:
    """Yield what conventions and operators compute, each once; `more`: at sampling ratios that are rare."""
    found: dict[PoolSpec, None] = {}
    for one in conventions.ALL.values():
        op = one.settings.get("op", "roi_align")
        settings: dict[str, Any] = {"op": op, "mode": find(op).modes[0], "rule": None, "aligned": False}
        settings |= {name: value for name, value in one.settings.items() if value is not None}
        once = op != "roi_align" or (settings["rule"] is not None and settings["rule"].samples != "ratio")
        for ratio in (-1,) * (not more) if once else _MORE_SAMPLING if more else _SAMPLING:
            found[replace(base, **settings | {"sampling_ratio": ratio})] = None
    for ratio in _MORE_SAMPLING if more else _SAMPLING:
        found[replace(base, op="roi_align", aligned=False, sampling_ratio=ratio, mode="max", rule=None)] = None
    for op in () if more else ("precise_roi_pool", "window_mean", "cell"):
        found[replace(base, op=op, aligned=False, sampling_ratio=-1, mode="avg", rule=None)] = None
    yield from found
