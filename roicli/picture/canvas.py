"""A drawing surface with smooth shapes and text, in units of which 96 make an inch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import starmap

from PIL import Image, ImageDraw, ImageFont

from roicli.picture.colors import INK, WHITE, Color, Pixels
from roicli.picture.story import TIMES

Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom
# All is drawn this many times larger and then reduced, which smooths shapes and spaces letters evenly.
LARGER = 2
GAP = "    "  # what is left free for a multiplication sign, which Pillow's font lacks


@lru_cache
def font(size: float) -> ImageFont.FreeTypeFont:
    """Return Pillow's own font, which is there wherever Pillow is."""
    found = ImageFont.load_default(size)
    assert isinstance(found, ImageFont.FreeTypeFont)
    return found


def text_width(words: str, size: float) -> float:
    """Return the width of one line of text."""
    return font(size * LARGER).getlength(words.replace(TIMES, GAP)) / LARGER


def fitted(words: str, width: float, size: float) -> str:
    """Return a line of at most `width`; a longer one loses its middle."""
    if text_width(words, size) <= width:
        return words
    kept = len(words) - 1
    while kept and text_width(f"{words[: kept // 2]} ... {words[-(kept // 2) :]}", size) > width:
        kept -= 1
    return f"{words[: kept // 2]} ... {words[-(kept // 2) :]}"


class Canvas:
    """A surface whose coordinates run from its upper left corner; `zoom` pixels make a unit."""

    def __init__(self, width: float, height: float, zoom: float = 1.0) -> None:
        # A multiple of LARGER, so that reducing it leaves no line half covered.
        self._hold(
            Image.new("RGB", (round(width * zoom) * LARGER, round(height * zoom) * LARGER), WHITE), zoom * LARGER
        )

    def _hold(self, image: Image.Image, unit: float, corner: tuple[int, int] = (0, 0)) -> Canvas:
        self._image, self._unit, self._corner, self._pen = image, unit, corner, ImageDraw.Draw(image)
        return self

    def copy(self) -> Canvas:
        """Return a canvas of its own that shows the same."""
        return Canvas.__new__(Canvas)._hold(self._image.copy(), self._unit)

    @contextmanager
    def within(self, box: Box) -> Iterator[Canvas]:
        """Yield a canvas with the same coordinates, which shows on this one only within a rectangle."""
        left, top, right, bottom = (round(edge * self._unit) for edge in box)
        part = Canvas.__new__(Canvas)._hold(self._image.crop((left, top, right, bottom)), self._unit, (left, top))
        yield part
        self._image.paste(part._image, (left, top))

    def _at(self, x: float, y: float) -> Point:
        return x * self._unit - self._corner[0], y * self._unit - self._corner[1]

    def paint(self, pixels: Pixels, box: Box) -> None:
        """Cover a rectangle with an array of (rows, columns, 3), each of its elements with a rectangle."""
        left, top, right, bottom = (round(edge) for edge in (*self._at(*box[:2]), *self._at(*box[2:])))
        image = Image.fromarray(pixels).resize((max(right - left, 1), max(bottom - top, 1)), Image.Resampling.NEAREST)
        self._image.paste(image, (left, top))

    def lines(self, lines: Iterable[Sequence[Point]], color: Color, width: float, rim: float = 1) -> None:
        """Draw lines through points, all rims before all lines, so that crossings stay open."""
        scaled = [[(right - 0.5, down - 0.5) for right, down in starmap(self._at, line)] for line in lines]
        for paint, thick in ((INK, width + 2 * rim), (color, width)):
            for line in scaled:
                self._pen.line(line, paint, max(round(thick * self._unit), 1), joint="curve")

    def frame(self, box: Box, color: Color, width: float, rim: float = 1) -> None:
        """Draw a rectangle's outline."""
        self.lines([around(box)], color, width, rim)

    def fill(self, box: Box, color: Color) -> None:
        """Cover a rectangle."""
        self._pen.rectangle([edge - 0.5 for edge in (*self._at(*box[:2]), *self._at(*box[2:]))], color)

    def disc(self, x: float, y: float, radius: float, color: Color, rim: float = 1) -> None:
        """Draw a filled circle with a dark rim around `radius`."""
        for paint, reach in ((INK, radius + rim), (color, radius)):
            self._pen.ellipse(self._square(x, y, reach), paint)

    def ring(self, x: float, y: float, radius: float, color: Color, width: float) -> None:
        """Draw an open circle with a dark rim on both sides."""
        for paint, thick in ((INK, width + 2), (color, width)):
            square = self._square(x, y, radius + thick / 2)
            self._pen.ellipse(square, None, paint, max(round(thick * self._unit), 1))

    def text(
        self,
        x: float,
        y: float,
        words: str,
        color: Color = INK,
        *,
        size: float = 13,
        anchor: str = "ls",
        halo: Color | None = None,
    ) -> None:
        """Write one line; `anchor` is Pillow's, `halo` the color of a rim that lifts it off what lies below."""
        stroke = 0 if halo is None else round(2 * self._unit)
        letters = font(size * self._unit)
        shown = words.replace(TIMES, GAP)
        at = self._at(x, y)
        self._pen.text(at, shown, color, letters, anchor, stroke_width=stroke, stroke_fill=halo)
        _, top, _, bottom = letters.getbbox("x", anchor=f"l{anchor[1]}")
        start = at[0] - letters.getlength(shown) * {"l": 0, "m": 0.5, "r": 1}[anchor[0]]
        parts = words.split(TIMES)
        for number in range(1, len(parts)):
            middle = start + letters.getlength(GAP.join(parts[:number]) + GAP[: len(GAP) // 2])
            self._cross(middle, at[1] + (top + bottom) / 2, letters.size * 0.2, color, halo)

    def _cross(self, x: float, y: float, reach: float, color: Color, halo: Color | None) -> None:
        for paint, wider in ((halo, 3), (color, 0)):
            for s in (-1, 1) if paint else ():
                thick = round((1.1 + wider) * self._unit)
                self._pen.line(((x - reach, y - s * reach), (x + reach, y + s * reach)), paint, thick)

    def finished(self) -> Image.Image:
        """Return all that was drawn, reduced to its size."""
        return self._image.reduce(LARGER)

    def _square(self, x: float, y: float, reach: float) -> Box:
        (x, y), reach = self._at(x, y), reach * self._unit
        return x - 0.5 - reach, y - 0.5 - reach, x - 0.5 + reach, y - 0.5 + reach


def around(box: Box) -> list[Point]:
    """Return a line around a rectangle."""
    x0, y0, x1, y1 = box
    # Past the first corner once more, so that this corner is joined as the others are.
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0), (x1, y0)]
