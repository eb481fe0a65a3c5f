"""What a file of torch.save holds, found without torch; runs in a child process.

Such a file is a zip archive: a pickle of the object saved, in which tensors name their storages, and a member a
storage. The unpickler here admits what tensors need and nothing else, so that no code of the file is run.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from roicli import child
from roicli.child import Answer
from roicli.errors import FeatureError, FileError
from roicli.files import COPY_AGAIN, Stamp, check_ratio, printable, reading, wrong_content
from roicli.sources.values import ENCODINGS

# Dicts and lists in each other.
_DEEPEST = 6
_SAVE_AGAIN = "Copy or download the file again, or save tensor.numpy() by numpy.save."
_DTYPES = {
    "Double": "f8",
    "Float": "f4",
    "Half": "f2",
    "Long": "i8",
    "Int": "i4",
    "Short": "i2",
    "Char": "i1",
    "Byte": "u1",
    "Bool": "?",
    "BFloat16": "bfloat16",
}
_NAMED_DTYPES = {
    "float64": "f8",
    "float32": "f4",
    "float16": "f2",
    "int64": "i8",
    "int32": "i4",
    "int16": "i2",
    "int8": "i1",
    "uint64": "u8",
    "uint32": "u4",
    "uint16": "u2",
    "uint8": "u1",
    "bool": "?",
} | {name: name for name in ENCODINGS}


class _Dtype(NamedTuple):
    name: str


class _Storage(NamedTuple):
    dtype: str
    key: str


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str


def look(path: str) -> Answer:
    """List what a file holds: {stamp, whole, tensors, lists}.

    A tensor is [name, start, shape, strides, dtype]; its name is made of keys and positions, and is empty if the file
    holds nothing else. Strides are in values. Lists of text or numbers may be image ids. `counted` says that the file
    is a list of tensors.
    """
    where = printable(path)
    source = child.source(path)
    with reading(where), Path(path).open("rb") if source is path else source as file:
        stamp = Stamp.of(file.fileno()) if source is path else source.stamp
        if not zipfile.is_zipfile(file):
            raise _no_archive(path, where, file)
        with zipfile.ZipFile(file) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            pickles = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
            if len(pickles) != 1:
                raise FileError(f"{where} is not a file of torch.save: it has no data.pkl", "Save it by torch.save.")
            root = pickles[0].removesuffix("data.pkl")
            if entries[pickles[0]].compress_type != zipfile.ZIP_STORED:
                raise FileError(f"{where}, {pickles[0]} is compressed, which torch does not do", "Save it anew.")
            order = archive.read(f"{root}byteorder") if f"{root}byteorder" in entries else b"little"
            found = _Unpickler(archive.read(pickles[0]), where).load()
        tensors: list[tuple[str, _Tensor]] = []
        lists: dict[str, list[Any]] = {}
        _walk(found, "", tensors, lists, 0)
        places = [_place(name, tensor, where, file, root, entries, order) for name, tensor in tensors]
    return Answer({"stamp": stamp, "counted": _is_list(found), "tensors": places, "lists": lists})


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) and not isinstance(value, _Tensor | _Storage | _Dtype)


def _no_archive(path: str, where: str, file: IO[bytes]) -> FileError:
    file.seek(0)
    start = file.read(32)
    if start[:2] == b"PK":
        return FileError(f"{where} is truncated: its table of contents is missing", _SAVE_AGAIN)
    if start[:1] != b"\x80":
        return wrong_content(path, "a file of torch.save", start)
    name = printable(Path(path).name)
    return FileError(
        f"{where} is a pickle or a legacy file of torch.save, which roicli never loads",
        f"Convert it where torch is installed: python -c \"import torch; torch.save(torch.load('{name}'), "
        f"'new-{name}')\"; or save tensor.numpy() by numpy.save.",
    )


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, where: str) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8")
        self._where = where

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name of torch; refuse all others."""
        if module == "torch" and name in _NAMED_DTYPES:
            return _Dtype(_NAMED_DTYPES[name])
        if module in ("torch", "torch.storage") and name.endswith("Storage"):
            kind = name.removesuffix("Storage")
            if kind in _DTYPES or kind == "Untyped":
                return _Dtype(_DTYPES.get(kind, "u1"))
        if (found := _ADMITTED.get((module, name))) is not None:
            return found
        raise FeatureError(
            f"{self._where} holds {printable(module)}.{printable(name)}: only tensors, dicts, lists, numbers and text "
            "are read",
            "Save a dict of image id to tensor by torch.save, or arrays by numpy.savez.",
        )

    def persistent_load(self, pid: Any) -> Any:
        """Return the storage that a tensor names."""
        kind, dtype, key, *_ = pid
        if kind != "storage" or not isinstance(dtype, _Dtype) or not isinstance(key, str):
            raise ValueError("it names a storage that is none")
        return _Storage(dtype.name, key)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *more: Any) -> _Tensor:
    # After the gradient's flag and hooks, the third version names a dtype.
    dtype = next((one.name for one in more if isinstance(one, _Dtype)), None)
    if not isinstance(storage, _Storage) or any(type(n) is not int or n < 0 for n in (offset, *shape, *strides)):
        raise ValueError("it holds a tensor without storage or shape")
    if len(shape) != len(strides):
        raise ValueError("it holds a tensor whose strides do not fit its shape")
    return _Tensor(storage, offset, tuple(shape), tuple(strides), dtype or storage.dtype)


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


