"""An .npz file: a 3-D array an image, named by image id, or one 4-D array, with or without an array of image ids."""

from __future__ import annotations

import struct
import threading
import zipfile
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from roicli.arrays import StoredArray, read_header
from roicli.errors import FileError
from roicli.files import COPY_AGAIN, Stamp, check_ratio, reading, wrong_content
from roicli.protocols import Shared
from roicli.sources.base import unique
from roicli.sources.handle import OwnHandle
from roicli.sources.inventory import Inventory, Kind, group_named
from roicli.sources.layout import MapLayout
from roicli.sources.named import NamedArrays
from roicli.stores.file import expect, open_bytes, read_ahead, read_at, stamp_of
from roicli.stores.path import is_store

_BLOCK = 1 << 20
# The headers of so many members of an object are fetched together, of each so much: its own, and what zipfile reads
# of its array at once.
_AT_ONCE, _HEADERS = 1000, 5000


def check_archive(path: Path) -> None:
    """Raise FileError unless a file is a whole zip archive."""
    with open_bytes(path) as file:
        if zipfile.is_zipfile(file):
            return
        file.seek(0)
        if file.read(4) == b"PK\x03\x04":
            raise FileError(f"{path} is truncated: its table of contents is missing", COPY_AGAIN)
    raise wrong_content(path, "an .npz file")


def _open(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path.open("rb") if is_store(path) else path)


def _describe(archive: zipfile.ZipFile, path: Path, entry: zipfile.ZipInfo) -> tuple[Kind, int]:
    with archive.open(entry) as stream:
        array = read_header(stream, path, f"{path}, array {entry.filename}")
    storage = "contiguous" if entry.compress_type == zipfile.ZIP_STORED else "deflate"
    return Kind(array.shape, str(array.dtype), storage), entry.compress_size


def _is_array(member: str) -> bool:
    """Whether a member is an array, and not what macOS puts beside it."""
    return member.endswith(".npy") and not member.rpartition("/")[2].startswith("._")


def _stamp(archive: zipfile.ZipFile) -> Stamp:
    assert archive.fp is not None, "it is open"
    return stamp_of(archive.fp)


class _Archive:
    """An open .npz, and the stream of the member read last: to read on in it is free, to go back starts it anew."""

    def __init__(self, path: Path, stamp: Stamp) -> None:
        self._zip = _open(path)
        stamp.check(path, _stamp(self._zip))
        self._lock = threading.Lock()
        self._member = ""
        self._stream: IO[bytes] | None = None

    def read(self, member: str, start: int, out: NDArray[Any]) -> None:
        """Fill `out`, a contiguous array, with the bytes of a member from `start` on."""
        with self._lock:
            if self._stream is None or member != self._member:
                self._stream, self._member = self._zip.open(member), member
                entry = self._zip.getinfo(member)
                read_ahead(self._zip.fp, entry.header_offset + _HEADERS + entry.compress_size)
            self._stream.seek(start)
            view = out.reshape(-1).view(np.uint8)
            done = 0
            while done < view.size:
                block = self._stream.read(min(_BLOCK, view.size - done))
                if not block:
                    raise EOFError("the compressed data end too early")
                view[done : done + len(block)] = np.frombuffer(block, np.uint8)
                done += len(block)

    def close(self) -> None:
        self._zip.close()


class NpzSource(NamedArrays[StoredArray]):
    """One .npz file.

    Members that are stored (`numpy.savez`) are read as .npy files are; their checksums are not computed. Compressed
    members (`numpy.savez_compressed`) are decompressed one map at a time: reading the maps of a 4-D array in order
    costs one pass over it, going back starts that pass again.
    """

    holds = "an array per image, named by its id; or one array (N, C, H, W)"

    def __init__(self, path: Path, layout: MapLayout, dataset: str | None = None) -> None:
        super().__init__(path, layout)
        with reading(self.name):
            check_archive(path)
            self._stored: set[str] = set()
            with _open(path) as archive:
                self._note(path, stamp := _stamp(archive))
                self._archive = OwnHandle(partial(_Archive, path, stamp))
                members = [entry for entry in archive.infolist() if _is_array(entry.filename)]
                unique((entry.filename for entry in members), self.name)
                for first in range(0, len(members), _AT_ONCE):
                    some = members[first : first + _AT_ONCE]
                    expect(archive.fp, [(entry.header_offset, _HEADERS) for entry in some])
                    for entry in some:
                        self._add(archive, entry)
        self._set_up(dataset)

    @classmethod
    def take_stock(cls, path: Path) -> Inventory:
        """List the members."""
        check_archive(path)
        with _open(path) as archive:
            entries = {one.filename.removesuffix(".npy"): one for one in archive.infolist() if _is_array(one.filename)}
            return group_named(entries, partial(_describe, archive, path))

    def _add(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
        """Note where a member's values begin, once its header and the archive agree on its size."""
        name = entry.filename.removesuffix(".npy")
        where = self._where(name)
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # NumPy writes no others, and zipfile inflates theirs without a bound.
            raise FileError(f"{where} is compressed by method {entry.compress_type} of zip", "Write it with NumPy.")
        with reading(where), archive.open(entry) as stream:
            array = read_header(stream, self.path, where)
        if array.dtype.hasobject:
            self._arrays[name] = array
            return
        if array.start + array.nbytes > entry.file_size:
            raise FileError(
                f"{where} is broken: {array.shape} of {array.dtype} does not fit into its {entry.file_size} bytes "
                f"({entry.compress_size} in the file)",
                COPY_AGAIN,
            )
        check_ratio(where, entry.file_size, entry.file_size, lambda: entry.compress_size)
        if entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & 1:
            assert archive.fp is not None, "it is open"
            local = read_at(archive.fp, 30, entry.header_offset)  # its own lengths are often others than the table's
            name_length, extra_length = struct.unpack("<HH", local[26:30])
            data = entry.header_offset + 30 + name_length + extra_length
            array = array._replace(start=data + array.start, stamp=self.stamps[str(self.path)])
            self._stored.add(name)
        self._arrays[name] = array

    def _span(self, name: str, index: int | None) -> tuple[int, int] | None:
        array = self._arrays[name]
        if name not in self._stored or (index is not None and array.fortran):
            return None
        return (array if index is None else array.item(index)).span

    def _values(self, name: str, index: int | None) -> NDArray[Any]:
        """Values of an array, or of map `index` of a 4-D one."""
        array = self._arrays[name]
        if index is not None and array.fortran:
            nbytes = array.nbytes // array.shape[0]
            return self._with_others(index, nbytes, lambda items: self._scattered(name, items))
        if name in self._stored:
            return array.load(index)
        with reading(self._where(name)):
            out = np.empty(
                array.shape if index is None else array.shape[1:], array.dtype, "F" if array.fortran else "C"
            )
            start = array.start + (0 if index is None else index * out.nbytes)
            self._archive.get().read(f"{name}.npy", start, out.T if array.fortran else out)
        return out

    def _scattered(self, name: str, items: list[int]) -> NDArray[Any]:
        """Read maps of a stack in Fortran order; of one that is compressed, all have to be read for them."""
        if name in self._stored:
            return self._arrays[name].load(items=items)
        return self._values(name, None)[items]

    def shared(self, index: int) -> Shared | None:
        """Return the array, if it is a stack in Fortran order, whose maps lie scattered over all of it."""
        if self._names is not None or not self._arrays[self._stack].fortran:
            return None
        return Shared((0,), "numpy.ascontiguousarray before saving")

    def close(self) -> None:
        """Release the archive and what is held of maps."""
        super().close()
        self._archive.close()
