"""What the sources share: the rules a map must meet, and the layout."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.errors import FeatureError
from roicli.files import printable
from roicli.sources.protocol import MapInfo

Layout = Literal["chw", "hwc"]


class StoredMap(NamedTuple):
    """One feature map as it is stored: its shape before the layout is applied, and how to get its values."""

    where: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[], NDArray[Any]]


def without_batch(stored: StoredMap) -> StoredMap:
    """Take a map out of the batch of one that a network returned it in, (1, C, H, W)."""
    if len(stored.shape) != 4 or stored.shape[0] != 1:
        return stored
    return stored._replace(shape=stored.shape[1:], load=lambda: stored.load()[0])


def is_poolable(dtype: np.dtype[Any]) -> bool:
    """Tell whether maps of this dtype can be pooled: integers, float16, float32, float64 of either byte order."""
    named = dtype.metadata and "enum" in dtype.metadata  # HDF5's enumerations, to which h5py gives an integer's dtype
    return not named and (dtype.kind in "iu" or (dtype.kind == "f" and dtype.itemsize <= 8))


def check_map(where: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise FeatureError unless `shape` and `dtype` are those of one map that can be pooled."""
    if dtype.metadata and "enum" in dtype.metadata:
        raise FeatureError(
            f"{where} is an HDF5 enumeration, numbers that stand for names", "Name a dataset of features."
        )
    if dtype.hasobject:
        raise FeatureError(
            f"{where} holds Python objects, which only pickle could load; roicli never loads pickle",
            "Save one plain numeric array a map.",
        )
    if not is_poolable(dtype):
        raise FeatureError(
            f"{where} has dtype {dtype}; feature maps are float16, float32, float64 or integers",
            "Convert it, for example with .astype('float32').",
        )
    if len(shape) == 4:
        raise FeatureError(
            f"{where} has shape {shape}: a stack of maps, where one map (C, H, W) is expected",
            "Open it by itself, or split it into one array a map.",
        )
    if len(shape) != 3:
        raise FeatureError(
            f"{where} has shape {shape}: {len(shape)} axes, where a map has 3, (C, H, W), and a stack of maps 4",
            "Add or remove axes, for example with array[None] or array[0].",
        )
    if 0 in shape:
        raise FeatureError(f"{where} has shape {shape}: a map without cells", "Remove it or write it anew.")


def unique(ids: Iterable[str], where: str) -> tuple[str, ...]:
    """Return the ids as a tuple, or raise FeatureError if one comes twice."""
    ids = tuple(ids)
    if len(set(ids)) < len(ids):
        [(most_common, _)] = Counter(ids).most_common(1)
        raise FeatureError(
            f"{where} has the image id {most_common!r} more than once", "Give each map an id of its own."
        )
    return ids


class MapSource(ABC):
    """Base of the sources of one file or folder; a format says where map i lies and how it is loaded."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path = path
        self.layout = layout
        self.ids: Sequence[str] = ()
        self.labelled = False

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

    def _checked(self, index: int) -> StoredMap:
        stored = self._find(range(len(self.ids))[index])
        check_map(stored.where, stored.shape, stored.dtype)
        return stored

    def info(self, index: int) -> MapInfo:
        """Shape and dtype of map `index`, without reading its values."""
        stored = self._checked(index)
        a, b, c = stored.shape
        shape = (c, a, b) if self.layout == "hwc" else (a, b, c)
        return MapInfo(shape, stored.dtype, printable(stored.where))

    def read(self, index: int) -> NDArray[Any]:
        """Map `index` as (C, H, W)."""
        array = self._checked(index).load()
        return array.transpose(2, 0, 1) if self.layout == "hwc" else array

    @abstractmethod
    def close(self) -> None:
        """Release what is open."""
