"""A file that appears under its final name only when it is complete: written beside it, flushed, then moved."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from roicli.errors import OutputError

# What the names of hidden files beside an output end in: what is moved to the final name, rows that wait for that, and
# what is proved to be done of them.
PARTIAL = "partial"
ROWS = "rows.partial"
JOURNAL = "journal"
_HINTS = dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Free some disk space, or write to another disk.") | {
    errno.EFBIG: "Raise the limit of the size of files (ulimit -f), or write to another disk.",
    errno.ENAMETOOLONG: "Give it a shorter name: hidden files beside it have longer ones.",
}


def check_name(path: Path, *, overwrite: bool) -> None:
    """Refuse a name that cannot or must not be written."""
    path = led_to(path)
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist", "Make it first, or name another.")
    if path.is_symlink():
        raise OutputError(f"{path} is a link that leads to itself", "Remove it, or name another.")
    if path.is_dir():
        raise OutputError(f"{path} is a folder", "Name a file.")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path}: the folder {path.parent} is not writable", "Name a folder that is.")
    if path.exists() and not path.is_file():
        raise OutputError(f"{path} is not a regular file", "Name a file.")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists", "Give --overwrite to replace it, or name another output.")
    with writing(path):
        for hidden in (beside(path, ending) for ending in (PARTIAL, ROWS, JOURNAL)):
            if hidden.exists() and not hidden.is_file():
                raise OutputError(
                    f"{hidden} is no regular file, but an unfinished {path.name} would lie there",
                    "Remove it, or name another output.",
                )


def check_space(path: Path, needed: int) -> None:
    """Refuse an output of `needed` bytes that the disk of `path` has no room for."""
    disk = os.statvfs(led_to(path).parent)
    free = disk.f_bavail * disk.f_frsize
    if needed > free:
        raise OutputError(
            f"{path} needs {in_words(needed)}, its disk has {in_words(free)} free",
            "Free some space, name another disk, or let align write less: --out-dtype float16, --reduce mean.",
        )


def led_to(path: Path) -> Path:
    """Return what a symbolic link leads to, there or not; any other path as it is."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def beside(output: Path, ending: str) -> Path:
    """Return the name of a hidden file beside an output; where that is a symbolic link, beside what it leads to."""
    final = Path(os.path.realpath(output))
    return final.with_name(f".{final.name}.{ending}")


class Partial:
    """A file beside the final name; what a crash leaves of it is there under the same name for the next run.

    Attributes
    ----------
    path : Path
        The file before it is published.
    final : Path
        The name that it is for; where that is a symbolic link, what the link leads to.
    """

    def __init__(self, final: Path, *, overwrite: bool, ending: str = PARTIAL) -> None:
        self.final = Path(os.path.realpath(final))
        self.path = beside(final, ending)
        self._overwrite = overwrite

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Make a new file, whatever a crash has left there; leave none behind if what happens inside fails."""
        with writing(self.final):
            self.path.unlink(missing_ok=True)
        try:
            yield
        except BaseException:
            self.remove()
            raise

    def flush(self) -> None:
        """Force the content onto the disk."""
        with writing(self.final):
            _flush(self.path)

    def publish(self) -> None:
        """Move the file to its final name, and force the folder's entry onto the disk."""
        with writing(self.final):
            if self.final.exists():
                check_name(self.final, overwrite=self._overwrite)  # another job may have been faster
                self.path.chmod(stat.S_IMODE(self.final.stat().st_mode))
            self.path.replace(self.final)
            flush_folder(self.final)

    def remove(self) -> None:
        """Remove the file, if it is there and can be removed; the next run does without."""
        with suppress(OSError):
            self.path.unlink()


def flush_folder(path: Path) -> None:
    """Force the name of a file onto the disk, where folders can be flushed: some network disks know no such thing."""
    try:
        _flush(path.parent)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def _flush(path: Path) -> None:
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
        hint = _HINTS.get(error.errno or 0, "Check the folder and its permissions.")
        raise OutputError(f"{path}: cannot write: {error.strerror or error}", hint) from error


def in_words(size: int) -> str:
    """Say a number of bytes with at least three digits: ``"1.23 GiB"``."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= scale:
            number = size / scale
            return f"{number:,.0f} {unit}" if number >= 100 else f"{number:.3g} {unit}"
    return f"{size} bytes"
