"""JSON texts into values, and msgspec's complaints into ours: each says where and what to do.

A document is decoded in two steps, so that a COCO dataset of half a gigabyte needs little memory besides its text:
first into values left as raw text, which are views of it, then each box by itself into the fields that are used.
Everything else, such as segmentations, is only ever skipped.
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from msgspec import DecodeError, Raw, ValidationError
from msgspec.json import Decoder

from roicli.boxfiles.builder import INFINITE, NAN, NEGATIVE_INFINITE
from roicli.errors import BoxError
from roicli.words import listing

if TYPE_CHECKING:
    from roicli.boxfiles.boxfile import BoxFile

_T = TypeVar("_T")
_CONTEXT = 200

BOX_HINT = "Give each box four numbers, or five with the batch index first, or an object with image_id and bbox."
NO_BOX_HINT = (
    "Captions, panoptic and image_info files of COCO hold no boxes: use instances_*.json, person_keypoints_*.json or "
    "results with a bbox."
)
LAYOUTS_HINT = (
    'Write COCO annotations or results, {"image id": [[x1, y1, x2, y2], ...]}, or [[x1, y1, x2, y2], ...]; '
    "or a CSV with the columns image_id, x1, y1, x2, y2."
)

# Skips what is not a NaN or an Infinity, strings as a whole.
_NO_TOKEN = re.compile(rb'(?:[^"NI\-]++|"(?:[^"\\]++|\\.)*+"|-(?!I))*+', re.DOTALL)
_TOKENS = {b"NaN": NAN, b"-NaN": NAN, b"Infinity": INFINITE, b"-Infinity": NEGATIVE_INFINITE}
_TOKEN = re.compile(rb"-?(?:NaN|Infinity)")
TOKENS_NOTE = "NaN and Infinity are not JSON; read as Python writes and reads them"


class Key:
    """A key that equals only itself: one given twice is seen, not overwritten."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


_RAW = Decoder(Raw)
_LIST = Decoder(list[Raw])
MEMBERS = Decoder(dict[Key, Raw], dec_hook=lambda key, text: key(text))


class Document:
    """A JSON document, parsed to its first level.

    Attributes
    ----------
    data : bytes
        Its text.
    items : list of Raw
        Of an array, its items; else empty.
    members : dict of Key to Raw
        Of an object, its members; else empty.
    is_array : bool
        Whether it is an array.
    """

    def __init__(self, file: BoxFile) -> None:
        self.path = file.path
        self.data = file.data
        self.is_array = self.data.lstrip()[:1] == b"["
        self.items: list[Raw] = []
        self.members: dict[Key, Raw] = {}
        if self.is_array:
            self.items = parse(_LIST, self.data, file)
        else:
            self.members = parse(MEMBERS, self.data, file)

    def keys(self) -> list[str]:
        """Return the keys of the object, or of the first item that is an object."""
        members = self.members
        if self.is_array:
            members = next((_members(item) for item in self.items[:1] if is_object(item)), {})
        return [key.text for key in members]

    def lacks(self, *names: str) -> bool:
        """Tell whether the object has none of these keys."""
        return not any(key.text in names for key in self.members)

    def member(self, name: str) -> Raw | None:
        """Return a member of the object by its key; the last one, if there are several."""
        return next((raw for key, raw in reversed(self.members.items()) if key.text == name), None)


def _members(raw: Raw) -> dict[Key, Raw]:
    try:
        return MEMBERS.decode(raw)
    except DecodeError:
        return {}


def is_object(raw: Raw) -> bool:
    """Tell whether a raw value is an object."""
    return bytes(memoryview(raw)[:1]) == b"{"


def is_list(raw: Raw) -> bool:
    """Tell whether a raw value is an array."""
    return bytes(memoryview(raw)[:1]) == b"["


def has_key(raw: Raw, name: str) -> bool:
    """Tell whether a raw value is an object with a member `name`."""
    return is_object(raw) and any(key.text == name for key in _members(raw))


def is_value(line: bytes) -> bool:
    """Tell whether a line is one whole JSON value, a NaN in it or not."""
    try:
        _RAW.decode(without_tokens(line) if _TOKEN.search(line) else line)
    except DecodeError:
        return False
    return True


def without_tokens(data: bytes) -> bytes:
    """Put numbers for NaN and Infinity, which `json.dump` writes and JSON does not have.

    No box file has these numbers; `builder` turns them back.
    """
    parts, at = [], 0
    while (token := _TOKEN.match(data, (end := _NO_TOKEN.match(data, at).end()))) is not None:  # type: ignore[union-attr]
        parts += [data[at:end], repr(_TOKENS[token[0]]).encode()]
        at = token.end()
    return b"".join([*parts, data[at:]])


