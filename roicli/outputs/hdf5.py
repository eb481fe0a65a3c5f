"""Outputs to HDF5: a contiguous dataset of features, with image ids, boxes, box ids, and parameters as attributes.

HDF5 makes the file in memory, without the values of its datasets, which are contiguous. roicli writes those bytes and
the values itself: an error of the disk never happens inside HDF5, which may end the process.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli import child
from roicli.arrays import StoredArray
from roicli.errors import OutputError
from roicli.files import HDF5_SUFFIXES, file_size, printable, reading
from roicli.newfiles import real
from roicli.outputs.base import (
    REMEDY,
    Layout,
    OutputFormat,
    Parameters,
    Record,
    Stored,
    encode,
    names_of,
    not_ours,
    text_dtype,
)
from roicli.outputs.checked import KIND, NAME, checksum_record
from roicli.outputs.rowfile import SUM, RowFile
from roicli.regions import Column, Names

_MOST_PARAMETERS = 100
# Each run takes some 25 KiB of memory while the file is made.
_MOST_RUNS = 10_000


class Stretch(NamedTuple):
    """Features that lie in another file."""

    path: Path  # an HDF5 file with a dataset `features` of as many rows
    rows: NDArray[np.int64]  # (k,): the row of the whole that each is, ascending

    def runs(self) -> list[tuple[int, int]]:
        """Return ranges of rows that are neighbors in the whole."""
        breaks = (np.flatnonzero(np.diff(self.rows) != 1) + 1).tolist()
        return list(zip([0, *breaks], [*breaks, len(self.rows)], strict=True)) if len(self.rows) else []


class Hdf5(OutputFormat):
    """An HDF5 file."""

    suffixes = HDF5_SUFFIXES
    _checked = True
    holds = "the same as datasets, and `checksums`; parameters and the version of roicli as attributes"

    def layout(self, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> Layout:
        """See `OutputFormat`; the file is made in memory."""
        return self._arrange(record.parameters, record.columns(), "features", shape, dtype)

    def _arrange(
        self,
        parameters: Parameters,
        columns: Mapping[str, Column],
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        row_axes: int = 1,
    ) -> Layout:
        """Lay out a file of columns, and features under a name, whose first axes count rows."""
        import h5py

        memory = in_memory()
        placed: list[tuple[int, Column, np.dtype[Any]]] = []
        with h5py.File(memory, "w", libver=("earliest", "v110")) as file:
            put_attributes(file, parameters)
            for key, column in columns.items():
                kind = text_dtype(column, "S")
                sides = (len(column),) if isinstance(column, Names) else column.shape
                placed.append((create_dataset(file, key, sides, kind, lay_out_early), column, kind))
            offset = create_dataset(file, name, shape, dtype, self._place_features)
            if not self._checked:
                return Layout(memory.pieces, offset, memory.size, placed)
            rows = math.prod(shape[:row_axes])
            sums = create_dataset(file, NAME, (rows + 1,), KIND, lay_out_early)
        record = {sums + rows * SUM: checksum_record(shape, dtype, columns, parameters)}
        return Layout({**memory.pieces, **record}, offset, memory.size, placed, sums=sums)

    def _place_features(self, properties: Any, shape: tuple[int, ...]) -> None:
        lay_out_early(properties, shape)

    def read(self, path: Path) -> Stored:
        """Read all datasets but the features; links are not followed."""
        return self._read(path, "features")

    def _read(self, path: Path, name: str) -> Stored:
        """Read all datasets but the one whose rows are the features; FileError if their checksum does not fit."""
        found = child.ask("roicli.outputs.hdf5:describe", path).value
        arrays = {
            name: StoredArray(path, start, tuple(shape), np.dtype(dtype))
            for name, (start, shape, dtype) in found["datasets"].items()
        }
        if name not in arrays:
            raise not_ours(str(path))
        features = arrays.pop(name)
        return Stored.checked(features, {name: _read(array) for name, array in arrays.items()}, found["parameters"])

    def parameters(self, path: Path) -> Parameters:
        """Read how it was made, in the order in which it was written: the bytes of a file depend on it."""
        file_size(path)
        return dict(child.ask("roicli.outputs.hdf5:describe_parameters", path).value)


def describe(path: str) -> child.Answer:
    """In the child: tell where the values of each dataset lie, and the parameters."""
    import h5py

    with reading(printable(path), REMEDY), h5py.File(path, "r") as file:
        own = [name for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]
        datasets = {name: find(file[name]) for name in own}
        return child.Answer({"datasets": datasets, "parameters": parameters_of(file)})


def describe_parameters(path: str) -> child.Answer:
    """In the child: read the parameters, whatever else the file holds."""
    import h5py

    with reading(printable(path), REMEDY), h5py.File(path, "r") as file:
        return child.Answer(parameters_of(file))


def parameters_of(file: Any) -> Parameters:
    """In the child: read the parameters of an open file."""
    import h5py

    names: list[str] = []
    h5py.h5a.iterate(file.id, lambda name: names.append(name.decode()), order=h5py.h5.ITER_NATIVE)
    if "roicli_version" not in names or len(names) > _MOST_PARAMETERS:
        return {}
    values = [file.attrs[name] for name in names]
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    return {
        name: value if isinstance(value, (str, int, float)) else str(value)
        for name, value in zip(names, plain, strict=True)
    }


class Virtual(Hdf5):
    """An HDF5 file whose features stay in the parts of a job: a virtual dataset refers to them.

    They are found by their path relative to this file, so all of them can be moved together.

    `stretches`: where its features lie.
    Raises OutputError: the features lie in too many separate runs of rows.
    """

    _checked = False

    def __init__(self, output: Path, stretches: Sequence[Stretch]) -> None:
        self._runs = [(stretch, stretch.runs()) for stretch in stretches]
        self._folder = real(output).parent
        if (number := sum(len(runs) for _, runs in self._runs)) > _MOST_RUNS:
            raise OutputError(
                f"{output} would refer to {number:,} separate runs of rows; {_MOST_RUNS:,} are allowed",
                "Merge without `virtual`, or sort the box file by image.",
            )

    def create(self, path: Path, name: Path, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> RowFile:
        """See `OutputFormat`; no row is written to the file."""
        made = super().create(path, name, shape, dtype, record)
        return replace(made, end=made.offset)

    def _place_features(self, properties: Any, shape: tuple[int, ...]) -> None:
        import h5py

        properties.set_layout(h5py.h5d.VIRTUAL)
        for stretch, runs in self._runs:
            name = os.path.relpath(real(stretch.path), self._folder).replace("%", "%%")  # %b is a pattern
            for first, stop in runs:
                properties.set_virtual(
                    _rows(shape, int(stretch.rows[first]), stop - first),
                    os.fsencode(name),
                    b"features",
                    _rows((len(stretch.rows), *shape[1:]), first, stop - first),
                )


def in_memory() -> _Memory:
    """Return a file for HDF5 that keeps what is written, in pieces."""
    return _Memory()


class _Memory:
    """A file for HDF5 that keeps what is written, and no more: its datasets, without values, may be of any size."""

    def __init__(self) -> None:
        self.pieces: dict[int, bytearray] = {}
        self._begins: list[int] = []  # of all pieces, ascending
        self.size = self._place = 0

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        self._place = place + (self.size if whence == os.SEEK_END else 0)
        return self._place

    def tell(self) -> int:
        return self._place

    def truncate(self, size: int) -> None:
        self.size = size

    def flush(self) -> None:
        pass

    def write(self, data: memoryview) -> int:
        first, stop = self._place, self._place + len(data)
        low, high = self._near(first, stop)
        near = self._begins[low:high]
        if not near or first < near[0]:
            self._begins.insert(low, first)
            self.pieces[first] = bytearray()
            near.insert(0, first)
        begin, *others = near
        piece = self.pieces[begin]
        for other in others:  # which this write joins
            piece.extend(bytes(max(0, other - begin - len(piece))))
            piece[other - begin :] = self.pieces.pop(other)
        del self._begins[low + 1 : low + len(near)]
        piece[first - begin : stop - begin] = data
        self.size, self._place = max(self.size, stop), stop
        return len(data)

    def _near(self, first: int, stop: int) -> tuple[int, int]:
        """Return which pieces overlap some bytes, or lie next to them."""
        low, high = bisect_right(self._begins, first), bisect_right(self._begins, stop)
        if low and self._begins[low - 1] + len(self.pieces[self._begins[low - 1]]) >= first:
            low -= 1
        return low, high

    def read(self, size: int = -1) -> bytes:
        """By this method h5py knows a file; it calls `readinto`."""
        raise NotImplementedError

    def readinto(self, buffer: memoryview) -> int:
        first, stop = self._place, self._place + len(buffer)
        buffer[:] = bytes(len(buffer))
        for begin in self._begins[slice(*self._near(first, stop))]:
            piece = self.pieces[begin]
            low, high = max(begin, first), min(begin + len(piece), stop)
            if low < high:
                buffer[low - first : high - first] = piece[low - begin : high - begin]
        self._place = stop
        return len(buffer)


def put_attributes(file: Any, parameters: Parameters) -> None:
    """Write how an output was made."""
    for name, value in parameters.items():
        file.attrs[name] = encode(value).decode() if isinstance(value, str) else value


def create_dataset(
    file: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], place: Callable[[Any, tuple[int, ...]], None]
) -> int:
    """Create a dataset without values; return where they are to be written."""
    import h5py

    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_obj_track_times(False)  # the same job gives the same bytes, whenever it runs
    place(properties, shape)
    kind = h5py.h5t.py_create(dtype, logical=True)
    if dtype.kind == "S":
        kind.set_cset(h5py.h5t.CSET_UTF8)
    groups = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    groups.set_create_intermediate_group(True)
    if not name.isascii():
        groups.set_char_encoding(h5py.h5t.CSET_UTF8)
    space = h5py.h5s.create_simple(shape)
    made = h5py.h5d.create(file.id, name.encode(), kind, space, dcpl=properties, lcpl=groups)
    return int(made.get_offset() or 0)


def lay_out_early(properties: Any, shape: tuple[int, ...]) -> None:
    """Give a dataset its place in the file at once, in one piece."""
    import h5py

    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)


def _rows(shape: tuple[int, ...], first: int, number: int) -> Any:
    """Return the dataspace of some rows of a dataset."""
    import h5py

    space = h5py.h5s.create_simple(shape)
    space.select_hyperslab((first, *(0 for _ in shape[1:])), (number, *shape[1:]))
    return space


def find(dataset: Any) -> tuple[int, tuple[int, ...], str]:
    """Tell where the values of a dataset lie; refuse one that does not lie in the file in one piece."""
    import h5py

    if (
        not isinstance(dataset, h5py.Dataset)
        or dataset.shape is None
        or dataset.chunks is not None
        or dataset.is_virtual
        or dataset.external
        or dataset.dtype.hasobject
        or dataset.id.get_storage_size() < dataset.size * dataset.dtype.itemsize
    ):
        raise not_ours(f"{dataset.file.filename}, {dataset.name}")
    return dataset.id.get_offset() or 0, dataset.shape, dataset.dtype.str


def _read(array: StoredArray) -> Column:
    values = array.load() if array.nbytes else np.zeros(array.shape, array.dtype)
    return names_of(values) if array.dtype.kind == "S" else np.array(values)
