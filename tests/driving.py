"""How tests run roicli: the real command in a process of its own, or a job in this one, which may be torn."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

import pytest

from roicli.execution.worker import Pooler
from roicli.jobs.align import align
from roicli.resume import checkpoints
from roicli.resume.journal import Journal, checksum
from roicli.resume.partial import ROWS, Partial
from roicli.resume.session import Outputs

ROICLI = Path(sys.executable).with_name("roicli")


def run(folder, *arguments, expect=0, **more):
    """Run the command in `folder`; its exit code must be `expect`."""
    command = [ROICLI, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, **more)
    assert done.returncode == expect, done.stderr
    assert "Traceback" not in done.stderr
    return done


def run_on_terminal(folder, columns, *arguments, **environment):
    """Run the command in `folder` on a terminal so wide; return what it shows, colours and bold aside."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("4H", 40, columns, 0, 0))
    # TERM is what most terminals say, and no COLUMNS of who runs the tests counts.
    known = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | {"TERM": "xterm"} | environment
    command = [ROICLI, *map(str, arguments)]
    with subprocess.Popen(command, cwd=folder, stdin=its, stdout=its, stderr=its, env=known):
        os.close(its)
        shown = b""
        with suppress(OSError):  # Linux's way to say that nobody writes any more
            while part := os.read(ours, 4096):
                shown += part
    os.close(ours)
    return re.sub(r"\x1b\[[\d;]*m", "", shown.decode()).replace("\r\n", "\n")


def wait_until(holds):
    """Return what comes to hold in a reasonable time, or else something false."""
    for _ in range(20_000):
        if found := holds():
            return found
        time.sleep(0.0005)
    return False


class Silent:
    """A listener that keeps what it is told."""

    def __init__(self):
        self.notes = []
        self.warnings = []

    def note(self, text):
        self.notes.append(text)

    def warn(self, text):
        self.warnings.append(text)

    def begin(self, boxes):
        pass

    def advance(self, boxes):
        pass


class Torn(BaseException):
    """What a test raises where it interrupts a job."""


def interrupt(monkeypatch, job, tasks=4):
    """Run a job that is torn after so many tasks; return what it noted."""
    pool, left = Pooler.pool, iter(range(tasks))

    def torn(self, task):
        if next(left, None) is None:
            raise Torn
        return pool(self, task)

    with monkeypatch.context() as patch:
        patch.setattr(Pooler, "pool", torn)
        with pytest.raises(Torn) as caught:
            align(job, Silent())
    return getattr(caught.value, "__notes__", [])


def kill_while_publishing(monkeypatch, job, moves):
    """Run a job that is killed after so many of the moves that let its files appear; what waited for them stays."""
    left, move, remove = iter(range(moves)), Path.replace, Partial.remove

    def torn(self, target):
        if next(left, None) is None:
            raise Torn
        return move(self, target)

    def not_removed(self):
        if isinstance(self, Journal) or self.path.name.endswith(ROWS):
            raise Torn
        remove(self)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_PAUSE", 60)  # so that no more rows are proved before all are
        patch.setattr(Path, "replace", torn)
        patch.setattr(Journal, "remove", not_removed)
        patch.setattr(Partial, "remove", not_removed)
        patch.setattr(Outputs, "give_up", lambda *_, **__: None)  # a killed process does not clean up
        with pytest.raises(Torn):
            align(job, Silent())


def files_in(folder, *inputs):
    """Content of all files but `inputs` by name, hidden ones too, but for journals that prove complete outputs."""
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in inputs}
    for journal in [name for name in found if name.endswith(".journal")]:
        output = journal[1:].removesuffix(".journal")
        rows = {f".{output}.partial", f".{output}.rows.partial"}
        if output in found and not rows & found.keys() and b'"publishing"' in found[journal]:
            del found[journal]
    return found


def without_claims(files):
    """All but the claims that killed runs leave until somebody lays claim to the same file."""
    return {name: content for name, content in files.items() if not name.endswith(".claim")}


def lines_of(journal):
    """Lines of a journal without their checksums."""
    return [line.partition(b" ")[2].decode() for line in journal.read_bytes().splitlines()]


def write_journal(journal, *lines):
    """Write lines with checksums that fit."""
    last, text = b"", b""
    for line in lines:
        last = checksum(line.encode() + b"\n", last)
        text += last + b" " + line.encode() + b"\n"
    journal.write_bytes(text)
