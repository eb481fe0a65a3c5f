"""Outputs read back: the features block by block, and what is recorded beside them."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from roicli.errors import FileError
from roicli.sinks import HDF5_SUFFIXES, shard_file
from roicli.sources.files import StoredArray, file_size, printable, reading
from roicli.sources.hdf5_tree import members
from roicli.sources.npy import open_npy, read_header

Parameters = dict[str, str | int | float | bool]

# Features are read so many bytes at a time.
_BLOCK_BYTES = 16 * 2**20
# No record of ours is larger; what is read as one must not take memory without end.
_RECORD_BYTES = 2**20
_MOST_PARAMETERS = 100
# The rows of a part, as runs in JSON: some 20 bytes a run.
_SHARD_FILE_BYTES = 2**30

_NO_COLUMNS = ("features", "parameters")

_HINT = "Give files that roicli align has written, as it has written them."


@dataclass(frozen=True)
class Output:
    """One output file.

    Attributes
    ----------
    path : Path
        The file.
    shape, dtype
        Of the features.
    parameters : dict
        How it was made; empty where the file does not say.
    columns : dict of str to array
        What is recorded of each row, as `Record.columns` names it.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    parameters: Parameters
    columns: dict[str, NDArray[Any]]

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Yield the features in order, some rows at a time."""
        rows = max(1, _BLOCK_BYTES // max(math.prod(self.shape[1:]) * self.dtype.itemsize, 1))
        read = {".npy": _npy_blocks, ".npz": _npz_blocks}.get(self.path.suffix.lower(), _hdf5_blocks)
        with reading(printable(str(self.path))):
            yield from read(self.path, rows)


def open_output(path: Path) -> Output:
    """Read everything of an output but the features.

    Raises
    ------
    FileError
        A file that cannot be read, or is not as roicli writes it.
    """
    file_size(path)
    suffix = path.suffix.lower()
    name = printable(str(path))
    with reading(name, _HINT):
        if suffix == ".npy":
            array = open_npy(path)
            columns = _npy_columns(path, array.shape[0] if array.shape else 0)
            return _checked(Output(path, array.shape, array.dtype, read_parameters(path), columns), array.fortran)
        if suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                arrays = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
                columns = {name: _member(archive, entry) for name, entry in arrays.items() if name not in _NO_COLUMNS}
                with archive.open(arrays["features"]) as stream:
                    array = read_header(stream, path, f"{path}, features")
            return _checked(Output(path, array.shape, array.dtype, read_parameters(path), columns), array.fortran)
        if suffix in HDF5_SUFFIXES:
            import h5py

            with h5py.File(path, "r") as file:
                features = _plain(file["features"])
                names = [name for name in members(file)[0] if name not in _NO_COLUMNS]
                columns = {name: _column(file[name]) for name in names}
                return _checked(Output(path, features.shape, features.dtype, read_parameters(path), columns))
    raise FileError(f"{name} is no output of roicli", _HINT)


def read_parameters(path: Path) -> Parameters:
    """Read how an output was made: empty if the file does not say, or is none."""
    suffix = path.suffix.lower()
    with reading(printable(str(path)), _HINT):
        if suffix == ".npy":
            return dict(_beside(path)["parameters"])
        if suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                entries = [entry for entry in archive.infolist() if entry.filename == "parameters.npy"]
                plain = [entry for entry in entries if entry.compress_type == zipfile.ZIP_STORED]
                found = _member(archive, plain[0]) if plain and plain[0].file_size < _RECORD_BYTES else None
            return _said(found)
        if suffix in HDF5_SUFFIXES:
            return _attributes(path)
    return {}


def _said(found: NDArray[Any] | None) -> Parameters:
    """Take the parameters out of an array that is called so; a file of features may have one of that name too."""
    if found is None or found.dtype.kind != "U" or found.shape != ():
        return {}
    with suppress(ValueError):
        said = json.loads(str(found))
        if isinstance(said, dict) and "roicli_version" in said:
            return said
    return {}


def _checked(output: Output, fortran: bool = False) -> Output:
    rows = output.shape[:1]
    wrong = [name for name, column in output.columns.items() if column.shape[:1] != rows]
    if fortran or wrong or len(output.shape) < 2 or output.dtype.kind != "f":
        what = f"{wrong[0]} does not fit the features" if wrong else f"{output.shape} of {output.dtype} are no features"
        raise FileError(f"{printable(str(output.path))}: {what}", _HINT)
    return output


def _beside(path: Path) -> dict[str, Any]:
    """Read what a part's .npy has beside it; nothing if it is no part."""
    beside = shard_file(path)
    if not beside.exists():
        return {"parameters": {}}
    with reading(printable(str(beside)), _HINT):
        if file_size(beside) > _SHARD_FILE_BYTES:
            raise FileError(f"{beside} is too large to say which rows {path} holds", _HINT)
        said = json.loads(beside.read_bytes())
        return {"parameters": dict(said["parameters"]), "output_rows": said["output_rows"]}


