"""JSON texts into values, and msgspec's complaints into ours: each says where and what to do.

A document is decoded in two steps, so that a COCO dataset of half a gigabyte needs little memory besides its text:
first into values left as raw text, which are views of it, then each box by itself into the fields that are used.
Everything else, such as segmentations, is only ever skipped.
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from msgspec import DecodeError, Raw, ValidationError
from msgspec.json import Decoder

from roicli.boxfiles.builder import INFINITE
from roicli.errors import BoxError
from roicli.words import listing

if TYPE_CHECKING:
    from roicli.boxfiles.boxfile import BoxFile

_T = TypeVar("_T")
_CONTEXT = 200

NO_BOX_HINT = (
    "Captions, panoptic and image_info files of COCO hold no boxes: use instances_*.json, person_keypoints_*.json or "
    "results with a bbox."
)
_BOX_HINT = "Give each box four numbers, or five with the batch index first, or an object with image_id and bbox."
_LAYOUTS_HINT = (
    'Write COCO annotations or results, {"image id": [[x1, y1, x2, y2], ...]}, or [[x1, y1, x2, y2], ...]; '
    "or a CSV with the columns image_id, x1, y1, x2, y2."
)

# Whatever is not a NaN or an Infinity, strings as a whole, and then one of those, unless the text ends.
_TOKEN = re.compile(rb'((?:[^"NI\-]++|"(?:[^"\\]++|\\.?)*+"?|-(?![NI]))*+)(-?NaN|-?Infinity)?', re.DOTALL)
_INSTEAD = {b"NaN": b"null", b"-NaN": b"null", b"Infinity": b"%r" % INFINITE, b"-Infinity": b"%r" % -INFINITE}


class _Key:
    """A key that equals only itself: one given twice is seen, not overwritten."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


RAW = Decoder(Raw)
_MEMBERS = Decoder(dict[_Key, Raw], dec_hook=lambda key, text: key(text))
_DOCUMENT = Decoder(list[Raw] | dict[_Key, Raw], dec_hook=lambda key, text: key(text))


def parse_document(file: BoxFile) -> list[Raw] | dict[str, Raw]:
    """Parse a document to its first level."""
    document = parse(_DOCUMENT, file.data, file)
    return document if isinstance(document, list) else _unique(document, str(file.path))


def _unique(members: dict[_Key, Raw], where: str) -> dict[str, Raw]:
    """Return the members of the object at `where`; BoxError if a key comes twice."""
    unique = {key.text: raw for key, raw in members.items()}
    if len(unique) < len(members):
        name, _ = Counter(key.text for key in members).most_common(1)[0]
        raise BoxError(f"{where}: key {name[:200]!r} given twice", "Leave one of them out, or make them one.")
    return unique


def opens(raw: Raw, bracket: bytes) -> bool:
    """Tell whether a raw value begins with a bracket."""
    return bytes(memoryview(raw)[:1]) == bracket


def keys_of(raw: Raw) -> list[str]:
    """Return the keys of a raw object, or of the first item of a list."""
    with suppress(DecodeError):
        value = _DOCUMENT.decode(raw)
        return [key.text for key in value] if isinstance(value, dict) else keys_of(value[0]) if value else []
    return []


def first_keys(file: BoxFile) -> set[str]:
    """Return the keys of the first item of a list, or of the document itself; nothing for JSON Lines."""
    if file.is_lines:
        return set()
    document = file.document
    return {*document} if isinstance(document, dict) else {*keys_of(document[0])} if document else set()


def has_key(raw: Raw, name: str) -> bool:
    """Tell whether a raw value is an object with a member `name`."""
    return opens(raw, b"{") and name in keys_of(raw)


def is_mask(items: list[Raw]) -> bool:
    """Tell whether a list is of masks of Segment Anything, which name no image."""
    keys = {*keys_of(items[0])} if items else set[str]()
    return "bbox" in keys and bool(keys & {"predicted_iou", "stability_score"}) and "image_id" not in keys


def is_value(line: bytes) -> bool:
    """Tell whether a line is one whole JSON value, a NaN in it or not."""
    with suppress(DecodeError):
        return bool(RAW.decode(_without_tokens(line)))
    return False


def _without_tokens(data: bytes) -> bytes:
    """Put null for NaN and a number for Infinity, which `json.dump` writes and JSON does not have."""
    return _TOKEN.sub(lambda found: found[1] + _INSTEAD.get(found[2], b""), data)


