"""Whether the values of an HDF5 dataset can be read safely: HDF5 trusts what a file says of itself.

Left alone it reads zeros for a virtual part that is missing, whatever lies in memory behind a chunk that is too short,
any file of the system as external storage, and it inflates a chunk without end.
"""

from __future__ import annotations

import math
import zlib
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from roicli.errors import FeatureError, FileError
from roicli.sources.files import COPY_AGAIN, check_ratio, file_size, printable, reading

# Most bytes by which a filter lengthens what it cannot shorten: deflate 1 in 1,000, and checksums.
_SLACK = 64
# HDF5 looks up each chunk of a map, written or not, which takes it some 10 microseconds.
_MOST_CHUNKS = 2**18

_SHUFFLED = [2, 1]  # H5Z_FILTER_SHUFFLE, H5Z_FILTER_DEFLATE
_KNOWN: tuple[list[int], ...] = ([], [1], _SHUFFLED)


def check_storage(dataset: Any, where: str, item: int | None, least_bytes: int = 4) -> None:
    """Raise RoicliError if a dataset, or one item of it, lies elsewhere or claims what is not there.

    Each value is taken to need `least_bytes` in memory, whatever its dtype; 4 are those of the float32 of a map.
    """
    shape = dataset.shape if item is None else dataset.shape[1:]
    for name, start, size in dataset.external or ():
        _check_external(Path(name), start + size, dataset, where)
    values = max(math.prod(shape), math.prod(dataset.chunks or ()))
    claimed = math.prod(dataset.shape) * dataset.dtype.itemsize
    check_ratio(where, values * max(dataset.dtype.itemsize, least_bytes), claimed, lambda: _stored(dataset))
    if dataset.chunks and (count := math.prod(map(len, corners_of(dataset, item)))) > _MOST_CHUNKS:
        raise FeatureError(f"{where} lies in {count:,} chunks", "Write it anew in larger chunks.")


def _check_external(path: Path, stop: int, dataset: Any, where: str) -> None:
    """Raise RoicliError unless a file of raw values is there, in full, and one that whoever wrote the HDF5 file had."""
    name, folder = printable(str(path)), Path(dataset.file.filename).resolve().parent
    if not path.resolve().is_relative_to(folder):
        raise FeatureError(f"{where} has values in {name}, in another folder", "Keep the two files together.")
    if stop > (size := file_size(path)):
        raise FileError(f"{where} needs {stop:,} bytes of {name}, which has {size:,}", COPY_AGAIN)


def _stored(dataset: Any) -> int:
    """Bytes that a dataset takes in its file, or its parts in theirs."""
    if dataset.is_virtual:
        return sum(file_size(path) for path in {_part(dataset, source) for source in dataset.virtual_sources()})
    stored: int = dataset.id.get_storage_size()
    return stored


def check_parts(dataset: Any, where: str) -> None:
    """Raise RoicliError if a part of a virtual dataset is missing or too small, or has no values of its own.

    HDF5 would read zeros in its place, and die of parts that are virtual in a circle.
    """
    import h5py

    for source in dataset.virtual_sources():
        file_name, name = printable(source.file_name), printable(source.dset_name)
        if "%" in (file_name + name).replace("%%", ""):
            raise FeatureError(f"{where} has a series {file_name} for virtual parts", "Name each part by itself.")
        path = _part(dataset, source)
        if not path.exists():
            raise FileError(f"{where} lacks {file_name}, one of its virtual parts", COPY_AGAIN)
        file_size(path)
        with reading(str(path)), h5py.File(path, "r") as file:
            part = file.get(source.dset_name)
            if not isinstance(part, h5py.Dataset):
                raise FileError(f"{where} lacks {name} of {file_name}, one of its virtual parts", COPY_AGAIN)
            if part.is_virtual or part.external:
                raise FeatureError(
                    f"{where} has a virtual part without values of its own, {name} of {file_name}",
                    "Make virtual datasets of plain ones.",
                )
            extent = source.src_space.shape
            # A selection of the whole part has no extent of its own.
            if extent and (len(extent) != part.ndim or any(a > b for a, b in zip(extent, part.shape, strict=True))):
                raise FileError(
                    f"{where} needs a virtual part of shape {extent}, {name} of {file_name} is {part.shape}", COPY_AGAIN
                )


