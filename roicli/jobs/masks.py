"""The masks of a job's regions: read if its operator pools masks, and placed as its boxes are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from roicli.errors import UsageError
from roicli.jobs.geometry import Located
from roicli.jobs.match import Inputs
from roicli.pooling.operators import find
from roicli.pooling.placement import PlacedMasks, Placement
from roicli.regions import MaskFill, Regions
from roicli.sources import MapInfo
from roicli.spec import PoolSpec


def with_masks(inputs: Inputs, fill: MaskFill | None, note: Callable[[str], None], *specs: PoolSpec) -> Inputs:
    """Read the masks of the regions of a job, if one of its operators pools masks; say if they are left unread."""
    if not any(find(spec.op).masks for spec in specs):
        if inputs.table.outlined:
            note(f"{inputs.table.source}: its masks are not read, since boxes are pooled (`op=mask_mean` pools masks)")
        return inputs
    from roicli.boxfiles.masks import read_masks

    table = replace(inputs.table, masks=read_masks(inputs.table, fill))
    return inputs._replace(table=replace(table, image_sizes=_sizes(table)))


def _sizes(table: Regions) -> NDArray[np.float64] | None:
    """Return the sizes of images; those that their file does not say are those of their masks."""
    sizes, masks = table.image_sizes, table.masks
    if table.image_ids is None or table.image_index is None or masks is None:
        return sizes
    known = np.full((len(table.image_ids), 2), np.nan) if sizes is None else sizes.copy()
    images, rows = np.unique(table.image_index, return_index=True)
    for image, row in zip(images.tolist(), rows.tolist(), strict=True):
        if image >= 0 and np.isnan(known[image]).any() and (size := masks.size(row)) is not None:
            known[image] = size
    return sizes if np.isnan(known).all() else known


def placed_masks(inputs: Inputs, located: Located) -> PlacedMasks | None:
    """Place the masks of regions: their pixels go the way of the images.

    Raises UsageError: boxes in 0..1 of their maps say nothing of pixels.
    """
    if (masks := inputs.table.masks) is None:
        return None
    if located.unit is located.map_sizes:
        raise UsageError(
            "masks are in pixels, and the sizes of the images are not known", "Give `image_size` and `stride`."
        )
    image, transform = located.image, located.transform
    ratio, offset = np.ones((len(masks), 2)), np.zeros((len(masks), 2))
    if transform is not None:
        ratio = np.stack([transform.ry, transform.rx], axis=1)[image]
        offset = np.stack([transform.py, transform.px], axis=1)[image]
    return PlacedMasks(masks, located.sizes[image], ratio, offset)


def add_masks(inputs: Inputs, located: Located, levels: tuple[Placement, ...]) -> tuple[Located, tuple[Placement, ...]]:
    """Give placements the masks of their regions, if there are any."""
    if (masks := placed_masks(inputs, located)) is None:
        return located, levels
    levels = tuple(replace(level, masks=masks) for level in levels)
    return located._replace(placement=replace(located.placement, masks=masks)), levels


def empty_masks(placement: Placement, infos: Mapping[int, MapInfo], spec: PoolSpec) -> NDArray[np.intp]:
    """Decode masks, and find those that reach no cell of their maps."""
    from roicli.pooling.masks import cell_weights

    empty = [
        row
        for row, index in enumerate(placement.map_index.tolist())
        if not cell_weights(placement, row, infos[index].shape[1:], spec.mask_rule, np.dtype(np.float64)).any()
    ]
    return np.array(empty, np.intp)
