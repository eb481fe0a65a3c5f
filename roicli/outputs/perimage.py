"""HDF5 files with datasets an image, as the loaders of Meshed-Memory Transformers and of VL-T5 read them.

Sources: aimagelab/meshed-memory-transformer, data/field.py (ImageDetectionsField); j-min/VL-T5, feature_extraction/.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli import child
from roicli.arrays import StoredArray, read_into
from roicli.errors import OutputError
from roicli.files import file_size, printable, reading
from roicli.outputs.base import REMEDY, Layout, Record, Stored, encode, not_ours
from roicli.outputs.byimage import ByGroup, vectors
from roicli.outputs.hdf5 import Hdf5, create_dataset, find, in_memory, lay_out_early, parameters_of, put_attributes
from roicli.regions import Column, Names


class _PerImage(Hdf5):
    """Datasets of the features and the boxes of each image."""

    plain = False
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
        """See `OutputFormat`; rows come image after image."""
        answer = child.ask(f"{__name__}:describe_images", path, self.pattern, memory=file_size(path))
        places, parameters, boxes = answer.value["features"], answer.value["parameters"], answer.data
        counts = [shape[0] for _, _, shape, _ in places]
        kinds = {(tuple(shape[1:]), dtype) for _, _, shape, dtype in places}
        if boxes is None or len(kinds) != 1 or len(boxes) != sum(counts):
            raise not_ours(str(path))
        [(row_shape, dtype)] = kinds
        images = Names(np.repeat(np.arange(len(places)), counts), tuple(name for name, *_ in places))
        features = StoredArray(path, 0, (len(boxes), *row_shape), np.dtype(dtype))
        return Stored(features, {"image_ids": images, "boxes": boxes}, parameters)

    def raw_blocks(self, path: Path, stored: Stored) -> Generator[NDArray[Any], None, None]:
        """Yield the features, image by image."""
        answer = child.ask(f"{__name__}:describe_images", path, self.pattern, memory=file_size(path))
        with reading(printable(str(path)), REMEDY), path.open("rb", buffering=0) as file:
            for _, start, shape, dtype in answer.value["features"]:
                read_into(file.fileno(), start, block := np.empty(shape, dtype))
                yield block


def describe_images(path: str, pattern: str) -> child.Answer:
    """In the child: tell where the features of each image lie, in the order of the file, and read all boxes."""
    import h5py

    ending = pattern.format(image="", what="features")
    with reading(printable(path), REMEDY), h5py.File(path, "r") as file:
        names: list[str] = []
        file.visit(names.append)  # follows no link, be it to another file
        images = [name.removesuffix(ending) for name in names if name.endswith(ending)]
        if not {pattern.format(image=image, what="boxes") for image in images} <= {*names}:
            raise not_ours(path)
        found = [(image, *find(file[pattern.format(image=image, what="features")])) for image in images]
        found.sort(key=lambda place: place[1])
        boxes = [file[pattern.format(image=image, what="boxes")] for image, *_ in found]
        for dataset in boxes:
            find(dataset)
        said = {"features": found, "parameters": parameters_of(file)}
        return child.Answer(said, np.concatenate([np.zeros((0, 4)), *(dataset[()] for dataset in boxes)]))


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
