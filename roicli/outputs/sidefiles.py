"""Small files that appear together with an output: an index, a list of boxes that are not pooled, a part's record."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import count, islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from roicli.errors import OutputError
from roicli.newfiles import NewFile, check_name, real, writing

if TYPE_CHECKING:
    from roicli.outputs.base import Record
    from roicli.outputs.skipped import Skipped
    from roicli.regions import Column

# Lines are made so many at a time: as Python objects they take far more memory than the arrays.
_LINES = 10_000
INDEX_COLUMNS = ("row", "image_id", "box_id", "x1", "y1", "x2", "y2", "box_file_row")
SKIPPED_COLUMNS = ("box_file_row", "image_id", "x1", "y1", "x2", "y2", "reason", "fate")


class SideFile(NewFile):
    """A small file that appears together with an output.

    `name`: its final name.
    `content`: makes the content. None for a file of the output before, which goes when the new one comes.
    `overwrite`: whether a file that exists is replaced.
    """

    def __init__(self, name: Path, content: Callable[[], Iterable[str]] | None, *, overwrite: bool) -> None:
        check_name(name, overwrite=overwrite or content is None)
        super().__init__(name, overwrite=overwrite)
        self.content = content

    def prepare(self) -> None:
        """Write the file beside its final name, and flush it."""
        if self.content is not None:
            self.write(text.encode("utf-8", "surrogateescape") for text in self.content())

    def publish(self) -> None:
        """Give the file its final name, or remove the one of the output before."""
        if self.content is not None:
            super().publish()
            return
        with writing(self.name):
            self.final.unlink(missing_ok=True)


def _beside(output: Path, ending: str) -> Path:
    output = real(output) if output.is_symlink() else output
    return output.with_name(f"{output.name}{ending}")


# The record of a part, if it is an .npy; the list of boxes that are not pooled; whence an .npy came, if that is asked.
shard_file, skipped_file, origin_file = (
    partial(_beside, ending=ending) for ending in (".shard.json", ".skipped.csv", ".origin.json")
)


def check_index(path: Path, *, overwrite: bool) -> None:
    """Refuse a name that an index cannot or must not have."""
    if path.suffix.lower() != ".csv":
        raise OutputError(f"{path}: the index is a CSV file", "Give it a name that ends in .csv.")
    check_name(path, overwrite=overwrite)


def index_text(record: Record) -> Iterator[str]:
    """Make an index: one line for each row of the output. It can be read back as a box file."""
    if record.counts is not None and record.groups is not None:
        groups = zip(range(len(record.counts)), record.groups.tolist(), record.counts.tolist(), strict=True)
        yield from _csv(("row", "group", "boxes"), map(list, groups))
        return
    said = record.said if record.levels is None else {**record.said, "level": record.levels}
    yield from _csv((*INDEX_COLUMNS, *said), _index_lines(record, [*said.values()]))


def _index_lines(record: Record, said: Sequence[Column]) -> Iterator[list[object]]:
    rows = count()
    for first in range(0, len(record.rows), _LINES):
        part = slice(first, first + _LINES)
        boxes, places = record.boxes[part].tolist(), record.rows[part].tolist()
        box_ids = [""] * len(places) if record.box_ids is None else record.box_ids[part].tolist()
        images = record.image_ids[part].tolist()
        more = zip(*(column[part].tolist() for column in said), strict=True) if said else repeat(())
        for image, box_id, box, place, values in zip(images, box_ids, boxes, places, more, strict=bool(said)):
            yield [next(rows), image, box_id, *box, place, *("" if value != value else value for value in values)]


def skipped_text(skipped: Skipped) -> Iterator[str]:
    """Make a list with one line for each box that is not pooled."""
    columns = (skipped.rows.tolist(), skipped.image_ids, skipped.boxes.tolist(), skipped.reasons, skipped.fates)
    lines = zip(*columns, strict=True)
    yield from _csv(SKIPPED_COLUMNS, ([row, image, *box, reason, fate] for row, image, box, reason, fate in lines))


def shard_text(record: Record) -> Iterator[str]:
    """Make the record of a part: the parameters, and the rows of the whole output as runs ``[first, stop]``."""
    rows = record.output_rows
    assert rows is not None
    edges = np.flatnonzero(np.diff(rows, prepend=-2, append=-2) != 1)
    runs = np.stack([rows[edges[:-1]], rows[edges[1:] - 1] + 1], axis=1).tolist() if len(rows) else []
    yield json.dumps({"parameters": record.parameters, "output_rows": runs})


def _csv(header: Iterable[str], lines: Iterator[list[object]]) -> Iterator[str]:
    import csv

    block: list[list[object]] | tuple[Iterable[str], ...] = (header,)
    while block:
        text = io.StringIO(newline="")
        csv.writer(text).writerows(block)
        yield text.getvalue()
        block = list(islice(lines, _LINES))
