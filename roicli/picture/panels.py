"""The panels of a picture: cells as colours, axes, the colour bar."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.picture.canvas import Canvas, text_box, text_width
from roicli.picture.colours import BLANK, GREY, INK, Pixels, Scale, hatch, ink_on
from roicli.picture.view import View

GRID_FROM = 8  # pixels of a cell from which the grid is drawn
SMALL = 12  # size of numbers
BAR_WIDTH = 14


def short(value: float, digits: int = 3) -> str:
    """Write a number in few characters: 1e-8 for 1e-08."""
    mantissa, mark, exponent = f"{value + 0.0:.{digits}g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if mark else mantissa


def cells(values: NDArray[Any], view: View, scale: Scale) -> tuple[Canvas, Pixels]:
    """Draw what a view shows of an array, blank beyond it.

    Returns
    -------
    Canvas
    colours : (rows, columns, 3) uint8
        The colour of each cell in view.
    """
    seen = view.window(*values.shape)
    here = (
        slice(seen[0].start - view.first_row, seen[0].stop - view.first_row),
        slice(seen[1].start - view.first_column, seen[1].stop - view.first_column),
    )
    colours = np.full((view.rows, view.columns, 3), BLANK, np.uint8)
    colours[here] = scale.colours(values[seen])
    bad = np.zeros((view.rows, view.columns), np.bool_)
    bad[here] = ~np.isfinite(values[seen])

    def enlarge(array: NDArray[Any]) -> NDArray[Any]:
        return array.repeat(view.cell, axis=0).repeat(view.cell, axis=1)

    pixels = enlarge(colours)
    hatch(pixels, enlarge(bad))
    if view.cell >= GRID_FROM:
        for lines in (pixels[:: view.cell], pixels[:, :: view.cell]):
            lines[...] = lines // 4 * 3 + 64
    canvas = Canvas(view.width, view.height)
    canvas.paint(pixels)
    return canvas, colours


def write_values(canvas: Canvas, values: NDArray[Any], view: View, colours: Pixels) -> None:
    """Write the values into the middle of their cells if there is room."""
    for row, column, words in words_of(values, view):
        write_value(
            canvas, *view.at(row, column), words, "mm", colours[row - view.first_row, column - view.first_column]
        )


def words_of(values: NDArray[Any], view: View) -> list[tuple[int, int, str]]:
    """Row, column and words of each cell in view, with as many digits as it has room for."""
    if view.cell < 2 * SMALL:
        return []
    found = []
    rows, columns = view.window(*values.shape)
    for row in range(rows.start, rows.stop):
        for column in range(columns.start, columns.stop):
            words = [short(float(values[row, column]), digits) for digits in (3, 2, 1)]
            fitting = [word for word in words if text_width(word, SMALL) <= view.cell - 8]
            found += [(row, column, word) for word in fitting[:1]]
    return found


def write_value(canvas: Canvas, x: float, y: float, words: str, anchor: str, colour: Pixels) -> None:
    """Write one value onto its colour, or onto a patch that covers the hatch of what is not finite."""
    if words in ("nan", "inf", "-inf"):
        left, top, right, bottom = text_box(x, y, words, SMALL, anchor)
        canvas.fill((left - 2, top - 2, right + 2, bottom + 2), BLANK)
        canvas.text(x, y, words, INK, size=SMALL, anchor=anchor)
    else:
        canvas.text(x, y, words, ink_on(colour), size=SMALL, anchor=anchor)


def write_axes(canvas: Canvas, view: View, x: int, y: int) -> None:
    """Write the numbers of rows and columns at their centres, around a panel whose upper left corner is at (x, y)."""
    for column in _numbered(view.first_column, view.columns, 30 / view.cell):
        at = x + view.at(0, column)[0]
        canvas.lines([[(at, y + view.height), (at, y + view.height + 4)]], INK, 1, rim=0, crisp=True)
        canvas.text(at, y + view.height + 6, str(column), size=SMALL, anchor="ma")
    for row in _numbered(view.first_row, view.rows, 18 / view.cell):
        at = y + view.at(row, 0)[1]
        canvas.lines([[(x - 4, at), (x, at)]], INK, 1, rim=0, crisp=True)
        canvas.text(x - 6, at, str(row), size=SMALL, anchor="rm")
    canvas.frame((x, y), (x + view.width, y + view.height), GREY, 1, rim=0)


def _numbered(first: int, number: int, apart: float) -> range:
    """Numbers to write along an axis: round ones, at least `apart` cells from one another."""
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100) if step >= apart)
    return range(-(-first // step) * step, first + number, step)


def bar_ticks(scale: Scale, height: int) -> list[tuple[float, str]]:
    """Values beside a colour bar of that height, lowest first, with enough digits to tell them apart."""
    if not np.isfinite(scale.low):
        return []
    number = 1 if scale.low == scale.high else min(max(height // 60, 2), 5)
    values = [scale.low * (1 - part) + scale.high * part for part in np.linspace(0, 1, number)]
    words = [[short(value, digits) for value in values] for digits in range(3, 18)]
    return list(zip(values, next((line for line in words if len(set(line)) == number), words[-1]), strict=True))


def draw_bar(canvas: Canvas, scale: Scale, x: int, y: int, height: int) -> None:
    """Draw the colour bar, its upper left corner at (x, y), with its values on its right."""
    ticks = bar_ticks(scale, height)
    levels = np.linspace(scale.high, scale.low, height)[:, None] if len(ticks) > 1 else np.full((height, 1), scale.low)
    bar, _ = cells(np.repeat(levels, BAR_WIDTH, axis=1), View(0, 0, height, BAR_WIDTH, 1), scale)
    canvas.paste(bar, x, y)
    canvas.frame((x, y), (x + BAR_WIDTH, y + height), GREY, 1, rim=0)
    for place, (_, words) in zip(np.linspace(1, 0, len(ticks)) if len(ticks) > 1 else [0.5], ticks, strict=False):
        at = y + place * height
        canvas.lines([[(x + BAR_WIDTH, at), (x + BAR_WIDTH + 4, at)]], INK, 1, rim=0, crisp=True)
        canvas.text(x + BAR_WIDTH + 7, at, words, size=SMALL, anchor="lm")
