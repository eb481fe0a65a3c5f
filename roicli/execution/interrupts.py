"""Signals that ask a job to stop: heard once, anywhere, and kept off where a step must not be torn apart."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Seconds until a signal is heard again that came where nothing can be raised.
_AGAIN = 0.005
_received: list[int] = []
_held = _late = False


class Stopped(SystemExit):
    """A signal asked to stop; its exit code is the shell's for that signal, 128 + its number."""


def listen() -> None:
    """Raise `Stopped` in the main thread at the first signal; further ones do not disturb the cleaning up."""
    for number in _STOPPING:
        # What is ignored from the start stays so: nohup, or a job in the background of a script.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def ignore() -> None:
    """Hear no signal any more: what is left is to leave."""
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)


def check() -> None:
    """Raise `Stopped` again if the one that the signal raised was swallowed, as in a destructor."""
    if _received:
        raise Stopped(128 + _received[0])


@contextmanager
def held_off() -> Iterator[None]:
    """Let no signal stop what happens inside; one that comes is heard afterwards, when no other such block is left."""
    global _held, _late
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*_STOPPING, signal.SIGALRM))
    outer, _held = _held, True
    try:
        yield
    finally:
        _held = outer
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if _late and not outer:
            _late = False
            check()


@contextmanager
def telling() -> Iterator[Callable[[str], None]]:
    """Yield what takes down what there is by now: a signal that stops what happens inside tells it, if nothing else."""
    last = ""

    def tell(text: str) -> None:
        nonlocal last
        last = text

    try:
        yield tell
    except Stopped as stopped:
        if last and not hasattr(stopped, "__notes__"):
            stopped.add_note(last)
        raise


def leave_to_parent() -> None:
    """In a worker process: the parent hears what a terminal sends, and ends its workers itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*_STOPPING, signal.SIGALRM))


def _stop(number: int, frame: FrameType | None) -> None:
    global _late
    ignore()
    if not _received:
        _received.append(number)
    if _held:  # a thread of a library, of BLAS for one, has let through what this one does not
        _late = True
        return
    if _swallows(frame):
        signal.signal(signal.SIGALRM, _stop)
        signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        return
    raise Stopped(128 + _received[0])


def _swallows(frame: FrameType | None) -> bool:
    """Whether Python would only print what is raised here: in a callback of a weak reference or a destructor."""
    while frame is not None:
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        if file.endswith(("weakref.py", "_weakrefset.py")) or name == "__del__":
            return True
        if file.startswith("<frozen importlib") and name == "cb":
            return True
        frame = frame.f_back
    return False
