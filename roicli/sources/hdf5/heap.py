"""Variable-length strings of HDF5: references to heaps, over which HDF5 loops for ever if one is damaged."""

from __future__ import annotations

from struct import Struct
from sys import maxsize
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from roicli.errors import FeatureError, FileError
from roicli.files import COPY_AGAIN
from roicli.sources.hdf5.chunks import Chunks
from roicli.sources.hdf5.index import ChunkIndex

# Length of the string, address of its heap, its number there.
_REFERENCE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("index", "<u4")])
# Signature, version, size of the whole; then objects: number, 0 for the free space at the end, and size.
_HEAP = Struct("<4sB3xQ")
_OBJECT = Struct("<H6xQ")
_LARGEST_HEAP = 64 << 20


def check_strings(dataset: Any, where: str) -> None:
    """Raise RoicliError unless every heap that the strings of a dataset lie in comes to an end."""
    if dataset.file.id.get_create_plist().get_sizes() != (8, 8):
        raise FeatureError(f"{where} has addresses of another width than 8 bytes", "Write it anew, with h5py.")
    base = dataset.file.userblock_size
    with open(dataset.file.filename, "rb") as file:  # noqa: PTH123 (a name that need not be UTF-8)
        heaps = np.unique(_references(dataset, where, file)["heap"]).tolist()
        for heap in heaps:
            if heap and not _ends(file, base + heap):  # 0 stands for no string
                raise FileError(f"{where} is damaged: its strings at byte {base + heap} cannot be read", COPY_AGAIN)


def _references(dataset: Any, where: str, file: IO[bytes]) -> NDArray[Any]:
    """Read what lies in the dataset itself, past HDF5, which would follow it."""
    start = dataset.id.get_offset()
    if dataset.chunks:
        chunks = Chunks(dataset, _REFERENCE.itemsize)
        if not chunks.filters:
            raise FeatureError(
                f"{where} has strings under a filter other than gzip and LZF", "Write it anew, with gzip."
            )
        data = b"".join(map(chunks.values, ChunkIndex(dataset).between(0, len(dataset))))
    elif start is None:
        if dataset.id.get_storage_size():
            raise FeatureError(f"{where} has its strings in another place", "Write it anew, with h5py.")
        data = b""
    else:
        file.seek(start)
        data = file.read(dataset.size * _REFERENCE.itemsize)
    return np.frombuffer(data, _REFERENCE, len(data) // _REFERENCE.itemsize)


def _ends(file: IO[bytes], start: int) -> bool:
    """Tell whether a walk over the objects of a heap comes to its end, as that of HDF5 has to."""
    if start > maxsize:  # farther than a file may be sought
        return False
    file.seek(start)
    head = file.read(_HEAP.size)
    if len(head) < _HEAP.size:
        return False
    signature, version, size = _HEAP.unpack(head)
    if signature != b"GCOL" or version != 1 or not _HEAP.size <= size <= _LARGEST_HEAP:
        return False
    objects = file.read(size - _HEAP.size)
    at = 0
    while at + _OBJECT.size <= len(objects):
        index, length = _OBJECT.unpack_from(objects, at)
        step = _OBJECT.size + (length + 7) // 8 * 8 if index else length
        if step < _OBJECT.size:
            return False
        at += step
    return bool(at <= size - _HEAP.size == len(objects))
