"""Ask a child process, where a library may hang or die over a damaged file: then the child dies, and the file is named.

One child serves a process. It begins with the first question, answers one after the other, and ends with its parent.
Questions and answers are plain data: JSON, and one array beside it.
"""

from __future__ import annotations

import gc
import io
import json
import math
import os
import signal
import sys
import threading
import warnings
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli import errors
from roicli.errors import FileError, RoicliError
from roicli.files import COPY_AGAIN, Stamp, printable
from roicli.interrupts import held_off
from roicli.stores.file import read_at
from roicli.stores.path import is_store

# A question may take so many seconds of CPU, which grow with the file: no honest file needs more. A slow disk does not
# count. Memory is what the child may take beside what it has at its start.
_SECONDS, _BYTES_A_SECOND = 3.0, 2**21
_MEMORY = 160 * 2**20
_LENGTH = 8


class Answer(NamedTuple):
    """What a function that runs in the child returns.

    Attributes
    ----------
    value : object
        Anything that JSON can hold.
    data : array, optional
        Numbers that go beside it as they are.
    """

    value: Any
    data: NDArray[Any] | None = None


class _Unread(Exception):
    """Bytes that the child asked for could not be read."""


class _Object(io.RawIOBase):
    """In the child, an object that its parent reads for it."""

    def __init__(self, questions: int, answers: int, name: str, stamp: Stamp) -> None:
        self._questions, self._answers, self.name, self.stamp, self._at = questions, answers, name, stamp, 0

    def __repr__(self) -> str:
        return self.name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self.stamp.size)[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        size = max(0, min(view.nbytes, self.stamp.size - self._at))
        _send(self._answers, json.dumps(["bytes", size, self._at]).encode())
        view[:size] = _read(self._questions)
        self._at += size
        return size


class _Child(NamedTuple):
    pid: int
    questions: int
    answers: int


_child: _Child | None = None
_object: _Object | None = None
_lock = threading.RLock()


def ask(function: str, path: Path, *arguments: Any, memory: int = 0) -> Answer:
    """Run a function on a file in the child.

    Parameters
    ----------
    function : str
        "module:name" of a function that returns an `Answer`. It takes the path as text, and the arguments.
    path : Path
        The file.
    *arguments
        Anything that JSON can hold.
    memory : int
        Bytes that the answer needs, beside what any answer may take.

    Raises
    ------
    RoicliError
        What the function raised, or that the child died over the file or came to no end.
    """
    stored: Any = path.open("rb") if is_store(path) else None
    try:
        status = path.stat()
        size = min(status.st_size, status.st_blocks * 512)  # not the holes of a sparse file
    except OSError:
        size = 0
    limits = [_SECONDS + (size + memory) / _BYTES_A_SECOND, _MEMORY + 4 * size + 3 * memory]
    with suppress(OSError):
        folder = os.getcwd()  # noqa: PTH109 (a path as text)
    question = json.dumps([function, limits, folder, stored and stored.stamp, str(path), *arguments]).encode()
    with _lock:
        child = _start()
        try:
            _send(child.questions, question)
            kind, *said = json.loads(_read(child.answers))
            while kind == "bytes":  # of an object, which the child does not reach
                _send(child.questions, _read_for_child(stored, *said))
                kind, *said = json.loads(_read(child.answers))
            data = _read_array(child.answers, *said[1]) if kind == "value" and said[1] else None
        except _Unread as error:
            stop()
            raise error.args[0] from None
        except (OSError, EOFError, ValueError, TypeError, MemoryError) as error:
            raise _death(path, limits[0]) from error
        except BaseException:
            stop()  # its answer would be taken for that of the next question
            raise
    if kind == "value":
        return Answer(said[0], data)
    raise remake(*said)


def source(path: str) -> Any:
    """Return what the running function opens: its path, or the object that it stands for."""
    return path if _object is None else _object


def _read_for_child(stored: Any, size: int, start: int) -> bytes:
    try:
        data = read_at(stored, size, start)
    except RoicliError as error:
        raise _Unread(error) from error
    if len(data) != size:
        raise EOFError("the object ends too early")
    return data


def start(module: str) -> None:
    """Start the child, and let it load the module that will answer, while this process does other things."""
    with _lock:
        _start(module)


def stop() -> None:
    """End the child; the next question starts another."""
    global _child
    with _lock:
        child, _child = _child, None
        if child is not None:
            os.close(child.questions)
            os.close(child.answers)
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(child.pid, 0)


def grant(seconds: float) -> None:
    """Allow the running function so many more seconds; for work that the size of its file does not show."""
    left, _ = signal.getitimer(signal.ITIMER_PROF)
    if left:
        signal.setitimer(signal.ITIMER_PROF, left + seconds)


def can_fork() -> bool:
    """Whether this process may fork: other threads might hold locks for ever in the fork, which has everything loaded.

    Those of zarr hold none: they work while its caller waits, and it leaves them behind in a fork.
    """
    asyncio = sys.modules.get("asyncio")
    # Threads called "asyncio_0" belong to the loop of zarr, unless this thread runs one.
    of_zarr = ("zarr_",) if asyncio is None or asyncio._get_running_loop() else ("zarr_", "asyncio_")
    others = [thread for thread in threading.enumerate() if not thread.name.startswith(of_zarr)]
    return sys.platform == "linux" and others == [threading.current_thread()]


def _start(module: str = "") -> _Child:
    global _child
    if _child is None:
        with held_off():  # or what modules do after a fork would be where a signal is raised, and lost
            _child = _make(module)
    return _child


def _make(module: str) -> _Child:
    theirs, questions = os.pipe()
    answers, ours = os.pipe()
    if can_fork() or (sys.platform == "linux" and _is_worker()):  # whose threads hold no locks
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of the threads of BLAS
            pid = os.fork()
        if not pid:
            try:
                os.close(questions)
                os.close(answers)
                serve(theirs, ours, module)
            finally:
                os._exit(0)
    else:
        pid = _spawn(theirs, ours, module)
    os.close(theirs)
    os.close(ours)
    return _Child(pid, questions, answers)


def _is_worker() -> bool:
    processes = sys.modules.get("multiprocessing.process")
    return processes is not None and processes.parent_process() is not None


def _spawn(questions: int, answers: int, module: str) -> int:
    import subprocess

    called = f"serve({questions}, {answers}, {module!r})"
    code = f"import sys; sys.path[:] = {sys.path!r}; from roicli.child import serve; {called}"
    process = subprocess.Popen([sys.executable, "-I", "-c", code], pass_fds=(questions, answers))
    process.returncode = 0  # it is waited for by `stop`
    return process.pid


def _after_fork() -> None:
    """Leave the child to the process that started it."""
    global _child, _lock
    child, _child, _lock = _child, None, threading.RLock()
    if child is not None:
        os.close(child.questions)
        os.close(child.answers)


os.register_at_fork(after_in_child=_after_fork)


def _death(path: Path, seconds: float) -> RoicliError:
    """Make the error for a child that died over a file."""
    global _child
    child, _child = _child, None
    status = 0
    if child is not None:
        os.close(child.questions)
        os.close(child.answers)
        with suppress(ChildProcessError):
            status = os.waitpid(child.pid, 0)[1]
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    where = printable(str(path))
    if number == signal.SIGKILL:
        return FileError(f"{where} cannot be read: its reader was killed", "Free some memory, and run it again.")
    what = f"takes more than {seconds:.3g} s to open" if number == signal.SIGPROF else "makes its library crash"
    return FileError(f"{where} is damaged: it {what}", COPY_AGAIN)


def remake(name: str, message: str, hint: str) -> RoicliError:
    """Make an error again that the child has answered with."""
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, RoicliError)):
        kind = FileError
    return kind(message, hint)


