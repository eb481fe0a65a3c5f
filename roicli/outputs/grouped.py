"""Outputs of one row a group of boxes: the mean of the rows of its boxes. Any format holds them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.newfiles import GROUPS, NewFile, writing
from roicli.outputs.base import Layout, OutputFormat, Parameters, Record, Stored
from roicli.outputs.byimage import ByGroup
from roicli.outputs.npy import rows_alone
from roicli.outputs.rowfile import RowFile
from roicli.regions import Names

# Rows of a group that are added up at once take so many bytes.
_BLOCK_BYTES = 2**24


class Grouped(OutputFormat):
    """A format whose rows are those of groups; until all rows of boxes are there, they lie in a hidden file.

    `of_groups`: writes the means.
    """

    assembled = True

    def __init__(self, of_groups: OutputFormat) -> None:
        self._format = of_groups.scattered()
        self.suffixes, self.folder, self.keeps_record = of_groups.suffixes, of_groups.folder, of_groups.keeps_record

    def layout(self, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> Layout:
        """See `OutputFormat`: rows of boxes; refuse what the format of the means would refuse."""
        self._format.layout(self.shape(shape, record), dtype, _groups(record)[1])
        return rows_alone(shape, dtype)

    def shape(self, shape: tuple[int, ...], record: Record) -> tuple[int, ...]:
        """See `OutputFormat`."""
        return (len(_groups(record)[0].counts), *shape[1:])

    def recorded(self, record: Record) -> Record:
        """See `OutputFormat`."""
        return _groups(record)[1]

    def assemble(self, target: RowFile, record: Record, name: Path, *, overwrite: bool) -> NewFile:
        """See `OutputFormat`."""
        boxes, whole = _groups(record)
        shape, inner = (len(boxes.counts), *target.row_shape), self._format
        file: NewFile = NewFile(name, overwrite=overwrite, ending=GROUPS)
        means = inner.create(file.path, name, shape, target.dtype, whole)
        try:
            for number, mine in enumerate(np.split(boxes.order, boxes.starts[1:]) if len(boxes.counts) else ()):
                means.write(np.array([number]), _mean(target, mine)[None])
            inner.finish(means, whole)
            made = inner.assemble(means, whole, name, overwrite=overwrite)
            with writing(name):
                os.fsync(means.open())
        except BaseException:
            file.remove()
            raise
        finally:
            means.close()
        if made is None:
            return file
        file.remove()
        return made

    def read(self, path: Path) -> Stored:
        """See `OutputFormat`."""
        return self._format.read(path)

    def parameters(self, path: Path) -> Parameters:
        """See `OutputFormat`."""
        return self._format.parameters(path)


def _groups(record: Record) -> tuple[ByGroup, Record]:
    """Return the boxes of each group, and what is recorded of the groups."""
    assert record.groups is not None
    boxes = ByGroup.of(record.groups)
    first = boxes.order[boxes.starts]
    none = Names(np.zeros(len(first), np.int64), ("",))
    return boxes, Record(
        none,
        np.zeros((len(first), 4)),
        first,
        None,
        record.parameters,
        groups=record.groups[first],
        counts=boxes.counts,
    )


def _mean(target: RowFile, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return the mean of some rows, added up in their order in float64: the same whoever wrote them."""
    total = np.zeros(target.row_shape)
    step = max(1, _BLOCK_BYTES // target.row_bytes)
    for first in range(0, len(rows), step):
        total += target.read(rows[first : first + step]).sum(axis=0, dtype=np.float64)
    return (total / len(rows)).astype(target.dtype)
