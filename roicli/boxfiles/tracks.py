"""Text of video data sets, separated by commas, without a header: MOTChallenge and AVA."""

from __future__ import annotations

from collections.abc import Sequence

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.collector import NO_BOX, Collector, check_unit
from roicli.boxfiles.registry import Layout
from roicli.boxfiles.textlines import all_lines, are_numbers, first_lines, identity, numbers, words_of
from roicli.errors import BoxError
from roicli.regions import BoxFormat, Regions

_MOT = (6, 7, 8, 9, 10)
_AVA = (7, 8)


def _is_mot_line(words: Sequence[str]) -> bool:
    first = words[0].partition(".")[0]
    return len(words) in _MOT and are_numbers([*words]) and first.isdecimal() and float(words[0]) == int(first)


def _is_mot(file: BoxFile) -> bool:
    return all_lines(first_lines(file, ","), _is_mot_line)


def _read_mot(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    """Read frame, track, left, top, width, height, confidence; the image is the number of the frame."""
    found = Collector(file, ("box_id", "score", "category"), "line")
    for line, words in words_of(file, ","):
        where = found.where(line)
        if len(words) not in _MOT:
            raise BoxError(f"{where}: expected 6 to 10 values, got {len(words)}", "Write the text of MOT.")
        frame, track, *box = numbers(words[:6], where)
        score = numbers(words[6:7], where, 7)[0] if len(words) > 6 else None
        category = words[7] if len(words) == 9 else None  # of ground truth; -1 of detections
        found.add(frame, box, identity(track), score, category, row=line)
    note = f"{file.path}: the first line is a box already; frames and pixels counted from 1 are kept as they are"
    return found.regions("MOTChallenge", BoxFormat.XYWH, box_format, notes=(note,))


def _is_ava_line(words: Sequence[str]) -> bool:
    named = len(words) in _AVA and not are_numbers([*words[:1]]) and are_numbers([*words[1:2]])
    boxed = named and all(not word or (are_numbers([word]) and -1 <= float(word) <= 2) for word in words[2:6])
    return boxed and are_numbers([word for word in words[6:] if word])


def _is_ava(file: BoxFile) -> bool:
    return all_lines(first_lines(file, ","), _is_ava_line)


def _read_ava(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    """Read video, timestamp, x1, y1, x2, y2, action, person; detections have a score instead of a person.

    The image is `video,timestamp` as in the file, or `video_timestamp`.
    """
    found = Collector(file, ("category", "box_id", "score"), "line")
    for line, words in words_of(file, ","):
        where = found.where(line)
        if len(words) not in _AVA:
            raise BoxError(f"{where}: expected 7 or 8 values, got {len(words)}", "Write the CSV of AVA.")
        video, time = words[:2]
        image = f"{video},{time}"
        found.image(image, file_name=f"{video}_{time}")
        box: Sequence[float | None] = NO_BOX
        if any(words[2:6]):
            box = numbers(words[2:6], where, 3)
        last = numbers(words[7:], where, 8)[0] if len(words) == 8 and words[7] else None
        is_score = last is not None and (not words[6] or last % 1 != 0)
        person = None if is_score else identity(last)
        found.add(image, box, words[6] or None, person, last if is_score else None, row=line)
    return check_unit(found.regions("AVA", BoxFormat.XYXY, box_format, normalized=True), "boxes of AVA")


MOT = Layout(
    "MOTChallenge text",
    _is_mot,
    _read_mot,
    files="`gt.txt`, `det.txt`",
    holds="MOTChallenge: frame, id, left, top, width, height, confidence, ...; the frame is the image",
)
AVA = Layout(
    "an AVA CSV",
    _is_ava,
    _read_ava,
    files="`ava_val_v2.2.csv`",
    holds="AVA: video, timestamp, x1, y1, x2, y2 in 0..1, action, person; the image is `video,timestamp`",
)