def serve(questions: int, answers: int, module: str = "") -> None:
    """Load a module, and answer questions until there is nobody to ask them."""
    global _object
    _settle(questions, answers)
    if module:
        with suppress(ImportError):  # said with the first answer
            import_module(module)
    with suppress(OSError, EOFError):
        while True:
            where, (seconds, memory), folder, stamp, path, *arguments = json.loads(_read(questions))
            _object = _Object(questions, answers, path, Stamp(*stamp)) if stamp else None
            answering, _, name = where.partition(":")
            function = getattr(import_module(answering), name)
            _limit(memory)
            signal.setitimer(signal.ITIMER_PROF, seconds)
            data = None
            try:
                with suppress(OSError):
                    os.chdir(folder)
                value, data = function(path, *arguments)
                head = None if data is None else [data.dtype.str, list(data.shape)]
                text = json.dumps(["value", value, head])
            except RoicliError as error:
                text = json.dumps(["error", type(error).__name__, error.message, error.hint])
            except Exception as error:
                reason = f"{type(error).__name__}: {str(error)[:200]}"
                text = json.dumps(["error", "FileError", f"{printable(path)} cannot be read: {reason}", COPY_AGAIN])
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            _send(answers, text.encode())
            if data is not None:
                _write(answers, np.ascontiguousarray(data).reshape(-1).view(np.uint8))
                del data, value


def _settle(questions: int, answers: int) -> None:
    """Make this process the child: it hears its parent only, and holds open nothing of it."""
    import resource

    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if "faulthandler" in sys.modules:
        import faulthandler

        faulthandler.disable()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    low, high = sorted((questions, answers))
    for first, stop in ((3, low), (low + 1, high), (high + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])):
        os.closerange(first, stop)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    gc.freeze()


def _limit(memory: int) -> None:
    """Let this process have so much more memory than it has."""
    import resource

    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:  # not Linux, which alone keeps to the limit
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    wanted = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))


def _send(descriptor: int, data: bytes) -> None:
    _write(descriptor, len(data).to_bytes(_LENGTH, "little"), data)


def _write(descriptor: int, *parts: Any) -> None:
    for part in parts:
        view = memoryview(part)
        while view.nbytes:
            view = view[os.write(descriptor, view) :]


def _read(descriptor: int) -> bytes:
    head = np.empty(_LENGTH, np.uint8)
    _fill(descriptor, head)
    text = np.empty(int.from_bytes(head.tobytes(), "little"), np.uint8)
    _fill(descriptor, text)
    return text.tobytes()


def _read_array(descriptor: int, dtype: str, shape: list[int]) -> NDArray[Any]:
    array = np.empty(math.prod(shape), np.dtype(dtype))
    _fill(descriptor, array.view(np.uint8))
    return array.reshape(shape)


def _fill(descriptor: int, out: NDArray[np.uint8]) -> None:
    view = out.data
    while view.nbytes:
        if not (count := os.readv(descriptor, [view])):
            raise EOFError("the other end is gone")
        view = view[count:]
