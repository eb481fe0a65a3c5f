"""Results of ultralytics as JSON (`results[0].to_json()`): a list of detections of one image, each with a `box`.

A box is x1, y1, x2, y2; a turned one has four corners. The image is that of the file's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from msgspec import Struct, field
from msgspec.json import Decoder, encode

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.builder import Name
from roicli.boxfiles.collector import NO_BOX, Collector
from roicli.boxfiles.jsontext import fields, first_keys, unrecognized
from roicli.boxfiles.registry import Layout
from roicli.boxfiles.yolo import turned_box
from roicli.errors import BoxError
from roicli.regions import BoxFormat, Regions


class _Box(Struct, gc=False):
    x1: float | None
    y1: float | None
    x2: float | None
    y2: float | None
    x3: float | None = None
    y3: float | None = None
    x4: float | None = None
    y4: float | None = None


class _Segments(Struct, gc=False):
    x: list[float]
    y: list[float]


class _Detection(Struct, gc=False):
    box: _Box | None
    segments: _Segments | None = None
    name: str | None = None
    number: Name | None = field(default=None, name="class")
    confidence: float | None = None
    track_id: Name | None = None


_DETECTION = Decoder(_Detection)


def _recognizes(file: BoxFile) -> bool:
    return isinstance(file.document, list) and {"box", "class"} <= first_keys(file) if not file.is_lines else False


def _read(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    if not isinstance(document := file.document, list):
        raise unrecognized(file)
    found = Collector(file, ("label", "category", "score", "box_id", "angle"))
    found.image(file.stem)
    turned = False
    for number, raw in enumerate(document):
        one = fields(_DETECTION, raw, found.where(number))
        box = one.box
        numbers: tuple[float | None, ...] = NO_BOX if box is None else (box.x1, box.y1, box.x2, box.y2)
        angle = None
        if box is not None and box.x3 is not None:
            turned = True
            corners = (*numbers, box.x3, box.y3, box.x4, box.y4)
            if None in corners:
                raise BoxError(f"{found.where(number)}: a corner is missing", "Give all four corners.")
            *numbers, angle = turned_box(corners)  # type: ignore[arg-type, assignment]
        elif turned and box is not None:
            raise BoxError(f"{found.where(number)}: two corners after boxes of four", "Write one kind a file.")
        found.add(file.stem, numbers, one.name, one.number, one.confidence, one.track_id, angle)
    specified = BoxFormat.CXCYWH if turned else BoxFormat.XYXY
    return found.regions("ultralytics results", specified, box_format, by_file=True)


def _masks(file: BoxFile, _: Iterable[int]) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield the outlines of detections, in pixels."""
    assert isinstance(file.document, list)
    for number, raw in enumerate(file.document):
        outline = fields(_DETECTION, raw, f"{file.path}, box {number}").segments
        text = encode([[*chain(*zip(outline.x, outline.y, strict=False))]]) if outline else b""
        yield number, text, text


LAYOUT = Layout(
    "ultralytics results",
    _recognizes,
    _read,
    masks=_masks,
    files="a folder of `.json`",
    holds="ultralytics: an image a file; detections with `box` (x1, y1, x2, y2, or four corners)",
)
