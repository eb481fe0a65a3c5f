"""What may have made pooled features: ways to take the boxes, and what conventions and operators compute of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli import conventions
from roicli.jobs.geometry import Located
from roicli.jobs.match import Inputs
from roicli.jobs.prepare import PoolJob
from roicli.pooling.operators import find
from roicli.pooling.placement import Placement, place
from roicli.regions import BoxFormat, from_xyxy, to_xyxy
from roicli.spec import PoolSpec

_SAMPLING = (-1, 1, 2, 3, 4)


class Place(NamedTuple):
    """One way to take the boxes: in words, what it costs to believe, and the boxes on their maps."""

    words: str
    cost: int
    placement: Placement
    scale: tuple[float, float]


def places(
    job: PoolJob, inputs: Inputs, located: Located, rows: NDArray[np.intp], size: tuple[int, int]
) -> Iterator[Place]:
    """Yield the ways in which boxes may have been taken: as they should, then mistaken."""
    boxes = inputs.table.boxes[rows]
    here = located.take(rows)
    taken: list[tuple[str, int, NDArray[np.float64]]] = [("", 0, boxes)]
    taken.append(("x and y swapped: y1, x1, y2, x2 taken for x1, y1, x2, y2", 1, boxes[:, [1, 0, 3, 2]]))
    wh, centred = from_xyxy(boxes, BoxFormat.XYWH), from_xyxy(boxes, BoxFormat.CXCYWH)
    for words, numbers in (
        ("xywh taken for xyxy", wh),
        ("cxcywh taken for xyxy", centred),
        ("xyxy taken for xywh", to_xyxy(boxes, BoxFormat.XYWH)),
        ("xyxy taken for cxcywh", to_xyxy(boxes, BoxFormat.CXCYWH)),
        ("xywh taken for cxcywh", to_xyxy(wh, BoxFormat.CXCYWH)),
        ("cxcywh taken for xywh", to_xyxy(centred, BoxFormat.XYWH)),
    ):
        taken.append((words, 1, numbers))
    one_more = np.array([0, 0, 1, 1])
    taken.append(("inclusive ends: x2 + 1, y2 + 1", 1, boxes + one_more))
    taken.append(("ends one pixel less: x2 - 1, y2 - 1", 1, boxes - one_more))
    ratio = located.scale
    sides = np.array([size[1] / ratio[1], size[0] / ratio[0]] * 2)
    if not job.normalized:
        taken.append(("boxes divided by the size of the image", 1, boxes / sides))
        if (np.clip(boxes, 0, sides) != boxes).any():
            taken.append(("boxes clipped to the image", 1, np.clip(boxes, 0, sides)))
        if (np.rint(boxes) != boxes).any():
            taken.append(("boxes rounded to whole pixels", 1, np.rint(boxes)))
            taken.append(("boxes cut to whole pixels", 1, np.trunc(boxes)))
        with np.errstate(over="ignore"):
            half = boxes.astype(np.float16).astype(np.float64)
        if np.isfinite(half).all() and (half != boxes).any():
            taken.append(("boxes rounded to float16", 1, half))
    if located.transform is not None:
        yield_raw = place(here.placement.map_index, here.in_pixels(boxes), ratio)
        taken_raw = Place("boxes in pixels of the original image, without what was done to it", 1, yield_raw, ratio)
    else:
        taken_raw = None
    factors = (1.0, 2.0, 0.5, 4.0, 0.25, 8.0, 0.125)
    scales = [tuple(side * factor for side in ratio) for factor in factors]
    scales += [(side, side) for side in (1.0, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64)]
    scales = list(dict.fromkeys(scales))
    for words, cost, numbers in taken:
        for number, (y, x) in enumerate(scales):
            said = "" if number == 0 else f"spatial scale {y:g}" + (f", {x:g}" if x != y else "")
            joined = "; ".join(part for part in (words, said) if part)
            yield Place(joined, cost + (number > 0), here.place(numbers, (y, x)), (y, x))
    if taken_raw is not None:
        yield taken_raw
    height, width = size
    ends = (
        (height - 1) * ratio[0] / max(height - ratio[0], 1e-9),
        (width - 1) * ratio[1] / max(width - ratio[1], 1e-9),
    )
    yield Place(
        "corners as Matterport norms them: x1 / (W - 1), (x2 - 1) / (W - 1)",
        *(1, here.place(boxes - one_more, ends), ends),
    )


def first_specs(base: PoolSpec) -> Iterator[PoolSpec]:
    """Yield the few by which places are ranked: whichever convention is true, one of them is near."""
    for aligned in (True, False):
        for ratio in (2, -1, 1):
            yield replace(base, op="roi_align", mode="avg", aligned=aligned, sampling_ratio=ratio)
        yield replace(base, op="roi_align", mode="max", aligned=aligned, sampling_ratio=2)
    yield replace(base, op="roi_pool", mode="max", aligned=False)


def specs(base: PoolSpec) -> Iterator[PoolSpec]:
    """Yield what conventions and operators compute, each once."""
    found: dict[PoolSpec, None] = {}
    for one in conventions.ALL.values():
        settings: dict[str, Any] = {
            "op": "roi_align",
            "mode": find(one.settings.get("op", "roi_align")).modes[0],
            "rule": None,
        }
        settings |= {name: value for name, value in one.settings.items() if value is not None}
        settings.setdefault("aligned", False)
        for ratio in _SAMPLING if settings["op"] == "roi_align" else (-1,):
            found[replace(base, **settings | {"sampling_ratio": ratio})] = None
    for aligned in (False, True):
        for ratio in _SAMPLING:
            for mode in ("max", "weighted-max"):
                found[replace(base, op="roi_align", aligned=aligned, sampling_ratio=ratio, mode=mode)] = None
    for op in ("precise_roi_pool", "window_mean", "cell"):
        found[replace(base, op=op, aligned=False, sampling_ratio=-1, mode="avg")] = None
    corners = {spec.rule for spec in found if spec.rule is not None and spec.rule.corners}
    yield from (spec for spec in found if spec.rule not in corners or spec.sampling_ratio == -1)
