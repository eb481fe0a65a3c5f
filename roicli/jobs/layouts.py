"""Maps that are stored the other way than said, recognised by their shapes and by where the boxes lie on them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from roicli.jobs.prepare import PoolJob, Prepared
from roicli.pooling.extents import shares_inside
from roicli.spec import PoolSpec

# A box counts as on its map with nine tenths of its area: borders of images are often rounded away.
ON_MAP = 0.9
# A remedy must suit so many of the boxes.
NEARLY_ALL = 0.99
# What is less likely does not happen.
_CHANCE = 1e-4
# Ratios of the sides of maps: of most; of few; of nearly none.
_ORDINARY, _LONG, _ABSURD = 2.0, 3.0, 20.0


def fits(boxes: NDArray[np.float64], sizes: NDArray[np.float64], spec: PoolSpec) -> bool:
    """Tell whether nearly all boxes lie on their maps and are not inverted."""
    upright = (boxes[:, 2:] >= boxes[:, :2]).all(axis=1)
    return bool((upright & (shares_inside(boxes, sizes, spec) >= ON_MAP)).mean() >= NEARLY_ALL)


def other_layout(job: PoolJob, work: Prepared, good: NDArray[np.intp], *, longer: bool) -> str:
    """Tell whether boxes that leave their maps would lie on them by the other layout, if need be in longer maps."""
    given, other = _shapes(job, work)
    likely = (_lengths(other) <= _LONG) & (longer | (_lengths(other) < _lengths(given)))
    if job.normalized or not likely.all() or not _fit(work, other, good):
        return ""
    return f"if maps are stored the other way: give --layout {_other(job)}"


def doubt_layout(job: PoolJob, work: Prepared, good: NDArray[np.intp]) -> Iterator[str]:
    """Judge maps that have odd sides or channels by this layout, and usual sides and channels by the other.

    Boxes must lie on them by that too, and not by chance. Boxes in 0..1 of the image always do: then the sides must be
    absurd.
    """
    given, other = _shapes(job, work)
    (channels, height, width), usual = given[0].tolist(), int(other[0, 0])
    networks = _are_usual(usual) and bool((other[:, 0] == usual).all())
    if not networks or (_lengths(other) > _ORDINARY).any():
        return
    odd = (_lengths(given) > _ABSURD).all()
    if not job.normalized:
        along_x, along_y = _chances(work, given, other, good)
        odd |= (_lengths(given) > _LONG).all() and along_x * along_y < _CHANCE
        odd |= not _are_usual(channels) and max(along_x, along_y) < _CHANCE
    if odd and (job.normalized or _fit(work, other, good)):
        yield (
            f"maps of {channels} channels, {height} cells high and {width} wide, are unusual: if they are stored the "
            f"other way, with {usual} channels, give --layout {_other(job)}"
        )


def _are_usual(channels: int) -> bool:
    """Whether networks have so many channels."""
    return channels >= 64 and channels % 32 == 0


def _chances(
    work: Prepared, given: NDArray[np.intp], other: NDArray[np.intp], good: NDArray[np.intp]
) -> tuple[float, float]:
    """How likely boxes, if they lay anywhere on their maps, would keep to the part that is there by the other layout.

    Along x and along y.
    """
    place = _places(work, good)
    along_y, along_x = np.minimum(other[place, 1:] / given[place, 1:], 1).prod(axis=0).tolist()
    return along_x, along_y


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
    return fits(work.boxes[good], shapes[_places(work, good)][:, [2, 1, 2, 1]].astype(np.float64), work.spec)


def _places(work: Prepared, good: NDArray[np.intp]) -> NDArray[np.intp]:
    """Rows of `_shapes` in which the map of each box is."""
    return np.searchsorted(sorted(work.infos), work.inputs.map_index[good])
