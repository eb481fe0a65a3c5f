"""Find the convention, or the mistake, that made the numbers of pooled features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli import conventions
from roicli.errors import FileError, UsageError
from roicli.jobs.candidates import Place, first_specs, places, specs
from roicli.jobs.foreign import Arranged, read_reference
from roicli.jobs.geometry import Located
from roicli.jobs.listener import Listener, Told
from roicli.jobs.locate import locate
from roicli.jobs.match import Inputs
from roicli.jobs.prepare import PoolJob
from roicli.pooling.arguments import compute_dtype
from roicli.pooling.contraction import pool_maps
from roicli.pooling.kernels.choose import NUMPY_KERNEL
from roicli.pooling.operators import find
from roicli.pooling.operators.base import reduce_bins
from roicli.pooling.placement import Placement, place
from roicli.regions import find_bad_boxes
from roicli.spec import PoolSpec
from roicli.words import count

# RoIs by which candidates are ranked, and those by which the best are checked; the channels of the first.
_RANKED, _CHECKED, _CHANNELS = 12, 160, 16
_NEAR, _BEST = 24, 6  # places of boxes that are tried with all conventions
_SHOWN = 8
_FITS = 1e-5  # of the largest value: what the order of sums leaves in float32


@dataclass(frozen=True)
class Answer:
    """One set of settings, and the difference that it leaves.

    Attributes
    ----------
    convention : tuple of str
        Libraries that compute so.
    settings : str
        The operator and its settings in words.
    boxes : str
        What was done to the boxes, if it is not what the options say.
    options : dict
        What to pass to `align`.
    largest, spread : float
        The largest difference, and in units of the spread of the values.
    failing : tuple of int
        The first RoIs that differ.
    """

    convention: tuple[str, ...]
    settings: str
    boxes: str
    options: dict[str, Any]
    largest: float
    spread: float
    failing: tuple[int, ...] = ()


@dataclass(frozen=True)
class Identified:
    """What made the numbers.

    Attributes
    ----------
    reference : str
        The file.
    fits : bool
        Whether an answer leaves no more than rounding.
    reading : str
        What its axes are.
    rounding : str
        Of its values: "float32", "float16".
    answers : tuple of Answer
        All that fit, the simplest first; if none fits, the nearest.
    checked : int
        How many RoIs were compared.
    telling : str
        A box that tells the first two answers apart, and by how much.
    notes, warnings : tuple of str
        What was assumed.
    """

    reference: str
    fits: bool
    reading: str
    rounding: str
    answers: tuple[Answer, ...]
    checked: int
    telling: str
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON can hold them."""
        return asdict(self)


class _Data(NamedTuple):
    """Some RoIs of maps of one size, by map, and the reference's rows of them."""

    rows: NDArray[np.intp]
    maps: dict[int, NDArray[Any]]  # (H, W, C)
    size: tuple[int, int]
    wanted: NDArray[np.float64]
    tolerance: NDArray[np.float64]
    mean: bool

    def part(self, keep: NDArray[np.intp], channels: slice) -> _Data:
        """Return some of the RoIs, and some of the channels."""
        maps = {index: np.ascontiguousarray(one[:, :, channels]) for index, one in self.maps.items()}
        wanted, tolerance = self.wanted[keep][:, channels], self.tolerance[keep][:, channels]
        return self._replace(rows=self.rows[keep], maps=maps, wanted=wanted, tolerance=tolerance)

    def pool(self, placement: Placement, spec: PoolSpec, dtype: Any = None) -> NDArray[Any]:
        """Pool these RoIs; with `dtype`, coordinates and weights are computed in that."""
        channels = next(iter(self.maps.values())).shape[2]
        first = next(iter(self.maps.values()))
        out = np.zeros((len(placement), channels, *spec.output_size), first.dtype)
        operator = find(spec.op)
        bad = operator.is_too_large(placement.rounded(out.dtype), spec)
        good = np.flatnonzero(~bad)
        if not len(good):
            return out.mean(axis=(2, 3)) if self.mean else out
        some, block = placement.take(good), out[good]
        if dtype is None:
            pool_maps(self.maps.__getitem__, some, self.size, spec, block)
        else:
            for number, index in enumerate(some.map_index.tolist()):
                one = some.take([number]).rounded(np.dtype(dtype))
                placed = operator.place(one, self.size, replace(spec, mode="max"), NUMPY_KERNEL)
                placed = operator.place(one, self.size, spec, NUMPY_KERNEL) if spec.mode == "avg" else placed
                placed.pool(self.maps[index], 0, 1, block[number : number + 1])
        out[good] = block
        if not self.mean:
            return out
        mean = np.empty((*out.shape[:2], 1, 1), out.dtype)
        reduce_bins(out, "mean", mean)
        return mean[:, :, 0, 0]

    def differences(self, pooled: NDArray[Any]) -> NDArray[np.float64]:
        """Return how far each value lies off, beyond what rounding allows it."""
        off: NDArray[np.float64] = np.abs(pooled.astype(np.float64) - self.wanted)
        return off


