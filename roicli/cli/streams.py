"""Standard streams of the process: whatever has become of them, they must not harm a job."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Forgiving(io.FileIO):
    """A file that drops what it cannot take: a full disk, a closed terminal, a pipe that nobody reads."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data) or memoryview(data).nbytes
        except OSError:
            return memoryview(data).nbytes


def prepare_streams() -> None:
    """Keep notes that cannot be told from ending a job, and files of a job from being taken for a stream."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # the next file to be opened would get this number, and what libraries print would go there
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if isinstance(sys.stdout, io.TextIOWrapper):  # an id that a terminal cannot show must not end a job
        sys.stdout.reconfigure(errors="backslashreplace")
    error = sys.stderr
    if error is sys.__stderr__ and error is not None:  # a caller's own is left alone
        raw = _Forgiving(error.fileno(), "w", closefd=False)
        sys.stderr = io.TextIOWrapper(io.BufferedWriter(raw), error.encoding, "backslashreplace", line_buffering=True)