def other_files(dataset: Any) -> set[str]:
    """Paths of the files that hold values of a dataset, where those are not in its own."""
    parts = [_part(dataset, source) for source in dataset.virtual_sources()] if dataset.is_virtual else []
    external = [Path(dataset.file.filename).parent / name for name, _, _ in dataset.external or ()]
    return {str(path) for path in (*parts, *external)} - {dataset.file.filename}


def _part(dataset: Any, source: Any) -> Path:
    """Path of a part; HDF5 looks beside the file, and "." is the file itself."""
    own = Path(dataset.file.filename)
    return own if source.file_name == "." else own.parent / source.file_name.replace("%%", "%")


def corners_of(dataset: Any, item: int | None) -> list[range]:
    """First corners of the chunks of a dataset, or of one item of it, along each axis."""
    corners = [range(0, length, size) for length, size in zip(dataset.shape, dataset.chunks, strict=True)]
    if item is not None:
        corners[0] = range(item // dataset.chunks[0] * dataset.chunks[0], item + 1, dataset.chunks[0])
    return corners


def check_chunks(dataset: Any, where: str, item: int | None) -> None:
    """Raise FileError if a chunk that is read cannot hold the values that it stands for."""
    if dataset.chunks and dataset.dtype.kind != "O":
        nbytes = math.prod(dataset.chunks) * dataset.id.get_type().get_size()  # as stored
        corners = product(*corners_of(dataset, item))
        found = sum(chunk_bytes(dataset, where, corner, nbytes) is not None for corner in corners)
        if item is None and found != dataset.id.get_num_chunks():  # HDF5 dies of two chunks at one place
            raise FileError(f"{where} is damaged: its index of chunks names other ones than it has", COPY_AGAIN)


def chunk_bytes(dataset: Any, where: str, corner: tuple[int, ...], nbytes: int) -> bytes | None:
    """Take the chunk at `corner` from HDF5 and inflate it, checked to be of `nbytes`; None if it was never written.

    Of filters other than gzip and shuffle the size alone is checked, and what is returned is as stored.
    """
    info = dataset.id.get_chunk_info_by_coord(corner)
    if info.byte_offset is None:
        return None
    filters = _filters(dataset)
    sound, data = 0 < info.size <= nbytes + nbytes // 1000 + _SLACK if filters else info.size == nbytes, b""
    sound = sound and info.byte_offset > 0  # where the file itself begins
    if sound and filters in _KNOWN:
        with reading(where):
            _, data = dataset.id.read_direct_chunk(corner)
            if filters and not info.filter_mask >> len(filters) - 1 & 1:
                inflating = zlib.decompressobj()
                data = inflating.decompress(data, nbytes + 1)
                data = data if inflating.eof else b""
        sound = len(data) == nbytes
    if not sound:
        raise FileError(f"{where} is damaged: its chunk at {corner} does not hold {nbytes} bytes", COPY_AGAIN)
    if filters == _SHUFFLED and not info.filter_mask & 1:
        items = math.prod(dataset.chunks)
        data = np.frombuffer(data, np.uint8).reshape(nbytes // items, items).T.tobytes()
    return data


def uses_gzip_at_most(dataset: Any) -> bool:
    """Tell whether the chunks of a dataset are as they are read, or under gzip, with or without shuffle."""
    return _filters(dataset) in _KNOWN


def _filters(dataset: Any) -> list[int]:
    created = dataset.id.get_create_plist()
    return [created.get_filter(i)[0] for i in range(created.get_nfilters())]
