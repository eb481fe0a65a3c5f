"""A drawing surface with smooth shapes and text, in pixels of the finished picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from roicli.picture.colours import INK, WHITE, Colour, Pixels

Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom
# All is drawn this many times larger and then reduced, which smooths shapes and spaces letters and words evenly.
LARGER = 2


@lru_cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, which is there wherever Pillow is."""
    found = ImageFont.load_default(size)
    assert isinstance(found, ImageFont.FreeTypeFont)
    return found


def text_width(words: str, size: int) -> float:
    """Width of one line of text in pixels."""
    return font(size * LARGER).getlength(words) / LARGER


def text_box(x: float, y: float, words: str, size: int, anchor: str) -> Box:
    """Where `Canvas.text` writes, with a pixel around it."""
    left, top, right, bottom = font(size * LARGER).getbbox(words, anchor=anchor)
    return x + left / LARGER - 1, y + top / LARGER - 1, x + right / LARGER + 1, y + bottom / LARGER + 1


def wrap(words: str, width: float, size: int) -> list[str]:
    """Break a sentence into lines that are no wider than `width` pixels, and words where they are longer than that."""
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if text_width(longer, size) <= width:
            lines[-1] = longer
            continue
        lines.append("")
        for letter in word:
            if text_width(lines[-1] + letter, size) > width:
                lines.append("")
            lines[-1] += letter
    return lines if lines[0] or len(lines) == 1 else lines[1:]


class Canvas:
    """A surface whose coordinates run from its upper left corner: pixel i reaches from i to i + 1."""

    def __init__(self, width: int, height: int) -> None:
        self._image = Image.new("RGB", (width * LARGER, height * LARGER), WHITE)
        self._pen = ImageDraw.Draw(self._image)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._image.width // LARGER, self._image.height // LARGER

    def copy(self) -> Canvas:
        """Give a canvas of its own that shows the same."""
        other = Canvas(0, 0)
        other._image = self._image.copy()
        other._pen = ImageDraw.Draw(other._image)
        return other

    def paint(self, pixels: Pixels) -> None:
        """Cover the canvas with an array of (height, width, 3)."""
        self._image.paste(Image.fromarray(pixels).resize(self._image.size, Image.Resampling.NEAREST))

    def paste(self, other: Canvas, x: int, y: int) -> None:
        """Lay another canvas onto this one, its upper left corner at (x, y)."""
        self._image.paste(other._image, (x * LARGER, y * LARGER))

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

    def fill(self, box: Box, colour: Colour) -> None:
        """Cover a rectangle."""
        self._pen.rectangle([edge * LARGER - 0.5 for edge in box], colour)

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
        """Write one line; `anchor` is Pillow's, `halo` the colour of a rim that lifts it off what lies below."""
        self._pen.text(
            (x * LARGER, y * LARGER),
            words,
            colour,
            font(size * LARGER),
            anchor,
            stroke_width=0 if halo is None else 2 * LARGER,
            stroke_fill=halo,
        )

    def finished(self) -> Image.Image:
        """Reduce all that was drawn to its size."""
        return self._image.reduce(LARGER)

    def _box(self, x: float, y: float, radius: float) -> Box:
        x, y, radius = x * LARGER - 0.5, y * LARGER - 0.5, radius * LARGER
        return x - radius, y - radius, x + radius, y + radius
