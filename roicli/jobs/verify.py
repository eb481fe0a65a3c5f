"""Tell whether pooled features follow from their inputs under some options: `align` whose rows are compared."""

from __future__ import annotations

import math
import mmap
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.errors import FileError, UsageError
from roicli.execution.executors import run
from roicli.execution.plan import Task, make_plan
from roicli.execution.worker import Pooler
from roicli.jobs.advice import prepare_and_judge
from roicli.jobs.costs import choose_kernel, make_costs
from roicli.jobs.foreign import Arranged, Reference
from roicli.jobs.listener import Listener, Told
from roicli.jobs.options import TOLERANCE
from roicli.jobs.prepare import PoolJob, Prepared
from roicli.pooling.kernels.choose import load_kernel
from roicli.progress import Progress
from roicli.words import count

_BOUNDS = (0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
# What is kept of each row: the largest difference and its place, the sums of differences, of values, and of squares
# about their mean; and where they differ much, two projections of our row and of the reference's, which show the order.
_LARGEST, _PLACE, _SUM, _VALUES, _SQUARES, _OURS, _THEIRS = 0, 1, 2, 3, 4, slice(5, 7), slice(7, 9)
_KEPT = 9
# Values that are compared at once: what the caches hold. And the square of a difference, in those of the values, from
# which on a row may stand elsewhere.
_AT_ONCE, _ELSEWHERE = 2**18, 1e-4


@dataclass(frozen=True)
class VerifyReport:
    """How pooled features differ from what roicli computes.

    Attributes
    ----------
    reference : str
        The file.
    agrees : bool
        Whether no value differs by more than the tolerance.
    reading : str
        What its axes are, and whether its rows stand in another order.
    rounding : str
        Of its values: if "float16", ours are rounded to it before they are compared.
    boxes, agreeing : int
        How many RoIs were compared, and how many agree.
    largest, mean : float
        The largest and the mean difference.
    spread : float
        Standard deviation of the reference; `tolerance` is in units of it.
    tolerance : float
        The largest difference that was allowed.
    ulp : float
        The largest difference in units in the last place of the reference's value there.
    worst : dict
        Where the largest difference is: row, channel, bin of how many, the reference's value, and the difference.
    histogram : tuple of (float, int)
        How many RoIs have a largest difference, in units of the spread, up to each bound.
    notes, warnings : tuple of str
        What was assumed.
    """

    reference: str
    agrees: bool
    reading: str
    rounding: str
    boxes: int
    agreeing: int
    largest: float
    mean: float
    spread: float
    tolerance: float
    ulp: float
    worst: dict[str, Any]
    histogram: tuple[tuple[float, int], ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON can hold them."""
        return asdict(self)


class Comparison:
    """A `RowTarget` that keeps of each row how far it is from a reference; worker processes share what it keeps."""

    def __init__(self, arranged: Arranged, rounding: np.dtype[Any], prepared: Prepared) -> None:
        self.dtype, self.row_shape = prepared.dtype, prepared.row_shape
        self._arranged, self._rounding = arranged, rounding
        self.order: NDArray[np.intp] | None = None
        number = len(prepared.placement)
        shared = mmap.mmap(-1, max(1, number * _KEPT * 8))
        self.kept: NDArray[np.float64] = np.frombuffer(shared, np.float64, number * _KEPT).reshape(number, _KEPT)
        values = math.prod(self.row_shape)
        self._ones = np.ones(values, np.float32)
        self._directions = np.random.default_rng(0).standard_normal((values, 2)).astype(np.float32)

    def write(self, rows: NDArray[np.intp], block: NDArray[Any]) -> None:
        """Compare some rows."""
        step = max(1, _AT_ONCE // len(self._ones))
        for begin in range(0, len(rows), step):
            self._compare(rows[begin : begin + step], block[begin : begin + step])
        self._arranged.release()

    @np.errstate(over="ignore", invalid="ignore")
    def _compare(self, rows: NDArray[np.intp], block: NDArray[Any]) -> None:
        theirs = self._arranged.rows(rows if self.order is None else self.order[rows]).reshape(len(rows), -1)
        wide = np.result_type(self.dtype, theirs.dtype, np.float32)
        ours, theirs = block.reshape(theirs.shape).astype(wide, copy=False), theirs.astype(wide, copy=False)
        kept, number = np.zeros((len(rows), _KEPT)), np.arange(len(rows))
        off = ours - theirs
        np.abs(off, out=off)
        place = off.argmax(axis=1)
        unlike = np.zeros(0, np.bool_)
        if self._rounding == np.float16:  # a last bit may fall either way
            unlike = ~(off < np.abs(theirs) * wide.type(2.0**-11) + wide.type(2.0**-25))
            off[~unlike] = 0
        elif not np.isfinite(off[number, place]).all():
            unlike = ~np.isfinite(off)
        if unlike.any():
            off = off.astype(np.float64)
            off[unlike] = self._differences(ours[unlike], theirs[unlike])
            ours, theirs = (np.nan_to_num(one, posinf=0, neginf=0) for one in (ours, theirs))
        if len(unlike):
            place = off.argmax(axis=1)
        kept[:, _LARGEST], kept[:, _PLACE] = off[number, place], place
        # A product with ones takes a third of the time of a sum.
        kept[:, _SUM], kept[:, _VALUES] = off @ self._ones, theirs @ self._ones
        squares = np.array([np.dot(row, row) for row in theirs], np.float64)
        kept[:, _SQUARES] = squares - kept[:, _VALUES] ** 2 / theirs.shape[1]
        # Of values far from zero the last digits are lost, and large ones have no square in float32.
        if not (np.isfinite(squares) & (kept[:, _SQUARES] >= 0.01 * squares)).all():
            kept[:, _VALUES] = theirs.sum(axis=1, dtype=np.float64)
            kept[:, _SQUARES] = theirs.var(axis=1, dtype=np.float64) * theirs.shape[1]
        if (kept[:, _LARGEST] ** 2 * theirs.shape[1] > _ELSEWHERE * kept[:, _SQUARES]).any():
            kept[:, _OURS], kept[:, _THEIRS] = ours @ self._directions, theirs @ self._directions
        self.kept[rows] = kept

    def commit(self) -> None:
        """Keep nothing back."""

    def _differences(self, ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[np.float64]:
        """Return how far values are apart that may be rounded, or not finite: those are alike, or infinitely far."""
        if self._rounding == np.float16:
            ours = ours.astype(np.float16)
        a, b = ours.astype(np.float64), theirs.astype(np.float64)
        off = np.abs(a - b)
        off[(a == b) | (np.isnan(a) & np.isnan(b))] = 0
        off[np.isnan(off)] = np.inf
        if self._rounding == np.float16:
            off[off <= np.spacing(np.abs(b).astype(np.float16)).astype(np.float64)] = 0
        return off

    def flush(self) -> None:
        """Write nothing."""

    def find_order(self) -> NDArray[np.intp] | None:
        """Return the row of the reference for each of ours, if the rows are the same in another order."""
        moved = np.flatnonzero(self.kept[:, _OURS.start : _THEIRS.stop].any(axis=1))
        ours, theirs = self.kept[moved, _OURS], self.kept[moved, _THEIRS]
        a, b = np.argsort(ours[:, 0], kind="stable"), np.argsort(theirs[:, 0], kind="stable")
        near = 1e-3 * (np.abs(ours).max(initial=0) or 1)
        found, there = (
            (np.abs(one - other).max(axis=1) < near).sum() for one, other in ((ours[a], theirs[b]), (ours, theirs))
        )
        if found < 0.9 * len(moved) or found <= there:
            return None
        order = np.arange(len(self.kept))
        order[moved[a]] = moved[b]
        return order


def verify(
    job: PoolJob, reference: Reference, listener: Listener, *, tolerance: float = TOLERANCE, workers: int = 1
) -> VerifyReport:
    """Pool all boxes as `align` does, and compare each row with the reference's.

    Raises
    ------
    RoicliError
        Where `align` would raise it; a reference of another shape.
    """
    if not tolerance >= 0:
        raise UsageError(f"tolerance must be 0 or more, got {tolerance}", "Give it in units of the values' spread.")
    told = Told(listener)
    inputs = job.bind(told.note)
    job = job.knowing(inputs)
    channels = next(iter(inputs.infos().values())).shape[0]
    reports: list[VerifyReport] = []
    for arranged in reference.readings(channels, (job.spec.output_size,)):
        spec = replace(job.spec, output_size=arranged.size)
        if arranged.mean and spec.reduce == "none":
            spec = replace(spec, reduce="mean")
        one = replace(job, spec=spec)
        prepared = prepare_and_judge(one, inputs, told.note if not reports else lambda text: None, told.warn)
        if len(prepared.placement) != len(arranged.values):
            raise FileError(
                f"{reference.path} holds {count(len(arranged.values), 'row')}, expected {len(prepared.placement):,}",
                "Give the box file, `bad_boxes` and `missing_features` of the reference.",
            )
        one = replace(one, kernel=choose_kernel(one, prepared, len(prepared.placement)))
        target, words = Comparison(arranged, reference.rounding, prepared), arranged.words
        _pool(one, prepared, target, listener, workers)
        if not _report(reference, target, words, tolerance, told).agrees:
            target.order = target.find_order()
            if target.order is not None and (target.order != np.arange(len(target.order))).any():
                words += ", its rows in another order"
                _pool(one, prepared, target, listener, workers)
        reports.append(_report(reference, target, words, tolerance, told))
        if reports[-1].agrees:
            break
    return min(reports, key=lambda report: (report.mean, report.largest))


def _pool(job: PoolJob, prepared: Prepared, target: Comparison, listener: Listener, workers: int) -> None:
    """Work off all rows, those that an output would hold as zeros too."""
    if prepared.levels:
        raise UsageError("verify compares features of one level a box", "Leave `levels_combine` out.")
    map_index, zeroed = prepared.placement.map_index, prepared.selection.zeroed
    if len(zeroed):
        map_index = map_index.copy()
        map_index[zeroed] = -1
        target.write(zeroed, np.zeros((len(zeroed), *target.row_shape), target.dtype))
    costs = make_costs(job, prepared, map_index)
    plan = make_plan(map_index, costs, workers=workers, batch_size=None, max_memory=None)
    kernel = load_kernel(job.kernel, prepared.computed)
    source, infos = prepared.inputs.source, prepared.infos
    pooler = Pooler(source, infos, prepared.placement, plan.order, job.spec, target, kernel)
    listener.begin(len(plan.order))

    def on_done(_: Task, pooled: Progress) -> None:
        listener.advance(pooled.rows)

    run(plan, pooler, lambda: None, on_done)


def _report(reference: Reference, target: Comparison, words: str, tolerance: float, told: Told) -> VerifyReport:
    kept, each = target.kept, math.prod(target.row_shape)
    values = len(kept) * each
    spread = math.sqrt(kept[:, _SQUARES].sum() / values + np.var(kept[:, _VALUES] / each)) or 1.0 if values else 1.0
    largest = kept[:, _LARGEST] / spread
    agreeing, worst = int((largest <= tolerance).sum()), {}
    ulp = 0.0
    if len(kept):
        row = int(largest.argmax())
        place = np.unravel_index(int(kept[row, _PLACE]), (*target.row_shape, 1, 1)[:3])
        there = target._arranged.rows(np.array([row if target.order is None else target.order[row]]))
        theirs = there.reshape(-1)[int(kept[row, _PLACE])]
        off = float(kept[row, _LARGEST])
        with np.errstate(invalid="ignore"):
            ulp = off / float(np.spacing(np.abs(theirs).astype(target._rounding)))
        worst = {
            "row": row,
            "channel": int(place[0]),
            "bin": (int(place[1]), int(place[2])),
            "size": target._arranged.size,
            "reference": float(theirs),
            "difference": off,
        }
    counts = np.histogram(largest, [-np.inf, *np.nextafter(_BOUNDS, np.inf), np.inf])[0].tolist()
    return VerifyReport(
        reference=str(reference.path),
        agrees=agreeing == len(kept),
        reading=words,
        rounding=str(reference.rounding),
        boxes=len(kept),
        agreeing=agreeing,
        largest=float(kept[:, _LARGEST].max(initial=0)),
        mean=float(kept[:, _SUM].sum()) / max(values, 1),
        spread=spread,
        tolerance=tolerance,
        ulp=ulp,
        worst=worst,
        histogram=tuple(zip((*_BOUNDS, math.inf), counts, strict=True)),
        notes=tuple(told.notes),
        warnings=tuple(told.warnings),
    )
