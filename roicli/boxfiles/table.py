"""From numbers, names and rows, as any format finds them, to `Regions`."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.errors import BoxError
from roicli.regions import BoxFormat, Column, Names, Regions, to_xyxy

Name = int | float | str
"""An image id or a box id, as files write it."""

FOUR_NUMBERS = "Give each box four numbers, or five with the batch index first."

# No file holds as many maps as this, and int64 holds every batch index below it.
_BATCH_INDEX_END = 2.0**53


def assumed_xyxy(source: str) -> str:
    """Return the note on numbers that nothing in their file explains."""
    return f"{source}: boxes taken as xyxy (--box-format says otherwise)"


def name_of(value: Name) -> str:
    """Return an id as text; 139, 139.0 and "139" are the same image."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


# NaN and infinite boxes are listed by row later on; until then they are ordinary numbers.
@np.errstate(over="ignore", invalid="ignore")
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
    regions = Regions(boxes=to_xyxy(given, box_format), given=given, box_format=box_format, **known)
    if numbers.shape[1] == 4:
        return regions
    batch_index = numbers[:, 0]
    legal = (batch_index >= 0) & (batch_index < _BATCH_INDEX_END) & (np.floor(batch_index) == batch_index)
    if not legal.all():
        bad = np.flatnonzero(~legal)
        raise BoxError(
            f"{regions.source}, {regions.where(bad)}: batch index {batch_index[bad[0]]:g} is not a whole number >= 0",
            "Before the four numbers of a box, give the position of its map in the file, from 0.",
        )
    return replace(regions, image_index=batch_index.astype(np.int64))


class TableBuilder:
    """Boxes as a reader meets them, one by one, in flat arrays.

    Parameters
    ----------
    source, row_word : str
        As in `Regions`.
    """

    def __init__(self, source: str, row_word: str) -> None:
        self._source = source
        self._row_word = row_word
        self._rows = array("q")
        self._numbers = array("d")
        self._images: dict[str, int] = {}
        self._image_index = array("q")
        self._box_ids: list[Name | None] = []
        self._layout = (4, False)

    @property
    def named(self) -> bool:
        """True if the boxes so far say which image they belong to."""
        return self._layout[1]

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: int, numbers: Sequence[float], image: Name | None = None, box_id: Name | None = None) -> None:
        """Add one box of four numbers, or of five with the batch index first; all must be of the same layout."""
        layout = (len(numbers), image is not None)
        if not self._rows:
            self._layout = layout
        elif layout != self._layout:
            raise BoxError(
                f"{self._source}, {self._row_word} {row}: {_in_words(layout)} after {_in_words(self._layout)}",
                "Write all boxes of a file the same way.",
            )
        self._rows.append(row)
        self._numbers.extend(numbers)
        if image is not None:
            self._image_index.append(self._images.setdefault(name_of(image), len(self._images)))
        self._box_ids.append(box_id)

    def table(self, box_format: BoxFormat, aliases: Mapping[str, str] | None = None) -> Regions:
        """Return the regions so far; `aliases` maps image ids to file names."""
        width, named = self._layout
        image_ids = tuple(self._images)
        box_ids = _id_column(self._box_ids)
        return regions_of(
            np.frombuffer(self._numbers).reshape(-1, width),
            box_format,
            image_index=np.frombuffer(self._image_index, np.int64) if named else None,
            image_ids=image_ids if named else None,
            rows=np.frombuffer(self._rows, np.int64),
            source=self._source,
            row_word=self._row_word,
            aliases=tuple(aliases.get(image, image) for image in image_ids) if named and aliases else None,
            columns={} if box_ids is None else {"box_id": box_ids},
        )


def _in_words(layout: tuple[int, bool]) -> str:
    width, named = layout
    return "a box of a named image" if named else f"a box of {width} numbers"


def _id_column(ids: list[Name | None]) -> Column | None:
    """Ids as integers if all of them are, else as text, empty where a box has none."""
    if all(box_id is None for box_id in ids):
        return None
    if all(isinstance(box_id, int) for box_id in ids):
        with suppress(OverflowError):
            return np.array(ids, np.int64)
    names: dict[str, int] = {}
    index = [names.setdefault("" if box_id is None else name_of(box_id), len(names)) for box_id in ids]
    return Names(np.array(index, np.int64), tuple(names))
