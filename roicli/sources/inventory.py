"""What arrays a file holds and how they are stored, poolable or not; no values are read."""

from __future__ import annotations

import zipfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from roicli.files import file_size, natural_key, printable, reading, wrong_content
from roicli.sources.hdf5.tree import members, name_of, raw
from roicli.sources.hdf5.virtual import part_paths, shape_of
from roicli.sources.npy import open_npy, read_header
from roicli.sources.npz import check_archive

# To look at an array takes some 100 microseconds; of a file with more of them, so many are looked at.
_LOOKED_AT = 5000
_NAMES = 5


class Kind(NamedTuple):
    """In what arrays are alike: their shape, their dtype and how their values are stored."""

    shape: tuple[int, ...]
    dtype: str
    storage: str


@dataclass
class Alike:
    """Arrays of a file that are of one kind.

    Attributes
    ----------
    kind : Kind
        What they have in common.
    names : list of str
        The first few of them.
    count : int
        How many there are.
    stored : int
        Bytes that they take in the file.
    """

    kind: Kind
    names: list[str]
    count: int = 0
    stored: int = 0


@dataclass(frozen=True)
class Inventory:
    """The arrays of one file.

    Attributes
    ----------
    arrays : int
        How many there are; in a large HDF5 file, members of groups that have not been looked at count as arrays.
    looked_at : int
        How many of them `kinds` tells of.
    kinds : tuple of Alike
        The most frequent first.
    """

    arrays: int
    looked_at: int
    kinds: tuple[Alike, ...]


def take_stock(path: Path) -> Inventory:
    """List the arrays of an .npy, .npz or HDF5 file, grouped by kind.

    Raises
    ------
    FileError
        A file that cannot be read.
    """
    file_size(path)
    suffix = path.suffix.lower()
    with reading(printable(str(path))):
        if suffix == ".npy":
            array = open_npy(path)
            order = "Fortran order" if array.fortran else "contiguous"
            kind = Kind(array.shape, str(array.dtype), order)
            return Inventory(1, 1, (Alike(kind, [printable(path.stem)], 1, array.nbytes),))
        return _of_npz(path) if suffix == ".npz" else _of_hdf5(path)


def _grouped(arrays: Iterator[tuple[str, Kind, int]]) -> tuple[int, tuple[Alike, ...]]:
    alike: dict[Kind, Alike] = {}
    for name, kind, stored in arrays:
        found = alike.setdefault(kind, Alike(kind, []))
        found.count += 1
        found.stored += stored
        if len(found.names) < _NAMES:
            found.names.append(printable(name))
    counts = sorted(alike.values(), key=lambda found: -found.count)
    return sum(found.count for found in counts), tuple(counts)


def _of_npz(path: Path) -> Inventory:
    check_archive(path)
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
        entries.sort(key=lambda entry: natural_key(entry.filename))

        def arrays() -> Iterator[tuple[str, Kind, int]]:
            for entry in entries[:_LOOKED_AT]:
                with archive.open(entry) as stream:
                    array = read_header(stream, path, f"{path}, array {entry.filename}")
                storage = "contiguous" if entry.compress_type == zipfile.ZIP_STORED else "deflate"
                yield (
                    entry.filename.removesuffix(".npy"),
                    Kind(array.shape, str(array.dtype), storage),
                    entry.compress_size,
                )

        return Inventory(len(entries), *_grouped(arrays()))


def _of_hdf5(path: Path) -> Inventory:
    import h5py

    if not h5py.is_hdf5(path):
        raise wrong_content(path, "an HDF5 file")
    left = 0

    def arrays(file: Any) -> Iterator[tuple[str, Kind, int]]:
        nonlocal left
        pending, seen, opened = deque([file["/"]]), set(), 0
        while pending and opened < _LOOKED_AT:
            group = pending.popleft()
            if group in seen:  # hard links may go round in circles
                continue
            seen.add(group)
            names, _ = members(group)
            taken = names[: _LOOKED_AT - opened]
            left += len(names) - len(taken)
            opened += len(taken)
            for name in taken:
                item = group[raw(name)]
                if isinstance(item, h5py.Dataset):
                    where = f"{path}, dataset {name_of(item)}"
                    shape = shape_of(item, where)
                    with reading(where):
                        stored = item.id.get_storage_size()
                    yield name_of(item).lstrip("/"), _kind(item, shape), stored
                elif isinstance(item, h5py.Group):
                    pending.append(item)

    with h5py.File(path, "r") as file:
        looked_at, kinds = _grouped(arrays(file))
    return Inventory(looked_at + left, looked_at, kinds)


def _kind(dataset: Any, shape: tuple[int, ...]) -> Kind:
    import h5py

    try:
        dtype = "str" if h5py.check_string_dtype(dataset.dtype) else str(dataset.dtype)
    except TypeError:
        dtype = "a type that NumPy has not"
    layout = dataset.id.get_create_plist()
    filters = [_filter(*layout.get_filter(number)) for number in range(layout.get_nfilters())]
    if dataset.is_virtual:
        paths = part_paths(dataset)
        storage = f"virtual, from {len(paths)} file{'s' * (len(paths) != 1)}"
        if missing := sum(not path.exists() for path in paths):
            storage += f", {missing} of them missing"
    elif dataset.chunks:
        storage = ", ".join([f"chunks {dataset.chunks}", *filters])
    elif dataset.external:
        storage = "in other files"
    else:
        storage = "compact" if layout.get_layout() == h5py.h5d.COMPACT else "contiguous"
    return Kind(shape, dtype, storage)


def _filter(code: int, flags: int, values: tuple[int, ...], name: bytes) -> str:
    """Name a filter; deflate with its level."""
    import h5py

    if code == h5py.h5z.FILTER_DEFLATE:
        return f"gzip {values[0]}"
    return name.decode("utf-8", "replace") or f"filter {code}"
