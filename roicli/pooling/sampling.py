"""All coordinate arithmetic of RoIAlign: where samples lie, which cells they read, with which weights.

The half-pixel shift, the one-pixel minimum, the adaptive count and the edge rule stand here and nowhere else. Every
operation keeps the order of torchvision's `roi_align_common.h` and `roi_align_kernel.cpp`, in the dtype of the
computation, because `ceil` and the edge tests turn on the last bit.

RoIAlign treats y and x apart, so everything here concerns *one axis* of K RoIs. Coordinates are in feature cells:
coordinate 0 is the centre of the first cell, `length - 1` that of the last.

The edge rule, on an axis of four cells (0 1 2 3):

========== ======================================= ===========================
coordinate what happens                            cells read (weights)
========== ======================================= ===========================
-1.2       out of range: counts as zero            none
-1.0, -0.4 clamped to 0                            0 (1), 1 (0)
1.25       between two cells                       1 (.75), 2 (.25)
3.0, 4.0   clamped to the last cell                3 (1), 3 (0)
4.1        out of range: counts as zero            none
========== ======================================= ===========================
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.errors import BoxError
from roicli.pooling.placement import Placement
from roicli.spec import Edge, PoolSpec, Rule

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.intp]

# torchvision keeps the adaptive count in a C int; beyond it its own arithmetic overflows.
_MAX_COUNT = 2**31
# So many samples take no longer than to find out which of them can be in range.
_FEW_SAMPLES = 2**14


class Sides(NamedTuple):
    """Where K boxes begin and end along one axis."""

    low: FloatArray  # (K,) in image pixels, finite, in the dtype of the computation
    high: FloatArray
    scale: FloatArray  # (K,) or (1,) feature cells per pixel, not rounded yet

    def moved(self, rule: Rule, length: int) -> Sides:
        """Return the sides with their ends moved by pixels, before the scale, which may be from corner to corner."""
        dtype = self.low.dtype.type
        low, high = self.low + dtype(rule.before), self.high + dtype(rule.before + rule.end)
        if not rule.corners_meet:
            return Sides(low, high, self.scale)
        # Normed first, as Matterport does: an end at the last pixel is 1, and then the last center, which is inside.
        last = np.maximum(length / self.scale - 1, 1e-9).astype(low.dtype)  # of a map below a pixel: anything finite
        return Sides(low / last, high / last, np.reshape(length - 1, -1))

    def scaled(self) -> tuple[FloatArray, FloatArray]:
        """Return the ends in feature cells, in the dtype of the computation."""
        scale = self.scale.astype(self.low.dtype)
        return self.low * scale, self.high * scale


def sides(regions: Placement) -> tuple[Sides, Sides]:
    """Split boxes and their scale into the sides along y and along x."""
    x1, y1, x2, y2 = regions.boxes.T
    scale_y, scale_x = regions.scale.T
    return Sides(y1, y2, scale_y), Sides(x1, x2, scale_x)


class Bins(NamedTuple):
    """The bins of K RoIs along one axis, in feature cells."""

    start: FloatArray  # (K,) where the first bin begins, or its middle if `centered`, half-pixel shift included
    size: FloatArray  # (K,) extent of one bin; negative for an inverted box, whose bins run backwards
    samples: IntArray  # (K,) in one bin, in range or not; 0 for an empty or inverted box with adaptive sampling
    number: int  # how many bins there are (P)
    length: int  # cells of the feature map along this axis (L)
    edge: Edge = "clamp"  # see `Rule`
    centered: bool = False  # one sample a bin, in its middle

    def take(self, rois: IntArray | slice) -> Bins:
        """Return the bins of some of the RoIs."""
        return self._replace(start=self.start[rois], size=self.size[rois], samples=self.samples[rois])

    def begin(self) -> FloatArray:
        """Return where the first bin of each RoI begins, (K,)."""
        return self.start - self.size / self.size.dtype.type(2) if self.centered else self.start

    def end(self) -> FloatArray:
        """Return where the last bin of each RoI ends, (K,)."""
        return self.begin() + self.number * self.size

    def edges(self) -> FloatArray:
        """Return where each bin of the first RoI begins and ends, (P, 2)."""
        edges = self.begin()[0] + np.arange(self.number + 1).astype(self.start.dtype) * self.size[0]
        return np.stack([edges[:-1], edges[1:]], axis=1)


def make_bins(sides: Sides, number: int, length: int, spec: PoolSpec) -> Bins:
    """Place the bins of K boxes along an axis of `length` cells; raise BoxError if one is too large to sample."""
    start, size, count, too_large = _lay_out(sides, number, length, spec)
    if too_large.any():
        first = int(too_large.argmax())
        raise BoxError(
            f"a box that spans {sides.low[first]:g} to {sides.high[first]:g} image pixels is too large to sample at "
            f"spatial scale {sides.scale[min(first, len(sides.scale) - 1)]:g}",
            "Check the coordinates of the boxes and the spatial scale.",
        )
    bins = Bins(start, size, np.maximum(count, 0).astype(np.intp), number, length)
    return (
        bins
        if spec.rule is None
        else bins._replace(edge=spec.rule.edge, centered=spec.rule.samples == "corners" and number > 1)
    )


def too_large(sides: Sides, number: int, spec: PoolSpec) -> NDArray[np.bool_]:
    """Tell which boxes `make_bins` refuses."""
    return _lay_out(sides, number, _MAX_COUNT, spec)[3]


def _lay_out(
    sides: Sides, number: int, length: int, spec: PoolSpec
) -> tuple[FloatArray, FloatArray, FloatArray, NDArray[np.bool_]]:
    """Return where bins begin, the size of one, its samples as a float, and which boxes are too large to hold these."""
    dtype = sides.low.dtype.type
    offset = dtype(0.5 if spec.aligned else 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        if spec.rule is not None:
            sides = sides.moved(spec.rule, length)
        low, high = sides.scaled()
        start = low - offset
        extent = (high - offset) - start
        if spec.least:
            extent = np.maximum(extent, dtype(1))
        if spec.rule is not None and spec.rule.samples == "corners":
            # Bins around the samples: half of the first and of the last lies beyond the region. In TensorFlow's order.
            size = sides._replace(high=sides.high - sides.low).scaled()[1] / dtype(max(number - 1, 1))
            return start, size, np.ones_like(size), ~np.isfinite(size)
        size = extent / dtype(number)
        whole = np.floor if spec.rule is not None and spec.rule.floor else np.ceil
        count = whole(size) if spec.adaptive else np.full_like(size, spec.sampling_ratio)
        if spec.rule is not None and spec.rule.samples == "middle":
            count = np.ones_like(size)
    return start, size, count, ~(np.isfinite(size) & (count.astype(np.float64, copy=False) < _MAX_COUNT))


class SampleGrid(NamedTuple):
    """The sample points of K RoIs along one axis that lie in range, in order of RoI, bin and sample."""

    bins: Bins
    bin_index: IntArray  # (T,) flat bin of each sample: roi * bins.number + bin
    low: IntArray  # (T,) the two cells that each sample reads
    high: IntArray
    fraction: FloatArray  # (T,) weight of `high`; that of `low` is 1 - fraction

    def splits(self) -> IntArray:
        """Return where each flat bin's samples begin in the arrays, (K * P + 1,)."""
        per_bin = np.bincount(self.bin_index, minlength=len(self.bins.start) * self.bins.number)
        return np.concatenate([[0], np.cumsum(per_bin)])


