"""The parts of a virtual HDF5 dataset: HDF5 reads zeros for those that are missing, or that it cannot open.

Runs in a child process.
"""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from roicli import child
from roicli.errors import FeatureError, FileError
from roicli.files import COPY_AGAIN, file_size, printable, reading

# Descriptors that HDF5 and Python may have open beside the files of the parts.
_MORE_DESCRIPTORS = 16
# What looking at a part takes at most, on a busy machine.
_SECONDS = 0.01


def check_parts(dataset: Any, where: str, *, batch: bool = False) -> set[str]:
    """Look at every part once, which takes some 200 microseconds each; return the files of the others than its own.

    `dataset`: it is virtual.
    `where`: its name for messages.
    `batch`: whether it is read one item of the leading axis at a time.
    Raises RoicliError: a part is missing or too small, or has no values of its own: HDF5 would read zeros in its place,
    and die of parts that are virtual in a circle. OSError: the system would not open at once the files that are read
    together.
    """
    own, sources = Path(dataset.file.filename), dataset.virtual_sources()
    extents = {(source.file_name, source.dset_name, source.src_space.shape) for source in sources}
    for file_name, name, extent in extents:
        child.grant(_SECONDS)
        _check_part(_path(own, file_name), file_name, name, extent, where)
    spans = {(source.file_name, *(_span(source) if batch else (0, 0))) for source in sources}
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _most_at_once(spans) + _MORE_DESCRIPTORS > limit:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return {str(path) for path in part_paths(dataset, sources)} - {str(own)}


def part_paths(dataset: Any, sources: Any = None) -> set[Path]:
    """Files of the parts of a virtual dataset."""
    own = Path(dataset.file.filename)
    return {_path(own, name) for name in {source.file_name for source in sources or dataset.virtual_sources()}}


def shape_of(dataset: Any, where: str) -> tuple[int, ...]:
    """Shape of a dataset; of a virtual one without limits HDF5 opens all parts for it, so these are checked before."""
    if dataset.is_virtual:
        created = dataset.id.get_create_plist()
        limits = (
            created.get_virtual_vspace(number).get_simple_extent_dims(True)
            for number in range(created.get_virtual_count())
        )
        if any(h5py.h5s.UNLIMITED in limit for limit in limits):
            check_parts(dataset, where)
    return dataset.shape or ()


def _path(own: Path, file_name: str) -> Path:
    """Path of a part; HDF5 looks beside the file, and "." is the file itself."""
    return own if file_name == "." else own.parent / file_name.replace("%%", "%")


def _check_part(path: Path, file_name: str, name: str, extent: tuple[int, ...] | None, where: str) -> None:
    shown = printable(file_name)
    if "%" in (file_name + name).replace("%%", ""):
        raise FeatureError(f"{where} has a series {shown} for virtual parts", "Name each part by itself.")
    if not path.exists():
        raise FileError(f"{where} lacks {shown}, one of its virtual parts", COPY_AGAIN)
    file_size(path)
    with reading(str(path)), h5py.File(path, "r") as file:
        part = file.get(name)
        if not isinstance(part, h5py.Dataset):
            raise FileError(f"{where} lacks {printable(name)} of {shown}, one of its virtual parts", COPY_AGAIN)
        if part.is_virtual or part.external:
            raise FeatureError(
                f"{where} has a virtual part without values of its own, {printable(name)} of {shown}",
                "Make virtual datasets of plain ones.",
            )
        # A selection of the whole part has no extent of its own.
        if extent and (len(extent) != part.ndim or any(a > b for a, b in zip(extent, part.shape, strict=True))):
            raise FileError(
                f"{where} needs a virtual part of shape {extent}, {printable(name)} of {shown} is {part.shape}",
                COPY_AGAIN,
            )


def _span(source: Any) -> tuple[int, int]:
    """First and last item of the leading axis that a part may hold values of."""
    try:
        first, last = source.vspace.get_select_bounds()
    except (RuntimeError, ValueError):  # without limits
        return 0, np.iinfo(np.int64).max
    return first[0], last[0]


def _most_at_once(spans: set[tuple[str, int, int]]) -> int:
    """Count the spans that share an item, at the item that most of them share."""
    firsts = np.sort([first for _, first, _ in spans])
    lasts = np.sort([last for _, _, last in spans])
    begun = np.arange(1, len(firsts) + 1)
    return int((begun - np.searchsorted(lasts, firsts, side="left")).max(initial=0))
