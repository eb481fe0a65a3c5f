"""Pooled features that somebody else has made: read them, and find out how their axes are meant."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.errors import FileError, RoicliError
from roicli.files import file_size, reading
from roicli.outputs import find_stored
from roicli.outputs.base import Parameters, read_output

_REMEDY = "Give pooled features: (K, C, PH, PW), (K, PH, PW, C), (K, C * PH * PW), or means (K, C)."
# So many values tell whether all were rounded to float16.
_LOOKED_AT = 2**18
# Options that an output records as they are given.
_SAME = (
    *("sampling_ratio", "aligned", "mode", "reduce", "op", "normalized", "preprocess", "image_size", "layout"),
    *("dataset", "bad_boxes", "missing_features", "mask_rule", "box_format", "convention"),
)


class Reference(NamedTuple):
    """Pooled features to compare with, and how they were made, if their file says it."""

    path: Path
    values: NDArray[Any]
    parameters: Parameters

    @property
    def rounding(self) -> np.dtype[Any]:
        """Return float16 if all values are numbers of it, else the dtype of the values."""
        dtype = self.values.dtype.newbyteorder("=")
        if dtype.itemsize <= 2:
            return dtype
        step = max(1, len(self.values) * math.prod(self.values.shape[1:]) // _LOOKED_AT)
        some = np.asarray(self.values[::step][:_LOOKED_AT])
        with np.errstate(over="ignore"):
            same = some.astype(np.float16) == some
        return np.dtype(np.float16) if same.all() and some.any() else dtype

    def options(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return the options of `align` that made it, as far as it says them; those `given` count for more."""
        found: dict[str, Any] = {}
        said = self.parameters
        for name in _SAME:
            if name in said and said[name] not in ("", "as the file says"):
                found[name] = said[name]
        if "output_height" in said:
            found["size"] = (int(said["output_height"]), int(said["output_width"]))
        if "spatial_scale" in said and not {"spatial_scale", "stride"} & {*given}:
            numbers = tuple(map(float, str(said["spatial_scale"]).split(",")))
            found["spatial_scale"] = numbers if len(numbers) > 1 else numbers[0]
        if "convention" in found | given:
            found = {name: value for name, value in found.items() if name not in ("op", "aligned", "mode")}
        return found | given

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the values without axes of one before the rows."""
        shape = self.values.shape
        while len(shape) > 4 and shape[0] == 1:
            shape = shape[1:]
        return shape

    @property
    def rows(self) -> int:
        """Return how many rows there are."""
        return self.shape[0]

    def readings(self, channels: int, sizes: Sequence[tuple[int, int]]) -> list[Arranged]:
        """Return what the axes may be, for so many channels; a flat row has one of the `sizes` given, or is square.

        Raises FileError: they fit no reading.
        """
        shape = self.shape
        values, found = np.asarray(self.values).reshape(shape), []
        if len(shape) == 4 and shape[1] == channels:
            found.append(Arranged(values, "(K, C, PH, PW)", (shape[2], shape[3])))
        if len(shape) == 4 and shape[3] == channels:
            found.append(Arranged(values, "(K, PH, PW, C)", (shape[1], shape[2]), (0, 3, 1, 2)))
        if shape[1:] in ((channels,), (channels, 1, 1)):
            found += [Arranged(values.reshape(len(values), channels), "(K, C)", size, mean=True) for size in sizes]
        elif len(shape) == 2 and shape[1] % channels == 0:
            bins, side = shape[1] // channels, math.isqrt(shape[1] // channels)
            square = [(side, side)] if side * side == bins else []
            for size in dict.fromkeys([*(size for size in sizes if math.prod(size) == bins), *square]):
                found.append(Arranged(values.reshape(-1, channels, *size), "(K, C * PH * PW)", size))
                found.append(Arranged(values.reshape(-1, *size, channels), "(K, PH * PW * C)", size, (0, 3, 1, 2)))
        if not found:
            raise FileError(
                f"{self.path} is {self.values.shape}, which is not features of {channels} channels", _REMEDY
            )
        return found


class Arranged(NamedTuple):
    """The reference under one reading of its axes."""

    values: NDArray[Any]
    words: str
    size: tuple[int, int]
    axes: tuple[int, ...] = ()
    mean: bool = False

    def rows(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        """Return some rows as (k, C, PH, PW), or (k, C) if they are means."""
        first, count = int(rows[0]), len(rows)
        together = count == int(rows[-1]) - first + 1 and bool((np.diff(rows) == 1).all())
        part = self.values[first : first + count] if together else self.values[rows]
        return part.transpose(self.axes) if self.axes else part

    def release(self) -> None:
        """Let go of pages that were read, which count as memory of the process."""
        mapped: Any = self.values
        while isinstance(mapped, np.ndarray):
            mapped = mapped.base
        if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


def read_reference(path: Path) -> Reference:
    """Open pooled features: an output of ours, or an array in an .npy or .npz file.

    Raises FileError: they cannot be read, or are not numbers.
    """
    parameters: Parameters = {}
    try:
        stored = read_output(find_stored(path), path)
    except RoicliError:
        if path.suffix.lower() not in (".npy", ".npz"):
            raise
        file_size(path)  # says whether there is a file
        with reading(str(path), _REMEDY):
            loaded = np.load(path, mmap_mode="r", allow_pickle=False)
            arrays = [loaded] if isinstance(loaded, np.ndarray) else list(loaded.values())
        values = max(arrays, key=lambda array: array.size)
    else:
        parameters, values = stored.parameters, find_stored(path).values(path, stored)
    if values.dtype.kind != "f" or values.ndim < 2:
        raise FileError(f"{path} holds {values.dtype} of shape {values.shape}", _REMEDY)
    return Reference(path, values, parameters)
