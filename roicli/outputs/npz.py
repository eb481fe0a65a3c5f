"""An .npz read back; roicli compresses none of its arrays."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.arrays import read_header
from roicli.outputs.stored import Parameters, Stored, not_ours, stream_blocks

# No record of ours is larger.
_RECORD_BYTES = 2**20


def open_stored(path: Path) -> Stored:
    """Read all arrays but the features."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        columns = {
            name: _member(archive, entry) for name, entry in entries.items() if name not in ("features", "parameters")
        }
        with archive.open(entries["features"]) as stream:
            array = read_header(stream, path, f"{path}, features")
        if array.fortran or array.start + array.nbytes != entries["features"].file_size:
            raise not_ours(f"{path}, features")
    return Stored(array.shape, array.dtype, columns)


def read_parameters(path: Path) -> Parameters:
    """Read how it was made."""
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename == "parameters.npy"]
        # A file of features may have an array of that name too.
        if not entries or entries[0].compress_type != zipfile.ZIP_STORED or entries[0].file_size > _RECORD_BYTES:
            return {}
        text = str(_member(archive, entries[0]))
    with suppress(ValueError):
        said = json.loads(text)
        if isinstance(said, dict) and "roicli_version" in said:
            return said
    return {}


def blocks(path: Path, rows: int) -> Iterator[NDArray[Any]]:
    """Yield the features; the archive's checksum is read on the way."""
    with zipfile.ZipFile(path) as archive, archive.open("features.npy") as stream:
        yield from stream_blocks(stream, read_header(stream, path, str(path)), rows)


def _member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[Any]:
    where = f"{archive.filename}, array {entry.filename}"
    if entry.compress_type != zipfile.ZIP_STORED:
        raise not_ours(where)
    with archive.open(entry) as stream:
        array = read_header(stream, Path(str(archive.filename)), where)
        if array.dtype.hasobject or array.start + array.nbytes != entry.file_size:
            raise not_ours(where)
        return np.frombuffer(stream.read(array.nbytes), array.dtype).reshape(array.shape)
