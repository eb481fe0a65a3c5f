"""Datasets of an HDF5 file as arrays, read in a child process: libhdf5 may hang or crash over a damaged file."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli import child
from roicli.boxfiles.boxfile import BoxFile
from roicli.child import Answer
from roicli.errors import BoxError

# Boxes of a million images are 150 MB.
_MOST = 1 << 31


def shapes_of(file: BoxFile) -> dict[str, tuple[int, ...]]:
    """Return the datasets at the root of an HDF5 file that hold numbers, and their shapes."""
    path = file.on_disk
    return {name: tuple(shape) for name, shape in child.ask(f"{__name__}:list_datasets", path).value.items()}


def read_table(file: BoxFile, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Read a dataset; BoxError if it is too large to hold boxes."""
    size = 8 * math.prod(shape)
    if size > _MOST:
        raise BoxError(f"{file.path}, {name}: {shape} numbers are too many for boxes", "Check that this is the file.")
    data = child.ask(f"{__name__}:read_dataset", file.on_disk, name, memory=size).data
    assert data is not None
    return data


def list_datasets(path: str) -> Answer:
    """List them; in the child."""
    import h5py

    with h5py.File(child.source(path), "r") as file:
        # A link to another file, or values in one, are not followed.
        own = [name for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]
        return Answer({name: list(item.shape) for name in own if holds_numbers(item := file[name])})


def holds_numbers(item: Any) -> bool:
    """Tell whether something in a file is a dataset of numbers that lie in the file itself; in the child."""
    import h5py

    own = isinstance(item, h5py.Dataset) and item.external is None and not item.is_virtual
    return own and item.dtype.kind in "iuf"


def read_dataset(path: str, name: str) -> Answer:
    """Read one; in the child."""
    import h5py

    with h5py.File(child.source(path), "r") as file:
        return Answer(name, np.asarray(file[name][()]))