def sample_grid(bins: Bins) -> SampleGrid:
    """Sample every bin and apply the edge rule (see the table in the module's docstring).

    Where samples are many, only those that can be in range are made, so that a box far larger than the map costs no
    more than the map.
    """
    first, stop = _candidates(bins)
    per_bin = (stop - first).ravel()
    bin_index = np.repeat(np.arange(per_bin.size), per_bin)
    sample = np.arange(bin_index.size) - np.repeat(np.cumsum(per_bin) - per_bin - first.ravel(), per_bin)
    coordinate = sample_coordinates(bins, bin_index, sample)
    inside = in_range(coordinate, bins.length, bins.edge)
    low, high, fraction = neighbours(coordinate[inside], bins.length, bins.edge)
    return SampleGrid(bins, bin_index[inside], low, high, fraction)


def sample_coordinates(bins: Bins, bin_index: IntArray, sample: IntArray) -> FloatArray:
    """Return the coordinate of sample `sample` of flat bin `bin_index`, before the edge rule, in feature cells."""
    roi, bin_of_roi = np.divmod(bin_index, bins.number)
    dtype = bins.start.dtype
    size = bins.size[roi]
    start = bins.start[roi] + bin_of_roi.astype(dtype) * size
    if bins.centered:
        return start
    return start + (sample.astype(dtype) + dtype.type(0.5)) * size / bins.samples[roi].astype(dtype)


