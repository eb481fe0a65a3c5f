"""What is asked of an HDF5 file: these functions run in a child process, since HDF5 may hang or die over the file.

They answer with plain data: names, shapes, dtypes, ids, and where the bytes of each map lie.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import h5py
import numpy as np
from h5py import h5d, h5fd, h5o, h5t, h5z
from numpy.typing import NDArray

from roicli import child
from roicli.child import Answer
from roicli.errors import FeatureError, RoicliError
from roicli.files import Stamp, printable, reading, wrong_content
from roicli.sources.base import LONGEST_ID, StoredMap, check_dtype, check_map, too_long, unique
from roicli.sources.choose import sibling_ids
from roicli.sources.hdf5.conventions import check_axes, check_filters, is_dimension, packing
from roicli.sources.hdf5.index import find_chunks, tells_wrong_places
from roicli.sources.hdf5.storage import check_storage, external_files
from roicli.sources.hdf5.tree import find_maps, members, name_of, raw
from roicli.sources.hdf5.virtual import check_parts, part_paths, shape_of
from roicli.sources.inventory import LOOKED_AT, Kind
from roicli.sources.layout import MapLayout, layout_of

# What the text of an id takes in memory, at the least, and how many are read at once: each could be a whole heap.
_ID_BYTES = 16
_IDS = 1024
# What an HDF5 file begins with, itself or behind a user block.
_MAGIC, _SUPERBLOCKS = b"\x89HDF\r\n\x1a\n", (0, 512, 1024, 2048)
# Values of an array that lies beside maps: a mask of 4,096 tokens for 10,000 images.
_BESIDE = 2**26


def survey(path: str, dataset: str | None, layout: str) -> Answer:
    """Choose what to pool: {at, maps, count, ids, stamp}, and the place of a stack."""
    with reading(printable(path)), _opened(path) as file:
        order = layout_of(layout)
        choice = find_maps(file, printable(path), dataset, order)
        found: dict[str, Any] = {"at": choice.path, "stamp": _stamp(file), "maps": choice.maps}
        if choice.maps is not None:
            names = choice.ids or choice.maps
            return Answer(found | {"ids": unique(map(printable, names), printable(path))})
        stack = file[raw(choice.path)]
        ids = sibling_ids(members(stack.parent)[0], stack.shape[0], lambda name: _beside(path, stack, name))
        if stack.shape[0]:
            check_map(f"{path}, dataset {choice.path}", stack.shape[1:], stack.dtype, order)
        place, chunks = _place(path, file, choice.path, order)
        return Answer(found | {"ids": ids, "count": stack.shape[0], "place": place}, chunks)


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    """Open a file that may be anything."""
    source = child.source(path)
    if source is path and not h5py.is_hdf5(path):
        raise wrong_content(path, "an HDF5 file")
    if source is not path:
        starts = (source.seek(place) == place and source.read(32) for place in _SUPERBLOCKS)
        if not any(start.startswith(_MAGIC) for start in starts):
            source.seek(0)
            raise wrong_content(path, "an HDF5 file", source.read(32))
    with h5py.File(source, "r") as file:
        yield file


def locate(path: str, names: list[str], layout: str) -> Answer:
    """Look up datasets: {stamp, places}; their chunks come beside, one table after the other."""
    with reading(printable(path)), h5py.File(child.source(path), "r") as file:
        found = [_place(path, file, name, layout_of(layout)) for name in names]
        tables = [chunks for _, chunks in found if chunks is not None]
        places = [place for place, _ in found]
        return Answer({"stamp": _stamp(file), "places": places}, np.concatenate(tables) if tables else None)


def read(path: str, name: str, items: list[int] | None) -> Answer:
    """Read a dataset, or items of its leading axis, by HDF5: {stamp}, and the values beside."""
    with reading(f"{printable(path)}, dataset {printable(name)}"), h5py.File(child.source(path), "r") as file:
        dataset = _open(file, name)
        check_filters(dataset, f"{printable(path)}, dataset {printable(name)}")  # plug-ins are loaded by process
        if items is None:
            values = dataset[()]
        elif len(items) == items[-1] + 1 - items[0]:
            values = dataset[items[0] : items[-1] + 1]
        else:
            values = dataset[items]
        return Answer({"stamp": _stamp(file)}, np.asarray(values))


def beside(path: str, at: str, name: str) -> Answer:
    """Read an array that lies beside the maps, in their group or above: {found, strings}, numbers beside."""
    with reading(printable(path)), h5py.File(child.source(path), "r") as file:
        item = file[raw(at)]
        group = item if isinstance(item, h5py.Group) else item.parent
        stack = next((stack for stack in (group, file["/"]) if name in stack), None)
        if stack is None or not isinstance(stack[name], h5py.Dataset) or stack[name].size > _BESIDE:
            return Answer({"found": False})
        array = _beside(path, _In(stack), name)
        assert array is not None
        values = array.load()
        if values.dtype.kind in "OS":
            strings = [v.decode("utf-8", "backslashreplace") if isinstance(v, bytes) else str(v) for v in values.flat]
            return Answer({"found": True, "strings": strings, "where": printable(array.where)})
        return Answer({"found": True, "where": printable(array.where)}, values)


class _In(NamedTuple):
    """Stands for a dataset of a group."""

    parent: Any


def take_stock(path: str) -> Answer:
    """List the datasets of a file: {arrays, left}, as `inventory.group` takes them."""
    with reading(printable(path)), _opened(path) as file:
        left: list[int] = []
        arrays = list(_arrays(path, file, left))
        return Answer({"arrays": arrays, "left": sum(left)})


def _stamp(file: Any) -> Stamp:
    """Stamp of the very file that HDF5 has open."""
    if _is_object(file):
        return child.source(file.filename).stamp  # type: ignore[no-any-return]
    if file.id.get_access_plist().get_driver() == h5fd.SEC2:
        return Stamp.of(file.id.get_vfd_handle())
    return Stamp.of(file.filename)


def _is_object(file: Any) -> bool:
    """Tell whether a file is an object of a store, which HDF5 reads through Python."""
    return bool(file.id.get_access_plist().get_driver() == h5fd.fileobj_driver)


def _check_own(dataset: Any, where: str) -> None:
    """Refuse values beside an object: HDF5 would look for them among the files of this machine."""
    if _is_object(dataset.file) and (dataset.is_virtual or dataset.external):
        raise FeatureError(f"{where} has its values in other files, and lies in a store", "Download all of them.")


def _open(file: Any, name: str) -> Any:
    """Open a dataset as h5py does, but for what it finds out of the file as a whole, again for each."""
    found = h5o.open(file.id, raw(name))
    if not isinstance(found, h5d.DatasetID):
        raise FeatureError(
            f"{printable(file.filename)}, dataset {printable(name)} is a group or a datatype, not a map",
            "Keep maps apart from groups and types.",
        )
    return h5py.Dataset(found)


def _place(path: str, file: Any, name: str, layout: MapLayout) -> tuple[dict[str, Any], NDArray[np.uint64] | None]:
    """Say where the values of a dataset lie, or what is wrong with it, which is raised when its map is asked for."""
    where = f"{path}, dataset {name}"
    try:
        with reading(where):
            dataset = _open(file, name)
            shape: tuple[int, ...] = dataset.shape or ()
            dtype = dataset.dtype
            check_dtype(printable(where), dtype)
            check_axes(dataset, printable(where), layout)
            check_filters(dataset, printable(where))
            _check_own(dataset, printable(where))
            place: dict[str, Any] = {"shape": shape, "dtype": dtype.str, "start": _start(dataset, file)}
            batch = layout.is_stack(shape) and shape[0] != 1
            others = check_parts(dataset, where, batch=batch) if dataset.is_virtual else external_files(dataset)
            if place["start"] is None and (layout.is_map(shape) or layout.is_stack(shape)):
                check_storage(dataset, where, batch=batch)
            if found := packing(dataset, printable(where)):
                place["packing"] = found
            place["stamps"] = {other: Stamp.of(other) for other in sorted(others)}
            place, table = _chunked(dataset, file, place) if dataset.chunks else (place, None)
            place["empty"] = bool(dataset.size) and not others and _is_empty(dataset, table)
            return place, table
    except RoicliError as error:
        return {"error": [type(error).__name__, error.message, error.hint]}, None


def _is_empty(dataset: Any, table: NDArray[np.uint64] | None) -> bool:
    """Tell whether nothing of a dataset was ever written; of chunks, only where their table is known."""
    if dataset.chunks:
        return table is not None and not len(table)
    return not dataset.is_virtual and bool(dataset.id.get_space_status() == h5d.SPACE_STATUS_NOT_ALLOCATED)


def _start(dataset: Any, file: Any) -> int | None:
    """Offset of a dataset in its file; None unless its values lie there in one piece and as they are read."""
    if dataset.chunks:  # the status of chunks would take a look at each
        return None
    # The offset alone does not tell: in a file with a user block, h5py gives one to datasets that have none.
    if dataset.id.get_space_status() != h5d.SPACE_STATUS_ALLOCATED or not _is_plain(dataset):
        return None
    offset: int | None = dataset.id.get_offset()
    return offset


def _is_plain(dataset: Any) -> bool:
    """Tell whether values are stored as NumPy has them; HDF5 converts types such as bfloat16."""
    native: bool = dataset.id.get_type() == _native(dataset.dtype)
    return native


@lru_cache
def _native(dtype: np.dtype[Any]) -> Any:
    return h5t.py_create(dtype)


def _chunked(dataset: Any, file: Any, place: dict[str, Any]) -> tuple[dict[str, Any], NDArray[np.uint64] | None]:
    """Add to the place of a dataset the chunks that it lies in, if their bytes are where HDF5 says."""
    place["chunks"] = {"size": dataset.chunks, "filters": None, "count": 0}
    table = find_chunks(dataset)
    # In a file with a user block, that depends on the version of HDF5.
    known = file.id.get_access_plist().get_driver() == h5fd.SEC2 or _is_object(file)
    straight = known and not file.id.get_create_plist().get_userblock()
    if table is None or not straight or not _is_plain(dataset) or tells_wrong_places(dataset):
        return place, None
    created = dataset.id.get_create_plist()
    filters = [created.get_filter(number) for number in range(created.get_nfilters())]
    shuffled = [values[:1] for code, _, values, _ in filters if code == h5z.FILTER_SHUFFLE]
    if any(size != (dataset.dtype.itemsize,) for size in shuffled):
        return place, None
    codes = [code for code, *_ in filters]
    place["chunks"] |= {"filters": codes, "count": len(table)}
    return place, table


def _beside(path: str, stack: Any, name: str) -> StoredMap | None:
    """Describe a dataset of the same group."""
    dataset = stack.parent[raw(name)]
    if not isinstance(dataset, h5py.Dataset) or is_dimension(dataset):
        return None
    dtype = np.dtype("S") if h5py.check_string_dtype(dataset.dtype) else dataset.dtype
    where = f"{path}, dataset {name_of(dataset)}"
    _check_own(dataset, where)

    def load() -> NDArray[Any]:
        check_storage(dataset, where, batch=False, least_bytes=_ID_BYTES)
        if dataset.dtype.itemsize > LONGEST_ID:
            raise too_long(where, dataset.dtype.itemsize)
        if dataset.is_virtual:
            check_parts(dataset, where)
        elif dataset.chunks:
            find_chunks(dataset)
        parts = [_ids(dataset[first : first + _IDS], where) for first in range(0, dataset.shape[0], _IDS)]
        return np.concatenate(parts) if parts else dataset[()]

    return StoredMap(where, shape_of(dataset, where), dtype, load)


def _ids(values: NDArray[Any], where: str) -> NDArray[Any]:
    """Look at the lengths of ids as they come."""
    if (
        values.dtype.kind == "O"
        and (longest := max((len(value) for value in values.flat if value), default=0)) > LONGEST_ID
    ):
        raise too_long(where, longest)
    return values


def _arrays(path: str, file: Any, left: list[int]) -> Iterator[tuple[str, Kind, int]]:
    """Describe the datasets of a file, nearest first; note how many members of groups were not looked at."""
    pending, seen, opened = deque([file["/"]]), set(), 0
    while pending and opened < LOOKED_AT:
        group = pending.popleft()
        if group in seen:  # hard links may go round in circles
            continue
        seen.add(group)
        names, _ = members(group)
        taken = names[: LOOKED_AT - opened]
        left.append(len(names) - len(taken))
        opened += len(taken)
        for name in taken:
            item = group[raw(name)]
            if isinstance(item, h5py.Dataset):
                where = f"{path}, dataset {name_of(item)}"
                with reading(where):
                    kind = Kind(shape_of(item, where), _type_name(item), _storage(item))
                    yield printable(name_of(item).lstrip("/")), kind, item.id.get_storage_size()
            elif isinstance(item, h5py.Group):
                pending.append(item)


def _type_name(dataset: Any) -> str:
    try:
        return "str" if h5py.check_string_dtype(dataset.dtype) else str(dataset.dtype)
    except TypeError:
        return "a type that NumPy has not"


def _storage(dataset: Any) -> str:
    created = dataset.id.get_create_plist()
    if dataset.is_virtual:
        paths = part_paths(dataset)
        missing = sum(not part.exists() for part in paths)
        lost = f", {missing} of them missing" if missing else ""
        return f"virtual, from {len(paths)} file{'s' * (len(paths) != 1)}{lost}"
    if dataset.chunks:
        filters = [_filter(*created.get_filter(number)) for number in range(created.get_nfilters())]
        return ", ".join([f"chunks {dataset.chunks}", *filters])
    if dataset.external:
        return "in other files"
    return "compact" if created.get_layout() == h5d.COMPACT else "contiguous"


def _filter(code: int, flags: int, values: tuple[int, ...], name: bytes) -> str:
    """Name a filter; deflate with its level."""
    if code == h5z.FILTER_DEFLATE:
        return f"gzip {values[0]}"
    return name.decode("utf-8", "replace") or f"filter {code}"
