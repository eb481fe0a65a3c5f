"""Signals that ask a job to stop: heard once, anywhere, and kept off where a step must not be torn apart."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_received: list[int] = []


class Stopped(SystemExit):
    """A signal asked to stop; its exit code is the shell's for that signal, 128 + its number."""


def listen() -> None:
    """Raise `Stopped` in the main thread at the first signal; further ones do not disturb the cleaning up."""
    for number in _STOPPING:
        # What is ignored from the start stays so: nohup, or a job in the background of a script.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def check() -> None:
    """Raise `Stopped` again if the one that the signal raised was swallowed, as in a destructor."""
    if _received:
        raise Stopped(128 + _received[0])


@contextmanager
def held_off() -> Iterator[None]:
    """Let no signal stop what happens inside; one that comes is heard afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_to_parent() -> None:
    """In a worker process: the parent hears what a terminal sends, and ends its workers itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    for other in _STOPPING:
        signal.signal(other, signal.SIG_IGN)
    _received.append(number)
    raise Stopped(128 + number)
