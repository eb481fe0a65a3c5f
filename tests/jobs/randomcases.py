"""Random cases of pooled features whose making is known: conventions x sizes x maps x boxes x mistakes x noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from roicli import conventions
from roicli.jobs.candidates import _TAKES
from roicli.jobs.views import VIEWS
from roicli.pooling.arguments import make_spec
from roicli.pooling.contraction import pool_maps
from roicli.pooling.operators import find
from roicli.pooling.placement import place


class Case(NamedTuple):
    """What is given to `identify`, and what it should say."""

    maps: np.ndarray
    boxes: np.ndarray
    pooled: np.ndarray
    options: dict
    settings: str  # of the operator and the convention
    words: str  # what was done to boxes, maps or values
    about: str


def smooth(rng, shape):
    """A map whose neighbors are alike."""
    channels, height, width = shape
    coarse = rng.standard_normal((channels, height // 3 + 2, width // 3 + 2))
    y, x = np.linspace(0, coarse.shape[1] - 1.001, height), np.linspace(0, coarse.shape[2] - 1.001, width)
    a, b = y.astype(int), x.astype(int)
    u, v = (y - a)[None, :, None], (x - b)[None, None, :]
    rows = coarse[:, a] * (1 - u) + coarse[:, a + 1] * u
    return rows[:, :, b] * (1 - v) + rows[:, :, b + 1] * v


def draw(seed: int, kind: str | None = None) -> Case:
    """Draw a case; `kind` is a mistake of a sort: take, scale, view, moved, none."""
    rng = np.random.default_rng(seed)
    kind = kind or str(rng.choice(["none", "none", "take", "take", "scale", "view", "moved", "both"]))
    shape = (int(rng.choice([3, 8, 16, 64, 200])), int(rng.integers(9, 50)), int(rng.integers(9, 60)))
    texture = str(rng.choice(["white", "smooth", "relu"]))
    maps = rng.standard_normal(shape) if texture == "white" else smooth(rng, shape)
    maps = (np.maximum(maps + 0.2, 0) if texture == "relu" else maps).astype(np.float32)
    stride = int(rng.choice([4, 8, 14, 16, 32]))
    size = [1, 2, 3, 7, (3, 5), (6, 2), 14][rng.integers(7)]
    count = int(rng.integers(3, 40))
    image = np.array([shape[2], shape[1]]) * stride
    where = str(rng.choice(["inside", "edges", "whole", "tiny"]))
    low = rng.uniform(0, image * 0.7, (count, 2))
    side = rng.uniform(2 * stride, image * 0.6, (count, 2))
    boxes = np.hstack([low, np.minimum(low + side, image - 1.5 * stride) if where == "inside" else low + side])
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    if where == "edges":
        boxes += rng.uniform(-2, 2, (count, 4)) * stride
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    if where == "tiny":
        boxes[::2, 2:] = boxes[::2, :2] + rng.uniform(1, stride, (len(boxes[::2]), 2))
    boxes = np.rint(boxes) if where == "whole" or rng.random() < 0.2 else boxes
    boxes = boxes.astype(np.float32)
    name = str(rng.choice(list(conventions.ALL)))
    settings = {"op": "roi_align"} | conventions.find(name).settings
    if rng.random() < 0.1:
        settings = {"op": str(rng.choice(["precise_roi_pool", "window_mean", "cell"]))}
    ratio = int(rng.choice([-1, 1, 2, 2, 3, 4]))
    if settings["op"] != "roi_align" or ("rule" in settings and settings["rule"].samples != "ratio"):
        ratio = -1  # the samples of a bin are given
    also = np.random.default_rng([seed, 1])
    reduce = str(also.choice(["mean", "max", "l2"])) if also.random() < 0.1 and size != 1 else "none"
    spec = make_spec(size, sampling_ratio=ratio, reduce=reduce, **settings)
    taken, words, view, scale = boxes.astype(np.float64), [], maps.transpose(1, 2, 0), 1 / stride
    sides, pixel = np.tile(image, (count, 2)).astype(float), np.ones((count, 4))
    if kind in ("take", "both"):
        words.append(str(rng.choice([one for one in _TAKES if one])))
        taken = _TAKES[words[-1]](taken, sides, pixel)
        if np.allclose(np.float32(taken), boxes, rtol=1e-7):
            words.pop()  # no box shows it
    if kind in ("scale", "both"):
        scale *= float(rng.choice([2, 0.5, 4, 0.25]))
        words.append(f"spatial scale {scale:g}")
    if kind == "view":
        words.append(str(rng.choice(list(VIEWS))))
        view = VIEWS[words[-1]](view)
    if kind == "moved":
        taken = taken + np.tile(np.round(rng.uniform(-2.5 * stride, 2.5 * stride, 2)), 2)
        words.append("moved")
    view = np.ascontiguousarray(view)
    out = np.zeros((count, *spec.row_shape(find(spec.op).channels(shape[0], spec))), np.float32)
    placed = place(np.zeros(count, np.intp), taken, scale)
    bad = find(spec.op).is_too_large(placed.rounded(np.dtype(np.float32)), spec)
    part = np.zeros_like(out[~bad])
    pool_maps(lambda index: view, placed.take(~bad), view.shape[:2], spec, part)
    out[~bad] = part
    noise = str(rng.choice(["", "", "float16", "sums"]))
    if noise == "float16":
        out = out.astype(np.float16)
    if noise == "sums":
        out = (out * (1 + 1e-7 * rng.standard_normal(out.shape))).astype(np.float32)
    arranged = str(rng.choice(["KCHW", "KCHW", "KHWC", "flat"]))
    if reduce != "none":
        arranged = reduce
    if arranged == "KHWC":
        out = out.transpose(0, 2, 3, 1)
    if arranged == "flat":
        out = out.reshape(count, -1)
    names = conventions.name_of(spec)
    said = find(spec.op).convention(spec) + (f", {names[0]}" if spec.rule is not None else "")
    said += f", {reduce} of the bins" if reduce != "none" else ""
    about = f"{seed}: {name} {settings} {size} x{count} C{shape} /{stride} {texture} {where} {noise} {arranged}"
    given = {"size": size, "spatial_scale": 1 / stride}
    return Case(maps, boxes, np.ascontiguousarray(out), given, said, "; ".join(words), about)


def verdict(case: Case, found) -> str:
    """Say whether an answer is right, as one of several; wrong alone; or missing."""
    true = "; ".join(filter(None, (case.settings, case.words)))
    said = [["; ".join(filter(None, (one.settings, one.boxes))), *one.same] for one in found.answers]
    right = [true in one for one in said]
    if case.words == "moved":
        right = [any(part.split("; ")[0] == case.settings and "moved by" in part for part in one) for one in said]
    if not found.fits:
        return "nothing"
    if any(right):
        return "right" if len(said) == 1 else "among"
    return "WRONG ALONE" if len(said) == 1 else "not among"
