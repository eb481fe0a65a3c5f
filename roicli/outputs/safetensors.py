"""Outputs to .safetensors: the features and what is recorded of each row as tensors, names and parameters as metadata.

Source: the format of huggingface/safetensors, README.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.arrays import StoredArray
from roicli.errors import OutputError
from roicli.files import file_size
from roicli.outputs.base import Layout, OutputFormat, Parameters, Record, Stored, encode, not_ours
from roicli.outputs.checked import KIND, NAME, checksum_record
from roicli.outputs.rowfile import SUM
from roicli.regions import Column, Names

_KINDS = {"<f2": "F16", "<f4": "F32", "<f8": "F64", "<i4": "I32", "<u4": "U32", "<i8": "I64"}
_DTYPES = {kind: np.dtype(dtype) for dtype, kind in _KINDS.items()}
# The format's own limit.
_HEADER_BYTES = 100_000_000
_INDEX = "_index"


class Safetensors(OutputFormat):
    """One file of tensors."""

    suffixes = (".safetensors",)
    holds = "the same as tensors; image ids as `image_ids_index`, whose names and the parameters are metadata"

    def layout(self, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> Layout:
        """See `OutputFormat`."""
        metadata = {"parameters": json.dumps(record.parameters)}
        tensors: list[tuple[str, tuple[int, ...], np.dtype[Any], NDArray[Any] | None]] = [
            ("features", shape, dtype, None)
        ]
        for name, column in record.columns().items():
            key, values = name, column
            if isinstance(column, Names):
                used, index = np.unique(column.index, return_inverse=True)
                metadata[name] = json.dumps([encode(column.names[number]).decode() for number in used.tolist()])
                key, values = name + _INDEX, index.astype(np.int64)
            assert isinstance(values, np.ndarray)
            tensors.append((key, values.shape, values.dtype, values))
        tensors.append((NAME, (shape[0] + 1,), KIND, None))
        header: dict[str, Any] = {"__metadata__": metadata}
        begin, places = 0, []
        for key, sides, kind, _ in tensors:
            end = begin + math.prod(sides) * kind.itemsize
            header[key] = {"dtype": _KINDS[kind.str], "shape": sides, "data_offsets": [begin, end]}
            places.append(begin)
            begin = end
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        if len(text) > _HEADER_BYTES:
            raise OutputError("the image ids are too many for the header of .safetensors", "Write .h5 or .npz.")
        offset = 8 + len(text)
        columns: list[tuple[int, Column, np.dtype[Any]]] = [
            (offset + place, values, kind)
            for place, (_, _, kind, values) in zip(places, tensors, strict=True)
            if values is not None
        ]
        sums = offset + places[-1]
        said = checksum_record(shape, dtype, record.columns(), record.parameters)
        frame = {0: len(text).to_bytes(8, "little") + text, sums + shape[0] * SUM: said}
        return Layout(frame, offset, offset + begin, columns, sums=sums)

    def read(self, path: Path) -> Stored:
        """See `OutputFormat`."""
        header, begin = _header(path)
        metadata = header.pop("__metadata__", {})
        arrays = {
            name: StoredArray(path, begin + entry["data_offsets"][0], tuple(entry["shape"]), _DTYPES[entry["dtype"]])
            for name, entry in header.items()
        }
        if "features" not in arrays or any(array.start + array.nbytes > file_size(path) for array in arrays.values()):
            raise not_ours(str(path))
        features = arrays.pop("features")
        columns: dict[str, Column] = {}
        for name, array in arrays.items():
            values = np.array(array.load()) if array.nbytes else np.zeros(array.shape, array.dtype)
            if name.endswith(_INDEX):
                name = name.removesuffix(_INDEX)
                columns[name] = Names(values, tuple(json.loads(metadata[name])))
            else:
                columns[name] = values
        return Stored.checked(features, columns, json.loads(metadata["parameters"]))

    def parameters(self, path: Path) -> Parameters:
        """See `OutputFormat`."""
        metadata = _header(path)[0].get("__metadata__", {})
        found = json.loads(metadata["parameters"]) if isinstance(metadata.get("parameters"), str) else {}
        return dict(found) if isinstance(found, dict) and "roicli_version" in found else {}


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header, and where tensors begin."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > min(_HEADER_BYTES, file_size(path)):
            raise not_ours(str(path))
        header = json.loads(file.read(size))
    if not isinstance(header, dict):
        raise not_ours(str(path))
    return header, 8 + size
