"""YOLO: text, one file an image, a line a region, in 0..1 of the image.

The class, then cx, cy, w, h; or the corners of a polygon, which becomes the upright box around it; or the four corners
of a turned box. A confidence may follow, and the number of a track after that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from msgspec.json import encode

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.collector import Collector, check_unit
from roicli.boxfiles.imagetable import size_of
from roicli.boxfiles.registry import Layout
from roicli.boxfiles.textlines import all_lines, are_numbers, first_lines, identity, numbers, words_of
from roicli.errors import BoxError
from roicli.regions import BoxFormat, Regions

_TITLE = "YOLO labels"
# Corners of a turned box are those of a parallelogram, up to how they are rounded; those of a polygon rarely are.
_ROUNDED = 1e-4


def _is_line(words: Sequence[str]) -> bool:
    """Tell whether a line may be one of YOLO: a class, then numbers in 0..1."""
    if not (words[0].isdecimal() and len(words) >= 5 and are_numbers([*words[1:]])):
        return False
    if len(words) in (6, 7) and float(words[-1]) > 1:  # confidence, and the number of a track
        words = words[:5]
    return all(-1 <= float(word) <= 2 for word in words[1:])


def _are_turned(lines: list[list[str]]) -> bool:
    return all_lines(lines, lambda words: len(words) in (9, 10))


def _is_parallelogram(words: Sequence[str]) -> bool:
    x1, y1, x2, y2, x3, y3, x4, y4 = map(float, words[1:9])
    return abs(x1 + x3 - x2 - x4) <= _ROUNDED and abs(y1 + y3 - y2 - y4) <= _ROUNDED


def _recognizes(file: BoxFile) -> bool:
    lines = first_lines(file)
    return all_lines(lines, _is_line) and not (_are_turned(lines) and all_lines(lines, _is_parallelogram))


def _recognizes_turned(file: BoxFile) -> bool:
    lines = first_lines(file)
    return _are_turned(lines) and all_lines(lines, _is_line)


def _lines(file: BoxFile, found: Collector) -> Iterator[tuple[int, str, list[float], list[float]]]:
    """Yield the number of each line, its class, the corners of its outline, and its numbers if it is a box.

    Six numbers are a box, its confidence and its track if all lines of six end in a whole number; else a triangle.
    """
    lines = [*words_of(file)]
    tracked = all(words[6].isdecimal() and words[6] != "0" for _, words in lines if len(words) == 7)
    for line, words in lines:
        values = numbers(words[1:], found.where(line), 2)
        if len(values) in (4, 5) or (len(values) == 6 and tracked):
            yield line, words[0], [], values
        elif len(values) >= 6 and len(values) % 2 == 0:
            yield line, words[0], values, []
        else:
            raise BoxError(
                f"{found.where(line)}: expected class, cx, cy, w, h or a class and corners, got {len(words)} numbers",
                "Write a region a line.",
            )


def _read(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    found, image = Collector(file, ("category", "score", "box_id"), "line"), file.stem
    found.image(image)
    title = _TITLE
    for line, name, outline, values in _lines(file, found):
        if outline:
            xs, ys, title = outline[::2], outline[1::2], f"{_TITLE}, the boxes around their outlines"
            x1, y1, x2, y2 = min(xs), min(ys), max(xs), max(ys)
            values = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
        score, track = (*values[4:], None, None)[:2]
        found.add(image, values[:4], _class(name), score, identity(track), row=line)
    regions = found.regions(title, BoxFormat.CXCYWH, box_format, normalized=True, by_file=True)
    return check_unit(regions, "YOLO boxes")


def _masks(file: BoxFile, _: Iterable[int]) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield outlines, which are in 0..1 of the image; a box is none."""
    for line, _name, outline, _values in _lines(file, Collector(file, (), "line")):
        text = encode({"unit": outline}) if outline else b""
        yield line, text, text


def _read_turned(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    """Read turned boxes in pixels: an angle has a meaning there only."""
    found = Collector(file, ("category", "score", "angle"), "line")
    lines = list(words_of(file))
    height, width = size_of(file) if lines else (1.0, 1.0)
    found.image(file.stem, height, width)
    for line, words in lines:
        if len(words) not in (9, 10):
            raise BoxError(
                f"{found.where(line)}: expected a class and four corners, got {len(words)} numbers", "See YOLO."
            )
        values = numbers(words[1:], found.where(line), 2)
        corners = [value * side for value, side in zip(values[:8], (width, height) * 4, strict=True)]
        *box, angle = turned_box(corners)
        found.add(file.stem, box, _class(words[0]), values[8] if len(values) > 8 else None, angle, row=line)
    return found.regions(f"{_TITLE} of turned boxes, made pixels", BoxFormat.CXCYWH, box_format, by_file=True)


def turned_box(corners: Sequence[float]) -> tuple[float, float, float, float, float]:
    """Return cx, cy, w, h and the angle of a box by its corners in pixels, from its upper left one clockwise.

    The angle is that of the first side, in degrees, counter-clockwise as the image is seen.

    Examples
    --------
    >>> turned_box([1, 2, 5, 2, 5, 4, 1, 4])
    (3.0, 3.0, 4.0, 2.0, 0.0)
    >>> [round(number, 6) for number in turned_box([2, 5, 2, 1, 4, 1, 4, 5])]  # the first side goes up
    [3.0, 3.0, 4.0, 2.0, 90.0]
    """
    x1, y1, x2, y2, x3, y3, x4, y4 = corners
    # Mean of both pairs of sides: corners are rounded.
    across = (x2 - x1 + x3 - x4) / 2, (y2 - y1 + y3 - y4) / 2
    down = (x4 - x1 + x3 - x2) / 2, (y4 - y1 + y3 - y2) / 2
    angle = -math.degrees(math.atan2(across[1], across[0])) or 0.0
    return (x1 + x2 + x3 + x4) / 4, (y1 + y2 + y3 + y4) / 4, math.hypot(*across), math.hypot(*down), angle


def _class(word: str) -> int | str:
    return int(word) if word.isdecimal() else word


DETECTION = Layout(
    "YOLO labels of boxes or outlines",
    _recognizes,
    _read,
    masks=_masks,
    files="a folder of `.txt`",
    holds="YOLO: an image a file; class, cx, cy, w, h in 0..1 of the image, or class and outline",
)
ORIENTED = Layout(
    "YOLO labels of turned boxes",
    _recognizes_turned,
    _read_turned,
    files="a folder of `.txt`",
    holds="YOLO: class and four corners in 0..1 of the image; needs the sizes of images",
)
