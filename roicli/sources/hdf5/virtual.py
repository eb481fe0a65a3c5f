"""The parts of a virtual HDF5 dataset: HDF5 reads zeros for those that are missing, or that it cannot open."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.errors import FeatureError, FileError
from roicli.files import COPY_AGAIN, file_size, printable, reading

# What HDF5 may open for a moment beside the files of the parts.
_MORE_DESCRIPTORS = 2


class VirtualParts(NamedTuple):
    """The parts of one dataset, (P, ...), which were all there when it was made.

    Attributes
    ----------
    paths : tuple of str
        The files that hold them, each once.
    file : (P,) intp
        The file of each part, as a position in `paths`.
    first, last : (P,) intp
        The items of the leading axis that each part may hold values of.
    """

    paths: tuple[str, ...]
    file: NDArray[np.intp]
    first: NDArray[np.intp]
    last: NDArray[np.intp]

    @classmethod
    def check(cls, dataset: Any, where: str) -> VirtualParts:
        """Look at every part, which takes some 200 microseconds each.

        Raises
        ------
        RoicliError
            A part is missing or too small, or has no values of its own: HDF5 would read zeros in its place, and die of
            parts that are virtual in a circle.
        """
        own, sources = Path(dataset.file.filename), dataset.virtual_sources()
        for source in sources:
            _check_part(source, _path(own, source), where)
        paths = [str(_path(own, source)) for source in sources]
        places = {path: place for place, path in enumerate(dict.fromkeys(paths))}
        spans = np.array([_span(source) for source in sources], dtype=np.intp).reshape(len(sources), 2)
        return cls(tuple(places), np.array([places[path] for path in paths], dtype=np.intp), spans[:, 0], spans[:, 1])

    def check_descriptors(self, item: int | None) -> None:
        """Raise OSError if the system would not open at once the files of all parts, or of those of one item."""
        reached = np.full(len(self.file), True) if item is None else (self.first <= item) & (item <= self.last)
        with ExitStack() as stack:
            for _ in range(len(set(self.file[reached].tolist())) + _MORE_DESCRIPTORS):
                stack.enter_context(Path(os.devnull).open("rb", buffering=0))


def part_paths(dataset: Any) -> set[Path]:
    """Files of the parts of a virtual dataset."""
    own = Path(dataset.file.filename)
    return {_path(own, source) for source in dataset.virtual_sources()}


def shape_of(dataset: Any, where: str) -> tuple[int, ...]:
    """Shape of a dataset; of a virtual one without limits HDF5 opens all parts for it, so these are checked before."""
    import h5py

    if dataset.is_virtual:
        limits = [source.vspace.get_simple_extent_dims(True) for source in dataset.virtual_sources()]
        if any(h5py.h5s.UNLIMITED in limit for limit in limits):
            VirtualParts.check(dataset, where)
    return dataset.shape or ()


def _path(own: Path, source: Any) -> Path:
    """Path of a part; HDF5 looks beside the file, and "." is the file itself."""
    return own if source.file_name == "." else own.parent / source.file_name.replace("%%", "%")


def _check_part(source: Any, path: Path, where: str) -> None:
    import h5py

    file_name, name = printable(source.file_name), printable(source.dset_name)
    if "%" in (file_name + name).replace("%%", ""):
        raise FeatureError(f"{where} has a series {file_name} for virtual parts", "Name each part by itself.")
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


def _span(source: Any) -> tuple[int, int]:
    """First and last item of the leading axis that a part may hold values of."""
    try:
        first, last = source.vspace.get_select_bounds()
    except (RuntimeError, ValueError):  # without limits
        return 0, np.iinfo(np.intp).max
    return first[0], last[0]
