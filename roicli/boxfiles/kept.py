"""A table of boxes beside its file, for the other parts of a job: to parse a long file takes minutes and gigabytes.

The first part to come writes it, and the others wait for that one. It is used while the box file is as it was then.
"""

from __future__ import annotations

import fcntl
import json
import math
import mmap
import os
import stat
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from roicli import __version__
from roicli.errors import OutputError
from roicli.files import Stamp
from roicli.newfiles import NewFile, beside
from roicli.regions import BoxFormat, Names, Regions

ENDING = "roicli-boxes"
# To parse so many bytes takes a second; .npy files are mapped as they are.
_LONG = 2**24
# A part that was stopped may hold its lock for ever: then the others read for themselves.
_PATIENCE, _LOOK = 600.0, 0.2
_ALIGNED = 64
# Characters of the checksum and the blank behind it.
_BEFORE = 9
_COLUMN = "columns."
# Boxes that are hashed at once.
_ROWS = 2**16

_ARRAYS = ("boxes", "given", "rows", "image_index", "image_sizes", "origin")
_APART = {*_ARRAYS, "columns", "stamps", "content", "masks"}
_SAID = [one.name for one in fields(Regions) if one.name not in _APART]


def read_kept(path: Path, how: object, read: Callable[[], Regions]) -> Regions:
    """Return the regions of one file from the table beside it; if there is none, `read` them and write it.

    `path`: the box file. A short one, a pipe, and an .npy are always read.
    `how`: what the reader was told, which must be the same.
    `read`: reads the file.
    """
    try:
        state = path.stat()
    except OSError:  # its reader says what is wrong
        return read()
    if not stat.S_ISREG(state.st_mode) or state.st_size < _LONG or path.suffix.lower() == ".npy":
        return read()
    kept, made_of = beside(path, ENDING), f"roicli {__version__}, {how}"
    with _turn(kept, lambda: _load(kept, path, made_of)) as found:
        if found is not None:
            return found
        regions = read()
        if regions.masks is not None:
            return regions
        regions = replace(regions, content=regions.content or _digest(regions))
        with suppress(OSError, OutputError):  # a folder that is not ours, a full disk
            _save(kept, made_of, regions)
            said = f"{path}: its boxes are kept for the other parts in {kept.name}, beside it"
            regions = replace(regions, notes=(*regions.notes, said))
        return regions


@contextmanager
def _turn(kept: Path, look: Callable[[], Regions | None]) -> Iterator[Regions | None]:
    """Give what is found, or None in turn to one of the jobs that look for it; without locks, at once."""
    lock, until = kept.with_name(f"{kept.name}.lock"), time.monotonic() + _PATIENCE
    if (found := look()) is not None:
        yield found
        return
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError:
        yield None
        return
    try:
        with suppress(OSError):
            while time.monotonic() < until:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(_LOOK)
        yield look()
    finally:
        with suppress(OSError):
            lock.unlink()
        os.close(descriptor)


def _save(kept: Path, made_of: str, regions: Regions) -> None:
    """Write a table: a line of JSON with its checksum, then arrays, each where a multiple of 64 begins."""
    arrays = {name: array for name in _ARRAYS if (array := getattr(regions, name)) is not None}
    if regions.given is regions.boxes:
        del arrays["given"]
    names = {name: column.names for name, column in regions.columns.items() if isinstance(column, Names)}
    for name, column in regions.columns.items():
        arrays[_COLUMN + name] = column.index if isinstance(column, Names) else column
    header: dict[str, Any] = {
        "made_of": made_of,
        "beside": [*regions.stamps][1:],
        "states": [*map(_state, regions.stamps.values())],
        "content": regions.content.hex(),
        "said": {name: getattr(regions, name) for name in _SAID},
        "names": names,
        "arrays": [],
    }
    pieces: list[Any] = []
    place = 0
    for name, array in arrays.items():
        header["arrays"].append([name, array.dtype.str, array.shape, place])
        pieces += np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, bytes(-array.nbytes % _ALIGNED)
        place += array.nbytes + len(pieces[-1])
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + _BEFORE + 1) % _ALIGNED) + b"\n"
    file = NewFile(kept, overwrite=True, ending=f"{os.uname().nodename}-{os.getpid()}")
    file.write([_checksum(text), text, *pieces])
    try:
        file.publish()
    finally:
        file.remove()


def _load(kept: Path, path: Path, made_of: str) -> Regions | None:
    """Return the regions of a table, mapped; None if it is damaged, or made of something else."""
    try:
        if not kept.is_file():  # to open a pipe would wait
            return None
        with kept.open("rb") as file:
            line = file.readline()
            if not line.startswith(_checksum(line[_BEFORE:])):
                return None
            header = json.loads(line[_BEFORE:])
            stamps = {name: Stamp.of(name) for name in (str(path), *header["beside"])}
            if [header["made_of"], *header["states"]] != [made_of, *map(_state, stamps.values())]:
                return None
            pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        arrays = {  # frombuffer makes no objects
            name: np.frombuffer(pages, dtype, math.prod(shape), len(line) + place).reshape(shape)
            for name, dtype, shape, place in header["arrays"]
        }
        return _regions(header, path, kept.name, arrays, stamps)
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _regions(header: Any, path: Path, kept: str, arrays: dict[str, Any], stamps: dict[str, Stamp]) -> Regions:
    """Make regions of what a table holds."""
    columns = {name.removeprefix(_COLUMN): arrays.pop(name) for name in [*arrays] if name.startswith(_COLUMN)}
    columns |= {name: Names(columns[name], tuple(names)) for name, names in header["names"].items()}
    said: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in header["said"].items()
    }
    notes = [note.replace(header["said"]["source"], str(path)) for note in header["said"]["notes"]]
    said |= {
        "source": str(path),
        "box_format": BoxFormat(header["said"]["box_format"]),
        "notes": (*notes, f"{path}: its boxes are taken from {kept}, as an earlier part has read them"),
    }
    arrays = {"given": arrays["boxes"], **arrays}
    return Regions(**arrays, **said, columns=columns, stamps=stamps, content=bytes.fromhex(header["content"]))


def _checksum(text: bytes) -> bytes:
    return b"%08x " % zlib.crc32(text)


def _state(stamp: Stamp) -> list[int]:
    """Return what of a stamp is the same on all machines that have mounted a disk."""
    return [*stamp[1:]]


def _digest(regions: Regions) -> bytes:
    """Return a hash of all numbers."""
    from hashlib import sha256

    digest = sha256()
    for first in range(0, len(regions), _ROWS):
        rows = slice(first, first + _ROWS)
        digest.update(np.ascontiguousarray(regions.rows[rows]).data)
        digest.update(np.ascontiguousarray(regions.boxes[rows]).data)
    return digest.digest()
