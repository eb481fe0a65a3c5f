"""Some RoIs of a reference and the maps that they lie on: what candidates are held against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.errors import FileError
from roicli.jobs.foreign import Arranged
from roicli.jobs.geometry import Located
from roicli.jobs.match import Inputs
from roicli.pooling.arguments import compute_dtype
from roicli.pooling.contraction import pool_maps
from roicli.pooling.kernels.choose import NUMPY_KERNEL
from roicli.pooling.operators import find
from roicli.pooling.operators.cells import WholeCells
from roicli.pooling.placement import Placement
from roicli.regions import find_bad_boxes
from roicli.spec import PoolSpec

# RoIs, maps, sizes of maps, and channels that are compared in the end.
_ROWS, _MAPS, _SIZES, CHANNELS = 160, 8, 3, 128
# Of the largest value: what another order of sums, and coordinates that were computed in another order, leave.
_FITS = 1e-5
# Where a maximum may be: the share of values not below the mean of its samples, but for noise, in units of
# the spread; and of how many ways to take the boxes it is tried.
_ABOVE, _NOISE, _LIKELY = 0.75, 0.02, 32
# How far from 1 the length of a vector may be that was made 1.
_UNIT = 1e-3
# Of the largest value, the least of RoIs that are tried first.
_TELLS = 0.1
# Values that are pooled at once.
_AT_ONCE = 2**22
Maps = dict[int, NDArray[Any]]


class Evidence(NamedTuple):
    """Some RoIs, their maps, and what the reference holds of them.

    Attributes
    ----------
    rows : (K,) intp
        The RoIs, lines of the reference.
    maps : dict of int to (H, W, C) array
        Those that they may lie on.
    wanted, allowed : (K, C, PH, PW) or (K, C) float64
        Values of the reference, and how far off rounding may be.
    rounding : numpy.dtype
        Of the values.
    unit : bool
        Whether each RoI is one vector of length 1, or 0; some of its channels are made so again.
    token, holes : bool
        Whether means took one token more, and whether NaN in maps stands for cells that nobody knows.
    """

    rows: NDArray[np.intp]
    maps: Maps
    wanted: NDArray[np.float64]
    allowed: NDArray[np.float64]
    rounding: np.dtype[Any]
    unit: bool = False
    token: bool = False
    holes: bool = False

    @property
    def mean(self) -> bool:
        """Whether each RoI is one vector."""
        return self.wanted.ndim == 2

    @property
    def spread(self) -> float:
        """Standard deviation of the values."""
        return float(self.wanted.std()) or 1.0

    def part(self, keep: Any, channels: slice) -> Evidence:
        """Return some of the RoIs, and some of the channels."""
        maps = {index: np.ascontiguousarray(one[:, :, channels]) for index, one in self.maps.items()}
        wanted, allowed = self.wanted[keep][:, channels], self.allowed[keep][:, channels]
        if self.unit:
            length = np.sqrt(np.square(wanted).sum(axis=1, keepdims=True))
            length[length == 0] = 1
            wanted, allowed = wanted / length, 2 * allowed / length  # the length is rounded as well
        return self._replace(rows=self.rows[keep], maps=maps, wanted=wanted, allowed=allowed)

    def pool(self, placement: Placement, spec: PoolSpec, dtype: Any = None) -> NDArray[Any]:
        """Pool boxes of these maps; with `dtype`, coordinates and weights are computed in that."""
        first = next(iter(self.maps.values()))
        operator = find(spec.op)
        out = np.zeros((len(placement), *spec.row_shape(operator.channels(first.shape[2], spec))), first.dtype)
        good = ~operator.is_too_large(placement.rounded(first.dtype), spec) & (placement.map_index >= 0)
        for size, rows in self._by_size(placement):
            rows = rows[good[rows]]
            rows = rows[np.argsort(placement.map_index[rows], kind="stable")]
            block = np.zeros((len(rows), *out.shape[1:]), first.dtype)
            if dtype is None:
                pool_maps(self.maps.__getitem__, placement.take(rows), size, spec, block)
            else:
                self._pool_coarsely(placement.take(rows).rounded(np.dtype(dtype)), size, spec, block)
            out[rows] = block
        return out

    def _by_size(self, placement: Placement) -> Iterator[tuple[tuple[int, ...], NDArray[np.intp]]]:
        for size in {one.shape[:2] for one in self.maps.values()}:
            here = [index for index, one in self.maps.items() if one.shape[:2] == size]
            yield size, np.flatnonzero(np.isin(placement.map_index, here))

    def _pool_coarsely(self, regions: Placement, size: tuple[int, ...], spec: PoolSpec, out: NDArray[Any]) -> None:
        for number, index in enumerate(regions.map_index.tolist()):
            placed = find(spec.op).place(regions.take([number]), size, spec, NUMPY_KERNEL)
            placed.pool(self.maps[index], 0, 1, out[number : number + 1].reshape(1, -1, *spec.pooled_size))

    def off(self, placements: Sequence[Placement], spec: PoolSpec, dtype: Any = None) -> NDArray[np.float64]:
        """Return what each of several placements of all RoIs leaves: (n, K, ...)."""
        step = max(1, _AT_ONCE // max(self.wanted.size, 1))
        found = []
        for begin in range(0, len(placements), step):
            pooled = self.pool(joined(placements[begin : begin + step]), spec, dtype)
            with np.errstate(over="ignore", invalid="ignore"):
                if self.rounding == np.float16 and not self.token:
                    pooled = pooled.astype(np.float16)
                found.append(pooled.astype(np.float64).reshape(-1, *self.wanted.shape) - self.wanted)
        off = np.concatenate(found)
        if self.token:
            for number, one in enumerate(placements):
                tokens = np.ones(len(one))
                for size, rows in self._by_size(one):
                    tokens[rows] = averaged(spec, one.take(rows).rounded(np.dtype(np.float32)), size)
                off[number] = without_token(off[number], self.wanted, tokens, one.map_index)
        if self.holes:
            unknown = np.isnan(off).reshape(*off.shape[:2], -1).any(axis=2)
            off[unknown & (unknown.mean(axis=1, keepdims=True) <= 0.5)] = 0
        return off

    def fitting(self, off: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell which RoIs differ by no more than rounding, (n, K) of (n, K, ...)."""
        inside = (np.abs(off) <= self.allowed).reshape(*off.shape[:2], -1)
        return np.asarray(inside.all(axis=2))

    def compared(
        self, here: Sequence[Placement], pairs: dict[PoolSpec, list[int]]
    ) -> Iterator[tuple[PoolSpec, list[int], NDArray[np.float64]]]:
        """Yield what specs leave of the placements that they are tried with; of maxima, where they are likely."""
        alike: dict[PoolSpec, list[PoolSpec]] = {}
        for spec in pairs:
            alike.setdefault(replace(spec, mode="avg") if spec.op == "roi_align" else spec, []).append(spec)
        for mean, modes in alike.items():
            every = sorted({number for spec in modes for number in pairs[spec]})
            off = self.off([here[number] for number in every], mean)
            for spec in modes:
                if spec == mean:
                    yield spec, every, off
                elif numbers := [every[one] for one in self.likely(off, spec)]:
                    yield spec, numbers, self.off([here[number] for number in numbers], spec)

    def likely(self, off: NDArray[np.float64], spec: PoolSpec) -> list[int]:
        """Choose placements by which maxima may be the reference, of what the means of the same samples leave.

        A maximum is at least the mean; weighted cells are a quarter of their sum at least.
        """
        made, noise = off + self.wanted, _NOISE * self.spread
        least = made if spec.mode == "max" else made / 4
        above = (self.wanted >= least - noise).reshape(len(off), -1).mean(axis=1)
        best = np.argsort(-likeness(made, self.wanted), kind="stable")
        return sorted([one for one in best.tolist() if above[one] >= _ABOVE or spec.reduce == "l2"][:_LIKELY])

    def nearly(self, placement: Placement, spec: PoolSpec, row: int) -> bool:
        """Tell whether a RoI fits with its corners moved by rounding: a count or an edge turns on the last bit."""
        one = placement.take([row])
        steps = np.array(list(product((-1, 1), repeat=4)))
        for size in (4e-7, 2e-6):
            step = size * np.abs(one.boxes).max(initial=1e-30)
            moved = replace(placement.take([row] * len(steps)), boxes=one.boxes + step * steps)
            for off in self.pool(moved, spec).astype(np.float64) - self.wanted[row]:
                if (np.abs(off) <= self.allowed[row] * 4).all():
                    return True
        return False


