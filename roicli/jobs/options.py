"""The options of jobs: their names, types and defaults, each once; the command line and Python callers give them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any, Literal, TypedDict, get_args, get_origin, get_type_hints

from roicli import conventions
from roicli.errors import UsageError
from roicli.jobs.choose import Choice
from roicli.jobs.geometry import Geometry, Scale
from roicli.jobs.imageids import Match
from roicli.jobs.imagesizes import ImageSize
from roicli.jobs.pyramid import Combine, LevelRule, Levels, Pyramid
from roicli.jobs.readings import Layout, OverTime, Reading
from roicli.jobs.select import BadBoxes, MissingFeatures
from roicli.pooling.arguments import make_spec
from roicli.regions import AngleUnit, BoxFormat, MaskFill
from roicli.sources.retyped import MapDtype
from roicli.sources.tokens import TokenOrder
from roicli.spec import MaskRule, Mode, PoolSpec, Reduce
from roicli.stores.path import is_store, path_of

PathLike = str | os.PathLike[str]
BoxFormatName = Literal["xyxy", "xywh", "cxcywh"]
OutDtype = Literal["float16", "float32"]
Kernel = Literal["auto", "numpy", "numba"]
Size = int | tuple[int, int]

# The largest difference that `verify` allows, in units of the spread of the values: that of another order of sums.
TOLERANCE = 1e-5
# Whole numbers from 1 on, and choices; the command line checks them itself.
_COUNTS = ("patch", "top_k", "workers", "batch_size", "max_memory")
# Options that make up the spec, and their defaults.
SPEC: dict[str, Any] = {
    "size": 7,
    "aligned": False,
    "sampling_ratio": -1,
    "op": "roi_align",
    "mode": None,
    "reduce": "none",
    "mask_rule": "coverage",
    "convention": None,
}


class PoolOptions(TypedDict, total=False):
    """What `align` and `check` may be told of the inputs, the numbers and the rows."""

    dataset: str | None
    layout: Layout | None
    grid: tuple[int, int] | None
    prefix: int | None
    token_order: TokenOrder | None
    patch: int | None
    time: OverTime | None
    map_dtype: MapDtype | None
    map_index: PathLike | None
    box_format: BoxFormatName | None
    boxes_as: str | None
    mask_fill: MaskFill | None
    angle: AngleUnit | None
    match: Match | None
    normalized: bool
    levels: Levels | None
    level_rule: LevelRule
    canonical_scale: float
    canonical_level: int
    level: str | None
    levels_combine: Combine | None
    size: Size
    spatial_scale: Scale
    stride: Scale | None
    preprocess: PathLike | None
    image_size: ImageSize | None
    size_check: bool
    aligned: bool
    sampling_ratio: int
    op: str
    mode: Mode | None
    reduce: Reduce
    mask_rule: MaskRule
    convention: str | None
    category: str | None
    min_score: float | None
    top_k: int | None
    pairs: PathLike | None
    expand: float | str | None
    square: bool
    clip: bool
    whole_image: bool
    bad_boxes: BadBoxes
    missing_features: MissingFeatures
    out_dtype: OutDtype | None


class AlignOptions(PoolOptions, total=False):
    """What only `align` may be told."""

    index: PathLike | None
    sidecar: bool
    report: PathLike | None
    output_layout: str | None
    spatial: Literal[4, 5, 6, 7] | None
    group_by: Literal["category", "image"] | None
    overwrite: bool
    resume: bool
    shard: str | None
    executor: Any
    workers: int | None
    batch_size: int | None
    max_memory: int | None
    kernel: Kernel


def take_spec(options: dict[str, Any]) -> PoolSpec:
    """Take what decides numbers out of options; the mode is by default that of the operator."""
    checked(options)
    how = {name: options.pop(name, default) for name, default in SPEC.items()}
    if (convention := how.pop("convention")) is not None:
        settings = conventions.find(convention).settings
        for name, value in settings.items():
            if name in how and how[name] not in (SPEC[name], value):
                raise UsageError(f"convention {convention!r} fixes {name}, got {how[name]!r}", f"Leave `{name}` out.")
        how |= settings
    return make_spec(how.pop("size"), **how | {"op": how["op"].replace("-", "_")})


def grouped(options: Mapping[str, Any]) -> dict[str, Any]:
    """Check options, and group those that a job holds as one value."""
    rest = {
        name: str(path_of(value)) if isinstance(value, str) and is_store(value) else value
        for name, value in checked(options).items()
    }
    groups: dict[str, type] = {"reading": Reading, "geometry": Geometry, "pyramid": Pyramid, "choice": Choice}
    return {
        group: kind(**{field.name: rest.pop(field.name) for field in fields(kind) if field.name in rest})
        for group, kind in groups.items()
    } | rest


@cache
def _choices() -> dict[str, tuple[str, ...]]:
    """Return the words that each option may be, where it must be one of a few."""
    found = {}
    for name, kind in get_type_hints(AlignOptions).items():
        for one in (kind, *get_args(kind)):
            if get_origin(one) is Literal:
                found[name] = get_args(one)
    return found


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse values that are not among the choices, and counts that are not counts; make box formats of their names."""
    for name, value in options.items():
        if value is not None and value not in (choices := _choices().get(name, (value,))):
            raise UsageError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
        if name in _COUNTS and value is not None and not (isinstance(value, int) and value >= 1):
            raise UsageError(f"{name} must be a whole number from 1 on, got {value!r}")
    form = options.get("box_format")
    return {**options, "box_format": BoxFormat(form)} if form else dict(options)
