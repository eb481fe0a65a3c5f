"""Outputs to Zarr, version 3: a group of arrays, whose features lie in shards. It needs `pip install 'roicli[zarr]'`.

A shard is a file of some chunks. One worker writes all of it: where two write parts of one, what the first has written
is lost without a word. The group says that it is complete when all shards are there. Values are stored as they are,
each chunk with a checksum.

Source: the core specification of Zarr, version 3, and its codecs `sharding_indexed`, `crc32c` and `vlen-utf8`.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.arrays import StoredArray
from roicli.errors import FileError
from roicli.files import printable, reading
from roicli.newfiles import NewFile, NewFolder, check_space, remove_tree, writing
from roicli.outputs.base import REMEDY, Layout, OutputFormat, Parameters, Record, Stored, encode, not_ours, was_changed
from roicli.outputs.npy import rows_alone
from roicli.outputs.rowfile import RowFile
from roicli.outputs.shards import Folder, Shards, checksum, index_of, is_sound, key_of, rows_of, sound, values_of
from roicli.regions import Column, Names

# Rows of a chunk of what is recorded beside them.
_COLUMN_ROWS = 2**16
_ROOT = "zarr.json"
_AXES = {"features": ("row", "channel", "y", "x"), "boxes": ("row", "corner"), "image_sizes": ("row", "side")}
# No description of ours is longer.
_LONGEST = 2**24


class Zarr(OutputFormat):
    """A store in a folder, whose shards are written by those who pool their rows."""

    suffixes = (".zarr",)
    folder, plain, checked = True, False, True
    holds = "the same as arrays of Zarr v3; `features` sharded, one chunk some rows; needs `pip install 'roicli[zarr]'`"

    def unit_rows(self, row_bytes: int) -> int:
        """See `OutputFormat`."""
        return math.prod(rows_of(row_bytes))

    def scattered(self) -> OutputFormat:
        """See `OutputFormat`."""
        return ScatteredZarr()

    def layout(self, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> Layout:
        """See `OutputFormat`: where rows lie that come in any order, until the store is made of them."""
        checksum(b"")  # or the first shard would find that it cannot
        return rows_alone(shape, dtype)

    def create(self, path: Path, name: Path, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> RowFile:
        """Make the store at `path`, with all but its shards; see `OutputFormat`."""
        checksum(b"")
        columns = sum(
            len(column) * (80 if isinstance(column, Names) else 32) for column in record.all_columns().values()
        )
        check_space(name, math.prod(shape) * dtype.itemsize + columns)
        store = Folder(path, name)
        with writing(name):
            remove_tree(path)
            path.mkdir()
        try:
            for key, value in _frame(shape, dtype, record):
                store.put(key, value)
        except BaseException:
            remove_tree(path)
            raise
        return Shards(path, name, 0, 0, shape[1:], dtype, rows=shape[0], store=store)

    def resume(self, path: Path, name: Path, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> RowFile:
        """See `OutputFormat`."""
        store = Folder(path, name)
        complete = _root(shape, dtype, record, complete=True)
        for key, value in _frame(shape, dtype, record):
            with suppress(OSError):
                if store.get(key) in (value, complete if key == _ROOT else value):
                    continue
            raise was_changed(path)
        check_space(name, math.prod(shape) * dtype.itemsize - sum(f.stat().st_size for f in path.glob("features/c.*")))
        return Shards(path, name, 0, 0, shape[1:], dtype, rows=shape[0], store=store)

    def finish(self, target: RowFile, record: Record) -> None:
        """Write shards of zeros, and at last that the store is complete."""
        assert isinstance(target, Shards)
        target.complete()
        target.store.flush()
        target.store.put(_ROOT, _root((target.rows, *target.row_shape), target.dtype, record, complete=True))
        target.store.flush()

    def read(self, path: Path) -> Stored:
        """See `OutputFormat`."""
        root = _described(path)
        if root is None:
            raise not_ours(str(path))
        if not root["attributes"].get("complete"):
            raise FileError(f"{path} is not complete", "Finish it: roicli align with `resume`.")
        arrays = root["consolidated_metadata"]["metadata"]
        said = arrays.pop("features")
        shape, dtype = tuple(said["shape"]), np.dtype(said["data_type"])
        if said != _features(shape, dtype):
            raise not_ours(f"{path}, features")
        columns = {name: _read_column(Folder(path, path), name, said) for name, said in arrays.items()}
        return Stored(StoredArray(path, 0, shape, dtype), columns, root["attributes"]["parameters"])

    def parameters(self, path: Path) -> Parameters:
        """See `OutputFormat`."""
        root = _described(path)
        return {} if root is None else dict(root["attributes"]["parameters"])

    def damaged(self, path: Path, stored: Stored) -> Iterator[tuple[NDArray[Any], NDArray[np.intp]]]:
        """Yield the features, shard by shard, and all rows of chunks that do not fit their checksums."""
        features, store = stored.features, Folder(path, path)
        shape = features.shape
        row_bytes = math.prod(shape[1:]) * features.dtype.itemsize
        chunk_rows, shard_chunks = rows_of(row_bytes)
        unit = chunk_rows * shard_chunks
        for first in range(0, shape[0], unit):
            rows, key = min(unit, shape[0] - first), key_of("features", first // unit, len(shape))
            number = -(-rows // chunk_rows)
            with reading(printable(f"{path}/{key}"), REMEDY):
                data = bytearray(store.get(key))
                index = index_of(row_bytes, number)
                if data[-len(index) :] != index:
                    raise not_ours(f"{path}/{key}")
                chunks = np.frombuffer(data, np.uint8, len(data) - len(index)).reshape(number, -1)
                wrong = np.array([not is_sound(chunk.tobytes()) for chunk in chunks])
                values = values_of(chunks, chunk_rows, features.dtype)
            yield values.reshape(-1, *shape[1:])[:rows], first + np.flatnonzero(np.repeat(wrong, chunk_rows)[:rows])


class ScatteredZarr(Zarr):
    """The same store, made when all rows are there: they come in any order."""

    assembled = True
    create, resume = OutputFormat.create, OutputFormat.resume

    def finish(self, target: RowFile, record: Record) -> None:
        """Do nothing: the rows are all that the file holds."""

    def assemble(self, target: RowFile, record: Record, name: Path, *, overwrite: bool) -> NewFile:
        """See `OutputFormat`."""
        made, whole, count = NewFolder(name, overwrite=overwrite, ending="assembled"), Zarr(), target.count
        shards = whole.create(made.path, name, (count, *target.row_shape), target.dtype, record)
        unit = math.prod(rows_of(target.row_bytes))
        try:
            for first in range(0, count, unit):
                rows = np.arange(first, min(first + unit, count))
                shards.write(rows, target.read(rows))
                shards.commit()
            whole.finish(shards, record)
        except BaseException:
            made.remove()
            raise
        return made


def _codec(name: str, **configuration: Any) -> dict[str, Any]:
    return {"name": name, "configuration": configuration} if configuration else {"name": name}


_PLAIN = [_codec("bytes", endian="little"), _codec("crc32c")]


def _array(
    name: str, shape: tuple[int, ...], kind: str, chunk: tuple[int, ...], codecs: list[dict[str, Any]]
) -> dict[str, Any]:
    """Describe an array."""
    named = (*_AXES.get(name, ("row",)), *(f"{name}_{axis}" for axis in range(1, len(shape))))
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [*shape],
        "data_type": kind,
        "chunk_grid": _codec("regular", chunk_shape=[*chunk]),
        "chunk_key_encoding": _codec("default", separator="."),
        "fill_value": "" if kind == "string" else 0.0 if kind.startswith("float") else 0,
        "codecs": codecs,
        "attributes": {},
        "dimension_names": [*named[: len(shape)]],
    }


def _features(shape: tuple[int, ...], dtype: np.dtype[Any]) -> dict[str, Any]:
    """Describe the features."""
    rows, chunks = rows_of(math.prod(shape[1:]) * dtype.itemsize)
    inner = _codec("sharding_indexed", chunk_shape=[rows, *shape[1:]], codecs=_PLAIN, index_codecs=_PLAIN)
    inner["configuration"]["index_location"] = "end"
    return _array("features", shape, dtype.name, (rows * chunks, *shape[1:]), [inner])


def _columns(record: Record) -> dict[str, dict[str, Any]]:
    """Describe what is recorded of each row."""
    described = {}
    for name, column in record.all_columns().items():
        text = isinstance(column, Names)
        shape: tuple[int, ...] = (len(column), *(() if isinstance(column, Names) else column.shape[1:]))
        chunk = (min(max(len(column), 1), _COLUMN_ROWS), *shape[1:])
        codecs = [_codec("vlen-utf8"), _codec("crc32c")] if text else _PLAIN
        described[name] = _array(name, shape, "string" if text else column.dtype.name, chunk, codecs)  # type: ignore[union-attr]
    return described


def _root(shape: tuple[int, ...], dtype: np.dtype[Any], record: Record, *, complete: bool) -> bytes:
    """Describe the group, with all that is in it: a reader need not list the store."""
    parameters = {name: _plain(value) for name, value in record.parameters.items()}
    arrays = {"features": _features(shape, dtype), **_columns(record)}
    return _json(
        {
            "zarr_format": 3,
            "node_type": "group",
            "attributes": {"complete": complete, "parameters": parameters},
            "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": arrays},
        }
    )


def _plain(value: Any) -> Any:
    return encode(value).decode() if isinstance(value, str) else value


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _frame(shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> Iterator[tuple[str, bytes]]:
    """Yield keys and values of all but the features."""
    yield _ROOT, _root(shape, dtype, record, complete=False)
    yield f"features/{_ROOT}", _json(_features(shape, dtype))
    columns = record.all_columns()
    for name, said in _columns(record).items():
        yield f"{name}/{_ROOT}", _json(said)
        rows = said["chunk_grid"]["configuration"]["chunk_shape"][0]
        for first in range(0, len(columns[name]), rows):
            data = _pack(columns[name][first : first + rows], rows)
            yield key_of(name, first // rows, len(said["shape"])), data + checksum(data)


def _pack(part: Column, rows: int) -> bytes:
    """Return a chunk of so many rows: those that lack are empty."""
    if isinstance(part, Names):
        texts = [encode(name) for name in part.tolist()] + [b""] * (rows - len(part))
        return b"".join([struct.pack("<I", rows), *(struct.pack("<I", len(text)) + text for text in texts)])
    data = part.astype(part.dtype.newbyteorder("<")).tobytes()
    return data + bytes((rows - len(part)) * math.prod(part.shape[1:]) * part.dtype.itemsize)


def _described(path: Path) -> Any:
    """Read what the group says of itself; None if it is not one of ours."""
    file = path / _ROOT
    if not file.is_file() or file.stat().st_size > _LONGEST:
        return None
    found = json.loads(file.read_bytes())
    attributes = found.get("attributes", {}) if isinstance(found, dict) else {}
    ours = isinstance(attributes, dict) and "roicli_version" in (attributes.get("parameters") or ())
    return found if ours else None


def _read_column(store: Folder, name: str, said: Any) -> Column:
    """Read what is recorded of each row."""
    shape, rows = said["shape"], said["chunk_grid"]["configuration"]["chunk_shape"][0]
    parts = [sound(store.get(key_of(name, number, len(shape)))) for number in range(-(-shape[0] // rows))]
    if said["data_type"] != "string":
        values = np.frombuffer(b"".join(parts), np.dtype(said["data_type"]).newbyteorder("<"))
        return values.reshape(-1, *shape[1:])[: shape[0]].astype(said["data_type"])
    number: dict[str, int] = {}
    index = [number.setdefault(text, len(number)) for part in parts for text in _unpack(part)][: shape[0]]
    return Names(np.array(index, np.int64), tuple(number))


def _unpack(data: bytes) -> Iterator[str]:
    """Yield the text of a chunk."""
    place = 4
    for _ in range(int.from_bytes(data[:4], "little")):
        stop = place + 4 + int.from_bytes(data[place : place + 4], "little")
        yield data[place + 4 : stop].decode()
        place = stop
