"""DOTA: text, one file an image; four corners in pixels, a category, and whether it is difficult, a line a region."""

from __future__ import annotations

from collections.abc import Sequence

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.collector import Collector
from roicli.boxfiles.registry import Layout
from roicli.boxfiles.textlines import are_numbers, first_lines, numbers, words_of
from roicli.boxfiles.yolo import turned_box
from roicli.errors import BoxError
from roicli.regions import BoxFormat, Regions

_HEADERS = ("imagesource", "gsd")


def _is_header(words: Sequence[str]) -> bool:
    return words[0].partition(":")[0].lower() in _HEADERS


def _recognizes(file: BoxFile) -> bool:
    lines = first_lines(file)
    rest = [words for words in lines if not _is_header(words)]
    return len(lines) > 0 and all(
        len(words) in (9, 10) and are_numbers(words[:8]) and not are_numbers(words[8:9]) for words in rest
    )


def _read(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    found = Collector(file, ("label", "angle"), "line")
    found.image(file.stem)
    for line, words in words_of(file):
        if _is_header(words):
            continue
        where = found.where(line)
        if len(words) not in (9, 10):
            raise BoxError(f"{where}: expected four corners and a category, got {len(words)} words", "See DOTA.")
        *box, angle = turned_box(numbers(words[:8], where))
        found.add(file.stem, box, words[8], angle, row=line)
    return found.regions("DOTA labels of turned boxes", BoxFormat.CXCYWH, box_format, by_file=True)


LAYOUT = Layout(
    "DOTA labels",
    _recognizes,
    _read,
    files="a folder of `.txt` (labelTxt)",
    holds="DOTA: an image a file; x1 y1 x2 y2 x3 y3 x4 y4 category difficult, in pixels",
)
