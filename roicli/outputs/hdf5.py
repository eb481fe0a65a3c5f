"""An HDF5 output read back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.outputs.stored import Parameters, Stored, not_ours
from roicli.sources.hdf5.tree import members

_MOST_PARAMETERS = 100


def open_stored(path: Path) -> Stored:
    """Read all datasets but the features; links are not followed."""
    import h5py

    with h5py.File(path, "r") as file:
        names, _ = members(file)
        if "features" not in names:
            raise not_ours(str(path))
        features = _plain(file["features"])
        columns = {name: _column(file[name]) for name in names if name != "features"}
        return Stored(features.shape, features.dtype, columns)


def read_parameters(path: Path) -> Parameters:
    """Read how it was made, in the order in which it was written: the bytes of a file depend on it."""
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


def blocks(path: Path, rows: int) -> Iterator[NDArray[Any]]:
    """Yield the features."""
    import h5py

    with h5py.File(path, "r") as file:
        features = file["features"]
        for first in range(0, features.shape[0], rows):
            yield features[first : first + rows]


def _column(dataset: Any) -> NDArray[Any]:
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
        raise not_ours(f"{dataset.file.filename}, {dataset.name}")
    return dataset
