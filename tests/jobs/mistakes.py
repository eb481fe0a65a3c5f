"""Mistakes made on purpose: what is given to `identify`, and the words by which it should name each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jobs.randomcases import smooth

import roicli
from roicli.jobs import preprocess
from roicli.pooling.arguments import make_spec
from roicli.pooling.contraction import pool_maps
from roicli.pooling.levels import RULES, assign_levels
from roicli.pooling.operators import find
from roicli.pooling.placement import Placement, place

Array = np.ndarray[Any, Any]
TEXTURES = "plain", "float16", "relu"
_STRIDES = (4, 8, 14, 16, 32)
_ONE_MORE = np.array([0, 0, 1, 1])


@dataclass
class Scene:
    """Maps and boxes as they should be taken, and what somebody makes of them.

    `maps` are those in the file, (N, C, H, W), `boxes` (K, 5) those in the box file.
    """

    rng: np.random.Generator
    texture: str
    maps: Array
    boxes: Array
    stride: int
    size: tuple[int, int]
    settings: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Any] = field(default_factory=dict)
    reduce: bool = False

    @property
    def xyxy(self) -> Array:
        """The boxes (K, 4) in float64."""
        return self.boxes[:, 1:].astype(np.float64)

    @property
    def image(self) -> Array:
        """Width and height of the input, in pixels."""
        return np.array(self.maps.shape[:1:-1]) * self.stride

    def pool(self, boxes: Array | None = None, maps: Any = None, scale: Any = None, index: Any = None) -> Array:
        """Pool other boxes or maps than those that are given; maps are (N, C, H, W)."""
        maps = self.maps if maps is None else maps
        index = self.boxes[:, 0] if index is None else index
        scale = 1 / self.stride if scale is None else scale
        return pool(maps, place(index.astype(np.intp), self.xyxy if boxes is None else boxes, scale), self.spec)

    @property
    def spec(self) -> Any:
        """What is computed."""
        return make_spec(self.size, **self.settings)

    def identify(self, folder: Path, pooled: Array) -> Any:
        """Write the files, and ask."""
        pooled = pooled.mean(axis=(2, 3)) if self.reduce else pooled
        np.save(folder / "theirs.npy", pooled.astype(np.float16) if self.texture == "float16" else pooled)
        np.save(folder / "boxes.npy", self.boxes)
        np.save(folder / "map.npy", self.maps)
        for name, content in self.files.items():
            np.save(folder / name, content) if name.endswith(".npy") else (folder / name).write_text(content)
        given = {"size": self.size, "spatial_scale": 1 / self.stride} | self.options
        if "image_size" in given:
            given["image_size"] = folder / given["image_size"]
        features = given.pop("features", "map.npy")
        return roicli.identify(
            folder / "theirs.npy", folder / features, folder / "boxes.npy", bad_boxes="keep", **given
        )


def pool(maps: Any, placed: Placement, spec: Any) -> Array:
    """Pool maps (C, H, W), which may differ in size."""
    out = np.zeros((len(placed), *spec.row_shape(find(spec.op).channels(maps[0].shape[0], spec))), np.float32)
    for number in np.unique(placed.map_index):
        one = np.ascontiguousarray(maps[number].transpose(1, 2, 0))
        rows = np.flatnonzero(placed.map_index == number)
        part = np.zeros_like(out[rows])
        pool_maps(lambda _, one=one: one, placed.take(rows), one.shape[:2], spec, part)
        out[rows] = part
    return out


def texture(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> Array:
    """Maps of independent values; or none below zero, neighbors and channels alike, as behind a ReLU."""
    if kind != "relu":
        return rng.standard_normal(shape).astype(np.float32)
    count, channels, *sides = shape
    basis = np.stack([smooth(rng, (max(3, channels // 4), *sides)) for _ in range(count)])
    mixed = np.einsum("nbhw,bc->nchw", basis, rng.standard_normal((basis.shape[1], channels)))
    return np.maximum(mixed + 0.2, 0).astype(np.float32)


def scene(seed: int, kind: str, *, square: bool = False, size: tuple[int, int] | None = None) -> Scene:
    """Draw maps, boxes that mostly lie on them, and a convention."""
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(12, 34, 2))
    shape = (int(rng.integers(1, 3)), int(rng.choice([8, 12, 32])), height, height if square else width)
    maps, stride = texture(rng, kind, shape), int(rng.choice(_STRIDES))
    image = np.array(shape[:1:-1]) * stride
    count = int(rng.integers(6, 30))
    low = rng.uniform(0, image * 0.75, (count, 2))
    boxes = np.hstack([low, low + rng.uniform(stride, image * 0.5, (count, 2))])
    boxes = np.round(boxes, int(rng.integers(0, 3)))
    index = np.sort(rng.integers(0, shape[0], count))
    sizes = [(2, 2), (3, 3), (7, 7), (3, 5), (6, 2)]
    settings = {
        "op": "roi_align",
        "aligned": bool(rng.integers(2)),
        "sampling_ratio": int(rng.choice([-1, 1, 2, 3, 4])),
    }
    return Scene(
        *(rng, kind, maps, np.column_stack([index, boxes]).astype(np.float32), stride),
        *(size or sizes[rng.integers(len(sizes))], settings),
    )


Made = tuple[Scene, Array, list[str]]
MISTAKES: dict[str, Callable[[int, str], Made]] = {}


def mistake(function: Callable[[int, str], Made]) -> Callable[[int, str], Made]:
    """Enter one of the mistakes: from a seed and a texture to a scene, what they pooled, and words to name it."""
    MISTAKES[function.__name__] = function
    return function


def said(one: Scene, *words: str) -> list[str]:
    """Words of the settings, and others."""
    return [find(one.spec.op).convention(one.spec), *words]


@mistake
def aligned(seed: int, kind: str) -> Made:
    one = scene(seed, kind)
    one.settings["aligned"] = bool(seed % 2)
    one.options["aligned"] = not seed % 2
    return one, one.pool(), said(one)


@mistake
def sampling_ratio(seed: int, kind: str) -> Made:
    one = scene(seed, kind)
    one.settings["sampling_ratio"] = [-1, 1, 2, 3, 4, 5, 6, 7, 8][seed % 9]
    return one, one.pool(), said(one)


@mistake
def operator(seed: int, kind: str) -> Made:
    one = scene(seed, kind)
    ops = ["roi_pool", "precise_roi_pool", "window_mean", "cell", "max"]
    if (op := ops[seed % len(ops)]) == "max":
        one.settings["mode"] = "max"
    else:
        one.settings = {"op": op}
    return one, one.pool(), said(one)


@mistake
def scale(seed: int, kind: str) -> Made:
    """A stride of another level, or of another network."""
    one = scene(seed, kind)
    others = [one.stride * 2, one.stride / 2, *(other for other in (4, 8, 14, 16, 32) if other != one.stride)]
    taken = 1 / others[one.rng.integers(len(others))]
    return one, one.pool(scale=taken), said(one, f"spatial scale {taken:g}")


@mistake
def scale_of_another_input(seed: int, kind: str) -> Made:
    """Images were resized, which the boxes do not know: a factor along either axis."""
    one = scene(seed, kind)
    factor = np.round(one.rng.uniform(0.7, 1.4, 2), 2)
    scale = tuple((factor / one.stride).tolist())
    return one, one.pool(scale=scale), said(one, f"spatial scale {scale[0]:.3g}"[:-1])


@mistake
def padding(seed: int, kind: str) -> Made:
    """The image was padded on the left and above, which the boxes do not know."""
    one = scene(seed, kind)
    pad = one.rng.integers(1, 3 * one.stride, 2)
    return one, one.pool(one.xyxy + np.tile(pad, 2)), said(one, f"moved by +{pad[0]}, +{pad[1]} pixels")


def _taken(words: str, take: Callable[[Array], Array]) -> Callable[[int, str], Made]:
    def made(seed: int, kind: str) -> Made:
        one = scene(seed, kind)
        return one, one.pool(take(one.xyxy)), said(one, words)

    return made


MISTAKES["x_and_y_swapped"] = _taken("x and y swapped", lambda b: b[:, [1, 0, 3, 2]])
MISTAKES["xywh_for_xyxy"] = _taken("xywh taken for xyxy", lambda b: np.hstack([b[:, :2], b[:, 2:] - b[:, :2]]))
MISTAKES["cxcywh_for_xyxy"] = _taken(
    "cxcywh taken for xyxy", lambda b: np.hstack([(b[:, :2] + b[:, 2:]) / 2, b[:, 2:] - b[:, :2]])
)
MISTAKES["inclusive_ends"] = _taken("inclusive ends", lambda b: b + _ONE_MORE)


def _pyramid(seed: int, kind: str) -> tuple[Scene, list[Array], list[float]]:
    one = scene(seed, kind)
    strides = [4.0, 8.0, 16.0, 32.0]
    images, channels = one.maps.shape[:2]
    height, width = (int(side) * 32 for side in one.rng.integers(14, 26, 2))
    levels = [texture(one.rng, kind, (images, channels, int(height / s), int(width / s))) for s in strides]
    count = len(one.boxes)
    center, half = one.rng.uniform(0.2, 0.8, (count, 2)) * [width, height], 2 ** one.rng.uniform(3, 8.2, (count, 2)) / 2
    one.boxes[:, 1:] = np.round(np.hstack([center - half, center + half]), 1)
    one.files = {f"feats_p{number}.npy": level for number, level in enumerate(levels, 2)}
    one.options = {"features": "feats_{level}.npy", "levels": "p2:4,p3:8,p4:16,p5:32", "spatial_scale": 1.0}
    return one, levels, strides


@mistake
def level(seed: int, kind: str) -> Made:
    """The rule of another framework, another canonical level, or one level for all."""
    one, levels, strides = _pyramid(seed, kind)
    rule, canon = "torchvision", 4
    sort = seed % 3
    if sort == 0:
        rule = [name for name in RULES if name != rule][one.rng.integers(3)]
    if sort == 1:
        canon = int(one.rng.choice([2, 3, 5, 6]))
    at = assign_levels(one.boxes[:, 1:], strides, rule, 224.0, canon)
    words = [f"levels by the rule of {rule}"] + [f"canonical level {canon}"] * (canon != 4)
    if sort == 2:
        at = np.full(len(one.boxes), one.rng.integers(4))
        words = [f"all boxes on level p{at[0] + 2}"]
    right = assign_levels(one.boxes[:, 1:], strides, "torchvision", 224.0, 4)
    maps = [each for image in range(len(levels[0])) for each in (level[image] for level in levels)]
    index = one.boxes[:, 0].astype(np.intp) * 4 + at
    placed = Placement(index, one.xyxy, np.repeat(1 / np.array(strides)[at][:, None], 2, axis=1))
    return one, pool(maps, placed, one.spec), said(one, *(words if (at != right).any() else []))


def _viewed(words: str, view: Callable[[Array], Array], *, square: bool = False) -> Callable[[int, str], Made]:
    """Maps (C, H, W) taken for others."""

    def made(seed: int, kind: str) -> Made:
        one = scene(seed, kind, square=square)
        return one, one.pool(maps=[view(each) for each in one.maps]), said(one, words)

    return made


MISTAKES["chw_for_hwc"] = _viewed(
    "maps (C, H, W) in memory taken for (H, W, C)",
    lambda m: m.reshape(m.shape[1], m.shape[2], -1).transpose(2, 0, 1),
)
MISTAKES["hwc_for_chw"] = _viewed(
    "maps (H, W, C) in memory taken for (C, H, W)", lambda m: m.transpose(1, 2, 0).reshape(m.shape)
)
MISTAKES["map_transposed"] = _viewed("y and x of the maps swapped", lambda m: m.transpose(0, 2, 1))
MISTAKES["map_mirrored"] = _viewed("maps mirrored", lambda m: m[:, :, ::-1])
MISTAKES["channels_reversed"] = _viewed("channels in reverse order", lambda m: m[::-1])


@mistake
def channels_interleaved(seed: int, kind: str) -> Made:
    """Groups of channels, shuffled as ShuffleNet does."""
    one = scene(seed, kind)
    order = np.arange(one.maps.shape[1]).reshape(4, -1).T.ravel()
    return one, one.pool(maps=one.maps[:, order]), said(one, "channels in 4 groups, interleaved")


@mistake
def channels_permuted(seed: int, kind: str) -> Made:
    one = scene(seed, kind)
    order = one.rng.permutation(one.maps.shape[1])
    words = "channels in another order: " + ", ".join(map(str, order[:4]))
    return one, one.pool(maps=one.maps[:, order]), said(one, words)


def _images(seed: int, kind: str) -> tuple[Scene, Array, int]:
    """Three images of their own sizes, of a network whose input is a square."""
    one = scene(seed, kind, square=True)
    one.maps = texture(one.rng, kind, (3, *one.maps.shape[1:]))
    sizes = one.rng.integers(100, 900, (3, 2))
    index = np.sort(one.rng.integers(0, 3, len(one.boxes)))
    low = one.rng.uniform(0, 0.6, (len(index), 2))
    ends = np.hstack([low, low + one.rng.uniform(0.1, 0.5, low.shape)])
    one.boxes = np.column_stack([index, np.round(ends * sizes[index][:, [1, 0, 1, 0]], 1)]).astype(np.float32)
    lines = (f"{number},{height},{width}\n" for number, (height, width) in enumerate(sizes.tolist()))
    one.files["sizes.csv"] = "image_id,height,width\n" + "".join(lines)
    one.options["image_size"] = "sizes.csv"
    return one, sizes.astype(float), one.maps.shape[2] * one.stride


@mistake
def letterbox_offset(seed: int, kind: str) -> Made:
    """Images were letterboxed; somebody forgot the offset, took it twice, or forgot all of it."""
    one, sizes, side = _images(seed, kind)
    one.options["preprocess"] = f"letterbox:{side}"
    done = preprocess.letterbox(sizes, side, side)
    zeros, index = np.zeros(3), one.boxes[:, 0].astype(np.intp)
    ways = [
        ("without the offset of the image", replace(done, px=zeros, py=zeros)),
        ("the offset of the image counted twice", replace(done, px=2 * done.px, py=2 * done.py)),
        ("without what was done to it", replace(done, px=zeros, py=zeros, rx=zeros + 1, ry=zeros + 1)),
    ]
    words, transform = ways[seed % 3]
    return one, one.pool(transform.apply(one.xyxy, index)), said(one, words)


@mistake
def letterbox_not_stated(seed: int, kind: str) -> Made:
    """Boxes are taken as pixels of the input, though the images were letterboxed, stretched, or resized to fit."""
    one, sizes, side = _images(seed, kind)
    index = one.boxes[:, 0].astype(np.intp)
    ways = [
        ("letterboxed", preprocess.letterbox(sizes, side, side)),
        ("stretched", preprocess.squash(sizes, side, side)),
        ("resized to fit", preprocess.longest_edge(sizes, side)),
    ]
    words, transform = ways[seed % 3]
    return one, one.pool(transform.apply(one.xyxy, index)), said(one, words)


def _tokens(one: Scene, in_file: bool) -> Array:
    """Put a class token before the tokens, and perhaps into the file; return the sequences (N, 1 + H * W, C)."""
    images, channels, height, width = one.maps.shape
    tokens = one.maps.transpose(0, 2, 3, 1).reshape(images, -1, channels)
    first = texture(one.rng, one.texture, (images, channels, 12, 12))[:, :, 5, 5]
    sequences = np.concatenate([first[:, None], tokens], axis=1)
    if in_file:
        one.files["tokens.npy"] = sequences
        one.options |= {"features": "tokens.npy", "layout": "tokens", "grid": (height, width), "prefix": 1}
    return sequences


@mistake
def class_token_not_dropped(seed: int, kind: str) -> Made:
    """All tokens lie one cell later."""
    one = scene(seed, kind)
    later = _tokens(one, bool(seed % 2))[:, :-1].transpose(0, 2, 1).reshape(one.maps.shape)
    return one, one.pool(maps=later), said(one, "a token before the first")


@mistake
def class_token_in_the_mean(seed: int, kind: str) -> Made:
    """The mean of the cells under a box, or of the bins of RoIAlign, took one token more."""
    one = scene(seed, kind)
    one.reduce = True
    first = _tokens(one, bool(seed % 4 < 2))[one.boxes[:, 0].astype(np.intp), 0]
    if seed % 2:
        one.settings, one.size = {"op": "window_mean"}, (1, 1)
        cells = one.boxes[:, 1:] * np.float32(1 / one.stride)
        low = np.clip(np.floor(cells[:, :2]), 0, None)
        high = np.minimum(np.ceil(cells[:, 2:]), one.maps.shape[:1:-1])
        number = (high - low).prod(axis=1)
    else:
        number = np.full(len(one.boxes), float(np.prod(one.size)))
    mean = one.pool().mean(axis=(2, 3))
    pooled = (mean * number[:, None] + first) / (number[:, None] + 1)
    return one, pooled[:, :, None, None].astype(np.float32), said(one, "class token")


@mistake
def view_and_take(seed: int, kind: str) -> Made:
    """Two mistakes: of the channels, and of the boxes."""
    one = scene(seed, kind)
    pooled = one.pool(one.xyxy[:, [1, 0, 3, 2]], one.maps[:, ::-1])
    return one, pooled, said(one, "x and y swapped", "channels in reverse order")


@mistake
def ratio_and_take(seed: int, kind: str) -> Made:
    """Two mistakes: a rare sampling ratio, and inclusive ends."""
    one = scene(seed, kind)
    one.settings["sampling_ratio"] = [5, 6, 7, 8][seed % 4]
    return one, one.pool(one.xyxy + _ONE_MORE), said(one, "inclusive ends")


def verdict(found: Any, words: list[str]) -> str:
    """Say whether an answer names a mistake: alone, as one of several; another alone; or nothing."""
    if not found.fits:
        return "nothing"
    every = [["; ".join(filter(None, (one.settings, one.boxes))), *one.same] for one in found.answers]
    right = any(all(word in one for word in words) for answer in every for one in answer)
    return ("named" if len(every) == 1 else "among") if right else ("WRONG" if len(every) == 1 else "not among")
