"""Keeps the journal of a running job: rows are flushed first, then the journal says that they are done."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from roicli.errors import OutputError
from roicli.interrupts import held_off
from roicli.outputs.rowfile import RowFile
from roicli.progress import Progress
from roicli.resume.journal import Journal
from roicli.resume.lock import LostLockError

# Seconds between two checkpoints: more where flushing is slow, which may take a fifth of the time at most.
_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


class Checkpoints:
    """Checkpoints of a running job, made by a thread of its own, so that nobody else waits for the disk.

    `journal`: where they are written.
    `rows`: what workers write.
    `heartbeat`: shows other runs that this one is alive; LostLockError if another has taken over.
    `before`: rows that the journal proves already.
    """

    def __init__(self, journal: Journal, rows: RowFile, heartbeat: Callable[[], None], before: int) -> None:
        self._journal, self._rows, self._heartbeat = journal, rows, heartbeat
        self._proved = before
        self._finished: deque[Progress] = deque()
        self._failure: Exception | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        rows.open()  # before any row is written: a descriptor tells only of failures that come later

    def begin(self) -> None:
        """Start the thread; the process must not fork any more."""
        with held_off():  # the thread inherits that, so signals wake the main thread
            thread = threading.Thread(target=self._keep, daemon=True)
            thread.start()
            self._thread = thread

    def add(self, done: Progress) -> None:
        """Note rows that were written; raises what went wrong meanwhile."""
        self._finished.append(done)
        self._raise()

    def stop(self) -> None:
        """End the thread; raises what went wrong meanwhile."""
        self._end()
        self._raise()

    def save(self) -> int | None:
        """After a failure, make a last checkpoint and return how many rows are proved.

        None if another run has taken over, whose files must be left alone.
        """
        self._end()
        if self._failure is None:
            with suppress(OutputError):  # why the job fails is known already; the earlier checkpoints hold
                self._checkpoint()
        return None if isinstance(self._failure, LostLockError) else self._proved

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _end(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            with held_off():  # or Python takes it as ended when a signal comes, though it may be at its last flush
                self._thread.join()

    def _keep(self) -> None:
        pause = _PAUSE
        try:
            while not self._stopping.wait(pause):
                began = time.monotonic()
                self._heartbeat()
                self._checkpoint()
                pause = min(max(_PAUSE, 4 * (time.monotonic() - began)), _LONGEST_PAUSE)
        except Exception as error:  # raised in the main thread; after a failed flush nothing more is proved
            self._failure = error

    def _checkpoint(self) -> None:
        parts = [self._finished.popleft() for _ in range(len(self._finished))]
        if parts:
            done = Progress.sum(parts)
            self._rows.flush()
            self._journal.add(done)
            self._journal.flush()
            self._proved += done.rows
