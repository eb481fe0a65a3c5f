"""A file that appears under its final name only when it is complete: written beside it, flushed, then moved."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from roicli.errors import OutputError


def check_name(path: Path, *, overwrite: bool) -> None:
    """Refuse a name that cannot or must not be written."""
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist", "Make it first, or name another.")
    if path.is_dir():
        raise OutputError(f"{path} is a folder", "Name a file.")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path}: the folder {path.parent} is not writable", "Name a folder that is.")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists", "Give --overwrite to replace it, or name another output.")


def check_space(path: Path, needed: int) -> None:
    """Refuse an output of `needed` bytes that the disk of `path` has no room for."""
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise OutputError(
            f"{path} needs {needed / 2**30:.2f} GiB, its disk has {free / 2**30:.2f} GiB free",
            "Free some space, name another disk, or write less: --out-dtype float16, --reduce mean.",
        )


def partial_path(path: Path) -> Path:
    """Name of the temporary file beside `path`, this process's own."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def publish(partial: Path, path: Path) -> None:
    """Flush `partial` to the disk and move it to `path`; the folder's entry is flushed too."""
    with writing(path):
        flush(partial)
        partial.replace(path)
        flush(path.parent)


def flush(path: Path) -> None:
    """Force what was written to a file or folder onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure of the system into an OutputError that names `path`."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"{path}: cannot write: {error.strerror or error}", "Free some disk space, or write to another disk."
        ) from error