def in_range(coordinate: FloatArray, length: int, edge: Edge = "clamp") -> NDArray[np.bool_]:
    """Tell which coordinates count: up to a cell outside of the map's first and last centre, by the edge rule."""
    if edge == "extend":
        return np.ones(coordinate.shape, np.bool_)
    first, last = (-1, length) if edge == "clamp" else (0, length - 1)
    inside: NDArray[np.bool_] = (coordinate >= first) & (coordinate <= last)
    return inside


def neighbours(coordinate: FloatArray, length: int, edge: Edge = "clamp") -> tuple[IntArray, IntArray, FloatArray]:
    """Find the two cells that in-range coordinates lie between, and the weight of the second.

    Examples
    --------
    >>> low, high, fraction = neighbours(np.array([-0.4, 1.25, 3.0, 4.0]), 4)
    >>> low.tolist(), high.tolist(), fraction.tolist()
    ([0, 1, 3, 3], [1, 2, 3, 3], [0.0, 0.25, 0.0, 0.0])
    """
    onto = np.maximum(coordinate, 0)
    low = np.minimum(onto.astype(np.intp), length - 1)
    high = np.minimum(low + 1, length - 1)
    at = coordinate if edge == "extend" else onto
    fraction = np.where(low == length - 1, 0, at - low.astype(coordinate.dtype))
    return low, high, fraction.astype(coordinate.dtype, copy=False)


def _candidates(bins: Bins) -> tuple[IntArray, IntArray]:
    """Return a range of sample numbers of every bin, (K, P) each; no other sample can be in range.

    Estimated in float64 with a margin for the rounding of the computation's dtype; the exact test follows. Where all
    samples are few, it alone is faster.
    """
    if bins.edge == "extend" or int(bins.samples.sum()) * bins.number <= _FEW_SAMPLES:
        return np.zeros((len(bins.samples), bins.number), np.intp), np.repeat(
            bins.samples[:, None], bins.number, axis=1
        )
    start, size = bins.start.astype(np.float64)[:, None], bins.size.astype(np.float64)[:, None]
    count = bins.samples[:, None]
    base = start + np.arange(bins.number) * size
    reach = np.maximum(np.abs(start), np.abs(start + bins.number * size)) + 1
    with np.errstate(divide="ignore", invalid="ignore"):
        step = size / count
        margin = 8 * float(np.finfo(bins.start.dtype).eps) * reach / np.abs(step) + 2
        ends = np.stack([(-1 - base) / step, (bins.length - base) / step])
        # A bin of no extent has all its samples at one place: NaN or infinite ends leave its range whole.
        first = np.where(np.isfinite(margin), np.floor(ends.min(axis=0) - margin), 0)
        stop = np.where(np.isfinite(margin), np.ceil(ends.max(axis=0) + margin), np.inf)
    first = np.clip(first, 0, count).astype(np.intp)
    return first, np.maximum(np.clip(stop, 0, count).astype(np.intp), first)


