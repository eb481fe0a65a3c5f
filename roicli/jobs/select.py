"""Which boxes are pooled, which are left out or zeroed because the user said so, and which end the job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.errors import BoxError
from roicli.jobs.imageids import some
from roicli.jobs.match import Inputs
from roicli.outputs.skipped import NO_FEATURES, Skipped
from roicli.pooling.operators import find
from roicli.regions import find_bad_boxes
from roicli.spec import PoolSpec
from roicli.words import count

BadBoxes = Literal["error", "skip", "zero", "keep"]
MissingFeatures = Literal["error", "skip", "zero"]


class Selection(NamedTuple):
    """The boxes of an output."""

    inputs: Inputs  # the boxes with a row in the output, and the map of each
    kept: NDArray[np.intp]  # (K,): which boxes of the box file those are
    zeroed: NDArray[np.intp]  # (n,): those of them whose rows are zeros
    listed: NDArray[np.intp]  # (m,): boxes of the box file that are left out or zeroed
    skipped: Skipped  # what is told of them


def select(
    inputs: Inputs, spec: PoolSpec, bad_boxes: BadBoxes, missing_features: MissingFeatures, note: Callable[[str], None]
) -> Selection:
    """Decide about every box; the features of an image are looked at before its boxes.

    `inputs`: all boxes; those of images without features have no map.
    `spec`: what becomes of inverted boxes that are kept.
    Raises BoxError: bad boxes where they are not allowed.
    """
    table = inputs.table
    absent = table.absent
    unmatched = (inputs.map_index < 0) & ~absent
    missing = np.flatnonzero(unmatched)
    reasons, reason = ["", NO_FEATURES], unmatched.astype(np.int8)  # text would take 44 bytes a box
    images = _missing_images(inputs, missing)
    if images:
        fate = {"skip": "left out of the output", "zero": "zeros in the output"}[missing_features]
        note(
            f"{table.source}: {len(images):,} of {count(len(table.image_ids or ()), 'image')} without features in "
            f"{inputs.source.name}: {some(images)}; {count(len(missing), 'box')} {fate}"
        )
    for fault, rows in _bad_rows(inputs, absent, spec, bad_boxes, note).items():
        reason[rows] = len(reasons)
        reasons.append(fault)
    skip, zero = (
        (reason > 0) & np.where(unmatched, missing_features == fate, bad_boxes == fate) for fate in ("skip", "zero")
    )
    listed, kept = np.flatnonzero(skip | zero), np.flatnonzero(~skip)
    return Selection(
        inputs.take(kept) if skip.any() else inputs,
        kept,
        np.flatnonzero(zero[~skip]),
        listed,
        Skipped(
            listed if table.origin is None else table.origin[listed],
            [image_name(inputs, row) for row in listed.tolist()],
            table.boxes[listed],
            [reasons[number] for number in reason[listed].tolist()],
            ["skipped" if skip[row] else "zeroed" for row in listed.tolist()],
        ),
    )


def image_name(inputs: Inputs, row: int) -> str:
    """Return the id of a box's map; without one, what the box file has: an id, a batch index, or nothing."""
    table, index = inputs.table, int(inputs.map_index[row])
    if index >= 0:
        return inputs.source.ids[index]
    if table.image_index is None:
        return ""
    number = int(table.image_index[row])
    if number < 0:
        return ""
    return str(number) if table.image_ids is None else table.image_ids[number]


def _missing_images(inputs: Inputs, missing: NDArray[np.intp]) -> list[str]:
    table = inputs.table
    if table.image_ids is None or table.image_index is None:
        return []  # a batch index that names no map has ended the job
    return [table.image_ids[number] for number in np.flatnonzero(np.bincount(table.image_index[missing])).tolist()]


def _bad_rows(
    inputs: Inputs, absent: NDArray[np.bool_], spec: PoolSpec, bad_boxes: BadBoxes, note: Callable[[str], None]
) -> dict[str, NDArray[np.intp]]:
    """Find boxes that are absent, inverted or cannot be pooled; raise, or say what becomes of them."""
    table = inputs.table
    judged = (inputs.map_index >= 0) & ~absent
    unusable, inverted = (rows[judged[rows]] for rows in find_bad_boxes(table.boxes))
    missing = np.flatnonzero(absent)
    numbered = table.image_ids is None and table.image_index is not None
    bare = np.empty(0, np.intp) if table.masks is None else np.flatnonzero(judged & ~table.masks.present)
    for rows, fault, remedy in (
        (bare, "without a mask", "Give `bad_boxes=skip` or `bad_boxes=zero`."),
        (missing, "absent (empty, null, NaN or missing)", "Give `bad_boxes=skip` or `bad_boxes=zero`."),
        (unusable, "NaN, infinite or beyond 1e9 pixels", "Give `bad_boxes=skip` or `bad_boxes=zero`."),
        (
            inverted,
            "inverted (x2 < x1 or y2 < y1)",
            "The first of five numbers is the batch index: is it last, or is the last one a score or a label?"
            if numbered
            else "Are the numbers xywh or cxcywh? Then give `box_format=xywh` or `box_format=cxcywh`; else give "
            "`bad_boxes=skip`, `bad_boxes=zero` or `bad_boxes=keep`.",
        ),
    ):
        if not len(rows):
            continue
        found = f"{table.source}, {table.where(rows)}: {fault}, {len(rows):,} of {count(len(table), 'box')}"
        if bad_boxes == "error" or (bad_boxes == "keep" and rows is not inverted):
            first = (
                ""
                if rows is missing or rows is bare
                else f"; the first is {table.given[rows[0]].tolist()} as {table.box_format}"
            )
            raise BoxError(found + first, remedy)
        fate = {"skip": "left out of the output", "zero": "zeros in the output", "keep": find(spec.op).inverted(spec)}
        note(f"{found}; {fate[bad_boxes]}")
    return {"without a mask": bare, "absent": missing, "not finite": unusable, "inverted": inverted}
