"""What is drawn over the map: the RoI, its bins, sample points, and one point joined to its neighbours."""

from __future__ import annotations

import numpy as np

from roicli.picture.canvas import Box, Canvas, Point, text_box
from roicli.picture.colours import INK, ORANGE, PALE, WHITE
from roicli.picture.labels import along, free, outline
from roicli.picture.panels import SMALL, short
from roicli.picture.samples import Samples
from roicli.picture.view import View
from roicli.trace import BinTrace

BINS_APART = 4  # pixels between the edges of bins, below which they are left out
TINY = 16  # pixels of a RoI's sides, below which a cross of that reach points at it
RING_FROM, LABEL_FROM = 16, 44  # pixels of a cell from which it has room for a neighbour's ring, and for its weight
GROWN = 1.4  # how much larger than the others the chosen point is


def frames(trace: BinTrace, view: View) -> tuple[Box, Box]:
    """Where the RoI and the traced bin lie."""
    bin = view.box(trace.bin_rows[trace.bin[0]], trace.bin_columns[trace.bin[1]])
    return view.box(trace.roi[1::2], trace.roi[::2]), bin


def edges(trace: BinTrace, view: View) -> list[Box]:
    """Where frames are drawn that a text had better not cover."""
    return [side for frame in frames(trace, view) for side in outline(frame, 5)]


def draw_bins(canvas: Canvas, trace: BinTrace, view: View, samples: Samples) -> None:
    """Draw the RoI, its bins and the samples of other bins, then the outline of the traced bin."""
    (x0, y0, x1, y1), bin = frames(trace, view)
    down = [view.at(edge, 0)[1] for edge in np.unique(trace.bin_rows).tolist()]
    across = [view.at(0, edge)[0] for edge in np.unique(trace.bin_columns).tolist()]
    lines = [[(x0, y), (x1, y)] for y in down if y1 - y0 >= BINS_APART * len(down)]
    lines += [[(x, y0), (x, y1)] for x in across if x1 - x0 >= BINS_APART * len(across)]
    canvas.lines(lines, WHITE, 1, crisp=True)
    canvas.frame((x0, y0), (x1, y1), WHITE, 2)
    for x, y in samples.others.tolist():
        canvas.disc(x, y, max(samples.radius / 2, 1), WHITE)
    small = min(bin[2] - bin[0], bin[3] - bin[1]) < TINY
    canvas.frame(bin[:2], bin[2:], ORANGE, 1 if small else 3)
    if max(x1 - x0, y1 - y0) < TINY:
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        canvas.lines([[(x + s * TINY / 2 + s * 3, y), (x + s * TINY * 2, y)] for s in (-1, 1)], WHITE, 2)
        canvas.lines([[(x, y + s * TINY / 2 + s * 3), (x, y + s * TINY * 2)] for s in (-1, 1)], WHITE, 2)


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
        size = samples.radius * (GROWN if number == point else 1)
        x, y = samples.places[number].tolist()
        draw_sample(canvas, x, y, size, counts=bool(trace.in_range[number]), reached=number <= until)
    if trace.best is not None and until >= trace.count - 1:
        draw_best(canvas, *samples.places[trace.best].tolist(), samples.radius)


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
    canvas.ring(x, y, size * GROWN + 3, WHITE, 2.5)


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


def draw_neighbours(canvas: Canvas, trace: BinTrace, view: View, samples: Samples, point: int) -> None:
    """Join one sample to the cells that it reads."""
    sample = samples.places[point].tolist()
    centres = [view.at(*cell) for cell in neighbours(trace, point)]
    canvas.lines([[sample, centre] for centre in centres], ORANGE, 2)
    if view.cell >= RING_FROM:
        for x, y in centres:
            canvas.ring(x, y, 4, ORANGE, 2)


def write_weights(canvas: Canvas, trace: BinTrace, view: View, samples: Samples, point: int, taken: list[Box]) -> None:
    """Write its weight beside each neighbour of one sample, but where it would hide a sample of the traced bin."""
    weights = neighbours(trace, point)
    if view.cell < LABEL_FROM or len(weights) < 2:
        return
    (x, y), reach = samples.places[point].tolist(), samples.radius * GROWN + 1
    centres = [view.at(*cell) for cell in weights]
    hard = [*samples.boxes(), (x - reach, y - reach, x + reach, y + reach)]
    hard += [(right - 5, down - 5, right + 5, down + 5) for right, down in centres]
    soft = [*taken, *edges(trace, view), *(box for centre in centres for box in along((x, y), centre))]
    for (right, down), weight in zip(centres, weights.values(), strict=True):
        words = f"x {short(weight, 2)}"
        # First on the side where no line runs.
        side = -1 if right < x else 1
        places = [
            (right + across * s * side, down + lower, "rm" if s * side < 0 else "lm")
            for s in (1, -1)
            for across, lower in ((9, 0), (6, -12), (6, 12))
        ]
        boxes = [_grown(text_box(*place[:2], words, SMALL, place[2])) for place in places]
        inside = [
            number
            for number, box in enumerate(boxes)
            if box[0] >= 0 and box[1] >= 0 and box[2] <= view.width and box[3] <= view.height
        ]
        chosen = free([boxes[number] for number in inside], hard, soft)
        if chosen is not None:
            right, down, anchor = places[inside[chosen]]
            canvas.text(right, down, words, WHITE, size=SMALL, anchor=anchor, halo=INK)
            hard.append(boxes[inside[chosen]])


def _grown(box: Box) -> Box:
    """Add the halo."""
    return box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1