class _Candidate(NamedTuple):
    place: Place
    spec: PoolSpec
    how: str = ""  # what was done to the values
    dtype: Any = None


def identify(job: PoolJob, reference: Path, listener: Listener) -> Identified:
    """Rank conventions and mistakes by the difference that they leave, then check the best on more RoIs.

    Raises
    ------
    RoicliError
        Files that cannot be read; a reference of another shape.
    """
    told, given = Told(listener), read_reference(reference)
    job = replace(job, geometry=replace(job.geometry, size_check=False), bad_boxes="keep")
    inputs = job.bind(told.note)
    job = job.knowing(inputs)
    if inputs.source.levels:
        raise UsageError("identify compares features of one level", "Name one with `dataset`, or give its file.")
    channels = next(iter(inputs.infos().values())).shape[0]
    if len(inputs.table) != _count(given.values.shape):
        raise FileError(
            f"{reference} holds {count(_count(given.values.shape), 'row')}, "
            f"{inputs.table.source} {count(len(inputs.table), 'box')}",
            "Give the boxes that the features were made of, in their order.",
        )
    located = locate(job.geometry, inputs, inputs.infos(), told.note)
    every = [
        _search(job, inputs, located, arranged, given.rounding)
        for arranged in given.readings(channels, (job.spec.output_size,))
    ]
    fits, answers, reading, checked, telling = max(every, key=lambda found: (found[0], -found[1][0].spread))
    return Identified(
        *(str(reference), fits, reading, str(given.rounding), tuple(answers), checked, telling),
        *(tuple(told.notes), tuple(told.warnings)),
    )


def _count(shape: tuple[int, ...]) -> int:
    while len(shape) > 4 and shape[0] == 1:
        shape = shape[1:]
    return shape[0]


def _search(
    job: PoolJob, inputs: Inputs, located: Located, arranged: Arranged, rounding: np.dtype[Any]
) -> tuple[bool, list[Answer], str, int, str]:
    data = _sample(inputs, located, arranged, rounding)
    few = _spread_out(located.placement.boxes[data.rows].astype(np.float64))
    rank = data.part(few, slice(0, _CHANNELS))
    base = replace(job.spec, output_size=arranged.size, reduce="none", rule=None)
    found = list(places(job, inputs, located, data.rows, data.size))

    def score(candidate: _Candidate) -> float:
        placement = candidate.place.placement.take(few)
        off = rank.differences(_round(rank.pool(placement, candidate.spec, candidate.dtype), rounding))
        return float(np.sqrt(np.square(off).mean()))

    quick = list(first_specs(base))
    near: list[Place] = found
    for kinds, number in ((quick[:1] + quick[4:5], _NEAR), (quick, _BEST)):
        least = {id(one): min(score(_Candidate(one, spec)) for spec in kinds) for one in near}
        near = sorted(near, key=lambda one: least[id(one)])[:number]
    kinds = list(specs(base))
    candidates = [
        _Candidate(place, spec) for place in [*near, *[p for p in found[:1] if p not in near]] for spec in kinds
    ]
    candidates += [
        _Candidate(found[0], spec, "computed in float16", np.float16)
        for spec in kinds
        if rounding == np.float16 and spec.op == "roi_align" and spec.mode == "avg" and spec.rule is None
    ]
    ranked = sorted(candidates, key=score)
    best = ranked[:24]
    if not _fit(data, ranked[0], rounding)[0]:
        nearest = [one.place for one in ranked[:60] if not one.place.words.startswith("boxes")]
        nearest = list({id(one): one for one in [found[0], *nearest]}.values())[:3]
        starts = [_Candidate(one, spec) for one in nearest for spec in quick if spec.mode == "avg"]
        best = [*_solved(rank, few, starts), *best]
    judged = [(candidate, *_fit(data, candidate, rounding)) for candidate in best]
    fitting = [one for one in judged if one[1]]
    exact = [one for one in fitting if one[0].dtype is None]
    chosen = exact or fitting

    def cost(one: Any) -> int:
        return int(one[0].place.cost + (one[0].spec.rule is not None))

    if chosen:
        chosen = sorted(chosen, key=lambda one: (cost(one), one[0].place.cost, one[0].spec.mode, one[2].max()))
        most = max(cost(chosen[0]), 1)
        chosen = [one for one in chosen if cost(one) <= most and not _repeats(one[0], [other[0] for other in chosen])]
    else:
        chosen = sorted(judged, key=lambda one: float(np.square(one[2]).mean()))[:1]
    spread = float(data.wanted.std()) or 1.0
    answers = [_answer(one[0], one[2], data, spread, fits=one[1]) for one in chosen[:_SHOWN]]
    telling = _telling(data, [one[0] for one in chosen[:2]]) if fitting and len(chosen) > 1 else ""
    return bool(fitting), answers, arranged.words, len(data.rows), telling


