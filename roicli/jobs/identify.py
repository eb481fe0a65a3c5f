"""Find the convention, or the mistake, that made the numbers of pooled features."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli import conventions
from roicli.errors import FileError, UsageError
from roicli.jobs.answers import Answer, Identified
from roicli.jobs.candidates import Candidate, Way, specs, ways
from roicli.jobs.evidence import CHANNELS, Evidence, gather, likeness, probes, telling
from roicli.jobs.foreign import Arranged, read_reference
from roicli.jobs.geometry import Located
from roicli.jobs.listener import Listener, Told
from roicli.jobs.locate import locate_on_levels
from roicli.jobs.match import Inputs
from roicli.jobs.moves import solutions
from roicli.jobs.prepare import PoolJob
from roicli.jobs.pyramid import Pyramid
from roicli.jobs.solved import Footprint, footprint
from roicli.jobs.views import Views
from roicli.pooling.sampling import in_map
from roicli.spec import PoolSpec
from roicli.words import count

# RoIs and channels by which candidates are sieved, then ranked; how many are kept that do not fit.
_SIEVES = ((2, 8), (12, 16))
_NEAREST = 40
_COARSE = 4  # ways to take the boxes that are tried in float16
_PROBES = 96  # boxes that may tell answers apart
_FEW = 4  # channels of these; ways to take the boxes that are tried further
_ORDERED = 600  # values by which channels are matched
# Of the spread: more than what float16 and bfloat16 leave is not noise.
_NOISE = 0.01
_SHOWN = 8
_ENOUGH, _SOLVED = 20, 6000  # values from which scale and offset are solved for: four numbers fit any few


def identify(job: PoolJob, reference: Path, listener: Listener, *, weights: bool = False) -> Identified:
    """Rank conventions and mistakes by the difference that they leave, then check the best on more RoIs.

    With `weights`, those that were really used are solved for even if an answer fits.

    Raises
    ------
    RoicliError
        Files that cannot be read; a reference of another shape.
    """
    told, given = Told(listener), read_reference(reference)
    job = replace(job, geometry=replace(job.geometry, size_check=False), bad_boxes="keep")
    inputs = job.bind(told.note)
    job = job.knowing(inputs)
    if job.pyramid.levels_combine is not None:
        raise UsageError("identify compares features of one level a box", "Leave `levels_combine` out.")
    channels = next(iter(inputs.infos().values())).shape[0]
    if len(inputs.table) != given.rows:
        raise FileError(
            f"{reference} holds {count(given.rows, 'row')}, {inputs.table.source} {count(len(inputs.table), 'box')}",
            "Give the boxes that the features were made of, in their order.",
        )
    computed = np.dtype(np.float32)
    located, _ = locate_on_levels(job.geometry, Pyramid(), inputs, inputs.infos(), computed, told.note)
    every = [
        _Search(job, inputs, located, arranged, given.rounding)
        for arranged in given.readings(channels, (job.spec.output_size,))
    ]
    for step in _STEPS:  # a wrong reading of the axes must not be searched to its end before the right one is begun
        for search in every:
            step(search)
        if right := [search for search in every if search.chosen]:
            break
    if not right and all(search.few for search in every):
        values = count(every[0].evidence.wanted.size, "value")
        told.note(f"{reference}: {values} are too few to solve for scale and offset; give more boxes, or more channels")
    best = min((search.found(weights) for search in right or every), key=lambda found: found.answers[0].spread)
    return replace(
        best,
        reference=str(reference),
        rounding=str(given.rounding),
        notes=tuple(told.notes),
        warnings=tuple(told.warnings),
    )


class _Search:
    """The search for what made a reference, under one reading of its axes."""

    def __init__(
        self, job: PoolJob, inputs: Inputs, located: Located, arranged: Arranged, rounding: np.dtype[Any]
    ) -> None:
        self.arranged, self.located = arranged, located
        whole = gather(inputs, arranged, rounding)
        self.boxes = inputs.table.boxes[whole.rows].astype(np.float64)
        # By image, as ways take it: `located` has the map of each on its level.
        self.here = located._replace(placement=replace(located.placement, map_index=inputs.map_index)).take(whole.rows)
        some = slice(0, None, max(1, -(-whole.wanted.shape[1] // CHANNELS)))
        self.views = Views(whole, some, levels=bool(inputs.source.levels))
        self.evidence = self.views[""]
        self.ways = self._distinct(list(ways(self.here, inputs.source.levels, job.pyramid)))
        self.base = replace(job.spec, output_size=arranged.size, reduce="none", rule=None)
        self._rule = job.spec.rule
        self.reduces = ("l2",) if whole.unit else ("mean", "max") if whole.mean else ("none",)

        self.ranked: list[tuple[float, Candidate]] = []
        self.chosen: list[Candidate] = []
        self.noise = 0.0

    def try_ways(self) -> None:
        """Look among ways to take the boxes, and what conventions compute."""
        self.ranked += self._sieve(product(self.ways, [""]), self._specs())
        self.ranked += self._sieve(product(self._nearest(self.ranked), [""]), self._specs(more=True))
        self.chosen = self._fitting(self.ranked)
        if fitting := list(dict.fromkeys(one.spec for one in self.chosen)):
            self.chosen += self._fitting(self._sieve(product(self.ways[:1], self.views.names), fitting))

    def try_views(self) -> None:
        """Look among views of the maps, with boxes as given and with ways that look most like the reference."""
        keep, alike = telling(self.boxes, self.evidence.wanted, _SIEVES[1][0]), []
        for name in self.views.names + self.views.of_means:
            part = self.views[name].part(keep, slice(0, _SIEVES[1][1]))
            alike += [(one, way, name) for one, way, _ in self._alike(part, keep)]
        alike.sort(key=lambda one: -one[0])
        best = list({(id(way), name): (way, name) for _, way, name in alike}.values())[: 2 * _FEW]
        of_maps = [one for one in best if one[1] not in self.views.of_means]
        of_means = [one for one in best if one[1] in self.views.of_means]
        found = self._sieve([*product(self.ways[:1], self.views.names), *of_maps], self._specs())
        found += self._sieve(of_means, self._specs()) if of_means else []
        self.ranked = sorted(self.ranked + found, key=lambda pair: pair[0])
        self.chosen = self._fitting(found)

    def try_orders(self) -> None:
        """Look for an order of channels: the mean of all says where boxes are, then channels are matched."""
        bins = max(1, self.evidence.wanted[0, 0].size)
        keep = telling(self.boxes, self.evidence.wanted, max(_ORDERED // bins, 2 * _SIEVES[1][0]))
        part, found = self.views.part(keep), []
        maps = {index: one.mean(axis=2, keepdims=True) for index, one in part.maps.items()}
        mean = part._replace(maps=maps, wanted=part.wanted.mean(axis=1, keepdims=True))
        near = [(way, spec) for _, way, spec in self._alike(mean, keep)[:_FEW]]
        for _ in range(2):  # once by a convention that is near, once by the best
            names = []
            for way, spec in near:
                made = part.off([way.put(self.here, self.boxes).take(keep)], spec)[0] + part.wanted
                names.append(self.views.ordered(made, part.wanted))
            taken = zip([way for way, _ in near], names, strict=True)
            found += self._sieve([*taken, *product(self.ways[:1], names)], self._specs())
            best = {id(one.way): (one.way, one.spec) for _, one in sorted(found, key=lambda pair: -pair[0])}
            near = list(best.values())
        self.chosen = self._fitting(found)

    def _alike(self, part: Evidence, keep: NDArray[np.intp]) -> list[tuple[float, Way, PoolSpec]]:
        """Correlate what ways with at most one mistake and few conventions make of some boxes with the reference."""
        single = [way for way in self.ways if way.cost <= 1]
        placed, found = [way.put(self.here, self.boxes).take(keep) for way in single], []
        plain = replace(self.base, op="roi_align", mode="avg", reduce=self.reduces[0])  # type: ignore[arg-type]
        quick = [replace(plain, aligned=one, sampling_ratio=ratio) for one in (False, True) for ratio in (2, -1)]
        for spec in [*quick, replace(quick[0], op="window_mean")] if part.mean else quick:
            alike = likeness(part.off(placed, spec) + part.wanted, part.wanted).tolist()
            found += [(one, way, spec) for one, way in zip(alike, single, strict=True)]
        return sorted(found, key=lambda one: -one[0])

    def _nearest(self, ranked: Sequence[tuple[float, Candidate]]) -> list[Way]:
        """Return the boxes as given, and the ways with at most one mistake that leave least."""
        near = [one.way for _, one in sorted(ranked, key=lambda pair: pair[0]) if one.way.cost <= 1]
        return list({id(way): way for way in (self.ways[0], *near)}.values())[: 1 + _FEW]

    def try_float16(self) -> None:
        """Look among what was computed in float16."""
        if self.evidence.rounding == np.float16:
            self.ranked += self._coarse(self.ranked)
            self.chosen, self.noise = self._in_noise(self.ranked)

    @property
    def few(self) -> bool:
        """Whether some scale and offset fit whatever the values are."""
        return self.evidence.wanted.size < _ENOUGH

    def solve(self) -> None:
        """Solve for scale and offset."""
        if self.few:
            return
        found = self._solved(self.ranked)
        if right := {one.way.words: one.way for one in self._fitting(found)}:
            # Other conventions may fit there as well.
            found += self._sieve(product(right.values(), [""]), self._specs())
            found = list({(one.way.words, one.spec): (left, one) for left, one in found}.values())
        self.ranked += found
        self.chosen = self._fitting(found)

    def try_noise(self) -> None:
        """Look for what leaves little."""
        self.chosen, self.noise = self._in_noise(self.ranked)

    def found(self, weights: bool) -> Identified:
        """Return what was found: all that fits, or the nearest."""
        fits = bool(self.chosen)
        groups = (
            self._distinct_answers(self._with_twins(self.chosen))
            if fits
            else [[min(self.ranked, key=lambda pair: pair[0])[1]]]
        )
        return Identified(
            reference="",
            fits=fits,
            reading=self.arranged.words,
            rounding="",
            answers=tuple(self._answer(group, fits=fits) for group in groups),
            checked=len(self.boxes),
            telling=self._telling([group[0] for group in groups[:_SHOWN]]),
            noise=self.noise,
            footprint=self._footprint() if weights or not fits else None,
            notes=(),
            warnings=(),
        )

    def _specs(self, *, more: bool = False) -> list[PoolSpec]:
        return [replace(one, reduce=how) for one in specs(self.base, more=more) for how in self.reduces]  # type: ignore[arg-type]

    def _distinct(self, every: Sequence[Way]) -> list[Way]:
        """Leave out ways that put these boxes where one before them does."""
        found: dict[bytes, list[Way]] = {}
        for way in every:
            placed = way.put(self.here, self.boxes)
            cells = np.float32(in_map(placed.boxes, placed.scale))
            found.setdefault(cells.tobytes() + placed.map_index.tobytes(), []).append(way)
        self._twins = {id(way): [one for one in rest if one.cost == way.cost] for way, *rest in found.values()}
        return [group[0] for group in found.values()]

    def _with_twins(self, chosen: Sequence[Candidate]) -> list[Candidate]:
        """Return candidates, and after each those that were left out for it and are as simple."""
        return [one._replace(way=way) for one in chosen for way in (one.way, *self._twins.get(id(one.way), ()))]

    def _sieve(self, among: Iterable[tuple[Way, str]], kinds: Sequence[PoolSpec]) -> list[tuple[float, Candidate]]:
        """Return candidates that fit some RoIs, and the nearest of the others, with the mean square that they leave."""
        taken = list({(id(way), view): (way, view) for way, view in among}.values())
        pairs = {spec: list(range(len(taken))) for spec in kinds}
        number_of = {view: number for number, view in enumerate(dict.fromkeys(view for _, view in taken))}
        every = [self.views[view] for view in number_of]
        step = 1 + max(self.evidence.maps)  # the maps of each view come after those of the one before it
        maps = {index + number * step: one for number, each in enumerate(every) for index, one in each.maps.items()}
        placed = []
        for way, view in taken:
            one = way.put(self.here, self.boxes)
            placed.append(replace(one, map_index=one.map_index + number_of[view] * step))
        left: list[tuple[float, int, PoolSpec, bool]] = []
        for rows, channels in _SIEVES:
            keep = telling(self.boxes, self.evidence.wanted, rows)
            part = every[-1]._replace(maps=maps, rounding=np.dtype(np.float32)).part(keep, slice(0, channels))
            here = [one.take(keep) for one in placed]
            left = []
            for spec, numbers, off in part.compared(here, pairs):
                squares = np.square(off).reshape(len(numbers), -1).mean(axis=1).tolist()
                fits = (part.fitting(off).mean(axis=1) >= 0.5).tolist()
                left += [(one, number, spec, fit) for one, number, fit in zip(squares, numbers, fits, strict=True)]
            left.sort(key=lambda one: one[0])
            left = [one for number, one in enumerate(left) if number < _NEAREST or one[3]]
            pairs = {}
            for _, number, spec, _ in left:
                pairs.setdefault(spec, []).append(number)
        return [(one, Candidate(taken[number][0], spec, taken[number][1], fits=fit)) for one, number, spec, fit in left]

    def _off(self, one: Candidate) -> NDArray[np.float64]:
        placement = one.way.put(self.here, self.boxes)
        off: NDArray[np.float64] = self.views[one.view].off([placement], one.spec, one.dtype)[0]
        return off

    def _fitting(self, ranked: Sequence[tuple[float, Candidate]]) -> list[Candidate]:
        """Return the candidates that leave only rounding on all RoIs, or no more than these, the simplest first."""
        judged = []
        for left, one in {(id(one.way), *one[1:4]): (left, one) for left, one in ranked}.values():
            if one.fits:
                fits = self.evidence.fitting(self._off(one)[None])[0]
                right = fits.all() or (fits.mean() >= 0.75 and self._nearly(one, np.flatnonzero(~fits)))
                judged.append((one.cost, left, one, right))
        most = 1.1 * max((left for _, left, _, right in judged if right), default=-1)
        return [one for _, left, one, right in sorted(judged, key=lambda each: each[:2]) if right or left <= most]

    def _nearly(self, one: Candidate, rows: NDArray[np.intp]) -> bool:
        placement, evidence = one.way.put(self.here, self.boxes), self.views[one.view]
        return all(evidence.nearly(placement, one.spec, row) for row in rows.tolist())

    def _solved(self, ranked: Sequence[tuple[float, Candidate]]) -> list[tuple[float, Candidate]]:
        keep = telling(self.boxes, self.evidence.wanted, _SIEVES[1][0])
        bins = max(1, self.evidence.wanted[0, 0].size)
        part = self.evidence.part(keep, slice(0, int(np.clip(_SOLVED // (len(keep) * bins), 3, _SIEVES[1][1]))))
        nearest = next((one.way for _, one in ranked if not one.view), self.ways[0])
        bases = list({id(way): way for way in (self.ways[0], nearest)}.values())
        every = self._specs()
        quick = [replace(every[0], mode="avg", aligned=True, sampling_ratio=number, rule=None) for number in (3, -1)]
        part, here = part._replace(rounding=np.dtype(np.float32)), self.here.take(keep)  # steps would have no slope
        solved = solutions(part, here, self.boxes[keep], bases, quick, every)
        return [(left, Candidate(way, spec)) for left, way, spec in solved]

    def _coarse(self, ranked: Sequence[tuple[float, Candidate]]) -> list[tuple[float, Candidate]]:
        """Return what computing in float16 leaves, where boxes are taken as given or as in the nearest candidates."""
        taken = {id(way): way for way in (self.ways[0], *(one.way for _, one in ranked[:_NEAREST]))}
        kinds = [one for one in self._specs() if one.op == "roi_align" and one.mode == "avg" and one.rule is None]
        ways = list(taken.values())[:_COARSE]
        made = [Candidate(way, one, "", "computed in float16", np.float16) for way in ways for one in kinds]
        return [(float(np.square(self._off(one)).mean()), one) for one in made]

    def _in_noise(self, ranked: Sequence[tuple[float, Candidate]]) -> tuple[list[Candidate], float]:
        """Return the candidates that leave as little as the nearest, if that may be noise, and how much it is."""
        limit = (4 * _NOISE * self.evidence.spread) ** 2
        nearest = sorted((pair for pair in ranked if pair[0] <= limit), key=lambda pair: pair[0])[:_NEAREST]
        judged = [(float(np.square(self._off(one)).mean()), one) for _, one in nearest]
        least = min((left for left, _ in judged), default=np.inf)
        noise = float(np.sqrt(least)) / self.evidence.spread
        if not noise <= _NOISE:
            return [], 0.0
        found = [(one.cost, left, one) for left, one in judged if left <= 2 * least]
        return [one for *_, one in sorted(found, key=lambda each: each[:2])], noise

    def _footprint(self) -> Footprint | None:
        """Solve for what the RoI read that differs most from what the options say."""
        if self.evidence.mean:
            return None
        spec = replace(self.base, rule=self._rule)
        off = np.abs(self._off(Candidate(self.ways[0], spec))).reshape(len(self.boxes), -1).max(axis=1)
        placed = self.ways[0].put(self.here, self.boxes)
        at = int(off.argmax())
        cells = self.evidence.maps[int(placed.map_index[at])]
        return footprint(int(self.evidence.rows[at]), cells, self.evidence.wanted[at], placed.take([at]), spec)

    @cached_property
    def _probes(self) -> tuple[Located, NDArray[np.float64]]:
        here = self.here.take(np.zeros(_PROBES, np.intp))
        return here, probes(here)

    def _of_probes(self, every: Sequence[Candidate]) -> Iterator[NDArray[np.float64]]:
        """Yield what each candidate makes of the probes: (probes, ...)."""
        here, boxes = self._probes
        for one in every:
            part = self.views[one.view]
            part = part._replace(maps={index: each[:, :, :_FEW] for index, each in part.maps.items()})
            made = part.pool(one.way.put(here, boxes), one.spec, one.dtype)
            yield made.reshape(_PROBES, -1).astype(np.float64)

    def _distinct_answers(self, chosen: Sequence[Candidate]) -> list[list[Candidate]]:
        """Put together what computes the same of any box; the simplest first."""
        limit = float(self.evidence.allowed.max())
        groups: list[tuple[NDArray[np.float64], list[Candidate]]] = []
        for one, made in zip(chosen, self._of_probes(chosen), strict=True):
            group = next((group for first, group in groups if np.abs(made - first).max() <= limit), None)
            if group is None:
                groups.append((made, [one]))
            else:
                group.append(one)
        return [group for _, group in groups]

    def _telling(self, chosen: Sequence[Candidate]) -> str:
        """Name a box by which most answers are told apart, and by how much."""
        if len(chosen) < 2:
            return ""
        made = np.array(list(self._of_probes(chosen)))
        apart = np.abs(made[:, None] - made[None]).max(axis=3)[np.triu_indices(len(chosen), 1)]
        clear = (apart > 100 * self.evidence.allowed.max()).sum(axis=0)
        best = int(np.lexsort((apart.min(axis=0), clear))[-1])
        said = ", ".join(f"{number:.10g}" for number in self._probes[1][best])
        return f"box {said} (x1, y1, x2, y2): the answers differ by {apart[:, best].min():.3g} or more"

    def _answer(self, group: Sequence[Candidate], *, fits: bool) -> Answer:
        one, evidence = group[0], self.evidence
        spec, off = one.spec, np.abs(self._off(one))
        names = conventions.name_of(spec)
        options: dict[str, Any] = {"op": spec.op}
        if spec.op == "roi_align":
            options |= {"sampling_ratio": spec.sampling_ratio, "mode": spec.mode, "aligned": spec.aligned}
            if spec.rule is not None:
                options = {"convention": names[0], "sampling_ratio": spec.sampling_ratio}
        if spec.reduce != "none":
            options["reduce"] = spec.reduce
        failing = evidence.rows[np.flatnonzero(~evidence.fitting(off[None])[0])]
        return Answer(
            convention=tuple(names),
            settings=one.settings,
            boxes=one.but,
            options=options | one.way.options,
            largest=float(off.max()),
            spread=float(off.max()) / evidence.spread,
            failing=() if fits else tuple(failing[:5].tolist()),
            same=tuple("; ".join(filter(None, (each.settings, each.but))) for each in group[1:]),
        )


_STEPS = (
    _Search.try_ways,
    _Search.try_views,
    _Search.try_orders,
    _Search.try_float16,
    _Search.solve,
    _Search.try_noise,
)
