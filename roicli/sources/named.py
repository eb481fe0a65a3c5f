"""Files of arrays with names (.npz, .safetensors, .pt, Zarr): which of them are maps, and which name maps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from roicli.errors import FeatureError
from roicli.files import natural_key
from roicli.sources.base import MapSource, StoredMap, check_map, is_poolable, unique
from roicli.sources.choose import Choice, are_maps, choose, is_beside, listing, sibling_ids
from roicli.sources.counted import Counted
from roicli.sources.layout import MapLayout


class Described(Protocol):
    """What is known of an array before its values are read; dtype is that of the values that will be."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its values."""
        ...


A = TypeVar("A", bound=Described)


class NamedArrays(MapSource, Generic[A]):
    """Base of the sources of files that hold arrays with names.

    A format fills `_arrays` when it is made, calls `_set_up`, and gives `_values`.
    """

    has_datasets = True
    # What an array is called in messages.
    noun = "array"
    _arrays: dict[str, A]

    def __init__(self, path: Path, layout: MapLayout, dataset: str | None = None) -> None:
        super().__init__(path, layout)
        self._arrays = {}
        self._names: tuple[str, ...] | None = None

    @abstractmethod
    def _values(self, name: str, index: int | None) -> NDArray[Any]:
        """Values of an array, or of map `index` of a 4-D one."""

    def _span(self, name: str, index: int | None) -> tuple[int, int] | None:
        """Offset and size of an array, or of map `index` of a 4-D one, if it lies in the file in one piece."""
        return None

    def _set_up(self, dataset: str | None) -> None:
        """Choose the maps among the arrays, and find their ids."""
        choice = self._choose(dataset.strip("/") if dataset else dataset)
        self._names, self._stack = choice.maps, choice.path
        if choice.maps is not None:
            self.labelled, self.ids = True, unique(choice.ids or choice.maps, self.name)
            return
        shape = self._arrays[choice.path].shape
        ids = sibling_ids(self._arrays, shape[0], self._whole)
        self.labelled = ids is not None
        self.ids = Counted(shape[0]) if ids is None else ids
        if self.ids:
            check_map(self._where(choice.path), shape[1:], self._arrays[choice.path].dtype, self.layout)

    def _where(self, name: str) -> str:
        return f"{self.path}, {self.noun} {name}"

    def _choose(self, dataset: str | None) -> Choice:
        """Apply `dataset`, where "/" stands for all 3-D arrays."""
        rows = {name: f"{array.shape} {array.dtype}" for name, array in self._arrays.items()}
        others = [f"{name}  {row}" for name, row in rows.items()]
        if dataset in (None, ""):
            choices = self._choices(self._arrays)
            kept = choices if dataset is None else [choice for choice in choices if choice.maps]
            return choose(self.name, kept, others, self.layout)
        if "*" in dataset and dataset not in rows:
            first, _, last = dataset.partition("*")
            within = [name for name in self._arrays if name.startswith(first) and name.endswith(last)]
            chosen = choose(self.name, [one for one in self._choices(within) if one.maps], others, self.layout)
            return chosen._replace(ids=tuple(name[len(first) : len(name) - len(last)] for name in chosen.maps or ()))
        if dataset not in rows:
            raise FeatureError(
                f"{self.path} has no {self.noun} {dataset!r}; it holds:\n{listing(others)}", "Name another."
            )
        array = self._arrays[dataset]
        if self.layout.is_stack(array.shape):
            return Choice(dataset, None, rows[dataset])
        check_map(self._where(dataset), array.shape, array.dtype, self.layout)
        return Choice("/", (dataset,), rows[dataset])

    def _choices(self, names: Iterable[str]) -> list[Choice]:
        """List what could be pooled: each stack, and all maps together."""
        names = (name for name in names if not is_beside(name, self.layout))
        poolable = [name for name in names if is_poolable(self._arrays[name].dtype)]
        maps = [name for name in poolable if self.layout.is_map(self._arrays[name].shape)]
        stacks = [name for name in poolable if self.layout.is_stack(self._arrays[name].shape)]
        if not maps and are_maps([self._arrays[name].shape for name in stacks]):
            maps, stacks = stacks, []
        maps.sort(key=natural_key)
        choices = [Choice(name, None, f"{self._arrays[name].shape} {self._arrays[name].dtype}") for name in stacks]
        if maps:
            first = self._arrays[maps[0]]
            summary = f"{len(maps)} maps such as {maps[0]} {first.shape} {first.dtype}"
            choices.append(Choice("/", tuple(maps), summary))
        return choices

    def _whole(self, name: str) -> StoredMap:
        """Describe an array as it is, whether it is a map or the ids of maps."""
        array = self._arrays[name]
        load, span = partial(self._values, name, None), self._span(name, None)
        return StoredMap(self._where(name), array.shape, array.dtype, load, span=span)

    def beside(self, name: str) -> StoredMap | None:
        """Return an array of this name."""
        return self._whole(name) if name in self._arrays else None

    def _find(self, index: int) -> StoredMap:
        if self._names is not None:
            return self._without_batch(self._whole(self._names[index]))
        array, where = self._arrays[self._stack], f"{self._where(self._stack)}, map {index}"
        load, span = partial(self._values, self._stack, index), self._span(self._stack, index)
        return StoredMap(where, array.shape[1:], array.dtype, load, span=span)
