"""What is drawn over the map: the RoI, its bins, sample points, and one point joined to its neighbours."""

from __future__ import annotations

import numpy as np

from roicli.picture.canvas import Box, Canvas, Point
from roicli.picture.colours import INK, ORANGE, PALE, WHITE
from roicli.picture.samples import Samples
from roicli.picture.view import View
from roicli.pooling.trace import BinTrace

BINS_APART = 8  # pixels between the edges of bins, below which they are left out
TINY = 16  # pixels of a RoI's sides, below which a cross of that reach points at it
RING_FROM = 16  # pixels of a cell from which it has room for a neighbour's ring


def frames(trace: BinTrace, view: View) -> tuple[Box, Box]:
    """Where the RoI and the traced bin are drawn: a bit larger than they are if they have no extent."""
    bin = view.box(trace.bin_rows[trace.bin[0]], trace.bin_columns[trace.bin[1]])
    return _at_least(view.box(trace.roi[1::2], trace.roi[::2]), 6), _at_least(bin, 4)


def bin_lines(trace: BinTrace, view: View) -> list[tuple[Point, Point]]:
    """Lines between the bins, and those that point at a tiny RoI."""
    (x0, y0, x1, y1), _ = frames(trace, view)
    down = [view.at(edge, 0)[1] for edge in np.unique(trace.bin_rows).tolist()]
    across = [view.at(0, edge)[0] for edge in np.unique(trace.bin_columns).tolist()]
    lines: list[tuple[Point, Point]] = []
    if min((y1 - y0) / len(down), (x1 - x0) / len(across)) >= BINS_APART:
        lines += [((x0, y), (x1, y)) for y in down]
        lines += [((x, y0), (x, y1)) for x in across]
    if max(x1 - x0, y1 - y0) < TINY:
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        for near, far in ((TINY * 0.7, TINY * 2), (-TINY * 0.7, -TINY * 2)):
            lines += [((x + near, y), (x + far, y)), ((x, y + near), (x, y + far))]
    return lines


def draw_bins(canvas: Canvas, trace: BinTrace, view: View, samples: Samples) -> None:
    """Draw the RoI, its bins and the samples of other bins, then the outline of the traced bin."""
    roi, bin = frames(trace, view)
    canvas.lines(bin_lines(trace, view), WHITE, 1, crisp=True)
    canvas.frame(roi[:2], roi[2:], WHITE, 2)
    for x, y in samples.others.tolist():
        canvas.disc(x, y, max(samples.radius / 2, 1), WHITE)
    small = min(bin[2] - bin[0], bin[3] - bin[1]) < TINY
    canvas.frame(bin[:2], bin[2:], ORANGE, 1 if small else 3)


def _at_least(box: Box, side: float) -> Box:
    left, top, right, bottom = box
    x, y = max(side - right + left, 0) / 2, max(side - bottom + top, 0) / 2
    return left - x, top - y, right + x, bottom + y


def draw_samples(canvas: Canvas, trace: BinTrace, samples: Samples, point: int, until: int) -> None:
    """Draw the samples of the traced bin, hollow from number `until` on, `point` larger than the others.

    Clamped ones are joined to where they are read; the maximum, once it is known, gets a ring.
    """
    for number in samples.shown.tolist():
        if trace.clamped[number]:
            draw_landing(canvas, samples.places[number].tolist(), samples.landings[number].tolist())
    # Those reached last, over the others; the chosen point over all.
    order = sorted(samples.shown.tolist(), key=lambda number: (number <= until, number))
    for number in [*order, point]:
        size = samples.size(number, point)
        x, y = samples.places[number].tolist()
        draw_sample(canvas, x, y, size, counts=bool(trace.in_range[number]), reached=number <= until)
    if trace.best is not None and until >= trace.count - 1:
        x, y = samples.places[trace.best].tolist()
        draw_best(canvas, x, y, samples.size(point, point))


def draw_sample(canvas: Canvas, x: float, y: float, size: float, *, counts: bool, reached: bool = True) -> None:
    """Draw a sample: a disc, hollow until it is reached, or a cross, then pale, where it is out of range."""
    if not counts:
        cross = [[(x - size, y - s * size), (x + size, y + s * size)] for s in (-1, 1)]
        canvas.lines(cross, ORANGE if reached else PALE, 2)
        return
    canvas.disc(x, y, size, ORANGE, rim=min(1.0, size / 3))
    if not reached:
        canvas.disc(x, y, size * 0.6, WHITE, rim=0)


def draw_landing(canvas: Canvas, sample: Point, landing: Point) -> None:
    """Draw the way from a clamped sample to where it is read."""
    canvas.lines([[sample, landing]], WHITE, 1)
    x, y = landing
    canvas.frame((x - 3, y - 3), (x + 3, y + 3), WHITE, 1)


def draw_best(canvas: Canvas, x: float, y: float, size: float) -> None:
    """Draw the ring that marks the maximum."""
    canvas.ring(x, y, size + 3, WHITE, 2.5)


def draw_close_up_frame(canvas: Canvas, view: View, close: View) -> None:
    """Mark on the map what the close-up shows."""
    first_row, first_column = close.first_row - 0.5, close.first_column - 0.5
    left, top, right, bottom = view.box(
        (first_row, first_row + close.rows), (first_column, first_column + close.columns)
    )
    canvas.frame((left, top), (right, bottom), WHITE, 5, rim=0)
    canvas.frame((left, top), (right, bottom), INK, 2, rim=0)


def neighbours(trace: BinTrace, point: int) -> dict[tuple[int, int], float]:
    """Give the cells that one sample reads, row and column, and their weights; at a border two of them are one."""
    weights: dict[tuple[int, int], float] = {}
    if trace.in_range[point]:
        for corner, weight in enumerate(trace.weights[point].tolist()):
            cell = int(trace.rows[point, corner // 2]), int(trace.columns[point, corner % 2])
            weights[cell] = weights.get(cell, 0.0) + weight
    return weights


def joins(trace: BinTrace, view: View, samples: Samples, point: int) -> list[tuple[Point, Point]]:
    """Lines from one sample to the cells that it reads."""
    x, y = samples.places[point].tolist()
    return [((x, y), view.at(*cell)) for cell in neighbours(trace, point)]


def draw_neighbours(canvas: Canvas, trace: BinTrace, view: View, samples: Samples, point: int) -> None:
    """Join one sample to the cells that it reads."""
    lines = joins(trace, view, samples, point)
    canvas.lines(lines, ORANGE, 2)
    if view.cell >= RING_FROM:
        for _, (x, y) in lines:
            canvas.ring(x, y, 4, ORANGE, 2)