def parse(decoder: Decoder[_T], data: bytes, file: BoxFile, line: int = 1) -> _T:
    """Decode a document whose first line is `line` of its file; faults of syntax are located by line and column."""
    try:
        return decoder.decode(data)
    except ValidationError as error:
        raise refusal(error, str(file.path)) from error
    except DecodeError as error:
        fault = re.fullmatch(r"JSON is malformed: (.*) \(byte (\d+)\)", str(error))
        reason, offset = (fault[1], int(fault[2])) if fault else ("the text ends too early", len(data.rstrip()))
        # The fault of "-Infinity" is its second byte.
        if _TOKEN.match(data, offset) or _TOKEN.match(data, max(offset - 1, 0)):
            plain = without_tokens(data)
            if plain != data:
                file.has_tokens = True
                note = f"{file.path}: {TOKENS_NOTE}"
                file.notes += [] if note in file.notes else [note]
                return parse(decoder, plain, file, line)
        raise _malformed(data, file.path, line, offset, reason) from error


def _malformed(data: bytes, path: Path, line: int, offset: int, reason: str) -> BoxError:
    line_start = data.rfind(b"\n", 0, offset) + 1
    # What is not JSON may not be UTF-8 either, and then that is the thing to say: UnicodeDecodeError.
    utf8 = getincrementaldecoder("utf-8")()
    column = 1 + len(utf8.decode(data[line_start:offset]))
    utf8.decode(data[offset : offset + _CONTEXT].partition(b"\n")[0])
    line += data.count(b"\n", 0, offset)
    hint = "Look for a missing bracket, quote or comma there."
    if data[offset : offset + 1] == b"'" or re.match(rb"None|True|False", data[offset : offset + 5]):
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
    hint = BOX_HINT
    if reason.endswith("float, got str"):
        hint = "The number is in quotes: write it without them."
    return BoxError(f"{where}{place and ' ' + place}: {reason[:1].lower()}{reason[1:]}", hint)


def check_members(members: Iterable[Key], where: str) -> None:
    """Raise BoxError if a key of the object at `where` comes twice."""
    seen = set()
    for key in members:
        if key.text in seen:
            raise BoxError(f"{where}: key {key.text!r} given twice", "Leave one of them out.")
        seen.add(key.text)


def may_repeat(data: bytes, items: int) -> bool:
    """Tell whether one of `items` objects of a text may have two boxes or images: counting is quicker than looking."""
    return any(data.count(key) > most for key, most in ((b'"bbox"', items), (b'"image_id"', items), (b"\\u00", 0)))


# What the JSON of other tools looks like, by keys that only they have.
_TOOLS = (
    ({"shapes", "imagePath"}, "LabelMe"),
    ({"_via_img_metadata"}, "a VIA project"),
    ({"regions", "filename"}, "VIA annotations"),
    ({"detection_categories"}, "MegaDetector results"),
    ({"boxes", "labels"}, "torchvision detections"),
    ({"annotations", "file_name"}, "detectron2 dataset dicts"),
    ({"instances", "image_id"}, "detectron2 predictions"),
    ({"objects", "image_id"}, "Visual Genome objects"),
    ({"regions", "id"}, "Visual Genome regions"),
    ({"type", "features"}, "GeoJSON"),
)


def unrecognized(file: BoxFile) -> BoxError:
    """Make the error for JSON that no layout recognizes: it names the keys that are there."""
    document = file.document
    keys, inner = document.keys(), _inner_keys(document)
    tool = next((tool for known, tool in _TOOLS if known <= {*keys, *inner}), "")
    found = "nothing in it is an object with a box"
    if keys:
        found = f"{'its first item' if document.is_array else 'its object'} has the keys {_quoted(keys)}"
        found += f" and within them {_quoted(inner)}" if inner else ""
        found += f", as in {tool}" if tool else ""
    hint = NO_BOX_HINT if {"caption", "keypoints", "segments_info"} & {*keys} else LAYOUTS_HINT
    return BoxError(f"{file.path}: not a layout of boxes that roicli knows; {found}", hint)


def _inner_keys(document: Document) -> list[str]:
    """Return the keys of the first object, or of the first object in a list, among the members of an object."""
    for raw in document.members.values():
        first = _LIST.decode(raw)[:1] if is_list(raw) else [raw]
        if keys := [key.text for item in first if is_object(item) for key in _members(item)]:
            return keys
    return []


def _quoted(keys: list[str]) -> str:
    return listing([repr(key[:80]) for key in keys[:9]], 8)
