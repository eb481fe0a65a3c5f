"""Keys that come twice in a JSON object, of which decoders silently take the last."""

from __future__ import annotations

from mmap import mmap

from msgspec import Raw
from msgspec.json import Decoder

from roicli.errors import BoxError


class Key:
    """A key that equals only itself, so that one given twice is seen, not overwritten."""

    def __init__(self, text: str) -> None:
        self.text = text


MEMBERS = Decoder(dict[Key, Raw], dec_hook=lambda key, text: key(text))

_BLOCK = 1 << 20


def check_members(members: dict[Key, Raw], where: str) -> None:
    """Raise BoxError if a key of the object at `where` comes twice."""
    seen = set()
    for key in members:
        if key.text in seen:
            raise BoxError(f"{where}: key {key.text!r} given twice", "Leave one of them out.")
        seen.add(key.text)


def may_repeat(data: mmap | bytes, items: int) -> bool:
    """Tell whether one of `items` objects of a text may have two boxes or images: to count is quicker than to look."""
    return any(_count(data, key) > most for key, most in ((b'"bbox"', items), (b'"image_id"', items), (b"\\u00", 0)))


def _count(data: mmap | bytes, word: bytes) -> int:
    return sum(data[at : at + _BLOCK + len(word) - 1].count(word) for at in range(0, len(data), _BLOCK))
