"""What every output can do, and what is recorded beside the features."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from roicli.outputs.rowfile import RowFile
from roicli.regions import Column, Names


class Record(NamedTuple):
    """Whose features the rows of an output are, and how they were made.

    Attributes
    ----------
    image_ids : (K,) str
        Image of each row, as the feature source names it.
    boxes : (K, 4) float64
        xyxy of each row, in image pixels (or in 0..1 of the image if the boxes were normalised).
    rows : (K,) int64
        Which box of the box file each is, from 0, whatever lines the file has.
    box_ids : (K,) column, or None
        The box file's own ids.
    parameters : dict
        Every setting that changes numbers, the names of the inputs and the version of roicli.
    output_rows : (K,) int64, optional
        Of a part of a job: the rows of the whole output, ascending.
    """

    image_ids: NDArray[np.str_]
    boxes: NDArray[np.float64]
    rows: NDArray[np.int64]
    box_ids: Column | None
    parameters: dict[str, str | int | float | bool]
    output_rows: NDArray[np.int64] | None = None

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the arrays under the names that they have in an output."""
        columns: dict[str, NDArray[Any]] = {"image_ids": self.image_ids, "boxes": self.boxes, "rows": self.rows}
        if self.box_ids is not None:
            columns["box_ids"] = np.array(self.box_ids.tolist()) if isinstance(self.box_ids, Names) else self.box_ids
        if self.output_rows is not None:
            columns["output_rows"] = self.output_rows
        return columns


class PooledSink(Protocol):
    """An output in the making: a temporary file beside its final name, until `publish`."""

    @property
    def target(self) -> RowFile:
        """Where rows are written, by any number of workers at once."""
        ...

    @property
    def moved(self) -> Path:
        """The file that `publish` moves to the final name."""
        ...

    def finish(self) -> None:
        """Complete the temporary file, check it and flush it to the disk; OutputError if that fails."""
        ...

    def publish(self) -> None:
        """Move the finished file to its final name, which takes no time."""
        ...

    def abort(self, *, keep_rows: bool = False) -> None:
        """Remove all temporary files, or all but the rows; the final name is as it was before."""
        ...
