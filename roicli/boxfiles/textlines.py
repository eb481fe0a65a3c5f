"""Text of numbers without a header, a region a line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from roicli.boxfiles.boxfile import BoxFile
from roicli.errors import BoxError, FileError

# So many lines are looked at to recognize a layout.
_LOOKED_AT = 200
# Numbers of tracks are below this.
_MOST = 2.0**53
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def words_of(file: BoxFile, separator: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of each line, and its words."""
    for number, line in file.lines():
        if b"\0" in line:
            raise file.not_text()
        yield number, [word.strip() for word in line.decode().strip().split(separator)]


def first_lines(file: BoxFile, separator: str | None = None) -> list[list[str]]:
    """Return the words of the first lines; nothing for what is not such text."""
    try:
        return [words for _, words in islice(words_of(file, separator), _LOOKED_AT)]
    except (BoxError, FileError, UnicodeDecodeError):
        return []


def all_lines(lines: list[list[str]], fits: Callable[[list[str]], bool]) -> bool:
    """Tell whether there are lines, and all are as a layout has them."""
    return bool(lines) and all(map(fits, lines))


def are_numbers(words: Sequence[str]) -> bool:
    """Tell whether all words are plain numbers."""
    return all(map(_NUMBER.fullmatch, words))


def identity(value: float | None) -> int | None:
    """Return the number of a track or a person; None where there is none, as -1 says."""
    return int(value) if value is not None and 0 <= value < _MOST else None


def numbers(words: Sequence[str], where: str, first: int = 1) -> list[float]:
    """Return numbers; BoxError if a word, of which the first is the `first` one of its line, is not one."""
    if not are_numbers(words):
        for place, word in enumerate(words, first):
            if not _NUMBER.fullmatch(word) and word.lower() not in ("nan", "inf", "-inf"):
                raise BoxError(f"{where}: value {place}, {word[:80]!r}, is not a number", "Write a number there.")
    return list(map(float, words))
