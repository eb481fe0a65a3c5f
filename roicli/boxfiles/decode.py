"""JSON texts into values, and msgspec's complaints into ours: every one says where and what to do."""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections.abc import Iterator
from mmap import mmap
from pathlib import Path
from typing import TypeVar

from msgspec import DecodeError, Raw, ValidationError
from msgspec.json import Decoder

from roicli.errors import BoxError

_T = TypeVar("_T")

_BLOCK = 1 << 20
_CONTEXT = 200

_BOX_HINT = "Give each box four numbers, or five with the batch index first, or an object with image_id and bbox."
NO_BOX_HINT = (
    "Captions, panoptic and image_info files of COCO hold no boxes: use instances_*.json, person_keypoints_*.json or "
    "results with a bbox."
)


def parse(decoder: Decoder[_T], data: mmap | bytes, path: Path, line: int = 1) -> _T:
    """Decode a document whose first line is `line` of its file; faults of syntax are told by line and column."""
    try:
        return decoder.decode(data)
    except ValidationError as error:
        raise _refusal(error, str(path)) from error
    except DecodeError as error:
        fault = re.fullmatch(r"JSON is malformed: (.*) \(byte (\d+)\)", str(error))
        reason, offset = (fault[1], int(fault[2])) if fault else ("the text ends too early", _last_of_text(data))
        line_start = data.rfind(b"\n", 0, offset) + 1
        # What is not JSON may not be UTF-8 either, and then that is the thing to say: UnicodeDecodeError.
        utf8 = getincrementaldecoder("utf-8")()
        column = 1 + sum(len(utf8.decode(part)) for part in _blocks(data, line_start, offset))
        utf8.decode(data[offset : offset + _CONTEXT].partition(b"\n")[0])
        hint = "Look for a missing bracket, quote or comma there."
        if re.match(rb"nan|inf", data[offset : offset + 3], re.IGNORECASE):
            hint = "JSON has no NaN and no Infinity: leave such boxes out, or use CSV or .npy."
        line += sum(part.count(b"\n") for part in _blocks(data, 0, offset))
        raise BoxError(f"{path}, line {line}, column {column}: malformed JSON, {reason}", hint) from error


def _last_of_text(data: mmap | bytes) -> int:
    """Offset of the end of a text without the blanks after it."""
    end = len(data)
    while end and not data[max(end - _BLOCK, 0) : end].strip():
        end -= min(_BLOCK, end)
    return end - _BLOCK + len(data[end - _BLOCK : end].rstrip()) if end > _BLOCK else len(data[:end].rstrip())


def _blocks(data: mmap | bytes, start: int, stop: int) -> Iterator[bytes]:
    """Yield a part of a text in blocks, since all of it may be a file larger than the memory."""
    for at in range(start, stop, _BLOCK):
        yield data[at : min(at + _BLOCK, stop)]


def fields(decoder: Decoder[_T], raw: Raw, where: str) -> _T:
    """Decode one value of a document that has been parsed; faults are told by `where` it stands."""
    try:
        return decoder.decode(raw)
    except DecodeError as error:
        raise _refusal(error, where) from error


def _refusal(error: DecodeError, where: str) -> BoxError:
    """Put msgspec's "Expected `float`, got `str` - at `$.bbox[3]`" into a sentence of ours."""
    reason, _, place = str(error).replace("`", "").partition(" - at $")
    place = place.removeprefix(".")
    hint = NO_BOX_HINT if reason.endswith("required field bbox") else _BOX_HINT
    if list_name := re.fullmatch("images|annotations", place):
        hint = f"In a COCO dataset, {list_name[0]} is a list of objects."
    return BoxError(f"{where}{place and ' ' + place}: {reason[:1].lower()}{reason[1:]}", hint)
