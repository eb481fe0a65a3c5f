"""One map as a picture: its cells as colors, and a color bar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from roicli.errors import UsageError
from roicli.picture.canvas import Canvas, fitted
from roicli.picture.colors import PALETTE, Scale
from roicli.picture.draw import PAD, writing
from roicli.picture.figure import draw_bar
from roicli.picture.panel import draw_cells, write_values
from roicli.picture.view import View

_SIDE, _BAR, _HEAD = 640, 90, 44


def draw_map(values: NDArray[Any], path: Path, heading: str) -> None:
    """Draw an (H, W) map into a .png.

    Raises
    ------
    UsageError
        Another ending.
    OutputError
        The file cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path}: expected a name that ends in .png", f"Give `picture={path.stem}.png`.")
    height, width = values.shape
    cell = max(1, min(80, _SIDE // max(height, width)))
    view = View((0, height), (0, width), cell, PAD + 28, PAD + _HEAD)
    whole = (2 * PAD + 28 + width * cell + _BAR, 2 * PAD + _HEAD + height * cell + 24)
    canvas = Canvas(max(whole[0], 480), whole[1], 1)
    canvas.text(PAD, PAD + 16, fitted(heading, max(whole[0], 480) - 2 * PAD, 16), size=16)
    scale = Scale.of(values)
    draw_cells(canvas, values, view, scale, "rows and columns of the map")
    write_values(canvas, values, view, scale, 0)
    draw_bar(canvas, scale, view.frame)
    palette = Image.new("P", (1, 1))
    palette.putpalette(PALETTE.tobytes())
    with writing(path) as file:
        canvas.finished().quantize(palette=palette, dither=Image.Dither.NONE).save(file, "PNG")
