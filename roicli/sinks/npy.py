"""Output to .npy: a header, then the rows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from roicli.errors import OutputError
from roicli.sinks.partial import partial_path, publish, writing
from roicli.sinks.rowfile import RowFile


def create_npy(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> RowFile:
    """Make an .npy file of its full size, all zeros and sparse where the file system can; return where its rows lie."""
    with writing(path), path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        target = RowFile(path, file.tell(), shape[0], shape[1:], dtype)
        os.truncate(file.fileno(), target.end)
    return target


class NpySink:
    """The features alone, (K, C, PH, PW) or (K, C)."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._path = path
        self.target = create_npy(partial_path(path), shape, dtype)

    def commit(self) -> None:
        """Move the file to its final name."""
        self.target.close()
        check_size(self.target)
        publish(self.target.path, self._path)

    def abort(self) -> None:
        """Remove the temporary file."""
        self.target.close()
        self.target.path.unlink(missing_ok=True)


def check_size(target: RowFile) -> None:
    """Hold the size of the file against what its rows need."""
    size = target.path.stat().st_size
    if size < target.end:
        raise OutputError(f"{target.path} has {size} bytes, {target.end} were written", "Check the disk.")
