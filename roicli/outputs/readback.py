"""Outputs read back: what the sinks wrote, one file a format. The features come block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.errors import FileError
from roicli.files import HDF5_SUFFIXES, file_size, printable, reading
from roicli.outputs import hdf5, npy, npz
from roicli.outputs.npy import count_part_rows
from roicli.outputs.stored import HINT, Parameters, Stored

__all__ = ["Output", "Parameters", "count_part_rows", "open_output", "read_parameters"]

# Features are read so many bytes at a time.
_BLOCK_BYTES = 16 * 2**20

_FORMATS = {".npy": npy, ".npz": npz} | dict.fromkeys(HDF5_SUFFIXES, hdf5)


@dataclass(frozen=True)
class Output:
    """One output file.

    Attributes
    ----------
    path : Path
        The file.
    shape, dtype
        Of the features.
    columns : dict of str to array
        What is recorded of each row, as `Record.columns` names it.
    parameters : dict
        How it was made; empty where the file does not say.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    columns: dict[str, NDArray[Any]]
    parameters: Parameters

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Yield the features in order, some rows at a time."""
        rows = max(1, _BLOCK_BYTES // max(math.prod(self.shape[1:]) * self.dtype.itemsize, 1))
        with reading(printable(str(self.path))):
            yield from _format(self.path).blocks(self.path, rows)


def open_output(path: Path) -> Output:
    """Read everything of an output but the features.

    Raises
    ------
    FileError
        A file that cannot be read, or is not as roicli writes it.
    """
    name = printable(str(path))
    file_size(path)
    with reading(name, HINT):
        found: Stored = _format(path).open_stored(path)
    shape, dtype, columns = found
    wrong = [column for column, values in columns.items() if values.shape[:1] != shape[:1]]
    if wrong:
        raise FileError(f"{name}: {wrong[0]} does not fit the features", HINT)
    if len(shape) < 2 or dtype.kind != "f":
        raise FileError(f"{name}: {shape} of {dtype} are no features of boxes", HINT)
    return Output(path, shape, dtype, columns, read_parameters(path))


def read_parameters(path: Path) -> Parameters:
    """Read how an output was made: empty if the file does not say, or is none.

    Raises
    ------
    FileError
        A file that cannot be read.
    """
    with reading(printable(str(path)), HINT):
        found: Parameters = _format(path).read_parameters(path)
    return found


def _format(path: Path) -> ModuleType:
    if (found := _FORMATS.get(path.suffix.lower())) is None:
        raise FileError(f"{printable(str(path))} is no output of roicli", HINT)
    return found
