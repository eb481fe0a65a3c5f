"""From numbers, names and rows, as any layout finds them block by block, to `Regions`."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.errors import BoxError
from roicli.regions import BoxFormat, Column, Names, Regions, to_xyxy

Name = int | float | str
"""An image id or a box id, as files write it."""

FOUR_NUMBERS = "Give each box four numbers, or five with the batch index first."

# What JSON readers put for NaN and Infinity: no box file has these numbers.
NAN, INFINITE, NEGATIVE_INFINITE = -1.6180339887498948e308, 1.4142135623730951e308, -1.4142135623730951e308

# The image of an absent box that does not name one.
NO_IMAGE = float("-inf")

# Readers hand over so many boxes at once: enough for arrays to be quick, too few to need memory.
BLOCK = 4096

# Columns of numbers, NaN where a region has none. Others are integers if all values are, else text.
_NUMERIC = {"score", "angle", "area"}
# No map has a longer name, and a file of one endless id would fill the memory.
_LONGEST_ID = 4096
# No file holds as many maps as this, and int64 holds every batch index below it.
_BATCH_INDEX_END = 2.0**53


def assumed_xyxy(source: Path) -> str:
    """Return the note on numbers that nothing in their file explains."""
    return f"{source}: boxes taken as xyxy (`box_format` says otherwise)"


def name_of(value: Name) -> str:
    """Return an id as text; 139, 139.0 and "139" are the same image."""
    if isinstance(value, float):
        return "nan" if value == NAN else str(int(value)) if value.is_integer() else str(value)
    return str(value)


def restore_tokens(numbers: NDArray[np.float64]) -> None:
    """Put NaN and infinities, in place, where JSON readers have put numbers for them."""
    for stand_in, number in ((NAN, np.nan), (INFINITE, np.inf), (NEGATIVE_INFINITE, -np.inf)):
        numbers[numbers == stand_in] = number


class _UnusableIdError(ValueError):
    """An id that no file may have."""


class _Numbering(dict[Name, int]):
    """Numbers names in order of first appearance, and refuses those that are not usable."""

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, int] = {}
        self[NO_IMAGE] = -1

    def __missing__(self, value: Name) -> int:
        name = name_of(value)
        if "\0" in name:
            raise _UnusableIdError("an id with a NUL character")
        if len(name) > _LONGEST_ID or len(name.encode("utf-8", "surrogatepass")) > _LONGEST_ID:
            raise _UnusableIdError(f"an id longer than {_LONGEST_ID:,} bytes, {name[:20]!r}...")
        self[value] = number = self.names.setdefault(name, len(self.names))
        return number


class _Values:
    """A column in the making: integers as long as all values are, then text."""

    def __init__(self, missing: int, numeric: bool) -> None:
        self._numbers = array("d", [np.nan] * missing) if numeric else array("q")
        self._numeric = numeric
        self._text: array[int] | None = None
        self._names = _Numbering()
        if missing and not numeric:
            self._to_text(missing)

    def extend(self, values: Sequence[Name | None]) -> None:
        if self._numeric:
            try:
                self._numbers.extend(array("d", values))  # type: ignore[arg-type]
            except TypeError:
                self._numbers.extend([np.nan if value is None else value for value in values])  # type: ignore[misc]
            return
        if self._text is None:
            try:
                self._numbers.extend(array("q", values))  # type: ignore[arg-type]
                return
            except (TypeError, OverflowError):
                self._to_text(0)
        assert self._text is not None
        self._text.extend(self._names["" if value is None else value] for value in values)

    def _to_text(self, missing: int) -> None:
        before = [""] * missing if missing else list(map(str, self._numbers))
        self._text = array("q", [self._names[value] for value in before])

    def column(self) -> Column:
        if self._numeric:
            numbers = np.frombuffer(self._numbers)
            restore_tokens(numbers)
            return numbers
        if self._text is None:
            return np.frombuffer(self._numbers, np.int64)
        return Names(np.frombuffer(self._text, np.int64), tuple(self._names.names))


class Builder:
    """Boxes as a reader meets them, block by block, in flat arrays.

    Parameters
    ----------
    source, row_word
        As in `Regions`.
    """

    def __init__(self, source: Path, row_word: str) -> None:
        self.source = source
        self.row_word = row_word
        self._rows = array("q")
        self._numbers = array("d")
        self._absent: list[int] = []
        self._images = _Numbering()
        self._image_index = array("q")
        self._columns: dict[str, _Values] = {}
        self._width, self.named = 4, False

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def all_absent(self) -> bool:
        """Whether there are boxes and all of them are absent."""
        return 0 < len(self) == len(self._absent)

    def where(self, row: int) -> str:
        """Return where a box stands, for a message."""
        return f"{self.source}, {self.row_word} {row}"

    def extend(
        self,
        rows: Sequence[int],
        numbers: NDArray[np.float64],
        images: Sequence[Name] | None = None,
        absent: Iterable[int] = (),
        **columns: Sequence[Name | None],
    ) -> None:
        """Add a block of boxes.

        Parameters
        ----------
        rows : sequence of int
            Where each stands in its file.
        numbers : (n, 4) or (n, 5) float64
            As they stand in the file; the first of five is the batch index.
        images : sequence, optional
            The image id of each.
        absent : iterable of int
            Which of the block have no box, from 0.
        **columns
            Values of each, None where there is none.
        """
        if len(self) and (numbers.shape[1], images is not None) != (self._width, self.named):
            self.refuse_mixture(rows[0], (numbers.shape[1], images is not None))
        self._width, self.named = numbers.shape[1], images is not None
        self._absent.extend(len(self) + index for index in absent)
        for name, values in columns.items():
            if name not in self._columns and values.count(None) < len(values):
                self._columns[name] = _Values(len(self), name in _NUMERIC)
            if name in self._columns:
                self._number(rows, values, self._columns[name].extend)
        if images is not None:
            self._number(rows, images, lambda ids: self._image_index.extend(map(self._images.__getitem__, ids)))
        self._rows.extend(rows)
        self._numbers.frombytes(np.ascontiguousarray(numbers).tobytes())

    def _number(self, rows: Sequence[int], values: Sequence[Any], extend: Any) -> None:
        """Extend by a block of names; a name that no file may have is reported by its row."""
        try:
            extend(values)
        except _UnusableIdError as error:
            fresh = _Numbering()
            for row, value in zip(rows, values, strict=True):
                try:
                    fresh["" if value is None else value]
                except _UnusableIdError:
                    raise BoxError(f"{self.where(row)}: {error}", "Give it a short name in plain text.") from None
            raise

    def refuse_mixture(self, row: int, layout: tuple[int, bool]) -> None:
        """Raise BoxError for a box of another layout, (numbers, named), than those before it."""
        raise BoxError(
            f"{self.where(row)}: {_in_words(layout)} after {_in_words((self._width, self.named))}",
            "Write all boxes of a file the same way.",
        )

    # NaN and infinite boxes are listed by row later on; until then they are ordinary numbers.
    @np.errstate(over="ignore", invalid="ignore")
    def build(
        self,
        box_format: BoxFormat,
        aliases: Mapping[str, str] | None = None,
        sizes: Mapping[str, tuple[float | None, ...]] | None = None,
        **known: Any,
    ) -> Regions:
        """Return the regions so far.

        Parameters
        ----------
        box_format : BoxFormat
            What the four numbers mean.
        aliases, sizes : mapping, optional
            File names, and heights and widths, by image id.
        **known
            More of `Regions`, by its names.
        """
        ids = tuple(self._images.names)
        absent = np.zeros(len(self), np.bool_) if self._absent else None
        if absent is not None:
            absent[self._absent] = True
        return regions_of(
            np.frombuffer(self._numbers).reshape(-1, self._width),
            box_format,
            rows=np.frombuffer(self._rows, np.int64),
            source=str(self.source),
            row_word=self.row_word,
            image_index=np.frombuffer(self._image_index, np.int64) if self.named else None,
            image_ids=ids if self.named else None,
            aliases=tuple(aliases.get(image, image) for image in ids) if self.named and aliases else None,
            image_sizes=_sizes(ids, sizes) if ids and sizes else None,
            columns={name: values.column() for name, values in self._columns.items()},
            absent=absent,
            **known,
        )


def regions_of(numbers: NDArray[np.float64], box_format: BoxFormat, **known: Any) -> Regions:
    """Put numbers as they stand in a file into `Regions`.

    Parameters
    ----------
    numbers : (K, 4) or (K, 5) float64
        The boxes; the first of five columns is the batch index.
    box_format : BoxFormat
        What the last four columns mean.
    **known
        Everything else that is known of them, under the names of `Regions`.
    """
    given = numbers[:, -4:]
    with np.errstate(over="ignore", invalid="ignore"):
        regions = Regions(boxes=to_xyxy(given, box_format), given=given, box_format=box_format, **known)
    if numbers.shape[1] == 4:
        return regions
    batch_index = numbers[:, 0]
    legal = (batch_index >= 0) & (batch_index < _BATCH_INDEX_END) & (np.floor(batch_index) == batch_index)
    if not legal.all():
        bad = np.flatnonzero(~legal)
        raise BoxError(
            f"{regions.source}, {regions.where(bad)}: batch index {batch_index[bad[0]]:g} is not a whole number >= 0",
            "The first of five numbers is the batch index, the position of the map from 0."
            + (" Is the score last? Leave it out." if _score_is_last(numbers) else ""),
        )
    notes = regions.notes
    if box_format is BoxFormat.XYXY and _score_is_last(numbers):
        notes = (*notes, f"{regions.source}: the last of five numbers looks like a score; the first is the batch index")
    return replace(regions, image_index=batch_index.astype(np.int64), notes=notes)


def _score_is_last(numbers: NDArray[np.float64]) -> bool:
    """Tell whether five numbers look like x1, y1, x2, y2, score.

    Read as batch index, x1, y1, x2, y2, all of them would be inverted: x2, taken as y1, is beyond the score.
    """
    x1, y1, x2, y2, last = numbers.T
    boxes = (x2 > x1) & (y2 > y1) & (x2 > 1)
    return bool(len(numbers) and boxes.all() and ((last >= 0) & (last <= 1)).all() and (last % 1 != 0).any())


def _sizes(ids: Iterable[str], sizes: Mapping[str, tuple[float | None, ...]]) -> NDArray[np.float64]:
    return np.array([sizes.get(image, (None, None)) for image in ids], np.float64)


def _in_words(layout: tuple[int, bool]) -> str:
    width, named = layout
    return "a box of a named image" if named else f"a box of {width} numbers"
