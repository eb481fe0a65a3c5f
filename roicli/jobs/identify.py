"""Find the convention, or the mistake, that made the numbers of pooled features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli import conventions
from roicli.errors import FileError, UsageError
from roicli.jobs.answers import Answer, Identified
from roicli.jobs.candidates import VIEWS, Way, specs, ways
from roicli.jobs.evidence import CHANNELS, Evidence, gather, spread_out
from roicli.jobs.foreign import Arranged, read_reference
from roicli.jobs.geometry import Located
from roicli.jobs.listener import Listener, Told
from roicli.jobs.locate import locate_on_levels
from roicli.jobs.match import Inputs
from roicli.jobs.moves import solutions
from roicli.jobs.prepare import PoolJob
from roicli.jobs.pyramid import Pyramid
from roicli.jobs.solved import Footprint, footprint
from roicli.pooling.operators import find
from roicli.pooling.sampling import in_map
from roicli.spec import PoolSpec
from roicli.words import count

# RoIs and channels by which candidates are sieved, then ranked; how many are kept that do not fit, and for maxima.
_SIEVES = ((4, 4), (12, 16))
_NEAREST, _LIKELY = 40, 16
_COARSE = 4  # ways to take the boxes that are tried in float16
_PROBES = 256  # boxes that may tell answers apart
# Of the spread: more than what float16 and bfloat16 leave is not noise.
_NOISE = 0.01
_SHOWN = 8
_SOLVED = 6000  # values from which scale and offset are solved for


class _Candidate(NamedTuple):
    way: Way
    spec: PoolSpec
    view: str = ""  # what was done to the maps
    how: str = ""  # what was done to the values
    dtype: Any = None

    @property
    def but(self) -> str:
        """What was done that should not have been."""
        return "; ".join(part for part in (self.way.words, self.view, self.how) if part)

    @property
    def cost(self) -> int:
        return self.way.cost + (self.spec.rule is not None) + bool(self.view) + bool(self.how)


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
    if job.pyramid.levels_combine is not None:
        raise UsageError("identify compares features of one level a box", "Leave `levels_combine` out.")
    channels = next(iter(inputs.infos().values())).shape[0]
    if len(inputs.table) != _count(given.values.shape):
        raise FileError(
            f"{reference} holds {count(_count(given.values.shape), 'row')}, "
            f"{inputs.table.source} {count(len(inputs.table), 'box')}",
            "Give the boxes that the features were made of, in their order.",
        )
    computed = np.dtype(np.float32)
    located, _ = locate_on_levels(job.geometry, Pyramid(), inputs, inputs.infos(), computed, told.note)
    every = [
        _Search(job, inputs, located, arranged, given.rounding).run()
        for arranged in given.readings(channels, (job.spec.output_size,))
    ]
    best = max(every, key=lambda found: (found.fits, -found.answers[0].spread))
    return replace(
        best,
        reference=str(reference),
        rounding=str(given.rounding),
        notes=tuple(told.notes),
        warnings=tuple(told.warnings),
    )


def _count(shape: tuple[int, ...]) -> int:
    while len(shape) > 4 and shape[0] == 1:
        shape = shape[1:]
    return shape[0]


class _Search:
    """The search for what made a reference, under one reading of its axes."""

    def __init__(
        self, job: PoolJob, inputs: Inputs, located: Located, arranged: Arranged, rounding: np.dtype[Any]
    ) -> None:
        self.arranged, self.located = arranged, located
        whole = gather(inputs, located, arranged, rounding)
        self.boxes = inputs.table.boxes[whole.rows].astype(np.float64)
        # By image, as ways take it: `located` has the map of each on its level.
        self.here = located._replace(placement=replace(located.placement, map_index=inputs.map_index)).take(whole.rows)
        self._whole, channels = whole, whole.wanted.shape[1]
        self._some = slice(0, channels, max(1, -(-channels // CHANNELS)))
        self.evidence = whole.part(slice(None), self._some)
        self.ways = self._distinct(list(ways(self.here, inputs.source.levels, job.pyramid)))
        self.base = replace(job.spec, output_size=arranged.size, reduce="none", rule=None)
        self._rule = job.spec.rule
        self.reduces = ("mean", "max", "l2") if whole.mean else ("none",)

    def run(self) -> Identified:
        """Look among ways and conventions; then among views of the maps; then solve for scale and offset."""
        ranked = self._sieve(self.ways, self._specs())
        ranked += self._sieve(self.ways[:1], self._specs(more=True))
        chosen = self._fitting(ranked)
        if not chosen:
            ranked += [one for name in VIEWS for one in self._sieve(self.ways[:1], self._specs(), name)]
            chosen = self._fitting(ranked)
        ranked.sort(key=lambda pair: pair[0])
        noise = 0.0
        if not chosen and self.evidence.rounding == np.float16:
            ranked += self._coarse(ranked)
            chosen, noise = self._in_noise(ranked)
        if not chosen:
            ranked += self._solved(ranked)
            chosen = self._fitting(ranked)
        if not chosen:
            chosen, noise = self._in_noise(ranked)
        fits = bool(chosen)
        groups = (
            self._distinct_answers(self._with_twins(chosen)) if fits else [[min(ranked, key=lambda pair: pair[0])[1]]]
        )
        return Identified(
            reference="",
            fits=fits,
            reading=self.arranged.words,
            rounding="",
            answers=tuple(self._answer(group, fits=fits) for group in groups),
            checked=len(self.boxes),
            telling=self._telling([group[0] for group in groups[:_SHOWN]]),
            noise=noise,
            footprint=None if fits else self._footprint(groups[0][0]),
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

    def _with_twins(self, chosen: Sequence[_Candidate]) -> list[_Candidate]:
        """Return candidates, and after each those that were left out for it and are as simple."""
        return [one._replace(way=way) for one in chosen for way in (one.way, *self._twins.get(id(one.way), ()))]

    def _viewed(self, view: str) -> Evidence:
        if not view:
            return self.evidence
        maps = {index: VIEWS[view](one) for index, one in self._whole.maps.items()}
        return self._whole._replace(maps=maps).part(slice(None), self._some)

    def _sieve(self, among: Sequence[Way], kinds: Sequence[PoolSpec], view: str = "") -> list[tuple[float, _Candidate]]:
        """Return candidates that fit some RoIs, and the nearest of the others, with the mean square that they leave."""
        pairs = [(way, spec) for spec in kinds for way in among]
        placed = {id(way): way.put(self.here, self.boxes) for way in among}
        found: list[tuple[float, _Candidate]] = []
        for rows, channels in _SIEVES:
            keep = spread_out(self.boxes, rows)
            part = self._viewed(view).part(keep, slice(0, channels))
            found, fits = [], []
            for spec in dict.fromkeys(spec for _, spec in pairs):
                some = self._likely([way for way, kind in pairs if kind == spec], spec, part, keep)
                off = part.off([placed[id(way)].take(keep) for way in some], spec)
                share = part.fitting(off).mean(axis=1)
                left = np.square(off).reshape(len(some), -1).mean(axis=1)
                for way, one, good in zip(some, left.tolist(), share.tolist(), strict=True):
                    found.append((one, _Candidate(way, spec, view)))
                    fits.append(good >= 0.5)
            near = set(np.argsort([one for one, _ in found], kind="stable")[:_NEAREST].tolist())
            found = [one for number, one in enumerate(found) if fits[number] or number in near]
            pairs = [(one.way, one.spec) for _, one in found]
        return found

    def _likely(self, some: list[Way], spec: PoolSpec, part: Evidence, keep: NDArray[np.intp]) -> list[Way]:
        """Return the ways by which maxima may be the reference, judged by the means of the same samples."""
        if spec.op != "roi_align" or spec.mode == "avg" or len(some) <= _NEAREST:
            return some
        off = part.off([way.put(self.here, self.boxes).take(keep) for way in some], replace(spec, mode="avg"))
        made = off + part.wanted
        # A maximum is at least the mean; weighted cells are a quarter of their sum at least.
        least = made - part.allowed if spec.mode == "max" else made / 4 - part.allowed
        above = (part.wanted >= least).reshape(*off.shape[:2], -1).all(axis=2).mean(axis=1) >= 0.5
        made = made.reshape(len(some), -1)
        made -= made.mean(axis=1, keepdims=True)
        length = np.sqrt(np.square(made).sum(axis=1))
        likeness = made @ (part.wanted - part.wanted.mean()).ravel() / np.where(length > 0, length, np.inf)
        best = np.argsort(np.where(above | (spec.reduce != "none"), -likeness, 1), kind="stable")[:_LIKELY]
        return [some[number] for number in np.sort(best)]

    def _off(self, one: _Candidate) -> NDArray[np.float64]:
        placement = one.way.put(self.here, self.boxes)
        off: NDArray[np.float64] = self._viewed(one.view).off([placement], one.spec, one.dtype)[0]
        return off

    def _fitting(self, ranked: Sequence[tuple[float, _Candidate]]) -> list[_Candidate]:
        """Return the candidates that leave only rounding on all RoIs, the simplest first."""
        limit = 4 * float(np.square(self.evidence.allowed).max())
        found = []
        for left, one in ranked:
            if left > limit + 0.5 * self.evidence.spread**2:
                continue
            fits = self.evidence.fitting(self._off(one)[None])[0]
            if fits.all() or (fits.mean() >= 0.75 and self._nearly(one, np.flatnonzero(~fits))):
                found.append((one.cost, left, one))
        return [one for *_, one in sorted(found, key=lambda each: each[:2])]

    def _nearly(self, one: _Candidate, rows: NDArray[np.intp]) -> bool:
        placement, evidence = one.way.put(self.here, self.boxes), self._viewed(one.view)
        return all(evidence.nearly(placement, one.spec, row) for row in rows.tolist())

    def _solved(self, ranked: Sequence[tuple[float, _Candidate]]) -> list[tuple[float, _Candidate]]:
        keep = spread_out(self.boxes, _SIEVES[1][0])
        bins = max(1, self.evidence.wanted[0, 0].size)
        part = self.evidence.part(keep, slice(0, int(np.clip(_SOLVED // (len(keep) * bins), 3, _SIEVES[1][1]))))
        nearest = next((one.way for _, one in ranked if not one.view), self.ways[0])
        bases = list({id(way): way for way in (self.ways[0], nearest)}.values())
        every = self._specs()
        quick = [replace(every[0], mode="avg", aligned=True, sampling_ratio=number, rule=None) for number in (3, -1)]
        here = self.here.take(keep)
        solved = solutions(part, here, self.boxes[keep], bases, quick, every)
        return [(left, _Candidate(way, spec)) for left, way, spec in solved]

    def _coarse(self, ranked: Sequence[tuple[float, _Candidate]]) -> list[tuple[float, _Candidate]]:
        """Return what computing in float16 leaves, where boxes are taken as given or as in the nearest candidates."""
        taken = {id(way): way for way in (self.ways[0], *(one.way for _, one in ranked[:_NEAREST]))}
        kinds = [one for one in self._specs() if one.op == "roi_align" and one.mode == "avg" and one.rule is None]
        ways = list(taken.values())[:_COARSE]
        made = [_Candidate(way, one, "", "computed in float16", np.float16) for way in ways for one in kinds]
        return [(float(np.square(self._off(one)).mean()), one) for one in made]

    def _in_noise(self, ranked: Sequence[tuple[float, _Candidate]]) -> tuple[list[_Candidate], float]:
        """Return the candidates that leave as little as the nearest, if that may be noise, and how much it is."""
        nearest = sorted(ranked, key=lambda pair: pair[0])[:_NEAREST]
        judged = [(float(np.square(self._off(one)).mean()), one) for _, one in nearest]
        least = min(left for left, _ in judged)
        noise = float(np.sqrt(least)) / self.evidence.spread
        if not noise <= _NOISE:
            return [], 0.0
        found = [(one.cost, left, one) for left, one in judged if left <= 2 * least]
        return [one for *_, one in sorted(found, key=lambda each: each[:2])], noise

    def _footprint(self, nearest: _Candidate) -> Footprint | None:
        """Solve for what the RoI read that differs most."""
        if self.evidence.mean:
            return None
        off = np.abs(self._off(nearest)).reshape(len(self.boxes), -1).max(axis=1)
        placed = self.ways[0].put(self.here, self.boxes)
        at = int(off.argmax())
        cells, spec = self.evidence.maps[int(placed.map_index[at])], replace(self.base, rule=self._rule)
        return footprint(int(self.evidence.rows[at]), cells, self.evidence.wanted[at], placed.take([at]), spec)

    def _probe(self) -> tuple[Located, NDArray[np.float64]]:
        """Return boxes of one map as its box file would have them: small and large, also at the edges."""
        row = 0
        here = self.here.take(np.full(_PROBES, row))
        image = int(here.image[0])
        rng = np.random.default_rng(0)
        cells = here.map_sizes[image][::-1]
        center, side = rng.uniform(-2, cells + 2, (_PROBES, 2)), np.log(max(cells))
        half = np.exp(rng.uniform(np.log(0.1), side, (_PROBES, 2))) / 2
        ratio = np.tile(here.scale[::-1], 2)
        boxes = np.hstack([center - half, center + half]) / ratio
        if here.transform is not None:
            done = here.transform
            boxes = (boxes - np.tile([done.px[image], done.py[image]], 2)) / np.tile(
                [done.rx[image], done.ry[image]], 2
            )
        unit = np.ones(2) if here.unit is None else here.unit[image]
        boxes = boxes / np.tile(unit[::-1], 2)
        digits = max(0, 1 - int(np.floor(np.log10(np.abs(boxes).max())) - 2))
        return here, np.round(boxes, digits)

    def _of_probes(self, every: Sequence[_Candidate]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the probes, and what candidates make of them: (n, probes, ...)."""
        here, boxes = self._probe()
        made = []
        for one in every:
            part = self._viewed(one.view)
            part = part._replace(maps={index: each[:, :, :8] for index, each in part.maps.items()})
            made.append(part.pool(one.way.put(here, boxes), one.spec, one.dtype).reshape(_PROBES, -1))
        return boxes, np.array(made, np.float64)

    def _distinct_answers(self, chosen: Sequence[_Candidate]) -> list[list[_Candidate]]:
        """Put together what computes the same of any box; the simplest first."""
        _, made = self._of_probes(chosen)
        limit = float(self.evidence.allowed.max())
        groups: list[list[int]] = []
        for number in range(len(chosen)):
            alike = (one for one in groups if np.abs(made[number] - made[one[0]]).max() <= limit)
            group = next(alike, None)
            if group is None:
                groups.append([number])
            elif chosen[number].cost == chosen[group[0]].cost or chosen[number].but == chosen[group[0]].but:
                group.append(number)
        return [[chosen[number] for number in group] for group in groups]

    def _telling(self, chosen: Sequence[_Candidate]) -> str:
        """Name a box by which most answers are told apart, and by how much."""
        if len(chosen) < 2:
            return ""
        boxes, made = self._of_probes(chosen)
        apart = np.abs(made[:, None] - made[None]).max(axis=3)[np.triu_indices(len(chosen), 1)]
        clear = (apart > 100 * self.evidence.allowed.max()).sum(axis=0)
        best = int(np.lexsort((apart.min(axis=0), clear))[-1])
        said = ", ".join(f"{number:.10g}" for number in boxes[best])
        return f"box {said} (x1, y1, x2, y2): the answers differ by {apart[:, best].min():.3g} or more"

    def _answer(self, group: Sequence[_Candidate], *, fits: bool) -> Answer:
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
            settings=_settings(spec),
            boxes=one.but,
            options=options | one.way.options,
            largest=float(off.max()),
            spread=float(off.max()) / evidence.spread,
            failing=() if fits else tuple(failing[:5].tolist()),
            same=tuple("; ".join(filter(None, (_settings(each.spec), each.but))) for each in group[1:]),
        )


def _settings(spec: PoolSpec) -> str:
    said = find(spec.op).convention(spec)
    if spec.rule is not None:
        said += f", {conventions.name_of(spec)[0]}"
    return said + (f", {spec.reduce} of the bins" if spec.reduce != "none" and spec.output_size != (1, 1) else "")
