"""Turned boxes of a job: their angles in degrees counter-clockwise, and the operators that pool them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from roicli.errors import BoxError, UsageError
from roicli.jobs.geometry import Located
from roicli.jobs.match import Inputs
from roicli.pooling.operators import find
from roicli.pooling.placement import Placement, envelope
from roicli.regions import AngleUnit, Regions
from roicli.spec import PoolSpec

# Beyond this an image was stretched, and a turned box would be none any more; rounded sizes stretch it by less.
_STRETCHED = 0.02


def add_turns(
    inputs: Inputs, located: Located, levels: tuple[Placement, ...], unit: AngleUnit | None, *specs: PoolSpec
) -> tuple[Located, tuple[Placement, ...]]:
    """Turn the boxes of placements, if all operators pool turned boxes.

    Raises BoxError: turned boxes, and an operator that does not turn them. UsageError: pixels or cells that are not as
    high as they are wide.
    """
    degrees = angles_of(inputs.table, unit)
    turned = np.flatnonzero(degrees)
    if not all(find(spec.op).turns for spec in specs):
        if len(turned):
            raise BoxError(
                f"{inputs.table.source}, {inputs.table.where(turned)}: expected upright boxes, got the angle "
                f"{degrees[turned[0]]:g}",
                "Give `op=roi_align_rotated`, or the upright box around each; rename the column if its angles are not "
                "of the boxes.",
            )
        return located, levels
    if len(turned):
        _check_square(located)
    return (
        located._replace(placement=_turn(located.placement, degrees)),
        tuple(_turn(level, degrees) for level in levels),
    )


def angles_of(table: Regions, unit: AngleUnit | None) -> NDArray[np.float64]:
    """Return the angle of each region in degrees counter-clockwise; 0 where it has none."""
    column = table.columns.get("angle")
    if not isinstance(column, np.ndarray) or column.dtype.kind not in "iuf":
        return np.zeros(len(table))
    degrees: NDArray[np.float64] = np.nan_to_num(column.astype(np.float64))
    if unit is not None and unit.startswith("rad"):
        degrees = degrees * math.degrees(1)
    return -degrees if unit is not None and unit.endswith("-cw") else degrees


def _turn(placement: Placement, degrees: NDArray[np.float64]) -> Placement:
    x1, y1, x2, y2 = placement.boxes.astype(np.float64).T
    turned = np.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, degrees], axis=1)
    return replace(placement, boxes=envelope(turned), turned=turned)


def _check_square(located: Located) -> None:
    """Refuse to turn boxes where pixels were stretched."""
    sy, sx = located.scale
    ratios = np.array([sy / sx])
    if located.unit is not None:
        raise UsageError("turned boxes in 0..1 of the image are not defined", "Give boxes in pixels.")
    if located.transform is not None:
        ratios = (located.transform.ry / located.transform.rx)[located.image] * ratios
    if (np.abs(np.log(ratios[np.isfinite(ratios)])) > _STRETCHED).any():
        raise UsageError(
            "boxes are turned, but pixels of the input or cells of the map are not as high as wide",
            "Give one number for `stride`, and a `preprocess` that keeps the aspect ratio.",
        )
