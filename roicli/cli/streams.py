"""Standard streams of the process: a stream that is closed or full must not harm a job."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STDOUT = "standard output"


class _Forgiving(io.FileIO):
    """A file that drops what cannot be written: to a full disk, a closed terminal, a pipe without a reader."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data) or memoryview(data).nbytes
        except OSError:
            return memoryview(data).nbytes


class _Named(io.FileIO):
    """A file that names standard output in its errors."""

    def write(self, data: ReadableBuffer, /) -> int | None:  # type: ignore[override]  # None as FileIO has it
        try:
            return super().write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, STDOUT) from error


def prepare_streams() -> None:
    """Let no note that cannot be written end a job, and no file of a job take the place of a closed stream."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # the next open file would get this number, and libraries would print into it
            # Standard output that is lost must raise an error, so this descriptor takes no writes.
            mode = os.O_RDONLY if number == 1 else os.O_RDWR
            os.set_inheritable(os.open(os.devnull, mode), True)
    # Leave a caller's own streams alone. An id that a terminal cannot show must not end a job.
    output, error = sys.stdout, sys.stderr
    if output is sys.__stdout__:
        encoding, on_screen = ("utf-8", False) if output is None else (output.encoding, output.line_buffering)
        named = io.BufferedWriter(_Named(1, "w", closefd=False))
        sys.stdout = io.TextIOWrapper(named, encoding, "backslashreplace", line_buffering=on_screen)
    if error is sys.__stderr__ and error is not None:
        raw = _Forgiving(error.fileno(), "w", closefd=False)
        sys.stderr = io.TextIOWrapper(io.BufferedWriter(raw), error.encoding, "backslashreplace", line_buffering=True)
