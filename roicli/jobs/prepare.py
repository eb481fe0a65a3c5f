"""What comes before pooling: everything that can be known, and refused, without reading a feature.

`align` and `check` share it, so that what one promises the other keeps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from roicli import __version__
from roicli.conventions import name_of
from roicli.errors import BoxError
from roicli.jobs.choose import Choice
from roicli.jobs.geometry import Geometry, Located
from roicli.jobs.locate import locate_on_levels, settle_grids
from roicli.jobs.masks import add_masks, with_masks
from roicli.jobs.match import Inputs, bind, check_bits
from roicli.jobs.pyramid import Pyramid, channels_of, levels_of, tally
from roicli.jobs.readings import Reading
from roicli.jobs.select import BadBoxes, MissingFeatures, Selection, select
from roicli.jobs.turns import add_turns
from roicli.pooling.arguments import compute_dtype
from roicli.pooling.extents import lie_outside
from roicli.pooling.kernels.blas import blas_kernel
from roicli.pooling.operators import find
from roicli.pooling.placement import Placement
from roicli.regions import Names
from roicli.sources import Level, MapInfo
from roicli.spec import PoolSpec

# Boxes that are judged at once: what is computed of them takes 200 bytes a box.
_AT_ONCE = 2**16


@dataclass(frozen=True)
class PoolJob:
    """What to pool, and how: all that the numbers of an output depend on."""

    features: str  # file, folder or pattern of the feature maps
    boxes: Path
    spec: PoolSpec
    # How the inputs are read, where the boxes lie, what is said of levels, and which boxes are taken
    reading: Reading = field(default_factory=Reading)
    geometry: Geometry = field(default_factory=Geometry)
    pyramid: Pyramid = field(default_factory=Pyramid)
    choice: Choice = field(default_factory=Choice)
    # What becomes of boxes that are inverted or not finite: end the job; leave them out of the output; write zeros;
    # pool inverted ones as torchvision would (those that are not finite end the job all the same)
    bad_boxes: BadBoxes = "error"
    # What becomes of boxes of images without feature maps: end the job, leave them out, write zeros
    missing_features: MissingFeatures = "error"
    # By default that of the computation: float64 for float64 features, else float32
    out_dtype: Literal["float16", "float32"] | None = None
    # What contracts averages; auto takes Numba where it is installed and the job is large
    kernel: Literal["auto", "numpy", "numba"] = "auto"

    @property
    def normalized(self) -> bool:
        """Whether boxes are in 0..1 of the image."""
        return self.geometry.normalized

    def bind(self, note: Callable[[str], None], *, mapped: bool = False) -> Inputs:
        """Open the features and read the boxes; see `bind`."""
        beside = self.geometry.stamps() | self.choice.stamps()
        inputs = bind(
            *(self.features, self.boxes, self.reading, self.pyramid, note),
            geometry=self.geometry,
            choice=self.choice,
            all_images=self.missing_features == "error",
            mapped=mapped,
        )
        return inputs._replace(beside=beside)

    def knowing(self, inputs: Inputs) -> Self:
        """Return the job with what the box file says of its unit."""
        return replace(self, geometry=self.geometry.knowing(inputs.table))

    def parameters(self, levels: Sequence[Level] = ()) -> dict[str, str | int | float | bool]:
        """Return what an output says of how it was made, from maps of so many levels."""
        height, width = self.spec.output_size
        made: dict[str, str | int | float | bool] = {
            "roicli_version": __version__,
            "op": self.spec.op,
            "output_height": height,
            "output_width": width,
            "sampling_ratio": -1 if self.spec.adaptive else self.spec.sampling_ratio,
            "aligned": self.spec.aligned,
            "mode": self.spec.mode,
            "reduce": self.spec.reduce,
            **self._masks(),
            **({} if self.spec.rule is None else {"convention": name_of(self.spec)[0]}),
            "features": self.features,
            **self.reading.parameters(),
            "boxes_file": str(self.boxes),
            "box_format": self.reading.box_format or "as the file says",
            "bad_boxes": self.bad_boxes,
            "missing_features": self.missing_features,
            "kernel": self.kernel,
            "blas_kernel": blas_kernel(),
        }
        made |= self.geometry.parameters() | self.pyramid.parameters(levels) | self.choice.parameters()
        if levels:
            del made["spatial_scale"]  # each level has its own
        return made

    def _masks(self) -> dict[str, str]:
        """Return what an output says of how masks, or turned boxes, were pooled."""
        if find(self.spec.op).turns:
            return {"angle": self.reading.angle or "as the format says"}
        if not find(self.spec.op).masks:
            return {}
        return {"mask_rule": self.spec.mask_rule, "mask_fill": self.reading.mask_fill or "as the format does"}


class Prepared(NamedTuple):
    """A job that has been checked, and what pooling needs to know."""

    selection: Selection  # the boxes that have a row in the output, and what became of the others
    infos: dict[int, MapInfo]
    sizes: NDArray[np.float64]  # (K, 2): height and width of each box's map, in cells
    located: Located  # where the boxes lie, step by step; on the first level, if all are combined
    outside: NDArray[np.bool_]  # (K,): boxes that lie wholly outside their maps
    # Of the computation, and of the output
    computed: np.dtype[Any]
    dtype: np.dtype[Any]
    row_shape: tuple[int, ...]  # shape of one row of the output
    alike: float = math.nan  # correlation of neighboring cells, measured on one or two maps; NaN if it was not
    levels: tuple[Placement, ...] = ()  # where they lie on each level, if all are combined; else empty

    @property
    def inputs(self) -> Inputs:
        """The boxes that have a row in the output, and their maps."""
        return self.selection.inputs

    @property
    def level_names(self) -> Names | None:
        """The level of each box, if it is pooled from one of several."""
        levels = self.inputs.source.levels
        return levels_of(self.placement, levels) if levels and not self.levels else None

    @property
    def placement(self) -> Placement:
        """Where the boxes lie on their maps."""
        return self.located.placement

    def pooled(self) -> NDArray[np.intp]:
        """Return the rows of the output that are pooled."""
        return np.delete(np.arange(len(self.placement)), self.selection.zeroed)

    def images(self) -> int:
        """Count the maps that have boxes."""
        return len(self.inputs.maps_used())


def prepare(job: PoolJob, inputs: Inputs, note: Callable[[str], None]) -> Prepared:
    """Judge the boxes and look up the maps; no feature is read.

    Raises RoicliError: bad boxes that the job does not allow, maps that cannot be pooled together, boxes too large for
    their scale.
    """
    operator = find(job.spec.op)
    operator.check(job.spec)
    inputs = with_masks(inputs, job.reading.mask_fill, note, job.spec)
    selection = select(inputs, job.spec, job.bad_boxes, job.missing_features, note)
    inputs = selection.inputs
    settle_grids(job.geometry, inputs, job.reading.patch, note)
    check_bits(inputs, note)
    infos = inputs.infos()
    inputs.source.close()

    computed = np.result_type(*map(compute_dtype, inputs.dtypes or {info.dtype for info in infos.values()}))
    located, placements = locate_on_levels(job.geometry, job.pyramid, inputs, infos, computed, note)
    located, placements = add_masks(inputs, located, placements)
    located, placements = add_turns(inputs, located, placements, job.reading.angle, job.spec)
    placement, levels = located.placement, inputs.source.levels
    sizes = map_sizes(infos, placement.map_index)
    pooled, outside = np.ones(len(placement), np.bool_), np.zeros(len(placement), np.bool_)
    pooled[selection.zeroed] = False  # they may be too large for the dtype
    too_large, unsampled = [np.zeros(0, np.intp)], 0
    for first in range(0, len(placement), _AT_ONCE):
        rows = first + np.flatnonzero(pooled[first : first + _AT_ONCE])
        placed = placement.take(rows).rounded(computed)
        too_large.append(rows[operator.is_too_large(placed, job.spec)])
        if not len(too_large[-1]):
            on_map = placed.map_index >= 0
            outside[rows] = on_map & lie_outside(placed, sizes[rows], job.spec)
            unsampled += int((on_map & operator.is_empty(placed, job.spec) & ~outside[rows]).sum())
    if len(rows := np.concatenate(too_large)):  # whatever bad_boxes says, since that depends on the scale
        how = "as boxes in 0..1 of the image" if job.normalized else f"at spatial scale {placement.scale[0, 0]:g}"
        raise BoxError(
            f"{inputs.table.source}, {inputs.table.where(rows)}: too large to sample {how}; the first is "
            f"{inputs.table.given[rows[0]].tolist()}",
            f"Check their coordinates, and {'`normalized`' if job.normalized else '`spatial_scale`'}.",
        )
    if number := int(outside.sum()):
        note(f"boxes wholly outside their maps: {number:,} of {len(placement):,}; their features are zero")
    if unsampled:
        note(
            f"boxes without width or height: {unsampled:,} of {len(placement):,}; their features are zero, "
            "`sampling_ratio=2` would sample them"
        )
    prepared = Prepared(
        selection=selection,
        infos=infos,
        sizes=sizes,
        located=located,
        outside=outside,
        computed=computed,
        dtype=np.dtype(job.out_dtype or computed),
        row_shape=job.spec.row_shape(operator.channels(channels_of(infos, max(1, len(levels)), job.pyramid), job.spec)),
        levels=placements if job.pyramid.levels_combine else (),
    )
    if (names := prepared.level_names) is not None and len(levels) > 1:
        note(f"boxes on levels: {', '.join(f'{name} {number:,}' for name, number in tally(names).items())}")
    return prepared


def map_sizes(infos: dict[int, MapInfo], map_index: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return height and width of each box's map, (K, 2); of any map where it has none."""
    used = np.array(sorted(infos))
    sizes = np.array([infos[index].shape[1:] for index in used.tolist()], dtype=np.float64)
    if (sizes == sizes[0]).all():
        return np.broadcast_to(sizes[0], (len(map_index), 2))  # takes no memory
    return sizes[np.searchsorted(used, map_index)]
