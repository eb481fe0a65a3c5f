"""Output to .npy: a header, then the rows."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from roicli.outputs.rowfile import RowFile
from roicli.resume.partial import writing


def create_npy(path: Path, name: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> RowFile:
    """Make an .npy file of its full size, all zeros and sparse where the file system can; return where its rows lie."""
    header = _header(shape, dtype)
    target = RowFile(path, name, len(header), shape[0], shape[1:], dtype)
    with writing(name), path.open("wb") as file:
        file.write(header)
        os.truncate(file.fileno(), target.end)
    return target


def find_npy(path: Path, name: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> RowFile | None:
    """Return where the rows lie of a file that `create_npy` has made; None if it is not as it was made."""
    header = _header(shape, dtype)
    target = RowFile(path, name, len(header), shape[0], shape[1:], dtype)
    with writing(name), path.open("rb") as file:
        made = file.read(len(header)) == header and os.fstat(file.fileno()).st_size == target.end
    return target if made else None


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()