def joined(placements: Sequence[Placement]) -> Placement:
    """Return several placements as one."""
    scales = [np.broadcast_to(one.scale, (len(one), 2)) for one in placements]
    parts = [
        np.concatenate(part) for part in ([one.map_index for one in placements], [one.boxes for one in placements])
    ]
    return Placement(parts[0], parts[1], np.concatenate(scales))


def gather(inputs: Inputs, arranged: Arranged, rounding: np.dtype[Any]) -> Evidence:
    """Choose RoIs of few maps of few sizes, and read these; all levels of them, if the source is a pyramid.

    Raises
    ------
    FileError
        Boxes without features, or values that say nothing.
    """
    index, source, count = inputs.map_index, inputs.source, max(1, len(inputs.source.levels))
    unusable, _ = find_bad_boxes(inputs.table.boxes)
    usable = index >= 0
    usable[unusable] = False
    numbers, counts = np.unique(index[usable], return_counts=True)
    if not len(numbers):
        raise FileError(f"{inputs.table.source} has no box with features", "Check the image ids.")
    order = numbers[np.argsort(-counts, kind="stable")].tolist()
    shape_of = {one: source.info(one * count).shape for one in order}
    few = list(dict.fromkeys(shape_of.values()))[:_SIZES]  # each takes calls of its own
    chosen = [one for one in order if shape_of[one] in few][:_MAPS]
    rows = np.flatnonzero(usable & np.isin(index, chosen))
    rows = rows[np.argsort(index[rows], kind="stable")]
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _ROWS)).astype(int))]
    wanted = arranged.rows(rows).astype(np.float64)
    finite = np.isfinite(wanted).reshape(len(rows), -1).all(axis=1)
    if finite.any():  # others divide by a count of zero, or read cells that are not finite
        rows, wanted = rows[finite], wanted[finite]
    if not np.ptp(wanted):  # zeros fit whatever misses the map
        hint = "Boxes that miss their maps give zeros: was the spatial scale forgotten?" if not wanted.any() else ""
        raise FileError(
            f"all values of the reference are {wanted.flat[0]:g}, which says nothing",
            hint or "Give features that differ.",
        )
    maps: Maps = {}
    for one in np.unique(index[rows]).tolist():
        for number in range(one * count, one * count + count):
            read = source.read(number)
            maps[number] = np.ascontiguousarray(read.transpose(1, 2, 0), compute_dtype(read.dtype))
    largest = max(max(shape[1:]) for shape in few)
    allowed, unit = _allowed(wanted, largest, rounding), wanted.ndim == 2 and _is_unit(wanted)
    return Evidence(rows, maps, wanted, allowed, np.dtype(np.float32) if unit else rounding, unit)


