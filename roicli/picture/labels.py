"""Numbers on the map, at places where they hide nothing that is drawn there and are not hidden."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from roicli.picture import marks
from roicli.picture.canvas import Box, Canvas, Point, text_box
from roicli.picture.colours import INK, WHITE, Pixels
from roicli.picture.panels import SMALL, short, words_of, write_value
from roicli.picture.samples import Samples
from roicli.picture.view import View
from roicli.pooling.trace import BinTrace

LABEL_FROM = 44  # pixels of a cell from which it has room for a weight
INNER_FROM = 64  # and for one between two neighbours, so that one sees whose it is


def frame_boxes(trace: BinTrace, view: View) -> list[Box]:
    """Where the RoI's and its bins' edges are drawn."""
    lines = list(marks.bin_lines(trace, view))
    for left, top, right, bottom in marks.frames(trace, view):
        lines += [((left, top), (right, top)), ((left, bottom), (right, bottom))]
        lines += [((left, top), (left, bottom)), ((right, top), (right, bottom))]
    return [(x0 - 2.5, y0 - 2.5, x1 + 2.5, y1 + 2.5) for x0, y0, x1, y1 in (_between(*line) for line in lines)]


def join_boxes(trace: BinTrace, view: View, samples: Samples, point: int) -> list[Box]:
    """Where a sample is joined to its neighbours, as rows of small boxes."""
    boxes = []
    for start, end in marks.joins(trace, view, samples, point):
        steps = np.linspace(start, end, 2 + int(np.hypot(end[0] - start[0], end[1] - start[1]) // 3))
        boxes += [(x - 2, y - 2, x + 2, y + 2) for x, y in steps.tolist()]
    return boxes


def write_values_aside(
    canvas: Canvas, trace: BinTrace, view: View, colours: Pixels, samples: Samples, point: int | None
) -> list[Box]:
    """Write the map's values at the lower or upper edge of their cells where no edge and no sample crosses them.

    Parameters
    ----------
    point : int or None
        The sample whose joins are not crossed either.

    Returns
    -------
    list of Box
        Where values are.
    """
    taboo = [*samples.boxes(), *frame_boxes(trace, view)]
    if point is not None:
        taboo += [samples.box(point), *join_boxes(trace, view, samples, point)]
    taboo += [(x - 3, y - 3, x + 3, y + 3) for x, y in samples.others.tolist()]
    taken, middle = [], view.cell / 2 - 4
    for row, column, words in words_of(trace.plane, view):
        x, y = view.at(row, column)
        cell = (x - view.cell / 2, y - view.cell / 2, x + view.cell / 2, y + view.cell / 2)
        places = [
            (x + side * middle, y + lower * middle, anchor + ("s" if lower > 0 else "t"))
            for side, anchor in ((0, "m"), (-1, "l"), (1, "r"))
            for lower in (1, -1)
        ]
        boxes = [text_box(*place[:2], words, SMALL, place[2]) for place in places]
        chosen = free(boxes, [other for other in taboo if _meet(other, cell)])
        if chosen is not None:
            colour = colours[row - view.first_row, column - view.first_column]
            write_value(canvas, *places[chosen][:2], words, places[chosen][2], colour)
            taken.append(boxes[chosen])
    return taken


def write_weights(canvas: Canvas, trace: BinTrace, view: View, samples: Samples, point: int, taken: list[Box]) -> None:
    """Write its weight beside each neighbour of one sample, but not where it would hide a sample or a value."""
    weights = marks.neighbours(trace, point)
    if view.cell < LABEL_FROM or len(weights) < 2:
        return
    (x, _), centres = samples.places[point].tolist(), [view.at(*cell) for cell in weights]
    taboo = [*taken, *samples.boxes(), samples.box(point)]
    taboo += [(right - 5, down - 5, right + 5, down + 5) for right, down in centres]
    poor = [*frame_boxes(trace, view), *join_boxes(trace, view, samples, point)]
    sides = (1, -1) if view.cell >= INNER_FROM else (1,)
    for (right, down), weight in zip(centres, weights.values(), strict=True):
        words = f"x  {short(weight, 2)}"
        # First on the side where no line runs.
        side = -1 if right < x else 1
        places = [
            (right + across * s * side, down + lower, "rm" if s * side < 0 else "lm")
            for s in sides
            for across, lower in ((9, 0), (6, -12), (6, 12))
        ]
        boxes = [_grown(text_box(*place[:2], words, SMALL, place[2])) for place in places]
        inside = [
            number
            for number, box in enumerate(boxes)
            if box[0] >= 0 and box[1] >= 0 and box[2] <= view.width and box[3] <= view.height
        ]
        chosen = free([boxes[number] for number in inside], taboo, poor)
        if chosen is not None:
            right, down, anchor = places[inside[chosen]]
            canvas.text(right, down, words, WHITE, size=SMALL, anchor=anchor, halo=INK)
            taboo.append(boxes[inside[chosen]])


def _grown(box: Box) -> Box:
    """Add the halo."""
    return box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1


def free(candidates: Sequence[Box], taboo: Sequence[Box], poor: Sequence[Box] = ()) -> int | None:
    """Choose the first of `candidates` that meets nothing, else one that meets nothing `taboo`, if any."""
    possible = [number for number, box in enumerate(candidates) if not any(_meet(box, other) for other in taboo)]
    clear = [number for number in possible if not any(_meet(candidates[number], other) for other in poor)]
    return next(iter(clear or possible), None)


def _between(one: Point, other: Point) -> Box:
    return min(one[0], other[0]), min(one[1], other[1]), max(one[0], other[0]), max(one[1], other[1])


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
