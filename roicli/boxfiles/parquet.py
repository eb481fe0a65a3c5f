"""Parquet: the columns of a CSV with a header, read with pyarrow (`pip install 'roicli[parquet]'`)."""

from __future__ import annotations

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.csvboxes import Table
from roicli.boxfiles.registry import Layout
from roicli.errors import UsageError
from roicli.files import reading
from roicli.regions import BoxFormat, Regions

_ROWS = 1 << 14


def _read(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError(
            f"{file.path} is a Parquet file, and pyarrow is missing", "Run: pip install 'roicli[parquet]'."
        ) from error
    with reading(str(file.path)):
        stored = pyarrow.parquet.ParquetFile(file.rewind())
        schema = stored.schema_arrow
        flat = [name for name in schema.names if not pyarrow.types.is_nested(schema.field(name).type)]
        names = [flat[place] for place in sorted(Table(file, flat, box_format, 0, "row").columns.places)]
        table, row = Table(file, names, box_format, 0, "row"), 0
        for batch in stored.iter_batches(_ROWS, columns=names):
            cells = [["" if value is None else str(value) for value in column.to_pylist()] for column in batch.columns]
            table.add(range(row, row + batch.num_rows), [list(values) for values in zip(*cells, strict=True)])
            row += batch.num_rows
    return table.regions(box_format)


LAYOUT = Layout(
    "a Parquet file",
    lambda file: True,  # nothing else begins like one
    _read,
    (".parquet",),
    holds="the columns of a CSV; needs `pip install 'roicli[parquet]'`",
)
