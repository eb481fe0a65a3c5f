"""From numbers, names and rows, as any format finds them, to a `BoxTable`."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from roicli.errors import BoxError
from roicli.regions import BoxFormat, BoxTable, to_xyxy

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
def table_of(numbers: NDArray[np.float64], table: BoxTable, box_format: BoxFormat) -> BoxTable:
    """Put numbers as they stand in a file into a table.

    Parameters
    ----------
    numbers : (K, 4) or (K, 5) float64
        The boxes; of five columns the first is the batch index.
    table : BoxTable
        Everything else that is known of them.
    box_format : BoxFormat
        What the last four columns mean.
    """
    table = replace(table, boxes=to_xyxy(numbers[:, -4:], box_format), box_format=box_format)
    if numbers.shape[1] == 4:
        return table
    batch_index = numbers[:, 0]
    legal = (batch_index >= 0) & (batch_index < _BATCH_INDEX_END) & (np.floor(batch_index) == batch_index)
    if not legal.all():
        bad = np.flatnonzero(~legal)
        raise BoxError(
            f"{table.source}, {table.where(bad)}: batch index {batch_index[bad[0]]:g} is not a whole number >= 0",
            "Before the four numbers of a box, give the position of its map in the file, from 0.",
        )
    return replace(table, image_index=batch_index.astype(np.int64))


class TableBuilder:
    """Boxes as a reader meets them, one by one, in flat arrays.

    Parameters
    ----------
    source, row_word : str
        As in `BoxTable`.
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

    def table(self, box_format: BoxFormat, aliases: Mapping[str, str] | None = None) -> BoxTable:
        """Return the table of the boxes so far; `aliases` maps image ids to file names."""
        width, named = self._layout
        image_ids = tuple(self._images)
        numbers = np.frombuffer(self._numbers).reshape(-1, width)
        table = BoxTable(
            boxes=numbers,
            image_index=np.frombuffer(self._image_index, np.int64) if named else None,
            image_ids=image_ids if named else None,
            rows=np.frombuffer(self._rows, np.int64),
            source=self._source,
            row_word=self._row_word,
            aliases=tuple(aliases.get(image, image) for image in image_ids) if named and aliases else None,
            box_ids=_id_column(self._box_ids),
        )
        return table_of(numbers, table, box_format)


def _in_words(layout: tuple[int, bool]) -> str:
    width, named = layout
    return "a box of a named image" if named else f"a box of {width} numbers"


def _id_column(ids: list[Name | None]) -> NDArray[np.int64] | NDArray[np.str_] | None:
    """Ids as integers if all of them are, else as text, empty where a box has none."""
    if all(box_id is None for box_id in ids):
        return None
    if all(isinstance(box_id, int) for box_id in ids):
        with suppress(OverflowError):
            return np.array(ids, np.int64)
    return np.array(["" if box_id is None else name_of(box_id) for box_id in ids])
