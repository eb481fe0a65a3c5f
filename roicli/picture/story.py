"""What a figure says beside its panels: what is traced, what the marks mean, and how the number comes about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from roicli.picture import marks
from roicli.picture.canvas import Canvas
from roicli.picture.colours import WHITE
from roicli.picture.crop import outside
from roicli.picture.panels import short
from roicli.picture.samples import Samples
from roicli.picture.view import View
from roicli.pooling.trace import BinTrace

Entry = tuple[Callable[[Canvas, float, float], None], str]


class Moment(NamedTuple):
    """What a frame shows: the point that is joined to its neighbours, and the last sample that is added up."""

    point: int
    until: int

    def within(self, trace: BinTrace) -> Moment:
        """Give the same moment of a trace that may have fewer samples: its last one then."""
        last = trace.count - 1
        return Moment(min(self.point, last), min(self.until, last))


def facts(trace: BinTrace, view: View, samples: Samples) -> list[str]:
    """Say what is traced, and what of it a picture leaves out."""
    spec = trace.spec
    left, top, right, bottom = (short(edge, 4) for edge in trace.roi)
    noun, how = f"{trace.operator.noun}s", trace.operator.sampling(spec).partition(":")[0]
    lines = [
        f"RoI in cells: x {left} to {right}, y {top} to {bottom}",
        f"Bin {trace.bin[0]},{trace.bin[1]}: {trace.grid[0]} x {trace.grid[1]} {noun} ({how})",
    ]
    if away := _away(trace):
        lines.append(f"The RoI lies outside the map, {' and '.join(away)}.")
    if view.misses(trace):
        lines.append("It is not in the picture.")
    elif not view.holds(trace):
        lines.append("The RoI reaches beyond what is shown.")
    if samples.one_in > 1 and len(samples.shown):
        lines.append(f"One in {samples.one_in} {noun} is drawn.")
    return lines


def _away(trace: BinTrace) -> list[str]:
    """Say how far beside the map the RoI lies."""
    gaps = [
        (outside(trace.roi[0::2], trace.shape[2]), "columns to the left", "columns to the right"),
        (outside(trace.roi[1::2], trace.shape[1]), "rows above", "rows below"),
    ]
    return [f"{short(abs(cells))} {before if cells < 0 else after}" for cells, before, after in gaps if cells]


def legend(trace: BinTrace, samples: Samples, moment: Moment) -> list[Entry]:
    """Name the marks that are drawn at one moment."""
    noun = trace.operator.noun
    point, until = moment
    chosen = [point] if trace.count and samples.seen[point] else []
    shown = np.union1d(samples.shown, chosen).astype(np.intp)
    counts, reached = trace.in_range[shown], shown <= until
    entries: list[tuple[bool, Callable[[Canvas, float, float], None], str]] = [
        (
            bool((counts & reached).any()),
            lambda canvas, x, y: marks.draw_sample(canvas, x, y, 5, counts=True),
            f"{noun} of the traced bin",
        ),
        (
            bool((counts & ~reached).any()),
            lambda canvas, x, y: marks.draw_sample(canvas, x, y, 5, counts=True, reached=False),
            f"{noun} of the traced bin, not reached yet",
        ),
        (
            not counts.all(),
            lambda canvas, x, y: marks.draw_sample(canvas, x, y, 5, counts=False),
            "out of range: counts as zero",
        ),
        (
            bool(trace.clamped[shown].any()),
            lambda canvas, x, y: marks.draw_landing(canvas, (x - 8, y), (x + 6, y)),
            "moved onto the border and read there",
        ),
        (
            trace.best in shown and until >= trace.count - 1,
            lambda canvas, x, y: marks.draw_best(canvas, x, y, 1),
            "the maximum",
        ),
        (
            len(samples.others) > 0,
            lambda canvas, x, y: canvas.disc(x, y, 2.5, WHITE),
            "samples of other bins",
        ),
    ]
    return [(draw, words) for holds, draw, words in entries if holds]


def story(trace: BinTrace, moment: Moment) -> list[str]:
    """Tell what one point reads, and what the samples so far add up to."""
    if not trace.count:
        return [f"No {trace.operator.noun}s: the bin is zero."]
    point, until = moment
    lines = [f"Point {point}: y {short(trace.y[point], 4)}, x {short(trace.x[point], 4)}"]
    if not trace.operator.interpolates:
        lines.append(f"   = {short(trace.interpolated[point], 6)}")
    elif trace.in_range[point]:
        lines += [
            f"   {short(weight)} x {short(value)}\trow {trace.rows[point, corner // 2]},"
            f" column {trace.columns[point, corner % 2]}"
            for corner, (weight, value) in enumerate(zip(trace.weights[point], trace.values[point], strict=True))
        ]
        lines.append(f"   = {short(trace.interpolated[point], 6)}")
    else:
        lines.append("   out of range = 0")
    so_far = trace.interpolated[: until + 1].astype(np.float64)
    with np.errstate(invalid="ignore"):  # inf - inf
        if trace.spec.mode == "max":
            name, value = "Maximum", trace.operator.combine(trace.interpolated[: until + 1], trace.spec)[0]
        else:
            name, value = "Sum", so_far.sum()
    lines.append(f"{name} of {until + 1} of {trace.count}: {short(float(value), 6)}")
    if until + 1 == trace.count:
        lines.append(f"Result, the {'maximum' if trace.spec.mode == 'max' else 'mean'}: {short(trace.result, 6)}")
    return lines


def difference(traces: Sequence[BinTrace]) -> str:
    """Compare the results of two traces."""
    first, second = (trace.result for trace in traces)
    return f"Difference of the results, second less first: {short(second - first, 6)}"
