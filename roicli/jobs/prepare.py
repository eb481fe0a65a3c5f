"""What comes before pooling: everything that can be known, and refused, without reading a feature.

`align` and `check` share it, so that what one promises the other keeps.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli import __version__
from roicli.errors import BoxError
from roicli.jobs.geometry import Geometry, Located, Scale, geometry_of
from roicli.jobs.imageids import Match
from roicli.jobs.imagesizes import ImageSize
from roicli.jobs.locate import locate_on_levels, settle_grids
from roicli.jobs.match import Inputs, bind, check_bits
from roicli.jobs.pyramid import (
    Combine,
    LevelRule,
    Levels,
    Pyramid,
    channels_of,
    levels_of,
    pyramid_of,
    tally,
)
from roicli.jobs.readings import Layout, token_layout
from roicli.jobs.select import BadBoxes, MissingFeatures, select
from roicli.outputs.skipped import Skipped
from roicli.pooling.arguments import compute_dtype
from roicli.pooling.extents import lie_outside
from roicli.pooling.kernels.blas import blas_kernel
from roicli.pooling.operators import find
from roicli.pooling.placement import Placement
from roicli.regions import BoxFormat, Names
from roicli.sources import Level, MapInfo
from roicli.sources.retyped import MapDtype
from roicli.sources.tokens import TokenOrder
from roicli.spec import PoolSpec

# Boxes that are judged at once: what is computed of them takes 200 bytes a box.
_AT_ONCE = 2**16


@dataclass(frozen=True)
class PoolJob:
    """What to pool, and how: all that the numbers of an output depend on.

    Attributes
    ----------
    features : str
        File, folder or pattern of the feature maps.
    boxes : Path
        The box file.
    spec : PoolSpec
        What to compute.
    spatial_scale, stride, preprocess, image_size, size_check
        See `Geometry`.
    dataset : str, optional
        Which dataset holds the maps, where several would do.
    layout : {"chw", "hwc", "cwh", "whc", "tokens"}, optional
        How the maps are stored; by default chw, unless the shape allows tokens too.
    grid, prefix, token_order
        Of sequences of tokens; see `TokenLayout`.
    patch : int, optional
        Side of a patch in pixels: with the size of an image it gives the grid.
    map_dtype : str, optional
        What integers in the maps are the bits of.
    map_index : Path, optional
        JSON or CSV that says in which file, and where in it, the map of each image lies.
    box_format : BoxFormat, optional
        Where it is not what the box file says.
    boxes_as : str, optional
        Layout of the box file, where its content does not say.
    match : {"id", "file-name"}, optional
        What decides about an image whose id and file name are different maps.
    normalized : bool
        Boxes are in 0..1 of the image. If the sizes of images are not known, they are taken of the maps.
    bad_boxes : {"error", "skip", "zero", "keep"}
        What becomes of boxes that are inverted or not finite: end the job; leave them out of the output; write
        zeros; pool inverted ones as torchvision would (those that are not finite end the job all the same).
    missing_features : {"error", "skip", "zero"}
        What becomes of boxes of images without feature maps: end the job, leave them out, write zeros.
    out_dtype : {"float16", "float32"}, optional
        By default that of the computation: float64 for float64 features, else float32.
    levels, level_rule, canonical_scale, canonical_level, level, levels_combine
        See `Pyramid`.
    kernel : {"auto", "numpy", "numba"}
        What contracts averages; auto takes Numba where it is installed and the job is large.
    """

    features: str
    boxes: Path
    spec: PoolSpec
    spatial_scale: Scale = 1.0
    dataset: str | None = None
    layout: Layout | None = None
    grid: tuple[int, int] | None = None
    prefix: int | None = None
    token_order: TokenOrder | None = None
    patch: int | None = None
    map_dtype: MapDtype | None = None
    map_index: Path | None = None
    box_format: BoxFormat | None = None
    boxes_as: str | None = None
    match: Match | None = None
    normalized: bool = False
    bad_boxes: BadBoxes = "error"
    missing_features: MissingFeatures = "error"
    out_dtype: Literal["float16", "float32"] | None = None
    kernel: Literal["auto", "numpy", "numba"] = "auto"
    stride: Scale | None = None
    preprocess: str | os.PathLike[str] | None = None
    image_size: ImageSize | None = None
    size_check: bool = True
    levels: Levels | None = None
    level_rule: LevelRule = "torchvision"
    canonical_scale: float = 224.0
    canonical_level: int = 4
    level: str | None = None
    levels_combine: Combine | None = None

    def __post_init__(self) -> None:
        _ = self.geometry, self.pyramid

    @property
    def geometry(self) -> Geometry:
        """Where the boxes lie on their maps."""
        return geometry_of(self)

    @property
    def pyramid(self) -> Pyramid:
        """What is said of levels."""
        return pyramid_of(self)

    def bind(self, note: Callable[[str], None]) -> Inputs:
        """Open the features and read the boxes; see `bind`."""
        beside = self.geometry.stamps()
        inputs = bind(
            *(self.features, self.boxes, note),
            dataset=self.dataset,
            layout=self.layout,
            tokens=token_layout(self.layout, self.grid, self.prefix, self.token_order, self.patch),
            map_dtype=self.map_dtype,
            map_index=self.map_index,
            box_format=self.box_format,
            boxes_as=self.boxes_as,
            match=self.match,
            all_images=self.missing_features == "error",
            pyramid=self.pyramid,
        )
        return inputs._replace(beside=beside)

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
            "features": self.features,
            "dataset": self.dataset or "",
            "layout": self.layout or "chw",
            **self._tokens(),
            "map_dtype": self.map_dtype or "as stored",
            "map_index": str(self.map_index or ""),
            "boxes_file": str(self.boxes),
            "box_format": self.box_format or "as the file says",
            "bad_boxes": self.bad_boxes,
            "missing_features": self.missing_features,
            "kernel": self.kernel,
            "blas_kernel": blas_kernel(),
        }
        made |= self.geometry.parameters() | self.pyramid.parameters(levels)
        if levels:
            del made["spatial_scale"]  # each level has its own
        return made

    def _tokens(self) -> dict[str, str | int]:
        """Return what an output says of how tokens were taken."""
        if self.layout != "tokens":
            return {}
        return {
            "grid": "x".join(map(str, self.grid)) if self.grid else "auto",
            "prefix": "auto" if self.prefix is None else self.prefix,
            "token_order": self.token_order or "auto",
            "patch": self.patch or 0,
        }


class Prepared(NamedTuple):
    """A job that has been checked, and what pooling needs to know.

    Attributes
    ----------
    inputs : Inputs
        The boxes that have a row in the output, and their maps.
    kept, listed : (K,) and (n,) intp
        Boxes of the box file that have a row, and those left out or zeroed because the user said so.
    skipped : Skipped
        What is told of the latter.
    zeroed : (m,) intp
        Rows of the output that are zeros because the user said so.
    infos : dict of int to MapInfo
        The maps.
    sizes : (K, 2) float64
        Height and width of each box's map, in cells.
    located : Located
        Where the boxes lie, step by step; on the first level, if all are combined.
    levels : tuple of Placement
        Where they lie on each level, if all are combined; else empty.
    outside : (K,) bool
        Boxes that lie wholly outside their maps.
    computed, dtype : numpy.dtype
        Of the computation, and of the output.
    row_shape : tuple of int
        Shape of one row of the output.
    alike : float
        Correlation of neighboring cells, measured on one or two maps; NaN if it was not.
    """

    inputs: Inputs
    kept: NDArray[np.intp]
    listed: NDArray[np.intp]
    skipped: Skipped
    zeroed: NDArray[np.intp]
    infos: dict[int, MapInfo]
    sizes: NDArray[np.float64]
    located: Located
    outside: NDArray[np.bool_]
    computed: np.dtype[Any]
    dtype: np.dtype[Any]
    row_shape: tuple[int, ...]
    alike: float = math.nan
    levels: tuple[Placement, ...] = ()

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
        return np.delete(np.arange(len(self.placement)), self.zeroed)

    def images(self) -> int:
        """Count the maps that have boxes."""
        return len(self.inputs.maps_used())


def prepare(job: PoolJob, inputs: Inputs, note: Callable[[str], None]) -> Prepared:
    """Judge the boxes and look up the maps; no feature is read.

    Raises
    ------
    RoicliError
        Bad boxes that the job does not allow, maps that cannot be pooled together, boxes too large for their scale.
    """
    operator = find(job.spec.op)
    operator.check(job.spec)
    selection = select(inputs, job.spec, job.bad_boxes, job.missing_features, note)
    inputs = selection.inputs
    settle_grids(job.geometry, inputs, job.patch, note)
    check_bits(inputs, note)
    infos = inputs.infos()
    inputs.source.close()

    computed = np.result_type(*{compute_dtype(info.dtype) for info in infos.values()})
    located, placements = locate_on_levels(job.geometry, job.pyramid, inputs, infos, computed, note)
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
        inputs=inputs,
        kept=selection.kept,
        listed=selection.listed,
        skipped=selection.skipped,
        zeroed=selection.zeroed,
        infos=infos,
        sizes=sizes,
        located=located,
        outside=outside,
        computed=computed,
        dtype=np.dtype(job.out_dtype or computed),
        row_shape=job.spec.row_shape(operator.channels(channels_of(infos, max(1, len(levels)), job.pyramid))),
        levels=placements if job.levels_combine else (),
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