def parse(decoder: Decoder[_T], data: bytes, file: BoxFile, line: int = 1) -> _T:
    """Decode a document whose first line is `line` of its file; faults of syntax are located by line and column."""
    try:
        return decoder.decode(data)
    except ValidationError as error:
        raise refusal(error, str(file.path)) from error
    except DecodeError as error:
        if (plain := _without_tokens(data)) != data:
            note = f"{file.path}: NaN and Infinity are not JSON; read as Python writes and reads them"
            file.notes += [] if note in file.notes else [note]
            return parse(decoder, plain, file, line)
        raise _malformed(data, file.path, line, str(error)) from error


def _malformed(data: bytes, path: Path, line: int, complaint: str) -> BoxError:
    """Make the error for what msgspec says of a text."""
    fault = re.fullmatch(r"JSON is malformed: (.*) \(byte (\d+)\)", complaint)
    reason, offset = (fault[1], int(fault[2])) if fault else ("the text ends too early", len(data.rstrip()))
    line_start = data.rfind(b"\n", 0, offset) + 1
    # What is not JSON may not be UTF-8 either, and then that is the thing to say: UnicodeDecodeError.
    utf8 = getincrementaldecoder("utf-8")()
    column = 1 + len(utf8.decode(data[line_start:offset]))
    utf8.decode(data[offset : offset + _CONTEXT].partition(b"\n")[0])
    line += data.count(b"\n", 0, offset)
    hint = "Look for a missing bracket, quote or comma there."
    if re.match(rb"'|None|True|False", data[offset : offset + 5]):
        hint = "This is how Python prints values: write the file with json.dump."
    return BoxError(f"{path}, line {line}, column {column}: malformed JSON, {reason}", hint)


def fields(decoder: Decoder[_T], raw: Raw, where: str) -> _T:
    """Decode one value of a document that has been parsed; faults are located by `where` it stands."""
    try:
        return decoder.decode(raw)
    except DecodeError as error:
        raise refusal(error, where) from error


def refusal(error: DecodeError, where: str) -> BoxError:
    """Put msgspec's "Expected `float`, got `str` - at `$.bbox[3]`" into a sentence of ours."""
    reason, _, place = str(error).replace("`", "").partition(" - at $")
    reason, place = reason.replace(" | null", ""), place.removeprefix(".")
    hint = _BOX_HINT
    if reason.endswith("float, got str"):
        hint = "The number is in quotes: write it without them."
    elif reason.endswith("float, got array"):
        hint = 'Lists of boxes within a list do not name their images: write {"image id": [[x1, y1, x2, y2], ...]}.'
    return BoxError(f"{where}{place and ' ' + place}: {reason[:1].lower()}{reason[1:]}", hint)


def may_repeat(text: bytes, items: int) -> bool:
    """Tell whether one of `items` objects of a text may have two boxes or images: counting is quicker than looking."""
    return text.count(b'"bbox"') > items or text.count(b'"image_id"') > items or b"\\u00" in text


def check_members(raw: Raw, where: str) -> None:
    """Raise BoxError if a raw value is an object with a key that comes twice."""
    if opens(raw, b"{"):
        _unique(fields(_MEMBERS, raw, where), where)


# What the JSON of other tools looks like, by keys that only they have.
TOOLS = (
    ({"boxes", "labels"}, "torchvision detections"),
    ({"x1", "y1", "x2", "y2"}, "tables of pandas: write them by to_csv"),
)


def unrecognized(file: BoxFile) -> BoxError:
    """Make the error for JSON that no layout recognizes: it names the keys that are there."""
    document, within, inner = file.document, "", list[str]()
    if isinstance(document, list):
        whose, keys = "its first item", keys_of(document[0]) if document else []
    else:
        whose, keys = "its object", [*document]
        within = next((name for name, raw in document.items() if keys_of(raw)), "")
        inner = keys_of(document[within]) if within else []
    found = f"{whose} has the keys {_quoted(keys)}" if keys else "nothing in it is an object with a box"
    found += f" and within them {_quoted(inner)}" if inner else ""
    found += next((f", as in {tool}" for known, tool in TOOLS if known <= {*keys, *inner}), "")
    hint = NO_BOX_HINT if {"caption", "keypoints", "segments_info"} & {*keys} else _LAYOUTS_HINT
    if {"bbox", "image_id"} <= {*inner}:
        hint = f"Write the list of {within[:80]!r} to a file of its own."
    return BoxError(f"{file.path}: not a layout of boxes that roicli knows; {found}", hint)


def _quoted(keys: list[str]) -> str:
    return listing([repr(key[:80]) for key in keys[:9]], 8)
