"""Whether the values of an HDF5 dataset can be read safely: HDF5 trusts what a file says of itself.

Left alone it reads zeros for a virtual part that is missing, and any file of the system as external storage.
"""

from __future__ import annotations

import math
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from roicli.errors import FeatureError, FileError
from roicli.sources.files import COPY_AGAIN, check_ratio, file_size, printable, reading

# Chunks of a map, each of which takes some 10 microseconds beside its bytes, and of a dataset, whose places are all
# kept, in some 50 bytes each.
_MOST_CHUNKS = 2**18
_MOST_CHUNKS_IN_ALL = 2**22

# What HDF5 may open for a moment beside the files of the parts.
_MORE_DESCRIPTORS = 2


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
    if dataset.chunks:
        along = [-(-length // size) for length, size in zip(dataset.shape, dataset.chunks, strict=True)]
        count = math.prod(along if item is None else along[1:])
        if count > _MOST_CHUNKS or (count := math.prod(along)) > _MOST_CHUNKS_IN_ALL:
            raise FeatureError(
                f"{where} lies in {count:,} chunks, too many to look up",
                "Write it anew in larger chunks, for example with h5repack (option -l).",
            )


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


def check_descriptors(dataset: Any, item: int | None) -> None:
    """Raise OSError if the system would not open the files of all parts of a virtual dataset, or of one item, at once.

    HDF5 would read zeros for those that it could not open.
    """
    sources = dataset.virtual_sources()
    files = {source.file_name for source in sources if item is None or _may_reach(source, item)}
    with ExitStack() as stack:
        for _ in range(len(files) + _MORE_DESCRIPTORS):
            stack.enter_context(Path(os.devnull).open("rb", buffering=0))


def _may_reach(source: Any, item: int) -> bool:
    """Whether a virtual part may hold values of an item of the leading axis."""
    try:
        first, last = source.vspace.get_select_bounds()
    except (RuntimeError, ValueError):  # without limits
        return True
    return bool(first[0] <= item <= last[0])


def shape_of(dataset: Any, where: str) -> tuple[int, ...]:
    """Shape of a dataset; of a virtual one without limits HDF5 opens all parts for it, so these are checked before."""
    import h5py

    if dataset.is_virtual:
        limits = [source.vspace.get_simple_extent_dims(True) for source in dataset.virtual_sources()]
        if any(h5py.h5s.UNLIMITED in limit for limit in limits):
            check_parts(dataset, where)
    return dataset.shape or ()


def other_files(dataset: Any) -> set[str]:
    """Paths of the files that hold values of a dataset, where those are not in its own."""
    parts = [_part(dataset, source) for source in dataset.virtual_sources()] if dataset.is_virtual else []
    external = [Path(dataset.file.filename).parent / name for name, _, _ in dataset.external or ()]
    return {str(path) for path in (*parts, *external)} - {dataset.file.filename}


def _part(dataset: Any, source: Any) -> Path:
    """Path of a part; HDF5 looks beside the file, and "." is the file itself."""
    own = Path(dataset.file.filename)
    return own if source.file_name == "." else own.parent / source.file_name.replace("%%", "%")
