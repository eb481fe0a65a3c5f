"""From numbers, names and rows, as any layout finds them block by block, to `Regions`."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from roicli.errors import BoxError
from roicli.regions import BoxFormat, Column, Names, Regions, to_xyxy

_T = TypeVar("_T")

Name = int | float | str
"""An image id or a box id, as files write it."""

FOUR_NUMBERS = "Give each box four numbers, or five with the batch index first."

# What JSON readers put for Infinity: no box file has this number.
INFINITE = 1.4142135623730951e308

# Columns of numbers, NaN where a region has none. Others are integers if all values are, else text.
_NUMERIC = {"score", "angle", "area"}
# Enough boxes at once for arrays to be quick, too few to need memory.
_BLOCK = 4096
# No map has a longer name, and a file of one endless id would fill the memory.
_LONGEST_ID = 4096
# No file holds as many maps as this, and int64 holds every batch index below it.
_BATCH_INDEX_END = 2.0**53


def assumed_xyxy(source: Path) -> str:
    """Return the note on numbers that nothing in their file explains."""
    return f"{source}: boxes taken as xyxy (`box_format` says otherwise)"


def name_of(value: Name) -> str:
    """Return an id as text; 139, 139.0 and "139" are the same image."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def blocks(items: Iterable[_T]) -> Iterator[list[_T]]:
    """Yield items so many at once as a builder likes."""
    iterator = iter(items)
    return iter(lambda: list(islice(iterator, _BLOCK)), [])


