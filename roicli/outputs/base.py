"""What every format of outputs does, and what is recorded beside the features."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.arrays import StoredArray
from roicli.errors import FileError, OutputError
from roicli.files import file_size, printable, reading
from roicli.newfiles import NewFile, check_space, close_file, create_file, write_all, writing
from roicli.outputs.checked import NAME, REPAIR, check_record, damaged_rows
from roicli.outputs.checked import encode as encode
from roicli.outputs.rowfile import RowFile
from roicli.regions import Column, Names
from roicli.words import listing

Parameters = dict[str, str | int | float | bool]

# Columns are converted and written so many rows at a time.
_COLUMN_ROWS = 2**16
# Features are read back so many bytes at a time.
_BLOCK_BYTES = 2**24
REMEDY = "Give files that roicli align has written, as it has written them."


class Record(NamedTuple):
    """Whose features the rows of an output are, and how they were made."""

    image_ids: Names  # image of each row (K), as the feature source names it
    # (K, 4): xyxy of each row, in image pixels (or in 0..1 of the image if the boxes were normalized)
    boxes: NDArray[np.float64]
    rows: NDArray[np.int64]  # (K,): which box of the box file each is, from 0, whatever lines the file has
    box_ids: Column | None  # the box file's own ids
    parameters: Parameters  # every setting that changes numbers, the names of the inputs and the version of roicli
    output_rows: NDArray[np.int64] | None = None  # (K,): for a part of a job: the rows of the whole output, ascending
    levels: Column | None = None  # the level of a pyramid that each row was pooled from
    # (K, 2): height and width in pixels of the image of each row; NaN where they are not known
    image_sizes: NDArray[np.float32] | None = None
    pairs: NDArray[np.int64] | None = None  # (K, 2): the two boxes of the box file that each row is around
    # What else an index tells of each row
    said: Mapping[str, Column] = MappingProxyType({})
    groups: Names | None = None  # the group that each row is of, if groups are asked for
    # (K,): of rows that are means over groups: over how many boxes. Then only this and `groups` are written.
    counts: NDArray[np.int64] | None = None

    def columns(self) -> dict[str, Column]:
        """Return the columns under the names that they have in an output."""
        names = COLUMNS if self.counts is None else ("groups", "counts")
        return {name: column for name in names if (column := getattr(self, name)) is not None}

    def all_columns(self) -> dict[str, Column]:
        """Return the columns, and what else an index tells."""
        return self.columns() | dict(self.said)


# What of a record is written of each row, by its names; with groups, these and `counts` alone.
COLUMNS = tuple(name for name in Record._fields if name not in ("parameters", "said", "counts"))


class Layout(NamedTuple):
    """Where everything lies in the file of an output."""

    frame: Mapping[int, bytes | bytearray]  # all but the features and the columns, by place
    offset: int  # byte at which row 0 begins
    size: int  # bytes of the file while rows are written
    # Columns that are written when the file is made: place, values, and dtype in the file
    columns: Sequence[tuple[int, Column, np.dtype[Any]]] = ()
    starts: NDArray[np.int64] | None = None  # (K,): byte at which each row begins; by default one after the other
    end: int | None = None  # byte after the last row, where rows do not lie side by side
    sums: int | None = None  # byte at which the checksums of rows begin
    read_again: bool = False  # see `RowFile`

    def target(self, path: Path, name: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> RowFile:
        """Return where the rows of (K, ...) features are written."""
        end = self.offset + math.prod(shape) * dtype.itemsize if self.end is None else self.end
        return RowFile(path, name, self.offset, end, shape[1:], dtype, self.starts, self.sums, self.read_again)


class Stored(NamedTuple):
    """An output that was read back: all but its features."""

    features: StoredArray  # where the features lie
    columns: dict[str, Column]  # what is recorded of each row, as `Record.columns` names it
    parameters: Parameters  # how it was made; empty where the file does not say
    sums: NDArray[np.uint32] | None = None  # (K,): the checksum of each row, if the file has them

    @classmethod
    def checked(cls, features: StoredArray, columns: dict[str, Column], parameters: Parameters) -> Stored:
        """Take the checksums, if there are any, out of what was read; FileError if that of the record does not fit."""
        sums = columns.pop(NAME, None)
        if not isinstance(sums, np.ndarray):
            return cls(features, columns, parameters)
        return cls(features, columns, parameters, check_record(sums, features, columns, parameters))


class OutputFormat(ABC):
    """One format of outputs, both ways."""

    suffixes: tuple[str, ...]  # what the names of its files end in, the usual one first
    holds: ClassVar[str] = ""
    """What a file holds, in Markdown: the guide's table of outputs has this line."""
    assembled: ClassVar[bool] = False
    """Whether `assemble` makes the output when all rows are there."""
    folder: bool = False
    """Whether the output is a folder."""
    checked: ClassVar[bool] = False
    """Whether rows have checksums of the format's own, not those in `Stored.sums`."""
    keeps_record: bool = True
    """Whether a file says how it was made and whose features its rows are."""
    plain: ClassVar[bool] = True
    """Whether the features lie in the file byte for byte, one row after the other."""

    @abstractmethod
    def layout(self, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> Layout:
        """Return where everything will lie for (K, ...) rows. The same arguments give the same layout."""

    @abstractmethod
    def read(self, path: Path) -> Stored:
        """Read all but the features; whatever a damaged file makes it raise becomes a FileError."""

    @abstractmethod
    def parameters(self, path: Path) -> Parameters:
        """Read how an output was made; empty if the file is not an output, or does not say."""

    def create(self, path: Path, name: Path, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> RowFile:
        """Make a file at `path` with all but its rows, of its full size, sparse where the file system can.

        Raises OutputError: the disk has no room, or another failure of the system; it calls the file `name`.
        """
        layout = self.layout(shape, dtype, record)
        check_space(name, layout.size + self.tail_bytes(record))
        with writing(name):
            path.unlink(missing_ok=True)
            descriptor = create_file(path)
            try:
                os.ftruncate(descriptor, layout.size)
                for place, data in layout.frame.items():
                    write_all(descriptor, data, place)
                for place, column, kind in layout.columns:
                    for block in column_blocks(column, kind):
                        write_all(descriptor, memoryview(block.reshape(-1).view(np.uint8).data), place)
                        place += block.nbytes
            except BaseException:
                path.unlink(missing_ok=True)
                raise
            finally:
                close_file(descriptor)
        return layout.target(path, name, shape, dtype)

    def resume(self, path: Path, name: Path, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> RowFile:
        """Return where rows lie in a file that `create` made; OutputError if it is not as it was made."""
        layout = self.layout(shape, dtype, record)
        with writing(name), path.open("rb") as file:
            missing = layout.size + self.tail_bytes(record) - os.fstat(file.fileno()).st_blocks * 512
            same = os.fstat(file.fileno()).st_size >= layout.size and all(
                os.pread(file.fileno(), len(data), place) == data for place, data in layout.frame.items()
            )
        if not same:
            raise was_changed(path)
        check_space(name, missing)
        return layout.target(path, name, shape, dtype)

    def unit_rows(self, row_bytes: int) -> int | None:
        """Return how many rows, counted from row 0, one task must write; None if any task may write any row."""
        return None

    def shape(self, shape: tuple[int, ...], record: Record) -> tuple[int, ...]:
        """Return the shape of the features of an output, of whose rows this is the shape."""
        return shape

    def recorded(self, record: Record) -> Record:
        """Return what is recorded of the rows of an output."""
        return record

    def scattered(self) -> OutputFormat:
        """Return what writes this format where rows come in any order."""
        return self

    def assemble(self, target: RowFile, record: Record, name: Path, *, overwrite: bool) -> NewFile | None:
        """Make the output of its rows, where they lie in a file of their own; it is not yet published."""
        return None

    def beside(self, output: Path, record: Record) -> dict[Path, Callable[[], Iterator[str]]]:
        """Return the small files that appear with the output: their names, and what makes their text."""
        return {}

    def tail_bytes(self, record: Record) -> int:
        """Return how many bytes `finish` adds to the file."""
        return 0

    def finish(self, target: RowFile, record: Record) -> None:
        """Complete the file when all rows are written; done again, it gives the same bytes."""
        return

    def values(self, path: Path, stored: Stored) -> NDArray[Any]:
        """Return all features, in a memory map: of the file, or of a copy that goes with the process."""
        features = stored.features
        if not features.nbytes:
            return np.empty(features.shape, features.dtype)
        if self.plain:
            return np.memmap(features.path, features.dtype, "r", features.start, features.shape)
        from tempfile import TemporaryFile  # which takes longer to load than all of this room

        with TemporaryFile() as copy:
            for block in self.blocks(path, stored):
                copy.write(np.ascontiguousarray(block).data)
            copy.flush()
            return np.memmap(copy, features.dtype, "r", 0, features.shape)

    def raw_blocks(self, path: Path, stored: Stored) -> Generator[NDArray[Any], None, None]:
        """Yield the features in order, some rows at a time, whether they are intact or not."""
        with reading(printable(str(path))), path.open("rb", buffering=0) as file:
            file.seek(stored.features.start)
            yield from _stream_blocks(file, stored.features)

    def damaged(self, path: Path, stored: Stored) -> Iterator[tuple[NDArray[Any], NDArray[np.intp]]]:
        """Yield the features, some rows at a time, and which of all rows in them do not fit their checksums."""
        first = 0
        with closing(self.raw_blocks(path, stored)) as blocks:
            for block in blocks:
                sums = None if stored.sums is None else stored.sums[first : first + len(block)]
                yield block, first + damaged_rows(block, sums)
                first += len(block)

    def blocks(self, path: Path, stored: Stored) -> Generator[NDArray[Any], None, None]:
        """Yield the features in order, some rows at a time; FileError if rows do not fit their checksums."""
        for block, rows in self.damaged(path, stored):
            if len(rows):
                raise FileError(f"{path}: rows {listing(rows.tolist(), 10)} do not fit their checksums", REPAIR)
            yield block


def _stream_blocks(stream: IO[bytes], features: StoredArray) -> Iterator[NDArray[Any]]:
    """Yield the rows of an array whose values come next in a stream, some at a time."""
    row_bytes = max(math.prod(features.shape[1:]) * features.dtype.itemsize, 1)
    rows = max(1, _BLOCK_BYTES // row_bytes)
    for first in range(0, features.shape[0], rows):
        block = np.empty((min(rows, features.shape[0] - first), *features.shape[1:]), features.dtype)
        rest = memoryview(block.reshape(-1).view(np.uint8).data)
        while rest:
            number = stream.readinto(rest)  # type: ignore[attr-defined]  # which all binary files have
            if not number:
                raise EOFError("the file ends too early")
            rest = rest[number:]
        yield block


def column_blocks(column: Column, kind: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """Yield the values of a column as they are written, some rows at a time; text in the dtype `kind`."""
    for first in range(0, len(column), _COLUMN_ROWS):
        part = column[first : first + _COLUMN_ROWS]
        if kind.kind == "S":
            yield np.array([encode(name) for name in part.tolist()], kind)
        elif isinstance(part, Names):
            yield np.array(part.tolist(), kind)
        else:
            yield np.ascontiguousarray(part, kind)


def text_dtype(column: Column, kind: str = "U") -> np.dtype[Any]:
    """Return the dtype of a column in a file: text ("U", or "S" for UTF-8) is as wide as the longest name in use."""
    if not isinstance(column, Names):
        return column.dtype
    used = (column.names[number] for number in np.unique(column.index).tolist())
    return np.dtype(f"{kind}{max((len(name if kind == 'U' else encode(name)) for name in used), default=1) or 1}")


def read_output(output_format: OutputFormat, path: Path) -> Stored:
    """Read everything of an output but its features, and check that it fits together.

    Raises FileError: a file that cannot be read, or is not as roicli writes it.
    """
    name = printable(str(path))
    if not (output_format.folder and path.is_dir()):
        file_size(path)
    with reading(name, REMEDY):
        stored = output_format.read(path)
    features = stored.features
    wrong = [column for column, values in stored.columns.items() if len(values) != features.shape[0]]
    if wrong:
        raise FileError(f"{name}: {wrong[0]} does not fit the features", REMEDY)
    if len(features.shape) < 2 or features.dtype.kind != "f" or features.fortran:
        raise FileError(f"{name}: {features.shape} of {features.dtype} are not features of boxes", REMEDY)
    return stored


def names_of(values: NDArray[Any]) -> Names:
    """Return an array of text as an index into distinct names."""
    distinct, index = np.unique(values, return_inverse=True)
    names = distinct.tolist()
    return Names(
        index.astype(np.int64), tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)
    )


def was_changed(path: Path) -> OutputError:
    """Make the error for an unfinished file that is not as it was made, or not as its journal describes it."""
    return OutputError(
        f"{path} and its journal do not fit: one of them was changed",
        "Give `overwrite` without `resume` to start over.",
    )


def not_ours(where: str) -> FileError:
    """Make the error for what roicli does not write."""
    return FileError(f"{where} is not as roicli writes it", REMEDY)
