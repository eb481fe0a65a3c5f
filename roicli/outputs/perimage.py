"""HDF5 files with datasets an image, as the loaders of Meshed-Memory Transformers and of VL-T5 read them.

Sources: aimagelab/meshed-memory-transformer, data/field.py (ImageDetectionsField); j-min/VL-T5, feature_extraction/.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.errors import FileError, OutputError
from roicli.outputs.base import Layout, Record, Stored, encode
from roicli.outputs.byimage import ByGroup, vectors
from roicli.outputs.hdf5 import Hdf5, create_dataset, in_memory, lay_out_early, put_attributes
from roicli.regions import Column


class _PerImage(Hdf5):
    """Datasets of the features and the boxes of each image."""

    pattern: str
    """Name of a dataset: `{image}` is the image id, `{what}` what it holds."""

    def layout(self, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> Layout:
        """See `OutputFormat`; rows are moved to the dataset of their image."""
        import h5py

        rows = ByGroup.of(record.image_ids)
        row_bytes = math.prod(shape[1:]) * dtype.itemsize
        memory, starts = in_memory(), np.zeros(shape[0], np.int64)
        placed: list[tuple[int, Column, np.dtype[Any]]] = []
        with h5py.File(memory, "w", libver=("earliest", "v110")) as file:
            put_attributes(file, record.parameters)
            for image, first, number in zip(
                *(part.tolist() for part in (rows.groups, rows.starts, rows.counts)), strict=True
            ):
                mine = rows.order[first : first + number]
                name = self._name(record.image_ids.names[image])
                for what, values in self._columns(record, mine).items():
                    where = self.pattern.format(image=name, what=what)
                    place = create_dataset(file, where, values.shape, values.dtype, lay_out_early)
                    placed.append((place, values.reshape(-1), values.dtype))
                where = self.pattern.format(image=name, what="features")
                place = create_dataset(file, where, (len(mine), *vectors(shape)[1:]), dtype, lay_out_early)
                starts[mine] = place + np.arange(len(mine)) * row_bytes
        offset, last = (int(starts.min()), int(starts.max())) if len(starts) else (memory.size, memory.size)
        return Layout(memory.pieces, offset, memory.size, placed, starts, min(last + row_bytes, memory.size))

    def _columns(self, record: Record, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Return what lies beside the features of an image's rows."""
        return {"boxes": record.boxes[rows].astype(np.float32)}

    def _name(self, image_id: str) -> str:
        """Return the name of an image in the file; OutputError if HDF5 cannot have it."""
        name = encode(image_id).decode()
        if not name or "\0" in name or name in (".", ".."):
            raise OutputError(f"HDF5 cannot hold an image with the id {image_id!r}", "Rename it in the box file.")
        return name

    def read(self, path: Path) -> Stored:
        """Refuse: rows do not lie side by side."""
        raise FileError(f"{path} has datasets an image, and is not read back", "Give the output that it was made of.")


class M2(_PerImage):
    """`{image id}_features` and `{image id}_boxes` at the root."""

    pattern = "{image}_{what}"
    holds = "`<image id>_features` (n, D), `<image id>_boxes` (n, 4)"


class VLT5(_PerImage):
    """A group an image."""

    pattern = "{image}/{what}"
    holds = "a group an image: `features` (n, D), `boxes` (n, 4), `img_h`, `img_w`"

    def _columns(self, record: Record, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Return boxes, and the size of the image where it is known."""
        columns = super()._columns(record, rows)
        if record.image_sizes is not None and not np.isnan(size := record.image_sizes[rows[0]]).any():
            columns |= {"img_h": size[0].astype(np.int64), "img_w": size[1].astype(np.int64)}
        return columns
