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
from roicli.errors import FeatureError, FileError
from roicli.files import COPY_AGAIN, Stamp, check_ratio, natural_key, reading, wrong_content
from roicli.sources.base import MapSource, StoredMap, check_map, is_poolable, unique
from roicli.sources.choose import Choice, are_maps, choose, listing, sibling_ids
from roicli.sources.counted import Counted
from roicli.sources.handle import OwnHandle
from roicli.sources.inventory import LOOKED_AT, Inventory, Kind, group
from roicli.sources.layout import MapLayout

_BLOCK = 1 << 20


def check_archive(path: Path) -> None:
    """Raise FileError unless a file is a whole zip archive."""
    if zipfile.is_zipfile(path):
        return
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":
            raise FileError(f"{path} is truncated: its table of contents is missing", COPY_AGAIN)
    raise wrong_content(path, "an .npz file")


def _describe(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> tuple[str, Kind, int]:
    with archive.open(entry) as stream:
        array = read_header(stream, path, f"{path}, array {entry.filename}")
    storage = "contiguous" if entry.compress_type == zipfile.ZIP_STORED else "deflate"
    return entry.filename.removesuffix(".npy"), Kind(array.shape, str(array.dtype), storage), entry.compress_size


def _stamp(archive: zipfile.ZipFile) -> Stamp:
    assert archive.fp is not None, "it is open"
    return Stamp.of(archive.fp.fileno())


class _Archive:
    """An open .npz, and the stream of the member read last: to read on in it is free, to go back starts it anew."""

    def __init__(self, path: Path, stamp: Stamp) -> None:
        self._zip = zipfile.ZipFile(path)
        stamp.check(path, _stamp(self._zip))
        self._lock = threading.Lock()
        self._member = ""
        self._stream: IO[bytes] | None = None

    def read(self, member: str, start: int, out: NDArray[Any]) -> None:
        """Fill `out`, a contiguous array, with the bytes of a member from `start` on."""
        with self._lock:
            if self._stream is None or member != self._member:
                self._stream, self._member = self._zip.open(member), member
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


class NpzSource(MapSource):
    """One .npz file.

    Members that are stored (`numpy.savez`) are read as .npy files are; their checksums are not computed. Compressed
    members (`numpy.savez_compressed`) are decompressed one map at a time: reading the maps of a 4-D array in order
    costs one pass over it, going back starts that pass again.
    """

    holds = "an array per image, named by its id; or one array (N, C, H, W)"
    has_datasets = True

    def __init__(self, path: Path, layout: MapLayout, dataset: str | None = None) -> None:
        super().__init__(path, layout)
        with reading(self.name):
            check_archive(path)
            self._arrays: dict[str, StoredArray] = {}
            self._stored: set[str] = set()
            with zipfile.ZipFile(path) as archive:
                self._note(path, stamp := _stamp(archive))
                self._archive = OwnHandle(partial(_Archive, path, stamp))
                members = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
                unique((entry.filename for entry in members), self.name)
                for entry in members:
                    self._add(archive, entry)
        choice = self._choose(dataset.strip("/") if dataset else dataset)
        self._stack = choice.path if choice.maps is None else None
        if choice.maps is None:
            shape = self._arrays[choice.path].shape
            ids = sibling_ids(self._arrays, shape[0], self._whole)
            self.labelled = ids is not None
            self.ids = Counted(shape[0]) if ids is None else ids
            if self.ids:
                check_map(self._where(choice.path), shape[1:], self._arrays[choice.path].dtype, layout)
        else:
            self.labelled = True
            self.ids = choice.maps

    @classmethod
    def take_stock(cls, path: Path) -> Inventory:
        """List the members."""
        check_archive(path)
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
            entries.sort(key=lambda entry: natural_key(entry.filename))
            return group((_describe(archive, entry, path) for entry in entries[:LOOKED_AT]), len(entries[LOOKED_AT:]))

    def _where(self, name: str) -> str:
        return f"{self.path}, array {name}"

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
            with self.path.open("rb") as file:  # the local header has its own lengths, often others than the table
                file.seek(entry.header_offset)
                local = file.read(30)
            name_length, extra_length = struct.unpack("<HH", local[26:30])
            data = entry.header_offset + 30 + name_length + extra_length
            array = array._replace(start=data + array.start, stamp=self.stamps[str(self.path)])
            self._stored.add(name)
        self._arrays[name] = array

    def _choose(self, dataset: str | None) -> Choice:
        """Apply `dataset`, where "/" stands for all 3-D arrays."""
        rows = {name: f"{array.shape} {array.dtype}" for name, array in self._arrays.items()}
        poolable = [name for name, array in self._arrays.items() if is_poolable(array.dtype)]
        maps = [name for name in poolable if self.layout.is_map(self._arrays[name].shape)]
        stacks = [name for name in poolable if self.layout.is_stack(self._arrays[name].shape)]
        if not maps and are_maps([self._arrays[name].shape for name in stacks]):
            maps, stacks = stacks, []
        maps.sort(key=natural_key)
        choices = [Choice(name, None, rows[name]) for name in stacks]
        if maps:
            choices.append(Choice("/", tuple(maps), f"{len(maps)} maps such as {maps[0]} {rows[maps[0]]}"))
        others = [f"{name}  {row}" for name, row in rows.items()]
        if dataset is None:
            return choose(self.name, choices, others, self.layout)
        if dataset == "":
            return choose(self.name, [choice for choice in choices if choice.maps], others, self.layout)
        if dataset not in rows:
            raise FeatureError(f"{self.path} has no array {dataset!r}; it holds:\n{listing(others)}", "Name another.")
        array = self._arrays[dataset]
        if self.layout.is_stack(array.shape):
            return Choice(dataset, None, rows[dataset])
        check_map(self._where(dataset), array.shape, array.dtype, self.layout)
        return Choice("/", (dataset,), rows[dataset])

    def _whole(self, name: str) -> StoredMap:
        """Describe an array as it is, whether it is a map or the ids of maps."""
        array = self._arrays[name]
        return StoredMap(self._where(name), array.shape, array.dtype, lambda: self._values(name, array, None))

    def _values(self, name: str, array: StoredArray, index: int | None) -> NDArray[Any]:
        """Values of an array, or of map `index` of a 4-D one."""
        if name in self._stored:
            return array.load(index)
        scattered = array.fortran and index is not None  # the whole array has to be read for one map of it
        with reading(self._where(name)):
            shape = array.shape if index is None or scattered else array.shape[1:]
            out = np.empty(shape, array.dtype, order="F" if array.fortran else "C")
            start = array.start + (0 if index is None or scattered else index * out.nbytes)
            self._archive.get().read(f"{name}.npy", start, out.T if array.fortran else out)
        return out[index] if scattered else out

    def close(self) -> None:
        """Release the archive."""
        self._archive.close()

    def _find(self, index: int) -> StoredMap:
        if self._stack is None:
            return self._without_batch(self._whole(self.ids[index]))
        name, array = self._stack, self._arrays[self._stack]
        where = f"{self._where(name)}, map {index}"
        return StoredMap(where, array.shape[1:], array.dtype, lambda: self._values(name, array, index))