def _sample(inputs: Inputs, located: Located, arranged: Arranged, rounding: np.dtype[Any]) -> _Data:
    """Choose RoIs of few maps of one size, and read these maps."""
    index, source = inputs.map_index, inputs.source
    unusable, _ = find_bad_boxes(inputs.table.boxes)
    usable = index >= 0
    usable[unusable] = False
    numbers, counts = np.unique(index[usable], return_counts=True)
    if not len(numbers):
        raise FileError(f"{inputs.table.source} has no box with features", "Check the image ids.")
    order = numbers[np.argsort(-counts, kind="stable")].tolist()
    shape = source.info(order[0]).shape
    chosen = [one for one in order if source.info(one).shape == shape][:8]
    rows = np.flatnonzero(usable & np.isin(index, chosen))
    rows = rows[np.argsort(index[rows], kind="stable")]
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _CHECKED)).astype(int))]
    dtype = compute_dtype(source.info(order[0]).dtype)
    maps = {one: np.ascontiguousarray(source.read(one).transpose(1, 2, 0), dtype) for one in {*index[rows].tolist()}}
    wanted = arranged.rows(rows).astype(np.float64)
    if not np.ptp(wanted):  # zeros fit whatever misses the map
        raise FileError("all values of the reference are the same, which says nothing", "Give features that differ.")
    largest = float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0)) or 1.0
    tolerance = np.full(wanted.shape, _FITS * largest)
    if rounding == np.float16:
        tolerance += np.abs(wanted) * 2.0**-11 + 2.0**-24
    return _Data(rows, maps, (shape[1], shape[2]), wanted, tolerance, arranged.mean)


