"""Maps side by side as a picture: their cells as colors of one scale, and a color bar."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from roicli.errors import UsageError
from roicli.picture.canvas import Canvas, fitted
from roicli.picture.colors import PALETTE, Scale
from roicli.picture.draw import PAD, writing
from roicli.picture.figure import draw_bar
from roicli.picture.panel import draw_cells, write_values
from roicli.picture.view import View

_SIDE, _BAR, _HEAD, _AXIS, _LEAST = 640, 90, 44, 28, 480
_WORDS = "rows and columns of the map"


def check_png(path: Path) -> None:
    """Refuse names that do not end in .png."""
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path}: expected a name that ends in .png", f"Give `picture={path.stem}.png`.")


def draw_maps(
    maps: Sequence[ArrayLike],
    path: Path,
    heading: str,
    titles: Sequence[str] = (_WORDS,),
    corner: tuple[int, int] = (0, 0),
) -> None:
    """Draw (H, W) maps, or the same part of them, side by side into a .png.

    `maps`: their values.
    `path`: what to write.
    `heading`, `titles`: what stands above all, and above each.
    `corner`: row and column of the map where the parts begin.
    Raises UsageError: another ending. OutputError: the file cannot be written.
    """
    check_png(path)
    arrays = [np.asarray(values) for values in maps]
    (top, left), (height, width) = corner, arrays[0].shape
    cell = max(1, min(80, _SIDE // max(height, width * len(arrays))))
    apart = max(_AXIS + width * cell, _LEAST // len(arrays)) + 2 * PAD
    whole = PAD + len(arrays) * apart + _BAR, 2 * PAD + _HEAD + height * cell + 24
    canvas, scale = Canvas(*whole), Scale.of(*arrays)
    canvas.text(PAD, PAD + 16, fitted(heading, whole[0] - 2 * PAD, 16), size=16)
    for number, (values, title) in enumerate(zip(arrays, titles, strict=True)):
        view = View((top, top + height), (left, left + width), cell, PAD + _AXIS + number * apart, PAD + _HEAD)
        shown = np.pad(values, ((top, 0), (left, 0)))
        draw_cells(canvas, shown, view, scale, title)
        write_values(canvas, shown, view, scale, 0)
    draw_bar(canvas, scale, view.frame)
    palette = Image.new("P", (1, 1))
    palette.putpalette(PALETTE.tobytes())
    with writing(path) as file:
        canvas.finished().quantize(palette=palette, dither=Image.Dither.NONE).save(file, "PNG")
