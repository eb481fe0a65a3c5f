"""Boxes in an .npy array: (K, 4), or (K, 5) with the batch index first."""

from __future__ import annotations

import math
import warnings
from io import BytesIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.builder import FOUR_NUMBERS, assumed_xyxy, regions_of
from roicli.boxfiles.layout import Layout
from roicli.errors import BoxError, FileError
from roicli.regions import BoxFormat, Regions

# Version 3 differs from 2 in the names of fields only, and records are not boxes.
_READ_HEADER = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
    (3, 0): npy.read_array_header_2_0,
}
# Values are read and converted so many bytes at once: of float32 boxes both copies would else be in memory.
_BLOCK = 1 << 22


def _recognizes(file: BoxFile) -> bool:
    return True  # nothing else begins like an .npy


def _read(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    shape, fortran, dtype, start = _header(file)
    if dtype.names is not None:
        raise BoxError(
            f"{file.path}: an array of records with the fields {', '.join(dtype.names)}",
            "Save a plain array: numpy.stack([a[name] for name in names], axis=1).",
        )
    if dtype.hasobject:
        raise BoxError(f"{file.path}: holds pickled objects, which are never loaded", "Save a plain array of numbers.")
    if dtype.kind not in "iuf":
        raise BoxError(f"{file.path}: dtype {dtype} is not real numbers", "Save the boxes as float64 or float32.")
    if shape == (0,):  # numpy.array([])
        shape = (0, 4)
    if len(shape) != 2 or shape[0] < 0 or shape[1] not in (4, 5):
        raise BoxError(f"{file.path}: shape {str(shape)[:80]} is not (K, 4) or (K, 5)", FOUR_NUMBERS)
    # A header may promise any shape: compare it with the file before anything is allocated.
    promised, present = math.prod(shape) * dtype.itemsize, file.stamp.size - start
    if present < promised:
        raise _truncated(file, present, promised)
    numbers = _values(file, start, math.prod(shape), dtype)
    if file.stream.read(6) == b"\x93NUMPY":
        raise BoxError(
            f"{file.path}: another array follows the first one", "Save all boxes as one array, by one numpy.save."
        )
    numbers = numbers.reshape(shape, order="F" if fortran else "C")
    notes = (assumed_xyxy(file.path),) if box_format is None and len(numbers) else ()
    return regions_of(
        numbers,
        box_format or BoxFormat.XYXY,
        rows=np.arange(len(numbers)),
        source=str(file.path),
        layout="array of boxes",
        notes=notes,
    )


# What float64 cannot hold becomes infinite or NaN, and such boxes are listed by row later on.
@np.errstate(over="ignore", invalid="ignore")
def _values(file: BoxFile, start: int, count: int, dtype: np.dtype[np.generic]) -> NDArray[np.float64]:
    values, stream, block = np.empty(count), file.rewind(start), _BLOCK // dtype.itemsize
    for first in range(0, count, block):
        wanted = min(block, count - first) * dtype.itemsize
        data = stream.read(wanted)
        if len(data) < wanted:
            raise _truncated(file, first * dtype.itemsize + len(data), count * dtype.itemsize)
        values[first : first + block] = np.frombuffer(data, dtype)
    return values


def _truncated(file: BoxFile, present: int, promised: int) -> FileError:
    return FileError(f"{file.path}: truncated, {present:,} of {promised:,} bytes are there", "Copy the file again.")


def _header(file: BoxFile) -> tuple[tuple[int, ...], bool, np.dtype[np.generic], int]:
    """Shape, Fortran order, dtype, and where the values start; numpy's parser may warn and raise nearly anything."""
    beginning = BytesIO(file.head)  # a header says how long it is, up to 4 GB
    try:
        with warnings.catch_warnings(action="ignore"):
            return *_READ_HEADER[npy.read_magic(beginning)](beginning), beginning.tell()
    except Exception as error:
        raise FileError(
            f"{file.path}: not an .npy file, or its header is damaged", "Save it with numpy.save."
        ) from error


LAYOUT = Layout(
    "npy",
    "an .npy array of boxes",
    "npy",
    _recognizes,
    _read,
    (".npy",),
    holds="(K, 4) for a single map, or (K, 5) with the batch index first",
)