_ADMITTED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}


def _walk(value: Any, name: str, tensors: list[tuple[str, _Tensor]], lists: dict[str, list[Any]], depth: int) -> None:
    """Note the tensors of dicts and lists, and lists of text or whole numbers."""
    if isinstance(value, _Tensor):
        tensors.append((name, value))
    elif depth < _DEEPEST and (isinstance(value, dict) or _is_list(value)):
        if not isinstance(value, dict) and value and all(type(item) in (str, int) for item in value):
            if len({type(item) for item in value}) == 1:
                lists[name] = list(value)
            return
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(key, str | int):
                _walk(item, f"{name}/{key}" if name else str(key), tensors, lists, depth + 1)


def _place(
    name: str, tensor: _Tensor, where: str, file: Any, root: str, entries: dict[str, zipfile.ZipInfo], order: bytes
) -> list[Any]:
    """Say where a tensor lies, once it is known to lie inside its storage."""
    where = f"{where}, tensor {printable(name)}" if name else where
    entry = entries.get(f"{root}data/{tensor.storage.key}")
    if entry is None:
        raise FileError(f"{where}: its storage {printable(tensor.storage.key)} is missing", COPY_AGAIN)
    if entry.compress_type != zipfile.ZIP_STORED:
        raise FileError(f"{where} is compressed, which torch does not do", "Save it anew.")
    file.seek(entry.header_offset)
    local = file.read(30)
    start = entry.header_offset + 30 + sum(struct.unpack("<HH", local[26:30]))
    encoding = ENCODINGS.get(tensor.dtype)
    dtype = (encoding.stored if encoding else np.dtype(tensor.dtype)).newbyteorder(">" if order == b"big" else "<")
    size = 1
    for length in tensor.shape:
        size *= length
    last = sum((length - 1) * stride for length, stride in zip(tensor.shape, tensor.strides, strict=True))
    if size and (tensor.offset + last + 1) * dtype.itemsize > entry.file_size:
        raise FileError(f"{where}: {tensor.shape} lies beyond its storage of {entry.file_size:,} bytes", COPY_AGAIN)
    check_ratio(where, size * dtype.itemsize, size * dtype.itemsize, lambda: entry.file_size)
    start += tensor.offset * dtype.itemsize
    return [printable(name), start, tensor.shape, tensor.strides, dtype.str, encoding.name if encoding else ""]