def restore_infinities(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Put infinities, in place, where JSON readers have put numbers for them."""
    with np.errstate(over="ignore"):
        numbers[np.abs(numbers) == INFINITE] *= 2
    return numbers


class _UnusableIdError(ValueError):
    """An id that no file may have; its arguments are the fault and the id."""


class _Numbering(dict[Name | None, int]):
    """Numbers names in order of first appearance, and refuses those that are not usable."""

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, int] = {}

    def __missing__(self, value: Name) -> int:
        name = name_of(value)
        if "\0" in name:
            raise _UnusableIdError("an id with a NUL character", value)
        if len(name) > _LONGEST_ID or len(name.encode("utf-8", "surrogatepass")) > _LONGEST_ID:
            raise _UnusableIdError(f"an id longer than {_LONGEST_ID:,} bytes, {name[:20]!r}...", value)
        self[value] = number = self.names.setdefault(name, len(self.names))
        return number

    def numbers(self, values: Iterable[Name | None]) -> Iterator[int]:
        """Yield the number of each name."""
        return map(self.__getitem__, values)


class _Values:
    """A column in the making: numbers, or integers as long as all values are, then names."""

    def __init__(self, name: str, missing: int) -> None:
        self._numeric = name in _NUMERIC
        self._numbers: array[Any] = array("d" if self._numeric else "q")
        self._names: _Numbering | None = None
        self.extend([None] * missing)

    def extend(self, values: Sequence[Name | None]) -> None:
        if self._numeric:
            self._numbers.frombytes(np.array(values, np.float64).tobytes())
            return
        if self._names is None:
            try:
                self._numbers.extend(array("q", values))
                return
            except (TypeError, OverflowError):
                self._names = _Numbering()
                self._numbers = array("q", self._names.numbers(map(str, self._numbers)))
        self._numbers.extend(self._names.numbers("" if value is None else value for value in values))

    def column(self) -> Column:
        if self._numeric:
            return restore_infinities(np.frombuffer(self._numbers))
        numbers = np.frombuffer(self._numbers, np.int64)
        return numbers if self._names is None else Names(numbers, tuple(self._names.names))


class Builder:
    """Boxes as a reader meets them, block by block, in flat arrays.

    `source`, `row_word`: as in `Regions`.
    """

    def __init__(self, source: Path, row_word: str) -> None:
        self.source = source
        self.row_word = row_word
        self._rows = array("q")
        self._numbers = array("d")
        self._images = _Numbering()
        self._images[None] = -1  # of an absent box
        self._image_index = array("q")
        self._columns: dict[str, _Values] = {}
        self._width, self.named = 4, False

    def __len__(self) -> int:
        return len(self._rows)

    def where(self, row: int) -> str:
        """Return where a box stands, for a message."""
        return f"{self.source}, {self.row_word} {row}"

    def extend(
        self,
        rows: Sequence[int],
        numbers: NDArray[np.float64],
        images: Sequence[Name | None] | None = None,
        **columns: Sequence[Name | None],
    ) -> None:
        """Add a block of boxes.

        `rows`: where each stands in its file.
        `numbers` (n, 4): as they stand in the file; the first of five is the batch index.
        `images`: the image id of each, None if an absent box is of no image.
        `**columns`: values of each, None where there is none.
        """
        before, now = (self._width, self.named), (numbers.shape[1], images is not None)
        if len(self) and now != before:
            raise BoxError(
                f"{self.where(rows[0])}: {_in_words(*now)} after {_in_words(*before)}",
                "Write all boxes of a file the same way.",
            )
        self._width, self.named = now
        for name, values in columns.items():
            if name not in self._columns and values.count(None) < len(values):
                self._columns[name] = _Values(name, len(self))
            if name in self._columns:
                self._take(rows, values, self._columns[name].extend)
        if images is not None:
            self._take(rows, images, lambda ids: self._image_index.extend(self._images.numbers(ids)))
        self._rows.extend(rows)
        self._numbers.frombytes(np.ascontiguousarray(numbers).tobytes())

    def _take(
        self, rows: Sequence[int], values: Sequence[Name | None], extend: Callable[[Sequence[Name | None]], None]
    ) -> None:
        """Extend by a block of names; one that no file may have is reported by its row."""
        try:
            extend(values)
        except _UnusableIdError as error:
            fault, value = error.args
            where = self.where(rows[values.index(value)])
            raise BoxError(f"{where}: {fault}", "Give it a short name in plain text.") from None

    def build(
        self,
        box_format: BoxFormat,
        aliases: Mapping[str, str] | None = None,
        sizes: Mapping[str, tuple[float | None, ...]] | None = None,
        **known: Any,
    ) -> Regions:
        """Return the regions so far.

        `box_format`: what the four numbers mean.
        `aliases`, `sizes`: file names, and heights and widths, by image id.
        `**known`: more of `Regions`, by its names.
        """
        ids = tuple(self._images.names)
        if self.named:
            known |= {"image_index": np.frombuffer(self._image_index, np.int64), "image_ids": ids}
            if aliases:
                known["aliases"] = tuple(aliases.get(image, image) for image in ids)
            if ids and sizes:
                known["image_sizes"] = np.array([sizes.get(image, (None, None)) for image in ids], np.float64)
        return regions_of(
            np.frombuffer(self._numbers).reshape(-1, self._width),
            box_format,
            rows=np.frombuffer(self._rows, np.int64),
            source=str(self.source),
            row_word=self.row_word,
            columns={name: values.column() for name, values in self._columns.items()},
            **known,
        )


def regions_of(
    numbers: NDArray[np.float64],
    box_format: BoxFormat,
    blocks: Iterable[NDArray[np.float64]] | None = None,
    **known: Any,
) -> Regions:
    """Put numbers as they stand in a file into `Regions`.

    `numbers` (K, 4): the boxes; the first of five columns is the batch index.
    `box_format`: what the last four columns mean.
    `blocks`: the same numbers piece by piece, where `numbers` is a memory map whose pages should stay in their file.
    `**known`: everything else that is known of them, under the names of `Regions`.
    """
    given = numbers[:, -4:]
    # NaN and infinite boxes are listed by row later on; until then they are ordinary numbers.
    with np.errstate(over="ignore", invalid="ignore"):
        regions = Regions(boxes=to_xyxy(given, box_format), given=given, box_format=box_format, **known)
    if numbers.shape[1] == 4:
        return regions
    index, first = np.empty(len(numbers), np.int64), 0
    bad: list[NDArray[np.intp]] = []
    boxes, fraction = len(numbers) > 0, False
    for block in (numbers,) if blocks is None else blocks:
        batch_index = block[:, 0]
        if (nowhere := np.isnan(batch_index)).any():  # an absent box may be of no image
            nowhere &= np.isnan(block[:, 1:]).all(axis=1)
            batch_index = np.where(nowhere, -1, batch_index)
        legal = (batch_index >= 0) & (batch_index < _BATCH_INDEX_END) & (np.floor(batch_index) == batch_index) | nowhere
        if not legal.all():
            bad.append(first + np.flatnonzero(~legal))
        with np.errstate(invalid="ignore"):
            index[first : first + len(block)] = batch_index
        first += len(block)
        boxes = boxes and _scores_may_be_last(block)
        fraction = fraction or (boxes and bool((block[:, 4] % 1 != 0).any()))
    if bad:
        rows = np.concatenate(bad)
        raise BoxError(
            f"{regions.source}, {regions.where(rows)}: batch index {numbers[rows[0], 0]:g} is not a whole number >= 0",
            "The first of five numbers is the batch index, the position of the map from 0."
            + (" Is the score last? Leave it out." if boxes and fraction else "")
            + (
                " Is it cx, cy, w, h, angle? Give `boxes_as=npy-rotated`." if regions.layout == "array of boxes" else ""
            ),
        )
    notes = regions.notes
    if box_format is BoxFormat.XYXY and boxes and fraction:
        notes = (*notes, f"{regions.source}: the last of five numbers looks like a score; the first is the batch index")
    return replace(regions, image_index=index, notes=notes)


def _scores_may_be_last(numbers: NDArray[np.float64]) -> bool:
    """Tell whether five numbers may be x1, y1, x2, y2, score.

    Read as batch index, x1, y1, x2, y2, all of them would be inverted: x2, taken as y1, is beyond the score.
    """
    x1, y1, x2, y2, last = numbers.T
    return bool(((x2 > x1) & (y2 > y1) & (x2 > 1) & (last >= 0) & (last <= 1)).all())


def _in_words(width: int, named: bool) -> str:
    return "a box of a named image" if named else f"a box of {width} numbers"
