"""What is drawn over the map: the RoI, its bins, sample points, and one point joined to its neighbours."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.picture.canvas import Canvas
from roicli.picture.colours import INK, ORANGE, WHITE
from roicli.picture.panels import SMALL, short
from roicli.picture.view import View
from roicli.trace import BinTrace

APART = 8  # pixels between samples, below which some are left out
BINS_APART = 4  # pixels between the edges of bins, below which they are left out
RING_FROM, LABEL_FROM = 16, 44  # pixels of a cell from which it has room for a neighbour's ring, and for its weight


def best_sample(trace: BinTrace) -> int | None:
    """Find the first sample that is the maximum, where a maximum is taken."""
    if trace.spec.mode != "max":
        return None
    best = np.flatnonzero(trace.interpolated == trace.result)
    return int(best[0]) if len(best) else None


def landings(trace: BinTrace) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where each sample is read: the mean place of its neighbours by their weights."""
    shares = trace.weights.reshape(-1, 2, 2).astype(np.float64)
    return (shares.sum(axis=2) * trace.rows).sum(axis=1), (shares.sum(axis=1) * trace.columns).sum(axis=1)


def steps(trace: BinTrace, view: View) -> tuple[int, int]:
    """Every how many samples one is drawn, along y and x, so that they do not run together."""
    by_row, by_column = (
        math.ceil(APART / max(_apart(line, view), APART / max(line.size, number, 1)))
        for line, number in zip((trace.sample_rows, trace.sample_columns), trace.grid, strict=True)
    )
    return by_row, by_column


def _every(step: int, coordinates: NDArray[Any]) -> NDArray[Any]:
    """Leave out samples of each bin as `draw_samples` does, and bins where a step is longer than a bin."""
    return coordinates[:: max(1, step // max(coordinates.shape[1], 1)), ::step].ravel()


def radius(trace: BinTrace, view: View) -> float:
    """Radius of a sample of the traced bin in pixels: at most a quarter of what lies between two that are drawn."""
    lines = (trace.sample_rows, trace.sample_columns)
    apart = [step * _apart(line, view) for step, line in zip(steps(trace, view), lines, strict=True)]
    return max(2.0, min(5.0, min(apart) / 4))


def _apart(coordinates: NDArray[Any], view: View) -> float:
    """Pixels from one sample to the next along an axis; for RoIPool, from cell to cell."""
    if coordinates.size < 2:
        return float(view.cell)
    return abs(float(coordinates.flat[-1]) - float(coordinates.flat[0])) / (coordinates.size - 1) * view.cell


def draw_bins(canvas: Canvas, trace: BinTrace, view: View) -> None:
    """Draw the RoI, its bins and the samples of all bins, then the outline of the traced bin."""
    left, top, right, bottom = trace.roi
    (x0, y0), (x1, y1) = view.at(top, left), view.at(bottom, right)
    down = [view.at(edge, 0)[1] for edge in np.unique(trace.bin_rows)]
    across = [view.at(0, edge)[0] for edge in np.unique(trace.bin_columns)]
    edges = [[(x0, y), (x1, y)] for y in down if abs(y1 - y0) >= BINS_APART * len(down)]
    edges += [[(x, y0), (x, y1)] for x in across if abs(x1 - x0) >= BINS_APART * len(across)]
    canvas.lines(edges, WHITE, 1, crisp=True)
    canvas.frame((x0, y0), (x1, y1), WHITE, 2)
    by_row, by_column = steps(trace, view)
    size = radius(trace, view)
    y, x = _every(by_row, trace.sample_rows), _every(by_column, trace.sample_columns)
    for place in product(y[view.sees_rows(y)], x[view.sees_columns(x)]):
        canvas.disc(*view.at(*place), size / 2, WHITE)
    row, column = trace.bin_rows[trace.bin[0]], trace.bin_columns[trace.bin[1]]
    canvas.frame(view.at(row[0], column[0]), view.at(row[1], column[1]), ORANGE, 3)


def draw_samples(canvas: Canvas, trace: BinTrace, view: View, point: int, until: int) -> None:
    """Draw the samples of the traced bin up to number `until`, `point` larger than the others.

    Clamped ones are joined to where they are read; the maximum, once it is known, gets a ring.
    """
    by_row, by_column = steps(trace, view)
    shown = (np.arange(trace.count) <= until) & view.sees_rows(trace.y) & view.sees_columns(trace.x)
    shown &= (trace.iy % by_row == 0) & (trace.ix % by_column == 0)
    land_y, land_x = landings(trace)
    size = radius(trace, view)
    for number in np.flatnonzero(shown):
        x, y = view.at(trace.y[number], trace.x[number])
        if trace.clamped[number]:
            draw_landing(canvas, (x, y), view.at(land_y[number], land_x[number]))
        draw_sample(canvas, x, y, size, counts=bool(trace.in_range[number]))
    draw_sample(canvas, *view.at(trace.y[point], trace.x[point]), size + 2, counts=bool(trace.in_range[point]))
    best = best_sample(trace)
    if best is not None and until >= trace.count - 1:
        draw_best(canvas, *view.at(trace.y[best], trace.x[best]), size)


def draw_sample(canvas: Canvas, x: float, y: float, size: float, *, counts: bool) -> None:
    """Draw a sample: a disc, or a cross where it is out of range."""
    if counts:
        canvas.disc(x, y, size, ORANGE)
    else:
        canvas.lines([[(x - size, y - s * size), (x + size, y + s * size)] for s in (-1, 1)], ORANGE, 2)


def draw_landing(canvas: Canvas, sample: tuple[float, float], landing: tuple[float, float]) -> None:
    """Draw the way from a clamped sample to where it is read."""
    canvas.lines([[sample, landing]], WHITE, 1)
    x, y = landing
    canvas.frame((x - 3, y - 3), (x + 3, y + 3), WHITE, 1)


def draw_best(canvas: Canvas, x: float, y: float, size: float) -> None:
    """Draw the ring that marks the maximum."""
    canvas.ring(x, y, size + 5, WHITE, 2.5)


def draw_neighbours(canvas: Canvas, trace: BinTrace, view: View, point: int) -> None:
    """Join one sample to the cells that it reads, each with its weight where there is room."""
    if not trace.in_range[point]:
        return
    sample = view.at(trace.y[point], trace.x[point])
    # At a border two neighbours are one cell.
    weights: dict[tuple[int, int], float] = {}
    for corner, weight in enumerate(trace.weights[point]):
        cell = int(trace.rows[point, corner // 2]), int(trace.columns[point, corner % 2])
        weights[cell] = weights.get(cell, 0.0) + float(weight)
    centres = [view.at(*cell) for cell in weights]
    canvas.lines([[sample, centre] for centre in centres], ORANGE, 2)
    for (x, y), weight in zip(centres, weights.values(), strict=True):
        if view.cell >= RING_FROM:
            canvas.ring(x, y, 4, ORANGE, 2)
        if view.cell >= LABEL_FROM and len(weights) > 1:
            # On the side where no line runs.
            away, anchor = (-9, "rm") if x < sample[0] else (9, "lm")
            canvas.text(x + away, y, f"x {short(weight, 2)}", WHITE, size=SMALL, anchor=anchor, halo=INK)
