"""An .npy read back, and what a part of a job has beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.arrays import open_npy, read_header
from roicli.errors import FileError
from roicli.files import file_size, printable, reading
from roicli.outputs.shardfile import shard_file
from roicli.outputs.stored import HINT, Parameters, Stored, not_ours, stream_blocks

# The rows of a part, as runs in JSON: some 20 bytes a run.
_SHARD_FILE_BYTES = 2**30


def open_stored(path: Path) -> Stored:
    """Read the header, and which rows of the whole these are."""
    array = open_npy(path)
    if array.fortran or not array.shape:
        raise not_ours(str(path))
    said = _beside(path)
    return Stored(array.shape, array.dtype, _rows(path, said["output_rows"], array.shape[0]) if said else {})


def read_parameters(path: Path) -> Parameters:
    """Read how a part was made; no other .npy can say it."""
    parameters: Parameters = _beside(path).get("parameters", {})
    return parameters


def count_part_rows(path: Path) -> int:
    """Count the rows that a part has by what lies beside it, whether it is there or not."""
    said = _beside(path)
    with reading(printable(str(shard_file(path))), HINT):
        return sum(int(stop) - int(first) for first, stop in said["output_rows"])


def blocks(path: Path, rows: int) -> Iterator[NDArray[Any]]:
    """Yield the features."""
    with path.open("rb") as file:
        yield from stream_blocks(file, read_header(file, path, str(path)), rows)


def _beside(path: Path) -> dict[str, Any]:
    """Read what a part has beside it; empty if this is no part."""
    beside = shard_file(path)
    if not beside.exists():
        return {}
    with reading(printable(str(beside)), HINT):
        if file_size(beside) > _SHARD_FILE_BYTES:
            raise FileError(f"{beside} is too large to say which rows {path} holds", HINT)
        said = json.loads(beside.read_bytes())
        if not isinstance(said, dict) or not isinstance(said.get("parameters"), dict) or "output_rows" not in said:
            raise not_ours(str(beside))
        return {"parameters": said["parameters"], "output_rows": said["output_rows"]}


def _rows(path: Path, said: Any, count: int) -> dict[str, NDArray[Any]]:
    """Write out runs of rows."""
    with reading(printable(str(shard_file(path))), HINT):
        runs = np.array(said, dtype=np.int64).reshape(-1, 2)
        lengths = runs[:, 1] - runs[:, 0]
        if (lengths < 1).any() or int(lengths.sum()) != count:
            raise FileError(f"{shard_file(path)} does not fit {path}", HINT)
        starts = np.repeat(runs[:, 0] - np.cumsum(lengths) + lengths, lengths)
        return {"output_rows": starts + np.arange(count)}
