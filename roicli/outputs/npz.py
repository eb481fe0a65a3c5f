"""Outputs to .npz: an uncompressed archive of the features, image ids, boxes, box ids and parameters.

The features are the first member, so their place is known from the start and workers write them into the archive.
What follows, and the checksum of the features, is written at the end.
"""

from __future__ import annotations

import errno
import json
import os
import zipfile
import zlib
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.arrays import StoredArray, read_header
from roicli.files import file_size
from roicli.newfiles import write_all, writing
from roicli.outputs.base import (
    Layout,
    OutputFormat,
    Parameters,
    Record,
    Stored,
    column_blocks,
    names_of,
    not_ours,
    stream_blocks,
    text_dtype,
)
from roicli.outputs.npy import npy_header
from roicli.outputs.rowfile import RowFile
from roicli.regions import Column, Names

# No parameters of ours are larger.
_PARAMETERS_BYTES = 2**20
_BLOCK_BYTES = 2**20
# Where a member's header holds its checksum.
_CRC = slice(14, 18)


class Npz(OutputFormat):
    """An archive of arrays."""

    suffixes = (".npz",)
    holds = "`features`, `image_ids`, `boxes`, `rows`, `box_ids`, `parameters`"

    def layout(self, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> Layout:
        """See `OutputFormat`; the checksum is zero until `finish`, and not part of the frame."""
        header = npy_header(shape, dtype)
        size = len(header) + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        begin = _features(size).FileHeader(zip64=True)
        frame = {0: begin[: _CRC.start], _CRC.stop: begin[_CRC.stop :] + header}
        return Layout(frame, len(begin) + len(header), len(begin) + size)

    def tail_bytes(self, record: Record) -> int:
        """See `OutputFormat`."""
        columns = record.columns().values()
        return 2**13 + sum(
            text_dtype(column).itemsize * len(column) if isinstance(column, Names) else column.nbytes
            for column in columns
        )

    def finish(self, target: RowFile, record: Record) -> None:
        """Write the checksum of the features, the other members and the table of contents."""
        with writing(target.name), os.fdopen(os.dup(target.open()), "r+b") as file:
            file.truncate(target.end)
            begin = len(_features(0).FileHeader(zip64=True))
            info = _features(target.end - begin)
            info.CRC = _checksum(target.open(), begin, target.end)
            write_all(target.open(), info.FileHeader(zip64=True), 0)
            file.seek(target.end)
            with zipfile.ZipFile(file, "w") as archive:
                archive.filelist.append(info)
                archive.NameToInfo[info.filename] = info
                parameters = np.array(json.dumps(record.parameters))
                for name, column in (record.columns() | {"parameters": parameters}).items():
                    kind = text_dtype(column)
                    shape = (len(column),) if isinstance(column, Names) else column.shape
                    with archive.open(member(name), "w", force_zip64=True) as stream:
                        stream.write(npy_header(shape, kind))
                        for block in [column] if not shape else column_blocks(column, kind):
                            stream.write(block.tobytes())

    def read(self, path: Path) -> Stored:
        """See `OutputFormat`."""
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            columns: dict[str, Column] = {
                name: names_of(array) if (array := _read(archive, entry)).dtype.kind == "U" else array
                for name, entry in entries.items()
                if name not in ("features", "parameters")
            }
            if "features" not in entries:
                raise not_ours(str(path))
            with archive.open(entries["features"]) as stream:
                features = read_header(stream, path, f"{path}, features")
            if features.start + features.nbytes != entries["features"].file_size or entries["features"].header_offset:
                raise not_ours(f"{path}, features")
            features = features._replace(start=features.start + len(_features(0).FileHeader(zip64=True)))
        return Stored(features, columns, self.parameters(path))

    def parameters(self, path: Path) -> Parameters:
        """See `OutputFormat`."""
        file_size(path)
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename == "parameters.npy"]
            # A file of features may have an array of that name too.
            if not entries or entries[0].compress_type != zipfile.ZIP_STORED:
                return {}
            if entries[0].file_size > _PARAMETERS_BYTES:
                return {}
            text = str(_read(archive, entries[0]))
        with suppress(ValueError):
            found = json.loads(text)
            if isinstance(found, dict) and "roicli_version" in found:
                return found
        return {}

    def blocks(self, path: Path, features: StoredArray) -> Generator[NDArray[Any], None, None]:
        """Yield the features; the archive's checksum is checked on the way."""
        with zipfile.ZipFile(path) as archive, archive.open("features.npy") as stream:
            read_header(stream, path, str(path))
            yield from stream_blocks(stream, features)


def _features(size: int) -> zipfile.ZipInfo:
    """Make the entry of the features, whose .npy file takes `size` bytes."""
    info = member("features")
    info.file_size = info.compress_size = size
    info.header_offset = info.CRC = 0
    return info


def member(name: str) -> zipfile.ZipInfo:
    """Make the entry of an array; the same content gives the same bytes."""
    info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))  # a fixed date: the same job gives the same bytes
    info.external_attr = 0o600 << 16
    return info


def _checksum(descriptor: int, first: int, stop: int) -> int:
    number = 0
    while first < stop:
        data = os.pread(descriptor, min(_BLOCK_BYTES, stop - first), first)
        if not data:
            raise OSError(errno.EIO, "the file is shorter than what was written")
        number, first = zlib.crc32(data, number), first + len(data)
    return number


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[Any]:
    where = f"{archive.filename}, array {entry.filename}"
    if entry.compress_type != zipfile.ZIP_STORED:
        raise not_ours(where)
    with archive.open(entry) as stream:
        array = read_header(stream, Path(str(archive.filename)), where)
        if array.dtype.hasobject or array.start + array.nbytes != entry.file_size:
            raise not_ours(where)
        return np.frombuffer(stream.read(array.nbytes), array.dtype).reshape(array.shape)
