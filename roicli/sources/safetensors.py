"""A .safetensors file: tensors with names, whose values lie in it byte for byte."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.arrays import StoredArray
from roicli.errors import FeatureError, FileError
from roicli.files import Stamp, printable, reading, wrong_content
from roicli.sources.base import unique
from roicli.sources.inventory import Inventory, Kind, group_named
from roicli.sources.layout import MapLayout
from roicli.sources.named import NamedArrays
from roicli.sources.values import ENCODINGS, Encoding
from roicli.stores.file import open_bytes, stamp_of

# As the format itself limits it.
_LONGEST_HEADER = 100_000_000
_WRITE_AGAIN = "Copy or download the file again, or write the maps as .npy."

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}
_ENCODED = {
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}


class Tensor(NamedTuple):
    """A tensor in a file."""

    bits: StoredArray  # its values, or integers of the same bits if it is encoded
    encoding: Encoding | None = None  # what NumPy has no dtype for

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""
        return self.bits.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values that are read."""
        return self.encoding.widened if self.encoding else self.bits.dtype

    def load(self, index: int | None = None) -> NDArray[Any]:
        """Return the values, or those of an item of the first axis."""
        bits = self.bits.load(index)
        return self.encoding.decode(bits) if self.encoding else bits


class SafetensorsSource(NamedArrays[Tensor]):
    """One .safetensors file; bfloat16 is widened to float32, float8 to float16, both exactly."""

    holds = "a tensor per image, named by its id; or one tensor (N, C, H, W)"
    noun = "tensor"

    def __init__(self, path: Path, layout: MapLayout, dataset: str | None = None) -> None:
        super().__init__(path, layout)
        stamp, self._arrays, others = _read_header(path)
        self._note(path, stamp)
        wanted = dataset.strip("/") if dataset else next(iter(others), "")
        if wanted in others and (dataset or not self._arrays):
            raise FeatureError(
                f"{self._where(wanted)} has dtype {others[wanted]}, which is not read",
                "Convert it, for example with tensor.half() in torch.",
            )
        self._set_up(dataset)

    @classmethod
    def take_stock(cls, path: Path) -> Inventory:
        """List the tensors."""
        _, tensors, others = _read_header(path)

        def describe(tensor: Tensor) -> tuple[Kind, int]:
            dtype = tensor.encoding.name if tensor.encoding else str(tensor.dtype)
            return Kind(tensor.shape, dtype, "contiguous"), tensor.bits.nbytes

        return group_named(tensors, describe, len(others))

    def _span(self, name: str, index: int | None) -> tuple[int, int]:
        bits = self._arrays[name].bits
        return (bits if index is None else bits.item(index)).span

    def _values(self, name: str, index: int | None) -> NDArray[Any]:
        return self._arrays[name].load(index)


def _read_header(path: Path) -> tuple[Stamp, dict[str, Tensor], dict[str, str]]:
    """Read where the tensors of a file lie: those of known dtypes, and the dtypes of the others."""
    where = printable(str(path))
    with reading(where, _WRITE_AGAIN), open_bytes(path) as file:
        stamp = stamp_of(file)
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= min(_LONGEST_HEADER, stamp.size - 8):
            if not start or length > _LONGEST_HEADER:
                raise wrong_content(path, "a .safetensors file")
            raise FileError(f"{where} is truncated: its header of {length:,} bytes is cut off", _WRITE_AGAIN)
        header = file.read(length)
        if header[:1] != b"{":
            raise wrong_content(path, "a .safetensors file")
        pairs: Any = json.loads(header, object_pairs_hook=tuple)
        tensors: dict[str, Tensor] = {}
        others: dict[str, str] = {}
        unique((name for name, _ in pairs), where)
        for name, said in pairs:
            if name == "__metadata__":
                continue
            its = dict(said)
            dtype = its["dtype"]
            if dtype in _DTYPES or dtype in _ENCODED:
                tensors[printable(name)] = _tensor(path, name, its, 8 + length, stamp)
            else:
                others[printable(name)] = str(dtype)
    return stamp, tensors, others


def _tensor(path: Path, name: str, its: dict[str, Any], data: int, stamp: Stamp) -> Tensor:
    encoding = ENCODINGS[_ENCODED[its["dtype"]]] if its["dtype"] in _ENCODED else None
    dtype = encoding.stored if encoding else np.dtype(_DTYPES[its["dtype"]])
    shape, (begin, end) = tuple(its["shape"]), its["data_offsets"]
    if any(type(number) is not int or number < 0 for number in (*shape, begin, end)):
        raise ValueError(f"tensor {name} has shape {shape} and offsets {begin} to {end}")
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"tensor {name} of shape {shape} and {its['dtype']} lies in {end - begin} bytes")
    array = StoredArray(path, data + begin, shape, dtype, stamp=stamp)
    array.check_inside(stamp.size)
    return Tensor(array, encoding)
