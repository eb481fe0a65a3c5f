"""JSON Lines: one box or COCO result a line. The file is read line by line and may be larger than the memory."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Raw
from msgspec.json import Decoder

from roicli.boxfiles.boxfile import LINE_SUFFIXES, BoxFile
from roicli.boxfiles.jsonitems import RESULT_OR_NUMBERS, ItemReader
from roicli.boxfiles.jsontext import may_repeat, parse
from roicli.boxfiles.layout import Layout
from roicli.regions import BoxFormat, Regions

_VALUE = Decoder(Raw)


def _items(file: BoxFile) -> Iterator[tuple[int, Raw, bool]]:
    for number, line in file.lines():
        yield number, parse(_VALUE, line, file, number), may_repeat(line, 1)


def _read(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    reader = ItemReader(file, "line", box_format)
    reader.read(_items(file), RESULT_OR_NUMBERS)
    return reader.regions(BoxFormat.XYWH, "COCO results" if reader.builder.named else "JSON Lines")


LAYOUT = Layout(
    "json-lines",
    "JSON Lines, a box a line",
    "json",
    lambda file: file.is_lines,
    _read,
    LINE_SUFFIXES,
    holds="one box per line, as in a list: numbers, or an object with `image_id` and `bbox` (xywh)",
)
