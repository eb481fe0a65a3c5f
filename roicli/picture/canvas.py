"""A drawing surface with smooth shapes and crisp text, in pixels of the finished picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from roicli.picture.colours import INK, WHITE, Colour, Pixels

Point = tuple[float, float]
# Shapes are drawn this many times larger and then reduced, which smooths them; text is written at its own size.
LARGER = 2


class Text(NamedTuple):
    """Words at a place; `anchor` is Pillow's, `halo` the colour of a rim that lifts them off what lies below."""

    x: float
    y: float
    words: str
    colour: Colour
    size: int
    anchor: str
    halo: Colour | None


@lru_cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, which is there wherever Pillow is."""
    found = ImageFont.load_default(size)
    assert isinstance(found, ImageFont.FreeTypeFont)
    return found


def text_width(words: str, size: int) -> float:
    """Width of one line of text in pixels."""
    return font(size).getlength(words)


def wrap(words: str, width: float, size: int) -> list[str]:
    """Break a sentence into lines that are no wider than `width` pixels."""
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if text_width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


class Canvas:
    """A surface whose coordinates run from its upper left corner: pixel i reaches from i to i + 1."""

    def __init__(self, width: int, height: int) -> None:
        self._image = Image.new("RGB", (width * LARGER, height * LARGER), WHITE)
        self._pen = ImageDraw.Draw(self._image)
        self._texts: list[Text] = []

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._image.width // LARGER, self._image.height // LARGER

    def copy(self) -> Canvas:
        """Give a canvas of its own that shows the same."""
        other = Canvas(0, 0)
        other._image = self._image.copy()
        other._pen = ImageDraw.Draw(other._image)
        other._texts = self._texts.copy()
        return other

    def paint(self, pixels: Pixels) -> None:
        """Cover the canvas with an array of (height, width, 3)."""
        self._image.paste(Image.fromarray(pixels).resize(self._image.size, Image.Resampling.NEAREST))

    def paste(self, other: Canvas, x: int, y: int) -> None:
        """Lay another canvas onto this one, its upper left corner at (x, y)."""
        self._image.paste(other._image, (x * LARGER, y * LARGER))
        self._texts += [text._replace(x=text.x + x, y=text.y + y) for text in other._texts]

    def lines(
        self, lines: Iterable[Sequence[Point]], colour: Colour, width: int, rim: int = 1, *, crisp: bool = False
    ) -> None:
        """Draw lines through points, all rims before all lines, so that crossings stay open.

        Lines along the axes are `crisp` if they are moved, by half a pixel at most, to cover whole pixels.
        """
        shift = width % 2 / 2

        def place(at: float) -> float:
            return (round(at - shift) + shift if crisp else at) * LARGER - 0.5

        scaled = [[(place(x), place(y)) for x, y in line] for line in lines]
        for paint, thick in ((INK, width + 2 * rim), (colour, width)):
            for line in scaled:
                self._pen.line(line, paint, thick * LARGER, joint="curve")

    def frame(self, corner: Point, opposite: Point, colour: Colour, width: int, rim: int = 1) -> None:
        """Draw a rectangle's outline, its corners given in any order."""
        (x0, x1), (y0, y1) = (sorted(pair) for pair in zip(corner, opposite, strict=True))
        # Past the first corner once more, so that this corner is joined as the others are.
        self.lines([[(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0), (x1, y0)]], colour, width, rim, crisp=True)

    def disc(self, x: float, y: float, radius: float, colour: Colour, rim: float = 1) -> None:
        """Draw a filled circle with a dark rim around `radius`."""
        for paint, reach in ((INK, radius + rim), (colour, radius)):
            self._pen.ellipse(self._box(x, y, reach), paint)

    def ring(self, x: float, y: float, radius: float, colour: Colour, width: float, rim: float = 1) -> None:
        """Draw an open circle with a dark rim on both sides."""
        for paint, grow in ((INK, rim), (colour, 0.0)):
            reach = radius + width / 2 + grow
            self._pen.ellipse(self._box(x, y, reach), None, paint, round((width + 2 * grow) * LARGER))

    def text(
        self,
        x: float,
        y: float,
        words: str,
        colour: Colour = INK,
        *,
        size: int = 13,
        anchor: str = "la",
        halo: Colour | None = None,
    ) -> None:
        """Write one line over all shapes, whenever those are drawn."""
        self._texts.append(Text(x, y, words, colour, size, anchor, halo))

    def finished(self) -> Image.Image:
        """Reduce the shapes and write the texts."""
        image = self._image.reduce(LARGER)
        pen = ImageDraw.Draw(image)
        for text in self._texts:
            pen.text(
                (text.x, text.y),
                text.words,
                text.colour,
                font(text.size),
                text.anchor,
                stroke_width=0 if text.halo is None else 2,
                stroke_fill=text.halo,
            )
        return image

    def _box(self, x: float, y: float, radius: float) -> tuple[float, float, float, float]:
        x, y, radius = x * LARGER - 0.5, y * LARGER - 0.5, radius * LARGER
        return x - radius, y - radius, x + radius, y + radius