class CellRanges(NamedTuple):
    """The bins of RoIPool along one axis: ranges of whole cells, which may share a cell with their neighbour."""

    start: IntArray  # (K,) first cell of each RoI, on the map or beyond it
    extent: IntArray  # (K,) cells of each RoI, at least one
    begin: IntArray  # (K, P) the cells of each bin, on the map or beyond it
    end: IntArray
    first: IntArray  # (K, P) those that lie on the map; none if stop <= first
    stop: IntArray

    def take(self, rois: slice) -> CellRanges:
        """Return the bins of some of the RoIs."""
        return CellRanges(*(ends[rois] for ends in self))


def cell_ranges(sides: Sides, number: int, length: int, *, inclusive: bool = True) -> CellRanges:
    """Round boxes and bins as RoIPool does (torchvision's `roi_pool_kernel.cpp`), along one axis.

    Corners are rounded half away from zero, both ends belong to the RoI, and bins are rounded outwards. If not
    `inclusive`, the end does not belong to the RoI, nor the last cell to the map, as in `ps_roi_pool_kernel.cpp`.

    Examples
    --------
    >>> ranges = cell_ranges(Sides(np.array([0.5]), np.array([5.0]), np.ones(1)), 2, 6)
    >>> ranges.start.tolist(), ranges.extent.tolist(), ranges.first.tolist(), ranges.stop.tolist()
    ([1], [5], [[1, 3]], [[4, 6]])
    """
    dtype = sides.low.dtype.type
    start, end = map(_round_half_away, sides.scaled())
    extent = np.maximum(end - start + inclusive, 1)
    size = (extent.astype(dtype) / dtype(number))[:, None]
    edge = np.arange(number + 1).astype(dtype)
    begin = np.floor(edge[:-1] * size).astype(np.intp) + start[:, None]
    stop = np.ceil(edge[1:] * size).astype(np.intp) + start[:, None]
    last = length if inclusive else length - 1
    return CellRanges(start, extent, begin, stop, np.clip(begin, 0, last), np.clip(stop, 0, last))


def touched_ranges(sides: Sides, number: int, length: int) -> CellRanges:
    """Find the cells that each bin touches: from ``floor`` of its begin to ``ceil`` of its end, at least one.

    Examples
    --------
    >>> ranges = touched_ranges(Sides(np.array([0.5]), np.array([5.0]), np.ones(1)), 2, 6)
    >>> ranges.start.tolist(), ranges.extent.tolist(), ranges.first.tolist(), ranges.stop.tolist()
    ([0], [5], [[0, 2]], [[3, 5]])
    """
    low, high = sides.scaled()
    dtype = low.dtype.type
    edges = (
        low[:, None] + np.arange(number + 1).astype(low.dtype) * (np.maximum(high - low, 0) / dtype(number))[:, None]
    )
    edges[:, -1] = np.maximum(low, high)
    begin, end = np.floor(edges[:, :-1]).astype(np.intp), np.ceil(edges[:, 1:]).astype(np.intp)
    return _ranges_of(begin, np.maximum(end, begin + 1), length)


def central_ranges(sides: Sides, number: int, length: int) -> CellRanges:
    """Find the cell that holds the centre of each bin."""
    low, high = sides.scaled()
    dtype = low.dtype.type
    share = (np.arange(number).astype(low.dtype) + dtype(0.5)) / dtype(number)
    cell = np.floor(low[:, None] + share * (high - low)[:, None]).astype(np.intp)
    return _ranges_of(cell, cell + 1, length)


def _ranges_of(begin: IntArray, end: IntArray, length: int) -> CellRanges:
    start = begin[:, 0]
    return CellRanges(start, end.max(axis=1) - start, begin, end, np.clip(begin, 0, length), np.clip(end, 0, length))


