"""Every way in which roicli refuses, one class each.

An error says what is wrong (`message`, naming the file and the row or dataset) and what to do (`hint`). Each kind is
also a ValueError, an OSError or a RuntimeError, so that Python callers can catch it either way. The command line
turns any of them into one message and `exit_code`.
"""

from __future__ import annotations


class RoicliError(Exception):
    """Base of all errors that roicli raises on purpose."""

    exit_code = 3

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[type[RoicliError], tuple[str, str]]:
        # OSError's own reduction would drop the hint on the way back from a worker process.
        return type(self), (self.message, self.hint)


class UsageError(RoicliError, ValueError):
    """Options or arguments that do not go together."""

    exit_code = 2


class FeatureError(RoicliError, ValueError):
    """A feature file or array whose content cannot be pooled: wrong rank, dtype, shape, layout."""


class BoxError(RoicliError, ValueError):
    """Boxes that cannot be used: malformed file, missing column, NaN, inverted, no such image."""


class FileError(RoicliError, OSError):
    """A file that cannot be opened or read: missing, truncated, not of the format that its name says."""


class ChangedInputError(FileError):
    """An input was written to or replaced while the job ran: rows would be of the old one, the new one, or neither."""


class OutputError(RoicliError, OSError):
    """An output that cannot be written: it exists, its folder does not, its disk is full."""


class WorkerError(RoicliError, RuntimeError):
    """A worker that died before its work was done."""
