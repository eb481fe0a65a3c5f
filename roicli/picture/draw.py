"""Draw traces into a file: a .png is one picture, a .gif adds the samples of the bin up, one after the other.

Cell i of the map is drawn from i - 0.5 to i + 0.5, as feature coordinates count, so that each sample sits where its
weights say.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from roicli.errors import OutputError, UsageError
from roicli.picture.canvas import Canvas, fitted
from roicli.picture.colors import PALETTE, Scale
from roicli.picture.figure import ALONE, BESIDE, Figure, draw_legend, legend
from roicli.picture.story import check_point, chosen
from roicli.picture.view import map_view
from roicli.pooling.bintrace import BinTrace

PAD, HEAD, FOOT, GAP = 24, 44, 30, 28
MOST_FRAMES = 60
EACH, LAST = 1500, 4000  # milliseconds of a frame
DPI = 96  # at which a unit of the layout is a pixel


def draw(
    traces: Sequence[BinTrace],
    path: Path,
    *,
    point: int | None = None,
    heading: str = "",
    titles: Sequence[str] = (),
    dpi: int = DPI,
) -> None:
    """Draw a trace, or several of the same map side by side, into a .png or a .gif.

    Parameters
    ----------
    traces : sequence of BinTrace
        Several are drawn with the same crop and colors.
    path : Path
        What to write; its ending says how: .png for a still, .gif for an animation over the samples of the bin.
    point : int, optional
        The sample that a still joins to its four neighbors; by default the maximum, or the first one in range.
    heading : str
        Stands above all.
    titles : sequence of str
        One for each trace.
    dpi : int
        Pixels an inch: 96 makes a picture 1,128 pixels wide of one trace.

    Raises
    ------
    UsageError
        Another ending, or a point that the first trace does not have.
    OutputError
        The file cannot be written.
    """
    if path.suffix.lower() not in (".png", ".gif"):
        raise UsageError(
            f"{path}: expected a name that ends in .png or .gif",
            f"Give `picture={path.parent / (path.stem + '.png')}`.",
        )
    check_point(traces[0], point)
    page = Page(traces, heading, titles, dpi, animated=path.suffix.lower() == ".gif")
    with writing(path) as file:
        if page.animated:
            frames, durations = page.frames(), [EACH] * (len(page.numbers) - 1) + [LAST]
            next(frames).save(file, "GIF", save_all=True, append_images=frames, duration=durations, loop=0)
        else:
            page.still(point).save(file, "PNG", dpi=(dpi, dpi))


class Page:
    """A picture of one or more traces."""

    def __init__(
        self, traces: Sequence[BinTrace], heading: str, titles: Sequence[str], dpi: int, *, animated: bool
    ) -> None:
        # Of many samples, some are chosen evenly for an animation, the last one always among them.
        most = max(1, *(trace.count for trace in traces))
        self.numbers = np.linspace(0, most - 1, min(most, MOST_FRAMES)).round().astype(int).tolist()
        self.animated = animated
        layout = ALONE if len(traces) == 1 else BESIDE
        view = map_view(traces, layout.map)
        seen = view.window(traces[0].plane.shape)
        scale = Scale.of(*(array for trace in traces for array in (trace.plane[seen], trace.pooled)))
        width, height = layout.size
        self.figures = [
            Figure(trace, view, scale, layout, title, (PAD + number * (width + GAP), PAD + HEAD), traces[0])
            for number, (trace, title) in enumerate(zip(traces, titles or [""] * len(traces), strict=True))
        ]
        whole = 2 * PAD + len(traces) * (width + GAP) - GAP
        self._base = Canvas(whole, 2 * PAD + HEAD + height + FOOT, dpi / DPI)
        self._base.text(PAD, PAD + 18, fitted(heading, whole - 2 * PAD, 20), size=20)
        side = min((1, -1), key=lambda side: sum(figure.map.harm(side) for figure in self.figures))
        for figure in self.figures:
            figure.draw(self._base, side)
        draw_legend(self._base, legend(self.figures, animated), PAD, PAD + HEAD + height + FOOT - 7)

    def still(self, point: int | None) -> Image.Image:
        """Draw the picture with all samples added up."""
        return self._frame([chosen(figure.trace, point) for figure in self.figures], self.numbers[-1])

    def frames(self) -> Iterator[Image.Image]:
        """Draw an animation, which adds the samples up."""
        for number in self.numbers:
            yield self._frame([chosen(figure.trace, number) for figure in self.figures], number)

    def _frame(self, points: Sequence[int], until: int) -> Image.Image:
        canvas = self._base.copy()
        for figure, point in zip(self.figures, points, strict=True):
            figure.at(canvas, point, min(until, figure.trace.count - 1))
        # A third of the bytes of true colors, and no frame of an animation differs in its palette from another.
        palette = Image.new("P", (1, 1))
        palette.putpalette(PALETTE.tobytes())
        return canvas.finished().quantize(palette=palette, dither=Image.Dither.NONE)


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside `path` that takes its name when it is complete."""
    final = Path(os.path.realpath(path))
    beside = final.with_name(f".{secrets.token_hex(8)}.partial")  # short: the final name may be as long as can be
    try:
        with beside.open("xb") as file:
            yield file
        beside.replace(final)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot write: {error.strerror or error}", "Check the folder, its permissions and its disk."
        ) from error
    finally:
        beside.unlink(missing_ok=True)