def _is_unit(wanted: NDArray[np.float64]) -> bool:
    """Tell whether all vectors, of all channels, have the length 1 or 0."""
    length = np.sqrt(np.square(wanted).sum(axis=1))
    return bool(((length == 0) | (np.abs(length - 1) < _UNIT)).all())


def _allowed(wanted: NDArray[np.float64], length: int, rounding: np.dtype[Any]) -> NDArray[np.float64]:
    largest = float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0)) or 1.0
    # Coordinates in float32 are as coarse as the map is long.
    allowed = np.full(wanted.shape, _FITS * largest * max(1.0, length / 64))
    if rounding == np.float16:
        allowed += np.abs(wanted) * 2.0**-10 + 2.0**-24  # both are rounded: one last bit may differ
    return allowed


def telling(boxes: NDArray[np.float64], wanted: NDArray[np.float64], number: int) -> NDArray[np.intp]:
    """Choose RoIs that read something, of all sizes and places: the outermost, and others evenly by their area."""
    largest = np.abs(np.nan_to_num(wanted)).reshape(len(wanted), -1).max(axis=1)
    some = np.argsort(-largest, kind="stable")[: max(number, int((largest >= _TELLS * largest.max()).sum()))]
    some = some[largest[some] > 0]
    some = some[np.argsort(np.abs(np.prod(boxes[some, 2:] - boxes[some, :2], axis=1)), kind="stable")]
    evenly = some[np.linspace(0, len(some) - 1, min(number, len(some))).astype(int)]
    outermost = some[[boxes[some, 0].argmin(), boxes[some, 2].argmax(), boxes[some, 3].argmax()]]
    chosen = [evenly[len(evenly) // 2], *outermost, *evenly]
    return np.sort(np.array(list(dict.fromkeys(chosen))[:number]))


def averaged(spec: PoolSpec, regions: Placement, size: tuple[int, ...]) -> NDArray[np.float64]:
    """Return of how many tokens the mean of each region is taken: cells of a window, or bins, (K,)."""
    operator = find(spec.op)
    if spec.output_size == (1, 1) and isinstance(operator, WholeCells):
        y, x = (np.maximum(ranges.stop - ranges.first, 0)[:, 0] for ranges in operator.both(regions, size, spec))
        return np.asarray(y * x, np.float64)
    return np.full(len(regions), float(np.prod(spec.output_size)))


def without_token(
    off: NDArray[np.float64], wanted: NDArray[np.float64], number: NDArray[np.float64], image: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return what means leave if those wanted took one vector more: any, but the same for all regions of an image.

    Parameters
    ----------
    off, wanted : (K, C)
        Means of `number` (K,) tokens less those wanted, and these.
    image : (K,) intp
        An image with one region says nothing of its token: what that leaves is unchanged.

    Examples
    --------
    >>> mean, token, number = np.array([[1.0], [4.0], [9.0]]), 7.0, np.array([2.0, 3.0, 1.0])
    >>> wanted = (mean * number[:, None] + token) / (number[:, None] + 1)
    >>> bool(np.allclose(without_token(mean - wanted, wanted, number, np.zeros(3, int)), 0))
    True
    """
    found, more = off.copy(), number[:, None] + 1
    for one in np.unique(image):
        rows = np.flatnonzero(image == one)
        if len(rows) > 1:
            token = wanted[rows] - number[rows, None] * off[rows]
            weight = 1 / np.square(more[rows])
            found[rows] = ((token * weight).sum(axis=0) / weight.sum() - token) / more[rows]
    return found


def likeness(made: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlate each of several (n, K, ...) with one (K, ...); 0 where a value is not known."""
    first, second = (each.reshape(-1, wanted.size) for each in (made, wanted))
    first, second = (each - each.mean(axis=1, keepdims=True) for each in (first, second))
    length = np.sqrt(np.square(first).sum(axis=1) * np.square(second).sum())
    return np.asarray(np.nan_to_num(first @ second[0] / np.where(length > 0, length, np.inf)))


def probes(here: Located) -> NDArray[np.float64]:
    """Return boxes of one image as its box file would have them: small and large, also at the edges."""
    image = int(here.image[0])
    rng = np.random.default_rng(0)
    cells = here.map_sizes[image][::-1]
    center, side = rng.uniform(-2, cells + 2, (len(here.image), 2)), np.log(max(cells))
    half = np.exp(rng.uniform(np.log(0.1), side, (len(here.image), 2))) / 2
    ratio = np.tile(here.scale[::-1], 2)
    boxes = np.hstack([center - half, center + half]) / ratio
    if here.transform is not None:
        done = here.transform
        boxes = (boxes - np.tile([done.px[image], done.py[image]], 2)) / np.tile([done.rx[image], done.ry[image]], 2)
    unit = np.ones(2) if here.unit is None else here.unit[image]
    boxes = boxes / np.tile(unit[::-1], 2)
    digits = max(0, 1 - int(np.floor(np.log10(np.abs(boxes).max())) - 2))
    return np.asarray(np.round(boxes, digits))
