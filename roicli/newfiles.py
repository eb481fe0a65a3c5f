"""Files that roicli writes: hidden beside their final name until they are complete, never through a planted link."""

from __future__ import annotations

import errno
import os
import re
import stat
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from roicli.errors import OutputError
from roicli.stores.path import WRITTEN, StorePath, is_store
from roicli.words import size as in_words

# Names of hidden files beside an output end in these: the file before it is published, what is proved of it, what
# workers of somebody else read; what is made of its rows when all are there, and the folder that it replaces.
PARTIAL, JOURNAL, LOCK, WORK = "partial", "journal", "lock", "work"
GROUPS, ASSEMBLED, REPLACED = "groups", "assembled", "replaced"
# Of an output in a store these lie beside it there, all others in a folder for temporary files.
_IN_STORE = (JOURNAL, LOCK)
# What may be written to a store: a group of Zarr, whose root comes last, and what lies beside it.
_OBJECTS, _ROOT = re.compile(r".+\.zarr(\.\w+\.(csv|json))?", re.IGNORECASE), "zarr.json"

_WRITE_HINTS = dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Free some disk space, or write to another disk.") | {
    errno.EFBIG: "Raise the limit of the size of files (ulimit -f), or write to another disk.",
    errno.ENAMETOOLONG: "Give it a shorter name: hidden files beside it have longer ones.",
}
# What a file system without hard links, or without flushing of folders, answers.
_CANNOT = (errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure of the system into an OutputError that names `path`."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        hint = _WRITE_HINTS.get(error.errno or 0, "Check the folder and its permissions.")
        raise OutputError(f"{path}: cannot write: {error.strerror or error}", hint) from error


def real(path: Path) -> Path:
    """Return the file that a name leads to, links followed, whether it exists or not."""
    return path if is_store(path) else Path(os.path.realpath(path))


def beside(output: Path, ending: str) -> Path:
    """Return the name of a hidden file beside an output; for a symbolic link, beside the file that it leads to."""
    final = real(output)
    if isinstance(final, StorePath) and ending not in _IN_STORE:
        from tempfile import gettempdir  # which few jobs need

        return Path(gettempdir()) / f"roicli-{os.getpid()}-{zlib.crc32(str(final).encode()):08x}.{ending}"
    return final.with_name(f".{final.name}.{ending}")


def final_of(output: Path) -> Path:
    """Return what is there if an output is complete: itself, or in a store the root of its group, which comes last."""
    return output / _ROOT if is_store(output) and output.suffix.lower() == ".zarr" else real(output)


def is_complete(output: Path) -> bool:
    """Whether an output is there, complete."""
    return final_of(output).is_file() if is_store(output) else real(output).exists()


def check_name(path: Path, *, overwrite: bool, is_folder: bool = False) -> None:
    """Refuse a name that cannot or must not be written, of a file or of a folder."""
    if isinstance(path, StorePath):
        if path.address.scheme not in WRITTEN or not path.address.key or not _OBJECTS.fullmatch(path.name):
            raise OutputError(
                f"{path}: of all outputs only .zarr is written to a store, by {', '.join(f'{s}://' for s in WRITTEN)}",
                "Name a .zarr there, such as s3://BUCKET/out.zarr; or a file here, and copy it to the store.",
            )
        if not overwrite and path.exists():
            raise _exists(path)
        return
    folder = (real(path) if path.is_symlink() else path).parent
    if not folder.is_dir():
        raise OutputError(f"{path}: the folder {folder} does not exist", "Make it first, or name another.")
    if real(path).is_symlink():
        raise OutputError(f"{path} is a link that leads to itself", "Remove it, or name another.")
    if path.is_dir() and not is_folder:
        raise OutputError(f"{path} is a folder", "Name a file.")
    if is_folder and path.exists() and not path.is_dir():
        raise OutputError(f"{path} is not a folder", "Name a folder.")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{path}: the folder {folder} is not writable", "Name a folder that is.")
    for file in (*(() if is_folder else (path,)), beside(path, PARTIAL), beside(path, JOURNAL)):
        with writing(path):
            odd = file.exists() and not file.is_file() and not (is_folder and file.is_dir())
        if odd:
            raise OutputError(f"{file} is not a regular file", "Remove it, or name another output.")
    if path.exists() and not overwrite:
        raise _exists(path)


def _exists(path: Path) -> OutputError:
    return OutputError(f"{path} exists", "Give `overwrite` to replace it, or name another output.")


def check_space(path: Path, needed: int) -> None:
    """Refuse an output of `needed` more bytes if the disk of `path` has no room for them."""
    hidden = beside(path, PARTIAL)
    disk = os.statvfs(hidden.parent)
    free = disk.f_bavail * disk.f_frsize
    if needed > free:
        raise OutputError(
            f"{hidden if is_store(path) else path} needs {in_words(needed)}, its disk has {in_words(free)} free",
            'Free some space, name another disk, or write less: `out_dtype="float16"` or `reduce="mean"`.',
        )


def create_file(path: Path, mode: int = 0o666) -> int:
    """Create a file that is not there, and return its descriptor; a link that somebody plants is never followed."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def close_file(descriptor: int) -> None:
    """Close a file. What must last has been flushed before, so a failure changes nothing."""
    with suppress(OSError):
        os.close(descriptor)


def write_all(descriptor: int, data: bytes | bytearray | memoryview, place: int | None = None) -> None:
    """Write bytes at a place, or where the last ones ended."""
    rest = memoryview(data)
    while rest:
        if place is None:
            written = os.write(descriptor, rest)
        else:
            written = os.pwrite(descriptor, rest, place)
            place += written
        rest = rest[written:]


def flush_folder(path: Path) -> None:
    """Force the name of a file onto the disk; some network disks and stores cannot do this, and need not."""
    if is_store(path):
        return
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    finally:
        close_file(descriptor)


class NewFile:
    """A file that appears under its final name only when it is complete.

    Until then it is a hidden file beside that name. A crash leaves the hidden file to the next run.

    `name`: the final name; for a symbolic link, the file that it leads to is written.
    `overwrite`: whether a file that exists is replaced.
    `ending`: what the hidden name ends in.

    Attributes
    ----------
    path, final : Path
        The file before and after it is published.
    """

    def __init__(self, name: Path, *, overwrite: bool, ending: str = PARTIAL) -> None:
        self.name, self.final, self.path = name, real(name), beside(name, ending)
        self._overwrite = overwrite

    def write(self, pieces: Iterable[bytes | memoryview], mode: int = 0o666) -> None:
        """Create the file and flush it; leave nothing behind if that fails."""
        with writing(self.name):
            self.path.unlink(missing_ok=True)
            descriptor = create_file(self.path, mode)
        try:
            with writing(self.name):
                for piece in pieces:
                    write_all(descriptor, piece)
                os.fsync(descriptor)
        except BaseException:
            self.remove()
            raise
        finally:
            close_file(descriptor)

    def publish(self) -> None:
        """Give the file its final name. Another program's file is not replaced unless that was asked for.

        The hidden name may stay: `remove` it when the folder was flushed, or a loss of power may take both.
        """
        if isinstance(self.final, StorePath):
            try:
                self.final.write_as(self.path.read_bytes(), "overwrite" if self._overwrite else "create")
            except FileExistsError:
                raise _exists(self.name) from None
            return
        with writing(self.name):
            if self.final.exists():
                check_name(self.name, overwrite=self._overwrite)
                self.path.chmod(stat.S_IMODE(self.final.stat().st_mode))
            if not self._overwrite:
                try:
                    os.link(self.path, self.final)
                except FileExistsError:
                    check_name(self.name, overwrite=False)
                except OSError as error:
                    if error.errno not in _CANNOT:
                        raise
                else:
                    return
            os.replace(self.path, self.final)  # noqa: PTH105 -- a test of power loss records calls of os

    @property
    def identity(self) -> list[int]:
        """Tell it from others, whatever its name is."""
        return identity(self.path, content=is_store(self.final))

    def remove(self) -> None:
        """Remove what has the hidden name if that is possible; the next run can do without."""
        remove_tree(self.path)


class NewFolder(NewFile):
    """A folder that appears under its final name only when it is complete."""

    def publish(self) -> None:
        """Give the folder its final name; one that is replaced is moved aside first, and removed then."""
        old = beside(self.name, REPLACED)
        with writing(self.name):
            check_name(self.name, overwrite=self._overwrite, is_folder=True)
            remove_tree(old)  # of a run that was killed right here
            if self.final.exists():
                self.final.rename(old)
            self.path.rename(self.final)
        remove_tree(old)


def identity(path: Path, *, content: bool = False) -> list[int]:
    """Return size and time of a file, by which it is known whatever its name is; a copy may keep them.

    An object in a store, and what becomes one, is known by its content.
    """
    if content or is_store(path):
        data = path.read_bytes()
        return [len(data), zlib.crc32(data)]
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def hidden_of(output: Path) -> list[Path]:
    """Return what runs have left beside an output, but for their journal and their lock."""
    found = (beside(output, ending) for ending in (PARTIAL, GROUPS, ASSEMBLED, REPLACED))
    return [path for path in found if os.path.lexists(path)]


def remove_hidden(output: Path) -> None:
    """Remove what runs have left beside an output, as far as that is possible."""
    for path in hidden_of(output):
        remove_tree(path)


def remove_tree(path: Path) -> None:
    """Remove a file, or a folder and all in it, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        from shutil import rmtree  # which a job that makes files need not load

        rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
