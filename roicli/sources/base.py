"""What the sources share: a map as it is stored, the rules it must meet, and the sequence that a source is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from roicli.errors import FeatureError
from roicli.files import Stamp, printable
from roicli.protocols import Level, MapInfo, Shared
from roicli.protocols import StoredMap as StoredMap
from roicli.sources.counted import Counted
from roicli.sources.inventory import LOOKED_AT, Inventory, Kind, group
from roicli.sources.layout import MapLayout, layout_of
from roicli.sources.values import BFLOAT16, VOID16, decoded
from roicli.stores.file import StoredObject
from roicli.stores.path import StorePath
from roicli.words import listing

# Bytes. An id is a name, at most a path; longer ones would let small files fill the memory.
LONGEST_ID = 4096

# Maps that share storage are held up to this many bytes, where nobody says which of them are wanted.
_AHEAD = 64 * 2**20

# From a store so many bytes of maps are fetched together.
_FETCHED = 16 * 2**20


def is_poolable(dtype: np.dtype[Any]) -> bool:
    """Tell whether maps of this dtype can be pooled: integers, float16, float32, float64 of either byte order.

    NumPy knows bfloat16 only as 2 bytes of no kind ("V2").
    """
    named = dtype.metadata and "enum" in dtype.metadata  # HDF5's enumerations, to which h5py gives an integer's dtype
    return not named and (dtype == VOID16 or dtype.kind in "iu" or (dtype.kind == "f" and dtype.itemsize <= 8))


def check_dtype(where: str, dtype: np.dtype[Any]) -> None:
    """Raise FeatureError unless maps of this dtype can be pooled."""
    if dtype.metadata and "enum" in dtype.metadata:
        raise FeatureError(
            f"{where}: expected features, got an HDF5 enumeration, whose numbers stand for names",
            "Name another dataset.",
        )
    if dtype.hasobject:
        raise FeatureError(
            f"{where}: expected numbers, got Python objects; roicli never loads pickle",
            "Save one plain numeric array a map.",
        )
    if not is_poolable(dtype):
        raise FeatureError(
            f"{where}: expected float16, float32, float64 or integers, got dtype {dtype}",
            "Convert it, for example with .astype('float32').",
        )


def check_map(where: str, shape: tuple[int, ...], dtype: np.dtype[Any], layout: MapLayout) -> None:
    """Raise FeatureError unless `shape` and `dtype` are those of one map that can be pooled."""
    check_dtype(where, dtype)
    if layout.is_stack(shape):
        raise FeatureError(
            f"{where}: expected one map ({layout.axes}), got a stack of maps, shape {shape}",
            "Give `layout=hwc` if these are maps (H, W, C)."
            if layout.rank == 2
            else "Open it by itself, or split it into one array a map.",
        )
    if not layout.is_map(shape):
        axes = layout.rank
        raise FeatureError(
            f"{where}: expected a map ({layout.axes}) or a stack of {axes + 1} axes, got {len(shape)} axes, {shape}",
            "Give `layout=tokens` if these are tokens (L, D)."
            if len(shape) == 2 and axes == 3
            else "Add or remove axes, for example with array[None] or array[0].",
        )
    if layout.lacks_frame(shape):
        raise FeatureError(
            f"{where}: expected a clip with a frame {layout.over_time}, got {shape[layout.letters.index('t')]} frames, "
            f"shape {shape}",
            "Give a smaller number for `time`, or `time=mean`.",
        )
    if 0 in shape:
        raise FeatureError(f"{where}: a map without cells, shape {shape}", "Remove it or write it anew.")


def too_long(where: str, length: int) -> FeatureError:
    """Make the error for image ids that are longer than any name."""
    return FeatureError(
        f"{where}: expected image ids of at most {LONGEST_ID:,} bytes, got {length:,}", "Write shorter ids there."
    )


def unique(ids: Iterable[str], where: str) -> tuple[str, ...]:
    """Return the ids as a tuple, or raise FeatureError if one is too long or comes twice."""
    ids = tuple(ids)
    if (longest := max(map(len, ids), default=0)) > LONGEST_ID:
        raise too_long(where, longest)
    if len(set(ids)) < len(ids):
        [(most_common, _)] = Counter(ids).most_common(1)
        raise FeatureError(f"{where}: image id {most_common!r} more than once", "Give each map an id of its own.")
    return ids


class Maps(ABC):
    """A source as a sequence of maps: `len(source)`, `source[3]`, `source["000000000139"]`, `for array in source`."""

    ids: Sequence[str] = ()
    labelled = False
    levels: tuple[Level, ...] = ()
    _expected: Sequence[int] = ()

    @property
    @abstractmethod
    def name(self) -> str:
        """The files, for messages."""

    @abstractmethod
    def read(self, index: int) -> NDArray[Any]:
        """Map `index` as (C, H, W)."""

    def shared(self, index: int) -> Shared | None:
        """Return the storage that map `index` shares with others."""
        return None

    def expect(self, indices: Sequence[int]) -> None:
        """Hold these maps, as far as they share storage, from when one of them is read."""
        self._expected = indices

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return map(self.read, range(len(self)))

    def __getitem__(self, key: int | str) -> NDArray[Any]:
        """Read a map by its position, counted from the end if negative, or by its image id.

        Raises IndexError: there are not so many maps. FeatureError: no map has this id.
        """
        if isinstance(key, str):
            return self.read(self._position(key))
        if not -len(self) <= key < len(self):
            raise IndexError(f"{self.name} has {len(self)} maps, not one at {key}")
        return self.read(key)

    def _position(self, image_id: str) -> int:
        found = self._positions.get(image_id, -1)
        if isinstance(self.ids, Counted):
            found = self.ids.find(image_id)
        if found < 0:
            some = f"Its ids are {listing([repr(name) for name in self.ids[:6]])}." if len(self) else "It has no maps."
            raise FeatureError(f"{self.name}: no map is named {image_id!r}", some)
        return found

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {} if isinstance(self.ids, Counted) else {name: index for index, name in enumerate(self.ids)}


class MapSource(Maps):
    """Base of the sources of one file or folder; a format says where map i lies and how it is loaded.

    A format is a subclass that sets `ids` when it is made, and gives `_find`.
    """

    # Whether a file holds arrays with names, one of which `dataset` may choose.
    has_datasets: ClassVar[bool] = False
    # What a file holds, in Markdown: the guide's table of formats has this line.
    holds: ClassVar[str] = ""
    # Maps that are held, and their place in an array.
    _held: tuple[dict[int, int], NDArray[Any]] | None = None

    def __init__(self, path: Path, layout: MapLayout, dataset: str | None = None) -> None:
        self.path, self.layout = path, layout
        self.stamps: dict[str, Stamp] = {}

    @classmethod
    def take_stock(cls, path: Path) -> Inventory:
        """List the arrays of a file, poolable or not; a format that holds nothing but maps lists these."""
        source = cls(path, layout_of("chw"))
        infos = [source.info(index) for index in range(min(len(source), LOOKED_AT))]
        kinds = [Kind(info.shape, str(info.dtype), "maps") for info in infos]
        sizes = [math.prod(info.shape) * info.dtype.itemsize for info in infos]
        return group(zip(source.ids, kinds, sizes, strict=False), len(source) - len(infos))

    @property
    def name(self) -> str:
        """The file, for messages."""
        return printable(str(self.path))

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that hold the maps."""
        return (str(self.path),)

    @abstractmethod
    def _find(self, index: int) -> StoredMap:
        """Where map `index` lies."""

    def beside(self, name: str) -> StoredMap | None:
        """Return the array of this name in the same file, which is not a map; None if there is none."""
        return None

    def _note(self, path: Path | str, stamp: Stamp | None) -> None:
        """Keep the first stamp of a file; raise ChangedInputError if it has another by now."""
        if stamp is not None:
            self.stamps.setdefault(str(path), stamp).check(path, stamp)

    def _with_others(self, index: int, nbytes: int, load: Callable[[list[int]], NDArray[Any]]) -> NDArray[Any]:
        """Load map `index`, of so many bytes, with those wanted soon that share its storage."""
        if self._held is None or index not in self._held[0]:
            self._held = None  # first, to hold one at a time
            key, wanted = self.shared(index), self._expected
            if index not in wanted:
                wanted = range(index, min(len(self.ids), index + max(1, _AHEAD // max(1, nbytes))))
            items = [item for item in wanted if self.shared(item) == key] if key else [index]
            values = load(items)
            values.flags.writeable = False
            if len(items) == 1:
                return values[0]  # type: ignore[no-any-return]
            self._held = {item: place for place, item in enumerate(items)}, values
        places, values = self._held
        return values[places[index]]  # type: ignore[no-any-return]

    def _without_batch(self, stored: StoredMap) -> StoredMap:
        """Take a map out of the batch of one that a network returned it in, (1, C, H, W)."""
        if not self.layout.is_stack(stored.shape) or stored.shape[0] != 1:
            return stored
        return stored._replace(shape=stored.shape[1:], load=lambda: stored.load()[0])

    def _checked(self, index: int) -> StoredMap:
        stored = self._find(range(len(self.ids))[index])
        check_map(stored.where, stored.shape, stored.dtype, self.layout)
        return decoded(stored, BFLOAT16) if stored.dtype == VOID16 else stored

    def info(self, index: int) -> MapInfo:
        """Shape and dtype of map `index`, without reading its values."""
        stored = self._checked(index)
        shape, dtype = self.layout.map_shape(stored.shape), self.layout.dtype(stored.dtype)
        return MapInfo(shape, dtype, printable(stored.where), stored.note)

    def read(self, index: int) -> NDArray[Any]:
        """Map `index` as (C, H, W)."""
        stored = self._checked(index)
        if isinstance(self.path, StorePath) and stored.span is not None:
            self._fetch_ahead(self.path.object, index)
        return self.layout.as_chw(stored.load())

    def _fetch_ahead(self, stored: StoredObject, index: int) -> None:
        """Fetch the next maps from a store together, if they are small: their requests would wait for each other."""
        spans: list[tuple[int, int]] = []
        for item in [index, *(one for one in self._expected if one > index)]:
            span = self._checked(item).span
            if span is None or len(stored.holds(span[0])) >= span[1]:
                break
            if sum(size for _, size in [*spans, span]) > _FETCHED:
                break
            spans.append(span)
        if len(spans) > 1:
            stored.trust(self.stamps[str(self.path)])
            stored.expect(spans)

    def close(self) -> None:
        """Release what is open or held; the next `info` or `read` opens it again."""
        self._held = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": None}
