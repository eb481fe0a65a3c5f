"""Outputs to .npy: a header, then the rows. A part of a job has a record beside it, which says which rows it holds."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.arrays import open_npy
from roicli.checksums import checksum_rows
from roicli.errors import FileError
from roicli.files import file_size, printable, reading
from roicli.newfiles import GROUPS, PARTIAL, beside
from roicli.outputs.base import REMEDY, Layout, OutputFormat, Parameters, Record, Stored, not_ours
from roicli.outputs.checked import KIND, as_bytes
from roicli.outputs.sidefiles import origin_file, shard_file
from roicli.regions import Column

# The rows of a part, as runs in JSON: some 20 bytes a run.
_SHARD_FILE_BYTES = 2**30


class Npy(OutputFormat):
    """One array: the features."""

    suffixes = (".npy",)
    holds = "the features alone"
    keeps_record = False

    def layout(self, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> Layout:
        """See `OutputFormat`."""
        return rows_alone(shape, dtype, read_again=False)

    def read(self, path: Path) -> Stored:
        """Read the header, which rows of the whole these are, and the checksums of rows if they lie beside the file."""
        features, part = open_npy(path), read_part(path)
        columns: dict[str, Column] = (
            {} if part is None else {"output_rows": _rows(path, part["output_rows"], features.shape)}
        )
        origin = _read_origin(path) if part is None else None
        sums = None if origin is None else _sums(path, origin, features.shape[0])
        return Stored(features, columns, {} if part is None else part["parameters"], sums)

    def parameters(self, path: Path) -> Parameters:
        """Read how a part was made, or what was written beside another .npy on request."""
        part = read_part(path) or _read_origin(path)
        return {} if part is None else dict(part["parameters"])


def rows_alone(shape: tuple[int, ...], dtype: np.dtype[Any], *, read_again: bool = True) -> Layout:
    """Return the layout of rows and nothing else, behind a header."""
    header = npy_header(shape, dtype)
    size = len(header) + math.prod(shape) * dtype.itemsize
    return Layout({0: header}, len(header), size, read_again=read_again)


def npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Return the header of an array in C order."""
    file = io.BytesIO()
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


def read_part(output: Path) -> dict[str, Any] | None:
    """Read what a part has beside it: ``parameters``, and ``output_rows`` as runs; None if this is not a part."""
    return _read_beside(shard_file(output), "output_rows")


def _read_origin(output: Path) -> dict[str, Any] | None:
    """Read what says whence an output came; None if nothing does, or another file has its name by now."""
    origin = _read_beside(origin_file(output), "shape")
    return origin if origin is not None and tuple(origin["shape"]) == open_npy(output).shape else None


def _sums(output: Path, origin: dict[str, Any], rows: int) -> NDArray[np.uint32] | None:
    """Take the checksums of rows; None if another version of roicli has written none."""
    if "checksums" not in origin:
        return None
    with reading(printable(str(origin_file(output))), REMEDY):
        sums = np.frombuffer(bytes.fromhex(origin["checksums"]), KIND)
        if len(sums) != rows:
            raise FileError(f"{origin_file(output)} does not fit {output}", REMEDY)
        return sums


def checksums_of(path: Path) -> NDArray[np.uint32]:
    """Return the checksum of each row of an .npy file."""
    blocks = Npy().raw_blocks(path, Stored(open_npy(path), {}, {}))
    return np.concatenate([np.zeros(0, KIND), *(checksum_rows(*as_bytes(block)) for block in blocks)])


def origin_text(record: Record, shape: tuple[int, ...], output: Path) -> Iterator[str]:
    """Make what says whence an .npy came: parameters, the shape by which it is known again, the CRC-32 of each row."""
    hidden = (beside(output, ending) for ending in (GROUPS, PARTIAL))
    sums = checksums_of(next((path for path in hidden if path.exists()), output)).tobytes().hex()
    yield json.dumps({"shape": shape, "parameters": record.parameters, "checksums": sums}, indent=1) + "\n"


def _read_beside(path: Path, member: str) -> dict[str, Any] | None:
    if not path.exists():
        return None
    with reading(printable(str(path)), REMEDY):
        if file_size(path) > _SHARD_FILE_BYTES:
            raise FileError(f"{path} is too large for what it should say", REMEDY)
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict) or not isinstance(found.get("parameters"), dict) or member not in found:
            raise not_ours(str(path))
        return found


def _rows(output: Path, part: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Write out runs of rows."""
    with reading(printable(str(shard_file(output))), REMEDY):
        runs = np.array(part, dtype=np.int64).reshape(-1, 2)
        lengths = runs[:, 1] - runs[:, 0]
        if (lengths < 1).any() or int(lengths.sum()) != shape[:1][0]:
            raise FileError(f"{shard_file(output)} does not fit {output}", REMEDY)
        starts = np.repeat(runs[:, 0] - np.cumsum(lengths) + lengths, lengths)
        rows: NDArray[np.int64] = starts + np.arange(len(starts))
        return rows
