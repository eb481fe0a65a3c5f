"""Rows go to the disk while a job computes the next ones, and then leave memory, which serves those."""

from __future__ import annotations

import os
import threading

# The system is told of so many bytes at once: a word about less takes as long as to write it.
_BYTES = 2**18
# A shorter piece by itself is no matter of whole pages.
_PIECE_BYTES = 2**16

_CAN_TELL = hasattr(os, "posix_fadvise")  # which macOS lacks

Span = tuple[int, int]


class Writeback:
    """What one process has written to a file and not yet told the system about. Picklable; may be shared by threads.

    A copy in another process begins with nothing.
    """

    def __init__(self) -> None:
        self._fresh: list[Span] = []
        self._told: list[Span] = []
        self._bytes = 0
        self._lock = threading.Lock()

    def add(self, first: int, stop: int) -> None:
        """Take note of bytes ``first:stop``, which were written just now."""
        if not _CAN_TELL:
            return
        with self._lock:
            self._bytes += stop - first
            if self._fresh and self._fresh[-1][1] == first:
                first = self._fresh.pop()[0]
            self._fresh.append((first, stop))

    def tell(self, descriptor: int, *, keep: bool) -> None:
        """Have the system begin to put on the disk what is new, so that less is left to flush at the end.

        And unless `keep`, let go of what it was told of before, which is on the disk by now.
        """
        with self._lock:
            if self._bytes < _BYTES:
                return
            fresh = [(first, stop) for first, stop in self._fresh if stop - first >= _PIECE_BYTES]
            spans = self._told + fresh
            self._fresh, self._told, self._bytes = [], [] if keep else fresh, 0
        for first, stop in spans:
            os.posix_fadvise(descriptor, first, stop - first, os.POSIX_FADV_DONTNEED)

    def __reduce__(self) -> tuple[type[Writeback], tuple[()]]:
        return Writeback, ()
