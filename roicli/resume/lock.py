"""Who writes an output: a second run onto it is refused, without the file locks that network file systems lack.

Every run lays a file of its own beside the output, whose name says who it is, and then looks at the claims of all
others. If one of them is alive, it withdraws. Of two runs that begin at once, the one that looks last sees the other,
so that never both go on. No claim of a living run is ever touched by another one, and the claim of a dead run needs no
lock to be removed.
"""

from __future__ import annotations

import os
import re
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from roicli.errors import OutputError
from roicli.resume.partial import beside, writing

# A claim from another machine that was not touched for so long is dead. Runs touch theirs every few seconds, but may
# have to wait for a disk, and network file systems show a time of modification late.
_SILENT_SECONDS = 60.0
_TRIES = 5


class Owner(NamedTuple):
    """A process: the machine as it was booted, its number, and when it started, since numbers come again."""

    machine: str
    pid: int
    start: int

    @classmethod
    def this(cls) -> Owner:
        """Return this process."""
        return cls(_machine(), os.getpid(), _start(os.getpid()) or 0)

    @classmethod
    def of(cls, claim: Path) -> Owner:
        """Read an owner from the name of its claim."""
        machine, pid, start = claim.name.rsplit(".", 2)[1].split("-")
        return cls(machine, int(pid), int(start))

    @property
    def ending(self) -> str:
        """What the name of its claim ends in."""
        return f"{self.machine}-{self.pid}-{self.start}.claim"


class Claim:
    """One run's claim to an output, from `take` to `release`."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._final = Path(os.path.realpath(output))
        self._owner = Owner.this()
        self._path = beside(self._final, self._owner.ending)

    def take(self) -> None:
        """Claim the output for this run.

        Raises
        ------
        OutputError
            Another run that is alive writes it.
        """
        for _ in range(_TRIES):
            self._refuse_if_alive(self._others())
            self._lay()
            others = self._others()
            if not any(self._is_alive(claim) for claim in others):
                for claim in others:
                    with suppress(OSError):  # another user's, perhaps
                        claim.unlink()
                return
            self.release()  # both began at once: the one that waits less goes first
            time.sleep(0.01 + 0.1 * os.urandom(1)[0] / 255)
        self._refuse_if_alive(self._others())
        raise OutputError(f"{self._output} is claimed by other runs again and again", "Start one run only.")

    def beat(self) -> None:
        """Show other machines that this run is alive; OutputError if one took it for dead."""
        with writing(self._output):
            try:
                os.utime(self._path)
            except FileNotFoundError:
                raise LostClaimError(
                    f"{self._output}: another run has taken over, since this one was silent for long",
                    "Look for a run on another machine.",
                ) from None

    def release(self) -> None:
        """Give the output free; a claim that cannot be removed is that of a dead run soon."""
        with suppress(OSError):
            self._path.unlink()

    def _lay(self) -> None:
        with writing(self._output):
            try:
                descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                raise OutputError(
                    f"{self._output} is being written by this process already", "Give each file a name of its own."
                ) from None
            try:
                with suppress(OSError):  # for the message only; what comes next tells of a full disk, and cleans up
                    os.write(descriptor, os.uname().nodename.encode())
            finally:
                os.close(descriptor)

    def _others(self) -> list[Path]:
        pattern = re.compile(re.escape(f".{self._final.name}.") + r"[0-9a-f]{8,40}-[0-9]{1,10}-[0-9]{1,20}\.claim")
        with writing(self._output), os.scandir(self._final.parent) as entries:
            names = [entry.name for entry in entries if pattern.fullmatch(entry.name)]
        return [self._final.with_name(name) for name in sorted(names) if name != self._path.name]

    def _refuse_if_alive(self, claims: list[Path]) -> None:
        for claim in claims:
            if self._is_alive(claim):
                owner = Owner.of(claim)
                raise OutputError(
                    f"{self._output} is being written by process {owner.pid} of {_host(claim)}",
                    "Wait for it or stop it, or name another output."
                    if owner.machine == self._owner.machine
                    else f"If it is dead, try again in {_SILENT_SECONDS:.0f} seconds; or name another output.",
                )

    def _is_alive(self, claim: Path) -> bool:
        return is_alive(claim, lambda: _now(self._final))


class LostClaimError(OutputError):
    """Another run writes the output now; its files are not ours any more."""


def is_alive(claim: Path, clock: Callable[[], float]) -> bool:
    """Tell whether the run that laid a claim still goes on.

    Of one on another machine only the claim's age tells, by `clock`, which is best that of the claim's file system.
    """
    owner, this = Owner.of(claim), Owner.this()
    if owner.machine == this.machine:
        return owner.start == (this.start if owner.pid == this.pid else _start(owner.pid))
    try:
        return clock() - claim.stat().st_mtime < _SILENT_SECONDS
    except FileNotFoundError:
        return False


def _now(final: Path) -> float:
    """Time by the clock of the file system, which a server keeps: that of a file made just now."""
    probe = beside(final, f"{os.getpid()}.clock")
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _host(claim: Path) -> str:
    try:
        with claim.open("rb") as file:
            name = file.read(256).decode("ascii", "backslashreplace")
    except OSError:
        name = ""
    return name if name.isprintable() and name else "an unknown host"


def _machine() -> str:
    """Name, in hexadecimal, what a process number is valid in: a machine since its boot, or a container of it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").replace("-", "")[:12]
        return f"{int(boot, 16):012x}{Path('/proc/self/ns/pid').stat().st_ino:x}"
    except (OSError, ValueError):  # not Linux
        return f"{zlib.crc32(os.uname().nodename.encode()):08x}"


def _start(pid: int) -> int | None:
    """Return when a process started, 0 where the system does not tell; None if there is none."""
    try:
        # The name of the program, in parentheses, may hold spaces; what follows does not.
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else int(fields[19])
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # another user's
    return 0
