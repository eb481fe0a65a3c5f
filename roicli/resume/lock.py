"""Who writes an output: a second run onto it is refused, without the file locks that network file systems lack.

A run creates a lock file beside the output, which only one run can do, and touches it while it works (the heartbeat).
A lock file is stale if its process has ended, or if nobody has touched it for ten minutes. A stale lock file is
replaced when everything else has been checked, so a run that is refused changes nothing.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from roicli.errors import OutputError
from roicli.newfiles import LOCK, beside, close_file, create_file, write_all, writing

# A heartbeat comes every few seconds; it may have to wait for a disk, and network file systems show it late.
STALE_SECONDS = 600.0
_LONGEST = 1024


class LostLockError(OutputError):
    """Another run writes the output now; its files are not ours any more."""


class Holder(NamedTuple):
    """What a lock file says."""

    host: str  # the machine of the run
    process: int  # its number, 0 if that is not known
    alive: bool  # whether it still runs, as far as this machine can know
    file: tuple[int, int]  # inode of the lock file, and when it was last changed; numbers of inodes come again


class Lock:
    """The lock of one run on an output.

    `acquire` refuses if another run is alive, `confirm` replaces a stale lock file, and `release` ends it.
    """

    def __init__(self, output: Path) -> None:
        self._output, self._path = output, beside(output, LOCK)
        # Kept open, since the number of its inode is not given to another file as long as it is.
        self._descriptor: int | None = None
        self._stale: Holder | None = None

    def acquire(self) -> None:
        """Create the lock file, unless there is a stale one, which stays until `confirm`.

        Raises OutputError: another run that is alive writes the output.
        """
        with writing(self._output):
            while self._descriptor is None:
                try:
                    self._descriptor = self._create(self._path)
                except FileExistsError:
                    holder = read_lock(self._path)
                    if holder is None:  # it has just gone
                        continue
                    if holder.alive:
                        raise self._refusal(holder) from None
                    self._stale = holder
                    return

    def confirm(self) -> None:
        """Replace a stale lock file, and check that the lock is held; OutputError if another run was faster."""
        if self._descriptor is None:
            with writing(self._output):
                self._replace()
        self.touch()

    def touch(self) -> None:
        """Show others that this run is alive; LostLockError if one has replaced the lock file."""
        with writing(self._output):
            if self._is_ours():
                os.utime(self._path, follow_symlinks=False)
                return
        raise self._lost()

    def release(self) -> None:
        """Remove the lock file if it is still ours."""
        with suppress(OSError):
            if self._is_ours():
                self._path.unlink()
        if self._descriptor is not None:
            close_file(self._descriptor)
            self._descriptor = None

    def _is_ours(self) -> bool:
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._path.lstat())
        except FileNotFoundError:
            return False

    @staticmethod
    def said(**more: str) -> bytes:
        """Return what a lock file of this process says."""
        said = {"host": os.uname().nodename, "machine": _machine(), "process": os.getpid()}
        return json.dumps(said | more).encode()

    def _create(self, path: Path) -> int:
        with suppress(AttributeError, OSError):  # not Linux, or the file system cannot
            return _create_whole(path, self.said())
        descriptor = create_file(path)
        with suppress(OSError):  # on a full disk; then its age alone tells whether it is stale
            write_all(descriptor, self.said())
        return descriptor

    def _replace(self) -> None:
        """Put a lock file of our own in the place of the stale one."""
        assert self._stale is not None
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise self._refusal(None) from None
        try:
            # Of several runs that found the same stale file one may replace it. Where the file system has no such
            # locks, the heartbeat tells the others.
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            holder = read_lock(self._path)
            if holder is None or holder.alive or holder.file != self._stale.file:
                raise self._refusal(holder)
            ours = self._path.with_name(f"{self._path.name}.new")
            with suppress(FileNotFoundError):
                ours.unlink()
            self._descriptor = self._create(ours)
            ours.replace(self._path)
        finally:
            close_file(descriptor)

    def _lost(self) -> LostLockError:
        return LostLockError(
            f"{self._output}: another run has taken over, or {self._path} was removed",
            "Look for a run on another machine. To go on, give the same command with `resume`.",
        )

    def _refusal(self, holder: Holder | None) -> OutputError:
        who = "another run" if holder is None else f"process {holder.process or 'unknown'} of {holder.host}"
        return OutputError(
            f"{self._output} is being written by {who}",
            f"Wait for it or stop it, or name another output. If it is dead, try again in ten minutes, or remove "
            f"{self._path}.",
        )


def _create_whole(path: Path, content: bytes) -> int:
    """Create a file that has no name before its content: whoever is killed meanwhile leaves nothing."""
    descriptor = os.open(path.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
    try:
        write_all(descriptor, content)
        os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor)  # with which it follows the link
    except OSError:
        close_file(descriptor)
        raise
    return descriptor


def read_lock(path: Path) -> Holder | None:
    """Read a lock file; None if there is none.

    Raises OutputError: it is not a regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OutputError(f"{path} is not a regular file", "Remove it.") from error
        if error.errno != errno.EACCES:
            raise
        status, text = path.lstat(), b""  # another user's
    else:
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OutputError(f"{path} is not a regular file", "Remove it.")
            text = os.read(descriptor, _LONGEST)
        finally:
            close_file(descriptor)
    return holder_of(text, status.st_ctime, (status.st_ino, status.st_ctime_ns))


def holder_of(text: bytes, changed: float, file: tuple[int, int] = (0, 0)) -> Holder:
    """Return who holds a lock by what its file says, and when that was last touched."""
    try:
        found = json.loads(text)
        host, machine, process = str(found["host"]), str(found["machine"]), int(found["process"])
    except (ValueError, LookupError, TypeError):
        host, machine, process = "", "", 0
    if not host.isprintable() or not host:
        host = "an unknown host"
    # The time of the inode's last change comes from the file system, and no copy or restored backup can set it.
    alive = time.time() - changed < STALE_SECONDS
    if alive and machine == _machine() and 0 < process < 2**31:
        alive = _runs(process)
    return Holder(host, process, alive, file)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        pass
    return True


def _machine() -> str:
    """Name what a process number is valid in: a machine since its boot, or a container of it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:  # not Linux
        return os.uname().nodename
