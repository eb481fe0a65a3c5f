"""Boxes in an .npy array: (K, 4), or (K, 5) with the batch index first."""

from __future__ import annotations

import math
import warnings
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from roicli.boxfiles.table import FOUR_NUMBERS, assumed_xyxy, regions_of
from roicli.errors import BoxError, FileError
from roicli.regions import BoxFormat, Regions

# Version 3 differs from 2 in the names of fields only, and records are not boxes.
_READ_HEADER = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}

# NumPy's own readers of them refuse more than 10,000 characters.
_LONGEST_HEADER = 1 << 16


def read_npy(path: Path, box_format: BoxFormat | None) -> tuple[Regions, tuple[str, ...]]:
    """Read a (K, 4) or (K, 5) array of real numbers; see `read_boxes`."""
    with path.open("rb") as file:
        shape, fortran_order, dtype, start = _header(path, file)
        file.seek(start)
        if dtype.hasobject:
            raise BoxError(f"{path}: holds pickled objects, which are never loaded", "Save a plain array of numbers.")
        if dtype.kind not in "iuf":
            raise BoxError(f"{path}: dtype {dtype} is not real numbers", "Save the boxes as float64 or float32.")
        if len(shape) != 2 or shape[0] < 0 or shape[1] not in (4, 5):
            raise BoxError(f"{path}: shape {str(shape)[:80]} is not (K, 4) or (K, 5)", FOUR_NUMBERS)
        # A header may claim any shape: hold it against the file before anything is allocated.
        promised, present = math.prod(shape) * dtype.itemsize, path.stat().st_size - file.tell()
        if present < promised:
            raise FileError(f"{path}: truncated, {present:,} of {promised:,} bytes are there", "Copy the file again.")
        values = np.fromfile(file, dtype, math.prod(shape))
    # What float64 cannot hold becomes infinite or NaN, and such boxes are listed by row later on.
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = values.reshape(shape, order="F" if fortran_order else "C").astype(np.float64, copy=False)
    notes = (assumed_xyxy(str(path)),) if box_format is None and len(numbers) else ()
    table = regions_of(numbers, box_format or BoxFormat.XYXY, rows=np.arange(len(numbers)), source=str(path))
    return table, notes


def _header(path: Path, file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic], int]:
    """Shape, Fortran order, dtype, and where the values start; numpy's parser may warn and raise nearly anything."""
    beginning = BytesIO(file.read(_LONGEST_HEADER))  # a header says how long it is, up to 4 GB
    try:
        with warnings.catch_warnings(action="ignore"):
            return *_READ_HEADER[npy.read_magic(beginning)](beginning), beginning.tell()
    except Exception as error:
        raise FileError(f"{path}: not an .npy file, or its header is damaged", "Save it with numpy.save.") from error