def _npy_columns(path: Path, rows: int) -> dict[str, NDArray[Any]]:
    """Take the runs of rows that are beside an .npy apart."""
    said = _beside(path)
    if "output_rows" not in said:
        return {}
    with reading(printable(str(shard_file(path))), _HINT):
        runs = np.array(said["output_rows"], dtype=np.int64).reshape(-1, 2)
        lengths = runs[:, 1] - runs[:, 0]
        if (lengths < 1).any() or int(lengths.sum()) != rows:
            raise FileError(f"{shard_file(path)} does not fit {path}", _HINT)
        starts = np.repeat(runs[:, 0] - np.cumsum(lengths) + lengths, lengths)
        return {"output_rows": starts + np.arange(rows)}


def _member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[Any]:
    """Read one small array of an .npz, which roicli never compresses."""
    where = f"{archive.filename}, array {entry.filename}"
    if entry.compress_type != zipfile.ZIP_STORED:
        raise FileError(f"{where} is not as roicli writes it", _HINT)
    with archive.open(entry) as stream:
        array = read_header(stream, Path(str(archive.filename)), where)
        if array.dtype.hasobject or array.start + array.nbytes != entry.file_size:
            raise FileError(f"{where} is not as roicli writes it", _HINT)
        return np.frombuffer(stream.read(array.nbytes), array.dtype).reshape(array.shape)


def _column(dataset: Any) -> NDArray[Any]:
    """Read one small dataset."""
    import h5py

    if h5py.check_string_dtype(_plain(dataset).dtype):
        return np.array(dataset.asstr()[()].tolist(), dtype=np.str_)
    values: NDArray[Any] = dataset[()]
    return values


def _plain(dataset: Any) -> Any:
    """Refuse a dataset whose values are not all in the file, as they are read: it could claim any size."""
    import h5py

    if (
        not isinstance(dataset, h5py.Dataset)
        or dataset.shape is None
        or dataset.id.get_storage_size() < dataset.size * dataset.dtype.itemsize
    ):
        raise FileError(f"{dataset.file.filename}, {dataset.name} is not as roicli writes it", _HINT)
    return dataset


def _attributes(path: Path) -> Parameters:
    """Attributes of an HDF5 file in the order in which they were written, on which its bytes depend."""
    import h5py

    names: list[str] = []
    with h5py.File(path, "r") as file:
        h5py.h5a.iterate(file.id, lambda name: names.append(name.decode()), order=h5py.h5.ITER_NATIVE)
        if "roicli_version" not in names or len(names) > _MOST_PARAMETERS:
            return {}
        values = [file.attrs[name] for name in names]
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    return {
        name: value if isinstance(value, (str, int, float)) else str(value)
        for name, value in zip(names, plain, strict=True)
    }


def _npy_blocks(path: Path, rows: int) -> Iterator[NDArray[Any]]:
    with path.open("rb") as file:
        yield from _stream_blocks(file, read_header(file, path, str(path)), rows)


def _npz_blocks(path: Path, rows: int) -> Iterator[NDArray[Any]]:
    with zipfile.ZipFile(path) as archive, archive.open("features.npy") as stream:
        yield from _stream_blocks(stream, read_header(stream, path, str(path)), rows)


def _stream_blocks(stream: IO[bytes], array: StoredArray, rows: int) -> Iterator[NDArray[Any]]:
    row_bytes = math.prod(array.shape[1:]) * array.dtype.itemsize
    for first in range(0, array.shape[0], rows):
        number = min(rows, array.shape[0] - first)
        block = stream.read(number * row_bytes)
        if len(block) < number * row_bytes:
            raise EOFError("the file ends too early")
        yield np.frombuffer(block, array.dtype).reshape(number, *array.shape[1:])


def _hdf5_blocks(path: Path, rows: int) -> Iterator[NDArray[Any]]:
    import h5py

    with h5py.File(path, "r") as file:
        features = file["features"]
        for first in range(0, features.shape[0], rows):
            yield features[first : first + rows]
