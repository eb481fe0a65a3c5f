"""Outputs to Parquet: a table with what an index says of each row, and its features as a list of fixed size.

It needs `pip install 'roicli[parquet]'`. The table is written when all rows are there: until then they lie in a hidden
file of their own.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.arrays import StoredArray
from roicli.errors import UsageError
from roicli.files import printable, reading
from roicli.newfiles import ASSEMBLED, NewFile, create_file, writing
from roicli.outputs.base import REMEDY, Layout, OutputFormat, Parameters, Record, Stored, encode, not_ours
from roicli.outputs.npy import rows_alone
from roicli.outputs.rowfile import RowFile
from roicli.regions import Column, Names

# Features of a group of rows: what a reader takes at once.
_GROUP_BYTES = 2**25
# Key of what the file says of itself.
_KEY = b"roicli"
_VECTOR = "vector"
# Columns that are several of a table's, by the name that a record has for them.
_SPLIT = {
    "boxes": ("x1", "y1", "x2", "y2"),
    "image_sizes": ("image_height", "image_width"),
    "pairs": ("subject_box_file_row", "object_box_file_row"),
}
_NAMES = {
    "image_ids": "image_id",
    "box_ids": "box_id",
    "rows": "box_file_row",
    "levels": "level",
    "output_rows": "output_row",
    "groups": "group",
    "counts": "boxes",
}


class Parquet(OutputFormat):
    """A table."""

    suffixes = (".parquet",)
    holds = (
        "a table: the columns of an index, and `vector`, a list of fixed size; needs `pip install 'roicli[parquet]'`"
    )
    assembled, plain = True, False

    def layout(self, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> Layout:
        """See `OutputFormat`: the rows alone."""
        _pyarrow()
        return rows_alone(shape, dtype)

    def assemble(self, target: RowFile, record: Record, name: Path, *, overwrite: bool) -> NewFile:
        """See `OutputFormat`."""
        pa, parquet = _pyarrow()
        made, columns = NewFile(name, overwrite=overwrite, ending=ASSEMBLED), _table(record)
        values = math.prod(target.row_shape)
        kinds = {key: _kind(pa, column) for key, column in columns.items()}
        vector = pa.list_(pa.field("element", pa.from_numpy_dtype(target.dtype), nullable=False), values)
        said = {"shape": target.row_shape, "parameters": record.parameters}
        schema = pa.schema({**kinds, _VECTOR: vector}, {_KEY: json.dumps(said)})
        flat = list(columns)
        try:
            with writing(name):
                made.remove()
                with os.fdopen(create_file(made.path), "wb") as file:
                    with parquet.ParquetWriter(
                        file,
                        schema,
                        use_dictionary=[key for key in flat if kinds[key] == pa.string()],
                        compression={**dict.fromkeys(flat, "zstd"), f"{_VECTOR}.list.element": "none"},
                        write_statistics=flat,
                    ) as writer:
                        group = max(1, _GROUP_BYTES // target.row_bytes)
                        for first in range(0, target.count, group):
                            rows = np.arange(first, min(first + group, target.count))
                            block = pa.array(target.read(rows).reshape(-1), vector.value_type)
                            arrays = [_arrow(pa, columns[key][rows], kinds[key]) for key in flat]
                            arrays.append(pa.FixedSizeListArray.from_arrays(block, type=vector))
                            writer.write_table(pa.Table.from_arrays(arrays, schema=schema), len(rows))
                    file.flush()
                    os.fsync(file.fileno())
        except BaseException:
            made.remove()
            raise
        return made

    def read(self, path: Path) -> Stored:
        """See `OutputFormat`."""
        with _open(path) as file:
            said = _said(file)
            if not said:
                raise not_ours(str(path))
            kind = file.schema_arrow.field(_VECTOR).type
            dtype = np.dtype(kind.value_type.to_pandas_dtype())
            table = file.read([name for name in file.schema_arrow.names if name != _VECTOR], use_threads=False)
            columns = _columns({name: table[name].combine_chunks() for name in table.column_names})
            features = StoredArray(path, 0, (file.metadata.num_rows, *said["shape"]), dtype)
            if math.prod(said["shape"]) != kind.list_size:
                raise not_ours(f"{path}, {_VECTOR}")
        return Stored(features, columns, said["parameters"])

    def parameters(self, path: Path) -> Parameters:
        """See `OutputFormat`."""
        with _open(path) as file:
            return dict(_said(file).get("parameters", {}))

    def raw_blocks(self, path: Path, stored: Stored) -> Generator[NDArray[Any], None, None]:
        """Yield the features, group by group."""
        with reading(printable(str(path)), REMEDY), _open(path) as file:
            for number in range(file.num_row_groups):
                for part in file.read_row_group(number, [_VECTOR], use_threads=False)[_VECTOR].chunks:
                    yield part.flatten().to_numpy().reshape(-1, *stored.features.shape[1:])


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError(
            "outputs to Parquet need the package pyarrow", "Install it: pip install 'roicli[parquet]'."
        ) from error
    return pyarrow, pyarrow.parquet


def _open(path: Path) -> Any:
    return _pyarrow()[1].ParquetFile(path)


def _said(file: Any) -> dict[str, Any]:
    """Return what a file says of itself; nothing if it is not one of ours."""
    text = (file.schema_arrow.metadata or {}).get(_KEY)
    found = json.loads(text) if text else {}
    return found if isinstance(found, dict) and "roicli_version" in (found.get("parameters") or ()) else {}


def _table(record: Record) -> dict[str, Column]:
    """Return the columns of the table: one value a row each."""
    table: dict[str, Column] = {}
    for name, column in record.all_columns().items():
        if isinstance(column, np.ndarray) and column.ndim == 2:
            table |= {part: column[:, place] for place, part in enumerate(_SPLIT[name])}
        else:
            table[_NAMES.get(name, name)] = column
    return table


def _columns(table: dict[str, Any]) -> dict[str, Column]:
    """Return what a table says as the columns of a record, and what else there is."""
    columns: dict[str, Column] = {}
    for name, parts in _SPLIT.items():
        if parts[0] in table:
            columns[name] = np.stack([np.asarray(_column(table.pop(part))) for part in parts], axis=1)
    names = {theirs: ours for ours, theirs in _NAMES.items()}
    return columns | {names.get(name, name): _column(array) for name, array in table.items()}


def _kind(pa: Any, column: Column) -> Any:
    return pa.string() if isinstance(column, Names) else pa.from_numpy_dtype(column.dtype)


def _arrow(pa: Any, part: Column, kind: Any) -> Any:
    """Return some values of a column; NaN is null."""
    if isinstance(part, Names):
        return pa.array([encode(name).decode() for name in part.tolist()], kind)
    return pa.array(np.ascontiguousarray(part), kind, from_pandas=True)


def _column(array: Any) -> Column:
    """Return an array of Arrow as a column: null is NaN."""
    if str(array.type) != "string":
        return np.array(array.to_numpy(zero_copy_only=False))
    coded = array.dictionary_encode()
    return Names(coded.indices.to_numpy().astype(np.int64), tuple(coded.dictionary.to_pylist()))
