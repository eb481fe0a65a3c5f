"""Outputs to .npz: an uncompressed archive of the features, image ids, boxes, box ids and parameters.

The features and the checksums of rows are the first members, so their places are known from the start and workers
write them into the archive. What follows, and the checksums of these two, is written at the end.
"""

from __future__ import annotations

import json
import math
import os
import struct
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.arrays import read_header
from roicli.checksums import crc32, join
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
    text_dtype,
)
from roicli.outputs.checked import KIND, NAME, checksum_record
from roicli.outputs.npy import npy_header
from roicli.outputs.rowfile import SUM, RowFile
from roicli.regions import Column, Names

# No parameters of ours are larger.
_PARAMETERS_BYTES = 2**20
# Where a member's header holds its checksum, and the lengths of the two parts that follow.
_CRC, _LENGTHS = slice(14, 18), 26


class Npz(OutputFormat):
    """An archive of arrays."""

    suffixes = (".npz",)
    holds = "`features`, `checksums`, `image_ids`, `boxes`, `rows`, `box_ids`, `parameters`"

    def layout(self, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> Layout:
        """See `OutputFormat`; the checksum is zero until `finish`, and not part of the frame."""
        values = math.prod(shape) * dtype.itemsize
        features, sums = _first_members(shape, dtype)
        frame, offset = _begin(features, 0)
        end = offset + values
        more, place = _begin(sums, end)
        stop = place + shape[0] * SUM
        frame |= more | {stop: checksum_record(shape, dtype, record.columns(), record.parameters)}
        return Layout(frame, offset, stop + SUM, end=end, sums=place)

    def tail_bytes(self, record: Record) -> int:
        """See `OutputFormat`."""
        columns = record.columns().values()
        return 2**13 + sum(
            text_dtype(column).itemsize * len(column) if isinstance(column, Names) else column.nbytes
            for column in columns
        )

    def finish(self, target: RowFile, record: Record) -> None:
        """Write the checksums of the first members, the other ones and the table of contents."""
        rows, sums = (target.end - target.offset) // target.row_bytes, target.sums
        assert sums is not None
        stop = sums + (rows + 1) * SUM
        with writing(target.name), os.fdopen(os.dup(target.open()), "r+b") as file:
            file.truncate(stop)
            file.seek(sums)
            stored = np.frombuffer(file.read(stop - sums), KIND)
            members = _first_members((rows, *target.row_shape), target.dtype)
            members[0].info.CRC = join(stored[:-1], target.row_bytes, crc32(members[0].header))
            members[1].info.CRC = crc32(stored.tobytes(), crc32(members[1].header))
            members[1].info.header_offset = target.end
            for made in members:
                write_all(target.open(), made.info.FileHeader(zip64=True), made.info.header_offset)
            file.seek(stop)
            with zipfile.ZipFile(file, "w") as archive:
                for made in members:
                    archive.filelist.append(made.info)
                    archive.NameToInfo[made.info.filename] = made.info
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
            entry = entries["features"]
        with path.open("rb") as file:
            file.seek(entry.header_offset + _LENGTHS)
            place = entry.header_offset + _LENGTHS + 4 + sum(struct.unpack("<HH", file.read(4)))
            file.seek(place)
            features = read_header(file, path, f"{path}, features")
            if features.start + features.nbytes != entry.file_size or entry.compress_type != zipfile.ZIP_STORED:
                raise not_ours(f"{path}, features")
        features = features._replace(start=place + features.start)
        return Stored.checked(features, columns, self.parameters(path))

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


class _Member(NamedTuple):
    """A member that workers write: its entry, and the header of its array."""

    info: zipfile.ZipInfo
    header: bytes


def _first_members(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[_Member, _Member]:
    """Make the members of (K, ...) features and of checksums; their own checksums are zero, their places too."""
    made = []
    for name, sides, kind in (("features", shape, dtype), (NAME, (shape[0] + 1,), KIND)):
        info, header = member(name), npy_header(sides, kind)
        info.file_size = info.compress_size = len(header) + math.prod(sides) * kind.itemsize
        info.header_offset = info.CRC = 0
        made.append(_Member(info, header))
    return made[0], made[1]


def _begin(made: _Member, place: int) -> tuple[dict[int, bytes | bytearray], int]:
    """Return what stands before the values of a member that begins at a place, save its checksum; and their place."""
    begin = made.info.FileHeader(zip64=True) + made.header
    return {place: begin[: _CRC.start], place + _CRC.stop: begin[_CRC.stop :]}, place + len(begin)


def member(name: str) -> zipfile.ZipInfo:
    """Make the entry of an array; the same content gives the same bytes."""
    info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))  # a fixed date: the same job gives the same bytes
    info.external_attr = 0o600 << 16
    return info


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[Any]:
    where = f"{archive.filename}, array {entry.filename}"
    if entry.compress_type != zipfile.ZIP_STORED:
        raise not_ours(where)
    with archive.open(entry) as stream:
        array = read_header(stream, Path(str(archive.filename)), where)
        if array.dtype.hasobject or array.start + array.nbytes != entry.file_size:
            raise not_ours(where)
        return np.frombuffer(stream.read(array.nbytes), array.dtype).reshape(array.shape)