def _spread_out(boxes: NDArray[np.float64]) -> NDArray[np.intp]:
    """Choose boxes of all sizes and places: the smallest, the largest, the outermost, and others evenly."""
    number = len(boxes)
    if number <= _RANKED:
        return np.arange(number)
    area = np.abs((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    by_area = np.argsort(area, kind="stable")
    chosen = [*by_area[:3], *by_area[-2:], boxes[:, 0].argmin(), boxes[:, 2].argmax(), boxes[:, 3].argmax()]
    chosen += [*by_area[np.linspace(3, number - 3, _RANKED).astype(int)]]
    return np.sort(np.array(list(dict.fromkeys(int(one) for one in chosen))[:_RANKED]))


def _round(pooled: NDArray[Any], rounding: np.dtype[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        return pooled.astype(rounding) if rounding == np.float16 else pooled


def _fit(data: _Data, candidate: _Candidate, rounding: np.dtype[Any]) -> tuple[bool, NDArray[np.float64]]:
    """Tell whether a candidate leaves only rounding on all RoIs, and what it leaves."""
    off = data.differences(data.pool(candidate.place.placement, candidate.spec, candidate.dtype))
    allowed = data.tolerance
    if candidate.dtype is not None:  # every step of the computation has rounded
        allowed = np.full_like(allowed, 4 * 2.0**-11 * np.abs(data.wanted).max(initial=0))
    return bool((off <= allowed).all()), off


def _solved(rank: _Data, few: NDArray[np.intp], starts: Sequence[_Candidate]) -> Iterator[_Candidate]:
    """Fit scale and offset of the boxes along both axes by Gauss-Newton, from the nearest candidates on."""
    for start in starts:
        boxes, ratio = start.place.placement.boxes, np.array(start.place.scale)
        index = start.place.placement.map_index
        at = np.zeros(4)  # logarithm of the scale's factor along y and x, then the offset in pixels

        def moved(at: NDArray[np.float64], boxes: Any = boxes, ratio: Any = ratio, index: Any = index) -> Placement:
            y, x = (ratio * np.exp(at[:2])).tolist()
            return place(index, boxes + at[[3, 2, 3, 2]], (y, x))

        def off(at: NDArray[np.float64], start: Any = start, moved: Any = moved) -> NDArray[np.float64]:
            pooled: NDArray[np.float64] = rank.pool(moved(at).take(few), start.spec).astype(np.float64) - rank.wanted
            return pooled.ravel()

        limits = np.array([1.5, 1.5, *(max(rank.size) / ratio)])
        steps, damping = np.array([1e-4, 1e-4, 0.01 / ratio[0], 0.01 / ratio[1]]), 1e-3
        left = off(at)
        for _ in range(16):
            slopes = np.stack(
                [(off(at + step) - left) / size for step, size in zip(np.diag(steps), steps, strict=True)]
            )
            normal = slopes @ slopes.T
            change = np.linalg.lstsq(normal + damping * np.diag(np.diag(normal)), -slopes @ left, rcond=None)[0]
            change = np.clip(at + change, -limits, limits) - at
            new = off(at + change)
            if new @ new < left @ left:
                at, done, left, damping = at + change, left @ left - new @ new < 1e-9 * (left @ left), new, damping / 10
                if done:
                    break
            else:
                damping *= 10
        y, x = (ratio * np.exp(at[:2])).tolist()
        words = f"spatial scale {y:.6g}, {x:.6g}; boxes moved by {at[3]:+.4g}, {at[2]:+.4g} pixels (x, y)"
        where = "; ".join(part for part in (start.place.words, words) if part)
        yield _Candidate(Place(where, start.place.cost + 2, moved(at), (y, x)), start.spec)


def _answer(candidate: _Candidate, off: NDArray[np.float64], data: _Data, spread: float, *, fits: bool) -> Answer:
    spec, operator = candidate.spec, find(candidate.spec.op)
    names = conventions.name_of(spec)
    options: dict[str, Any] = {"op": spec.op}
    if spec.op == "roi_align":
        options |= {"sampling_ratio": spec.sampling_ratio, "mode": spec.mode, "aligned": spec.aligned}
        if spec.rule is not None:
            options = {"convention": names[0], "sampling_ratio": spec.sampling_ratio}
    y, x = candidate.place.scale
    options["spatial_scale"] = y if x == y else (y, x)
    worst = off.reshape(len(off), -1).max(axis=1)
    limit = data.tolerance.reshape(len(off), -1).max(axis=1)
    return Answer(
        convention=tuple(names),
        settings=operator.convention(spec) + (f", {names[0]}" if spec.rule is not None else ""),
        boxes="; ".join(part for part in (candidate.place.words, candidate.how) if part),
        options=options,
        largest=float(off.max()),
        spread=float(off.max()) / spread,
        failing=() if fits else tuple(data.rows[np.flatnonzero(worst > limit)][:5].tolist()),
    )


def _repeats(one: _Candidate, others: Sequence[_Candidate]) -> bool:
    """Tell whether a candidate is another for all boxes: the maximum of one sample, or errors that cancel."""
    if one.spec.mode == "max" and one.spec.sampling_ratio == 1:
        return any(other.place is one.place and other.spec == replace(one.spec, mode="avg") for other in others)
    return bool(one.spec.rule and one.spec.rule.end == 1 and "one pixel less" in one.place.words)


def _telling(data: _Data, two: Sequence[_Candidate]) -> str:
    """Name a box for which two candidates differ, of many tried: at the edges, small, and large."""
    height, width = data.size
    rng = np.random.default_rng(0)
    first = next(iter(data.maps))
    centre = rng.uniform(-2, [width + 2, height + 2], (256, 2))
    half = np.exp(rng.uniform(np.log(0.1), np.log(max(width, height)), (256, 2))) / 2
    best = ("", 0.0)
    for a, b in combinations(two, 2):
        if a.place.words != b.place.words:
            return "Other boxes, of other sizes and shapes, would tell them apart."
        y, x = a.place.scale
        boxes = np.hstack([centre - half, centre + half]) / [x, y, x, y]
        tried = place(np.full(len(boxes), first), np.round(boxes, 1), (y, x))
        off = np.abs(data.pool(tried, a.spec) - data.pool(tried, b.spec)).reshape(len(boxes), -1).max(axis=1)
        if off.max() > best[1]:
            best = (f"box {tried.boxes[int(off.argmax())].tolist()} differs by {off.max():.3g}", float(off.max()))
    return best[0]