class Surface(NamedTuple):
    """The bins of Precise RoI pooling along one axis, in float64 cells."""

    edges: NDArray[np.float64]  # (K, P + 1) where they begin and end
    first: IntArray  # (K,) the cells whose hats they overlap, on the map
    stop: IntArray

    def weights(self, roi: IntArray, cell: IntArray) -> NDArray[np.float64]:
        """Return the mean of the hat of each cell over each bin of its RoI, (T, P); of an empty bin zero.

        A hat is linear on either side of its cell, so that its value at the middle of a part is the mean there. In this
        form the weights of bins of any size are exact: differences of integrals would cancel for thin ones.
        """
        edges, center = self.edges[roi], cell[:, None]
        total = np.zeros((len(roi), edges.shape[1] - 1))
        for side in (-1, 1):
            ends = np.clip(edges, center + min(side, 0), center + max(side, 0))
            low, high = ends[:, :-1], ends[:, 1:]
            total += (high - low) * (1 - side * ((low + high) / 2 - center))
        size = np.diff(edges, axis=1)
        return np.divide(total, size, out=np.zeros_like(size), where=size > 0)


def surface(sides: Sides, number: int, length: int) -> Surface:
    """Place bins on the bilinear surface, which is zero from one cell beyond the map on; inverted boxes are empty.

    Examples
    --------
    >>> bins = surface(Sides(np.array([0.0]), np.array([2.0]), np.ones(1)), 1, 4)
    >>> bins.weights(np.zeros(4, int), np.arange(4)).ravel().tolist()
    [0.25, 0.5, 0.25, 0.0]
    """
    low, high = (ends.astype(np.float64) for ends in sides.scaled())
    high = np.maximum(low, high)
    edges = low[:, None] + np.arange(number + 1) / number * (high - low)[:, None]
    reach = np.clip([np.floor(low), np.ceil(high) + 1], -1, length + 1)
    reach[:, high <= low] = 0
    first, stop = np.clip(reach, 0, length).astype(np.intp)
    return Surface(edges, first, stop)


def _round_half_away(values: FloatArray) -> IntArray:
    magnitude = np.abs(values)
    whole = np.floor(magnitude)
    rounded: IntArray = np.copysign(whole + (magnitude - whole >= 0.5), values).astype(np.intp)
    return rounded


def in_cells(pairs: FloatArray, regions: Placement) -> FloatArray:
    """Multiply (K, 2) numbers of pixels, y and x, by the scale of each region, in their own dtype."""
    return pairs * regions.scale.astype(pairs.dtype)


def in_map(boxes: FloatArray, scale: FloatArray) -> FloatArray:
    """Multiply (K, 4) boxes by their (K, 2) or (1, 2) scale: xyxy in cells, without any shift."""
    return boxes * scale[:, [1, 0, 1, 0]]


def pixels_in_map(regions: Placement, row: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return where the pixels of the image of one region with a mask lie on the map: step and begin along y, and x.

    Pixel i reaches from ``begin + i * step`` on; here 0 is the border of the map, not the centre of the first cell.
    """
    assert regions.masks is not None
    scale = regions.scale[min(row, len(regions.scale) - 1)]
    (step_y, step_x), (y, x) = (regions.masks.ratio[row] * scale).tolist(), (regions.masks.offset[row] * scale).tolist()
    return (step_y, y), (step_x, x)


def cells_in_reach(regions: Placement, rule: Rule | None, height: int, width: int) -> tuple[slice, slice]:
    """Find rows and columns of a map that hold all cells that finite boxes read.

    Cells to spare are for the shift, the smallest RoI and all rounding. A mask may leave its box; a rule may move its
    ends by pixels, or let it read the nearest cells.
    """
    if not len(regions):
        return slice(0, 0), slice(0, 0)
    if regions.masks is not None or (rule is not None and (rule.edge == "extend" or regions.scale.max() > 1)):
        return slice(0, height), slice(0, width)
    corners = in_map(regions.boxes, regions.scale).reshape(-1, 2)  # of an inverted box, the smaller corner comes second
    ends = []
    for low, high, length in zip(corners.min(0).tolist(), corners.max(0).tolist(), (width, height), strict=True):
        spare = 3 + 1e-6 * max(abs(low), abs(high))
        ends.append(slice(*(min(max(edge, 0), length) for edge in (math.floor(low - spare), math.ceil(high + spare)))))
    return ends[1], ends[0]
