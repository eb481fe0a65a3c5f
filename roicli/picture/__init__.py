"""A traced bin as a picture: where its samples lie on the map, and the pooled block that they end up in.

A .png is one picture; a .gif adds the samples of the bin up, one after the other. Cell i of the map is drawn from
i - 0.5 to i + 0.5, as feature coordinates count, so that each sample sits where its weights say.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from roicli.errors import OutputError, UsageError
from roicli.picture.canvas import Canvas
from roicli.picture.colours import PALETTE, Scale
from roicli.picture.figure import PAD, TITLE_SIZE, Figure
from roicli.picture.story import Moment, difference
from roicli.picture.view import BESIDE, Room, View, plan
from roicli.pooling.trace import BinTrace

MOST_FRAMES = 100
ALL_TAKE, LAST_HOLDS = 12_000, 3_000  # milliseconds
FOOT = 40  # pixels below two figures

__all__ = ["draw"]


def draw(traces: Sequence[BinTrace], path: Path, *, point: int = 0, titles: Sequence[str] = ()) -> None:
    """Draw a trace, or two of the same map to compare, into a .png or a .gif.

    Parameters
    ----------
    traces : sequence of one or two BinTrace
        Two are drawn side by side or one above the other, with the same crop and colours.
    path : Path
        What to write; its ending says how: .png for a still, .gif for an animation over the samples of the bin.
    point : int
        The sample that a still joins to its four neighbours.
    titles : sequence of str, optional
        One for each trace; by default each says how it was pooled.

    Raises
    ------
    UsageError
        Another ending, or a point that the first trace does not have.
    OutputError
        The file cannot be written.
    """
    if path.suffix.lower() not in (".png", ".gif"):
        raise UsageError(f"{path}: a picture cannot be a {path.suffix or 'file without ending'}", "Use .png or .gif.")
    count = traces[0].count
    if count and not 0 <= point < count:
        raise UsageError(f"point {point} is not among the {count} samples of this bin", f"Give 0 to {count - 1}.")
    view, room = plan(traces)
    scale = Scale.of(*(array for trace in traces for array in _seen(trace, view)))
    names = [*titles, *map(_title, traces[len(titles) :])]
    most = max(trace.count for trace in traces)
    still = path.suffix.lower() == ".png"
    moments = [Moment(point, most - 1)] if still else _moments(most)
    figures = [
        Figure(trace, view, scale, room, name, [moment.within(trace) for moment in moments])
        for trace, name in zip(traces, names, strict=True)
    ]
    for figure in figures:
        figure.title += [""] * (max(len(other.title) for other in figures) - len(figure.title))

    def frame(moment: Moment) -> Image.Image:
        drawn = [figure.at(moment.within(figure.trace)) for figure in figures]
        return _join(drawn, room, difference(traces) if len(traces) > 1 and moment.until + 1 >= most else "")

    with _writing(path) as file:
        if still:
            frame(moments[0]).save(file, "PNG")
        else:
            _save_animation(frame, moments, file)


def _seen(trace: BinTrace, view: View) -> tuple[NDArray[Any], NDArray[Any]]:
    return trace.plane[view.window(*trace.plane.shape)], trace.pooled


def _title(trace: BinTrace) -> str:
    return trace.operator.convention(trace.spec)


def _moments(count: int) -> list[Moment]:
    """One moment a sample, or as many as there may be frames, evenly chosen, the last sample always among them."""
    numbers = np.linspace(0, max(count - 1, 0), min(max(count, 1), MOST_FRAMES)).round().astype(int)
    return [Moment(number, number) for number in numbers.tolist()]


def _join(figures: list[Canvas], room: Room, words: str) -> Image.Image:
    """Put figures side by side or one above the other, and words below two of them."""
    widths, heights = zip(*(figure.size for figure in figures), strict=True)
    beside = room is BESIDE
    width, height = (sum(widths), max(heights)) if beside else (max(widths), sum(heights))
    whole = Canvas(width, height + (FOOT if len(figures) > 1 else 0))
    whole.text(PAD, height, words, size=TITLE_SIZE)
    x = y = 0
    for figure in figures:
        whole.paste(figure, x, y)
        x, y = (x + figure.size[0], 0) if beside else (0, y + figure.size[1])
    return whole.finished()


def _save_animation(frame: Callable[[Moment], Image.Image], moments: list[Moment], file: BinaryIO) -> None:
    palette = Image.new("P", (1, 1))
    palette.putpalette(PALETTE.tobytes())
    images = (frame(moment).quantize(palette=palette, dither=Image.Dither.NONE) for moment in moments)
    each = min(max(ALL_TAKE // len(moments), 120), 700)
    durations = [each] * (len(moments) - 1) + [LAST_HOLDS]
    next(images).save(file, "GIF", save_all=True, append_images=images, duration=durations, loop=0)


@contextmanager
def _writing(path: Path) -> Iterator[BinaryIO]:
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
