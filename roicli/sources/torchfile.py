"""A .pt or .pth file of torch.save, read without torch: tensors in dicts and lists, or one tensor."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli import child
from roicli.arrays import StoredArray
from roicli.files import Stamp, file_size, printable
from roicli.sources.base import unique
from roicli.sources.choose import Choice
from roicli.sources.counted import Counted
from roicli.sources.inventory import Inventory, Kind, group_named
from roicli.sources.layout import MapLayout
from roicli.sources.named import NamedArrays
from roicli.sources.values import ENCODINGS, Encoding

# Where the pickle is read; this process does not load it.
_LOOK = "roicli.sources.torchinside:look"


class Strided(NamedTuple):
    """A tensor in its storage."""

    span: StoredArray  # the values of the storage from its first to its last, as one axis
    shape: tuple[int, ...]  # of the tensor
    strides: tuple[int, ...]  # in values
    encoding: Encoding | None = None  # what NumPy has no dtype for

    @classmethod
    def at(
        cls,
        path: Path,
        start: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        dtype: np.dtype[Any],
        encoding: Encoding | None,
        stamp: Stamp,
    ) -> Strided:
        """Make it of where its first value lies."""
        length = 0 if 0 in shape else 1 + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        return cls(StoredArray(path, start, (length,), dtype, stamp=stamp), shape, strides, encoding)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values that are read."""
        return self.encoding.widened if self.encoding else self.span.dtype

    def load(self, index: int | None = None) -> NDArray[Any]:
        """Return the values, or those of an item of the first axis."""
        if index is not None:
            span = self.span
            start = span.start + index * self.strides[0] * span.dtype.itemsize
            shape, strides = self.shape[1:], self.strides[1:]
            assert span.stamp is not None, "it was looked at"
            return Strided.at(span.path, start, shape, strides, span.dtype, self.encoding, span.stamp).load()
        values = self.span.load()
        if math.prod(self.shape) == 0:
            values = np.empty(self.shape, self.span.dtype)
        else:
            steps = tuple(step * values.itemsize for step in self.strides)
            values = np.lib.stride_tricks.as_strided(values, self.shape, steps, writeable=values.flags.writeable)
        return self.encoding.decode(values) if self.encoding else values


class Listed(NamedTuple):
    """A list of text or numbers beside the tensors."""

    values: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the list."""
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its values."""
        return self.values.dtype

    def load(self, index: int | None = None) -> NDArray[Any]:
        """Return the values."""
        return self.values if index is None else self.values[index]


class TorchSource(NamedArrays["Strided | Listed"]):
    """One file of torch.save; a list of tensors has no ids, and a lone tensor is named by its file.

    Tensors that lie in dicts of an image each, ``{image id: {"features": tensor}}``, are named by the outer key.
    """

    holds = "a dict of image id to tensor; a list of tensors; or one tensor, as in `.npy`"
    noun = "tensor"

    def __init__(self, path: Path, layout: MapLayout, dataset: str | None = None) -> None:
        super().__init__(path, layout)
        stamp, counted, tensors, lists = _look(path)
        self._note(path, stamp)
        self._arrays = {**lists, **tensors}
        self._set_up(dataset)
        if self._names is None:
            return
        names = self._names
        if counted and dataset is None:
            self.labelled, self.ids = False, Counted(len(names))
        heads, tails = zip(*(name.rpartition("/")[::2] for name in names), strict=True)
        if len(names) > 1 and len(set(tails)) == 1 and all(heads):
            self.ids = unique(heads, self.name)
        elif len(names) > 1 and len(set(heads)) == 1 and heads[0]:
            self.ids = unique(tails, self.name)

    @classmethod
    def take_stock(cls, path: Path) -> Inventory:
        """List the tensors."""
        _, _, tensors, _ = _look(path)

        def describe(tensor: Strided) -> tuple[Kind, int]:
            dtype = tensor.encoding.name if tensor.encoding else str(tensor.dtype)
            return Kind(tensor.shape, dtype, "contiguous"), tensor.span.nbytes

        return group_named(tensors, describe)

    def _choose(self, dataset: str | None) -> Choice:
        """Take a dict or list for its tensors as well."""
        inside = tuple(name for name in self._arrays if dataset and name.startswith(f"{dataset}/"))
        if inside and dataset not in self._arrays:
            choices = [choice for choice in self._choices(inside) if choice.maps]
            if len(choices) == 1:
                return choices[0]
        return super()._choose(dataset)

    def _values(self, name: str, index: int | None) -> NDArray[Any]:
        return self._arrays[name].load(index)


def _look(path: Path) -> tuple[Stamp, bool, dict[str, Strided], dict[str, Listed]]:
    file_size(path)
    found = child.ask(_LOOK, path).value
    stamp = Stamp(*found["stamp"])
    tensors = {}
    unique((name for name, *_ in found["tensors"]), printable(str(path)))
    for name, start, shape, strides, dtype, encoding in found["tensors"]:
        tensors[name or printable(path.stem)] = Strided.at(
            path, start, tuple(shape), tuple(strides), np.dtype(dtype), ENCODINGS.get(encoding), stamp
        )
    lists = {name: Listed(np.array(values)) for name, values in found["lists"].items()}
    return stamp, found["counted"], tensors, lists
