"""Whether the values of an HDF5 dataset can be read safely: HDF5 trusts what a file says of itself.

Left alone it reads any file of the system as external storage.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from roicli.errors import FeatureError, FileError
from roicli.files import COPY_AGAIN, check_ratio, file_size, printable
from roicli.sources.hdf5.virtual import part_paths

# Chunks of a map, each of which takes some 10 microseconds beside its bytes, and of a dataset, whose places are all
# kept, in some 50 bytes each.
_MOST_CHUNKS = 2**18
_MOST_CHUNKS_IN_ALL = 2**22


def check_storage(dataset: Any, where: str, *, batch: bool, least_bytes: int = 4) -> None:
    """Raise RoicliError if a dataset, or one item of a batch, lies elsewhere or claims what is not there.

    Each value is taken to need `least_bytes` in memory, whatever its dtype; 4 are those of the float32 of a map.
    """
    shape = dataset.shape[1:] if batch else dataset.shape
    values = max(math.prod(shape), math.prod(dataset.chunks or ()))
    claimed = math.prod(dataset.shape) * dataset.dtype.itemsize
    for name, start, size in dataset.external or ():
        _check_external(Path(name), start + min(size, claimed), dataset, where)  # the last file may have no limit
    check_ratio(where, values * max(dataset.dtype.itemsize, least_bytes), claimed, lambda: _stored(dataset))
    if dataset.chunks:
        along = [-(-length // size) for length, size in zip(dataset.shape, dataset.chunks, strict=True)]
        count = math.prod(along[1:] if batch else along)
        if count > _MOST_CHUNKS or (count := math.prod(along)) > _MOST_CHUNKS_IN_ALL:
            raise FeatureError(
                f"{where} lies in {count:,} chunks, too many to look up",
                "Write it anew in larger chunks, for example with h5repack (option -l).",
            )


def _check_external(path: Path, stop: int, dataset: Any, where: str) -> None:
    """Raise RoicliError unless a file of raw values is there, in full, and one that whoever wrote the HDF5 file had."""
    name, folder = printable(str(path)), Path(dataset.file.filename).resolve().parent
    if not path.resolve().is_relative_to(folder):
        if not path.is_absolute() and (folder / path).exists():
            raise FeatureError(
                f"{where} has values in {name}, which HDF5 looks for in the current folder", f"Run this in {folder}."
            )
        raise FeatureError(f"{where} has values in {name}, in another folder", "Keep the two files together.")
    if not path.exists():
        raise FileError(f"{where} has values in {name}, which does not exist", "Restore it, or write the dataset anew.")
    if stop > (size := file_size(path)):
        raise FileError(f"{where} needs {stop:,} bytes of {name}, which has {size:,}", COPY_AGAIN)


def _stored(dataset: Any) -> int:
    """Bytes that a dataset takes in its file, or its parts in theirs."""
    if dataset.is_virtual:
        return sum(file_size(path) for path in part_paths(dataset))
    stored: int = dataset.id.get_storage_size()
    return stored


def external_files(dataset: Any) -> set[str]:
    """Paths of the files beside its own that hold raw values of a dataset."""
    return {str(Path(dataset.file.filename).parent / name) for name, _, _ in dataset.external or ()}
