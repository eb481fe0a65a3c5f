"""Output to .npy: a header, then the rows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from roicli.sinks.partial import writing
from roicli.sinks.rowfile import RowFile


def create_npy(path: Path, name: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> RowFile:
    """Make an .npy file of its full size, all zeros and sparse where the file system can; return where its rows lie."""
    with writing(name), path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        target = RowFile(path, name, file.tell(), shape[0], shape[1:], dtype)
        os.truncate(file.fileno(), target.end)
    return target
