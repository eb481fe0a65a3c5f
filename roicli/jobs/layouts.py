"""Maps that are stored the other way than said, recognised by their shapes and by where the boxes lie on them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from roicli.extents import shares_inside
from roicli.jobs.prepare import PoolJob, Prepared
from roicli.spec import PoolSpec

# A box counts as on its map with nine tenths of its area: borders of images are often rounded away.
ON_MAP = 0.9
# A remedy must suit so many of the boxes.
NEARLY_ALL = 0.99
# Fewer boxes may all lie in some part of their maps by chance.
MANY = 100
# Ratios of the sides of maps: of most; of few; of nearly none.
_ORDINARY, _LONG, _ABSURD = 2.0, 3.0, 20.0


def fits(boxes: NDArray[np.float64], sizes: NDArray[np.float64], spec: PoolSpec) -> bool:
    """Tell whether nearly all boxes lie on their maps and are not inverted."""
    upright = (boxes[:, 2:] >= boxes[:, :2]).all(axis=1)
    return bool((upright & (shares_inside(boxes, sizes, spec) >= ON_MAP)).mean() >= NEARLY_ALL)


def other_layout(job: PoolJob, work: Prepared, good: NDArray[np.intp]) -> str:
    """Tell whether boxes that leave their maps would lie on them by the other layout."""
    _, other = _shapes(job, work)
    if job.normalized or (_lengths(other) > _LONG).any() or not _fit(work, other, good):
        return ""
    return f"if maps are stored the other way: give --layout {_other(job)}"


def doubt_layout(job: PoolJob, work: Prepared, good: NDArray[np.intp]) -> Iterator[str]:
    """Judge maps that have odd sides by this layout, and usual sides and channels by the other.

    Boxes must lie on them by that too. Few boxes may do so by chance, and boxes in 0..1 of the image always do: then
    the sides must be absurd.
    """
    given, other = _shapes(job, work)
    (channels, height, width), usual = given[0].tolist(), int(other[0, 0])
    networks = usual >= 64 and usual % 32 == 0 and bool((other[:, 0] == usual).all())
    odd = _LONG if len(good) >= MANY and not job.normalized else _ABSURD
    sides = bool((_lengths(given) > odd).all() and (_lengths(other) <= _ORDINARY).all())
    if networks and sides and (job.normalized or _fit(work, other, good)):
        yield (
            f"maps of {channels} channels, {height} cells high and {width} wide, are unusual: if they are stored the "
            f"other way, with {usual} channels, give --layout {_other(job)}"
        )


def _other(job: PoolJob) -> str:
    return "hwc" if job.layout == "chw" else "chw"


def _shapes(job: PoolJob, work: Prepared) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(C, H, W) of all maps in order of their index, (M, 3), as they are taken and by the other layout."""
    given = np.array([work.infos[index].shape for index in sorted(work.infos)])
    return given, given[:, [2, 0, 1] if job.layout == "chw" else [1, 2, 0]]


def _lengths(shapes: NDArray[np.intp]) -> NDArray[np.float64]:
    """How much longer than wide maps are, either way round."""
    ratios: NDArray[np.float64] = shapes[:, 1:].max(axis=1) / shapes[:, 1:].min(axis=1)
    return ratios


def _fit(work: Prepared, shapes: NDArray[np.intp], good: NDArray[np.intp]) -> bool:
    place = np.searchsorted(sorted(work.infos), work.inputs.map_index[good])
    return fits(work.boxes[good], shapes[place][:, [2, 1, 2, 1]].astype(np.float64), work.spec)
