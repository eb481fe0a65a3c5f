"""Boxes in an .npy array: (K, 4), or (K, 5) with the batch index first; or rotated ones, with the angle last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.arrays import StoredArray, read_header, read_into
from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.builder import FOUR_NUMBERS, assumed_xyxy, regions_of
from roicli.boxfiles.labelimage import is_label_array
from roicli.boxfiles.registry import Layout
from roicli.errors import BoxError
from roicli.files import Stamp, reading
from roicli.regions import BoxFormat, Regions

# Rows of a large array that are looked at together.
_ROWS = 2**17


def _checked(file: BoxFile, *widths: int) -> StoredArray:
    """Read the header of an array of boxes, each of so many numbers."""
    source, stream = str(file.path), file.rewind()
    stored = read_header(stream, file.path, source)
    dtype, shape = stored.dtype, (0, 4) if stored.shape == (0,) else stored.shape  # numpy.array([])
    if dtype.names is not None:
        raise BoxError(
            f"{source}: an array of records with the fields {', '.join(dtype.names)}",
            "Save a plain array: numpy.stack([a[name] for name in names], axis=1).",
        )
    if dtype.hasobject:
        raise BoxError(f"{source}: holds pickled objects, which are never loaded", "Save a plain array of numbers.")
    if dtype.kind not in "iuf":
        raise BoxError(f"{source}: dtype {dtype} is not real numbers", "Save the boxes as float64 or float32.")
    if len(shape) != 2 or shape[1] not in widths:
        more = len(shape) == 2 and 6 <= shape[1] <= 7
        raise BoxError(
            f"{source}: shape {str(shape)[:80]} is not {' or '.join(f'(K, {width})' for width in widths)}",
            "Leave scores and classes out: numpy.save('boxes.npy', array[:, :4]), if the box comes first; or give "
            "`boxes_as=npy-rotated` for the batch index, cx, cy, w, h and angle."
            if more
            else FOUR_NUMBERS,
        )
    # A header may promise any shape: compare it with the file before anything is allocated.
    stored.check_inside(file.size)
    stream.seek(stored.start + stored.nbytes)
    if stream.read(6) == b"\x93NUMPY":
        raise BoxError(
            f"{source}: another array follows the first one", "Save all boxes as one array, by one numpy.save."
        )
    return stored._replace(shape=shape)


def _numbers(file: BoxFile, stored: StoredArray) -> NDArray[np.float64]:
    values = np.empty(stored.shape, stored.dtype, order="F" if stored.fortran else "C")
    with reading(str(file.path)):
        read_into(file.stream, stored.start, values.T if stored.fortran else values)
    # What float64 cannot hold becomes infinite or NaN, and such boxes are listed by row later on.
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(np.float64, copy=False)


def _read(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    stored = _checked(file, 4, 5)
    source, dtype, shape = str(file.path), stored.dtype, stored.shape
    plain = shape[1] == 5 and dtype == np.float64 and dtype.isnative and not stored.fortran
    if file.mapped and plain and file.stamp == Stamp.of(file.stream.fileno()):  # not a copy of what was unpacked
        from hashlib import sha256

        stored, digest = stored._replace(stamp=file.stamp), sha256()
        # arrays.py maps in workers alone; here the rows of a part are copied at once, and the others never read.
        numbers = np.asarray(np.memmap(file.path, dtype, "r", stored.start, shape))
        blocks: Iterator[NDArray[np.float64]] | None = _blocks(stored, digest)
    else:
        numbers, blocks, digest = _numbers(file, stored), None, None
    notes = (assumed_xyxy(file.path),) if box_format is None and len(numbers) else ()
    regions = regions_of(
        numbers,
        box_format or BoxFormat.XYXY,
        blocks,
        rows=np.arange(len(numbers)),
        source=source,
        layout="array of boxes",
        notes=notes,
    )
    return regions if digest is None else replace(regions, content=digest.digest())


def _read_rotated(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    """Read center, size and angle; of six numbers the first is the batch index."""
    numbers = _numbers(file, stored := _checked(file, 5, 6))
    form = box_format or BoxFormat.CXCYWH
    return regions_of(
        numbers[:, :-1],
        form,
        rows=np.arange(len(numbers)),
        source=str(file.path),
        layout="array of rotated boxes",
        columns={"angle": numbers[:, -1]},
        notes=(f"{file.path}: {stored.shape[1]} numbers read as {form} and an angle",),
    )


def _blocks(stored: StoredArray, digest: Any) -> Iterator[NDArray[np.float64]]:
    """Yield the rows of an array piece by piece, hashed on the way; only one piece is in memory."""
    for first in range(0, stored.shape[0], _ROWS):
        rows = stored.shape[0] - first
        start = stored.start + first * stored.shape[1] * stored.dtype.itemsize
        block = stored._replace(start=start, shape=(min(rows, _ROWS), stored.shape[1])).load()
        digest.update(block)
        yield block


LAYOUT = Layout(
    "an .npy array of boxes",
    lambda file: not is_label_array(file),
    _read,
    (".npy",),
    holds="(K, 4) for a single map, or (K, 5) with the batch index first",
)

ROTATED = Layout(
    "an .npy array of rotated boxes",
    lambda file: False,  # (K, 5) may as well begin with a batch index, and (K, 6) end in a score and a class
    _read_rotated,
    files="`.npy`",
    holds="(K, 5) cx, cy, w, h, angle, or (K, 6) with the batch index first; only by `boxes_as`",
)
