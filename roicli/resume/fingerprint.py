"""What must be the same for a job to go on with the rows of another: settings, input files, maps and boxes."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from roicli.errors import ChangedInputError, OutputError
from roicli.jobs.match import Inputs
from roicli.regions import Names
from roicli.resume.past import Past
from roicli.sources import MapInfo

# So many files are told apart by name; of more, only that one of them has changed.
_FILES_BY_NAME = 200
_SHOWN = 5

Parameters = Mapping[str, str | int | float | bool]


def take_fingerprint(
    parameters: Parameters,
    boxes: Path,
    inputs: Inputs,
    infos: Mapping[int, MapInfo],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> dict[str, Any]:
    """Describe a job as JSON can hold it.

    Parameters
    ----------
    parameters : mapping
        Every setting that changes numbers.
    boxes : Path
        The box file.
    inputs : Inputs
        What was read.
    infos : mapping of int to MapInfo
        The maps that are used.
    shape, dtype
        Of the output.
    """
    return {
        "settings": {**parameters, "dtype": str(dtype), "shape": " x ".join(map(str, shape))},
        "files": _stamps(boxes, inputs),
        "maps": _digest(
            f"{index} {inputs.source.ids[index]} {infos[index].shape} {infos[index].dtype}" for index in sorted(infos)
        ),
        "boxes": _digest_boxes(inputs),
    }


def check_unchanged(fingerprint: Mapping[str, Any], boxes: Path, inputs: Inputs) -> None:
    """Refuse what was computed while any input changed; raises ChangedInputError."""
    _compare(fingerprint["files"], _stamps(boxes, inputs))


def is_unchanged(fingerprint: Mapping[str, Any], boxes: Path, inputs: Inputs) -> bool:
    """Tell whether all inputs are still what they were."""
    return not _changed(fingerprint["files"], _stamps(boxes, inputs))


def check_few_unchanged(fingerprint: Mapping[str, Any], boxes: Path) -> None:
    """Do the same for inputs that are few files: to look at many of them again and again takes too long."""
    files = fingerprint["files"]
    if str(boxes) in files:
        _compare(files, {path: _stamp(Path(path)) for path in files})


def _compare(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    if changed := _changed(before, after):
        raise ChangedInputError(
            f"{changed[0]} was modified while the job ran, so that nothing it has computed can be trusted",
            "Run it again once nothing writes to its inputs.",
        )


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return [name for name in before if before[name] != after.get(name)]


def is_same(past: Past, now: Mapping[str, Any]) -> bool:
    """Tell whether an earlier run's job was the same as `now`."""
    return not any(_changes(past.job, now))


def check_same(output: Path, past: Past, now: Mapping[str, Any], total: int) -> None:
    """Refuse to go on with the rows of another job than `now`, of `total` rows; OutputError says what has changed."""
    changes = list(_changes(past.job, now))
    if past.total != total:
        changes.append(f"{past.total:,} rows were to be computed, now {total:,}")
    if not changes:
        return
    more = f" and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
    raise OutputError(
        f"{output} was begun by another job: {'; '.join(changes[:_SHOWN])}{more}",
        "Give the same inputs and options to go on, or --overwrite without --resume to begin anew.",
    )


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    before, after = _table(then, "settings"), now["settings"]
    for name in {**before, **after}:
        if before.get(name) != after.get(name):
            yield f"{name} was {before.get(name, 'unknown')}, is {after.get(name, 'unknown')}"
    before, after = _table(then, "files"), now["files"]
    for name in {**before, **after}:
        if name not in after:
            yield f"{name} is no input any more"
        elif name not in before:
            yield f"{name} was no input"
        elif before[name] != after[name]:
            yield f"{name} was modified since"
    for name, changed in (("maps", "other maps or shapes of maps"), ("boxes", "other boxes")):
        if then.get(name) != now[name]:
            yield changed


def _table(job: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a part of what a journal says of its job; nothing if it does not say it as we do."""
    found = job.get(name)
    return found if isinstance(found, dict) else {}


def _stamps(boxes: Path, inputs: Inputs) -> dict[str, str]:
    """Tell in what state each input is, or all features together where they are many files."""
    files = {path: _stamp(Path(path)) for path in (str(boxes), *inputs.source.paths)}
    if len(files) <= _FILES_BY_NAME:
        return files
    return {inputs.source.name: _digest(f"{path} {stamp}" for path, stamp in files.items())}


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        return error.strerror or "gone"
    return f"{status.st_size} bytes, {status.st_mtime_ns} ns"


def _digest(lines: Iterable[str]) -> str:
    return _sum(line.encode("utf-8", "surrogatepass") + b"\n" for line in lines)


def _digest_boxes(inputs: Inputs) -> str:
    table = inputs.table
    arrays = (table.boxes, table.rows, inputs.map_index, table.box_ids)
    return _sum(
        f"{'text' if isinstance(array, Names) else array.dtype.str} {len(array)}".encode() + array.tobytes()
        for array in arrays
        if array is not None
    )


def _sum(parts: Iterable[bytes]) -> str:
    """Sum up what may change by accident; sizes and times are compared too, so that a CRC does."""
    number = 0
    for part in parts:
        number = zlib.crc32(part, number)
    return f"{number:08x}"
