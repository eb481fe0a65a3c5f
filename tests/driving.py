"""How tests run roicli: the real command in a process of its own, or a job in this one, which may be torn."""

import fcntl
import gc
import importlib
import os
import pkgutil
import pty
import re
import resource
import struct
import subprocess
import sys
import tempfile
import termios
import time
import traceback
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

import roicli
from roicli.__main__ import main
from roicli.execution.worker import Pooler
from roicli.jobs.align import align
from roicli.newfiles import NewFile
from roicli.pooling.kernels.blas import blas_kernel
from roicli.resume import checkpoints
from roicli.resume.journal import Journal, checksum
from roicli.resume.session import Session

ROICLI = Path(sys.executable).with_name("roicli")


def run(folder, *arguments, expect=0, fresh=False, limits=(), **environment):
    """Run the command in `folder`; its exit code must be `expect`, if that is given.

    It runs in a fork of this process, which saves the start of Python: 20 ms instead of 170. `fresh` starts it anew,
    for what is decided by then, as the kernel of BLAS. COLUMNS of who runs the tests do not count. `limits` are
    those of `resource`, as (which, most).
    """
    words = list(map(str, arguments))
    if fresh or sys.platform != "linux":
        known = os.environ | {"COLUMNS": ""} | environment
        done = subprocess.run(
            [ROICLI, *words],
            cwd=folder, env=known, capture_output=True, text=True, check=False, preexec_fn=lambda: _limit(limits),
        )  # fmt: skip
    else:
        done = _run_in_fork(folder, words, environment, limits)
    assert expect in (None, done.returncode), done.stderr
    assert "Traceback" not in done.stderr
    return done


def run_on_terminal(folder, columns, *arguments, **environment):
    """Run the command in `folder` on a terminal so wide; return what it shows, colors and bold aside."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("4H", 40, columns, 0, 0))
    child = _fork(folder, list(map(str, arguments)), {"TERM": "xterm"} | environment, its, its, its)
    os.close(its)
    shown = b""
    with suppress(OSError):  # Linux's way to say that nobody writes any more
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    os.waitpid(child, 0)
    return re.sub(r"\x1b\[[\d;]*m", "", shown.decode()).replace("\r\n", "\n")


def _limit(limits):
    for which, most in limits:
        resource.setrlimit(which, (most, most))


def _run_in_fork(folder, words, environment, limits):
    with (
        open(os.devnull) as nothing,  # noqa: PTH123
        tempfile.TemporaryFile("w+", encoding="utf-8") as output,
        tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
    ):
        child = _fork(folder, words, environment, nothing.fileno(), output.fileno(), errors.fileno(), limits=limits)
        _, status = os.waitpid(child, 0)
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(words, os.waitstatus_to_exitcode(status), output.read(), errors.read())


def _fork(folder, words, environment, *streams, limits=()):
    """Start a fork that is the command; return its process id."""
    _load_all()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.environ.update({"COLUMNS": ""} | environment)
            os.chdir(folder)
            _limit(limits)
            code = _be_the_command(words, streams)
        finally:
            os._exit(code)
    return child


@cache
def _load_all():
    """Load what commands load when they need it, or every fork would have to."""
    for module in pkgutil.walk_packages(roicli.__path__, "roicli."):
        if not module.name.endswith(".compiled"):  # needs Numba
            importlib.import_module(module.name)
    blas_kernel()
    gc.freeze()  # or looking for garbage copies these pages in every fork


def _be_the_command(words, streams):
    """Do what the command does after the start of Python; return its exit code."""
    for number, (stream, mode) in enumerate(zip(streams, "rww", strict=True)):
        os.dup2(stream, number)
        opened = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
        for name in (("stdin", "stdout", "stderr")[number], ("__stdin__", "__stdout__", "__stderr__")[number]):
            setattr(sys, name, opened)
    sys.argv = ["roicli", *words]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


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
    """Run a job that is killed after so many of its files have got their final names."""
    left, publish = iter(range(moves)), NewFile.publish

    def torn(self):
        if next(left, None) is None:
            raise Torn
        publish(self)

    def killed(*_, **__):
        raise Torn

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_PAUSE", 60)  # so that no more rows are proved before all are
        patch.setattr(NewFile, "publish", torn)
        patch.setattr(Journal, "remove", killed)
        patch.setattr(Session, "_give_up", lambda *_, **__: None)  # a killed process does not clean up
        with pytest.raises(Torn):
            align(job, Silent())


def content(path):
    """Return the bytes of a file, or of all files of a folder by name."""
    if path.is_file():
        return path.read_bytes()
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def files_in(folder, *inputs):
    """Content of all files but `inputs` by name, hidden ones too, but for journals that prove complete outputs."""
    found = {path.name: content(path) for path in folder.iterdir() if path.name not in inputs}
    for journal in [name for name in found if name.endswith(".journal")]:
        output = journal[1:].removesuffix(".journal")
        if output in found and f".{output}.partial" not in found and b'"publishing"' in found[journal]:
            del found[journal]
    return found


def without_locks(files):
    """All but the lock files that killed runs leave until the next run."""
    return {name: content for name, content in files.items() if not name.endswith(".lock")}


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
