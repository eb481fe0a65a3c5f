"""Signals that ask a job to stop: each raises KeyboardInterrupt, which the command line catches once.

A job survives SIGKILL at any instant, so a stop that cleans up is a courtesy: it tells how far the job came.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Seconds in which further signals do not disturb the cleaning up: timeout(1) sends two, impatient users more.
_DEAF = 2.0
_last = float("-inf")
_received: int | None = None
_held_off = 0


def listen() -> None:
    """Raise KeyboardInterrupt in the main thread at SIGINT, SIGTERM and SIGHUP, with the number of the signal."""
    for number in _STOPPING:
        # What is ignored from the start stays so: nohup, or a job in the background of a script.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def check() -> None:
    """Raise it again: Python only prints what is raised in a destructor or a callback, and goes on."""
    if _received is not None:
        raise KeyboardInterrupt(_received)


def exit_code(stopped: KeyboardInterrupt) -> int:
    """Return the exit code that shells give to a process which that signal ended."""
    return 128 + (stopped.args[0] if stopped.args else signal.SIGINT)


@contextmanager
def held_off() -> Iterator[None]:
    """Hear signals after what happens inside; a thread or process that starts there does not hear them either."""
    global _held_off
    # Another thread, such as one of zarr, may take a signal for the main one, which is blocked.
    main = threading.current_thread() is threading.main_thread()
    last, before = _last, signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    _held_off += main
    try:
        yield
    finally:
        _held_off -= main
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if main and not _held_off and _last != last:
            check()


def leave_to_parent() -> None:
    """In a worker process: the parent hears what a terminal sends, and ends its workers itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)


def _stop(number: int, frame: FrameType | None) -> None:
    global _last, _received
    if (now := time.monotonic()) - _last > _DEAF:
        _last, _received = now, number
        if not _held_off:
            raise KeyboardInterrupt(number)
