"""Who is told how a job advances; the command line shows it, a test keeps it."""

from __future__ import annotations

from typing import Protocol


class Listener(Protocol):
    """Told what happens while a job runs, always from the thread that runs it."""

    def note(self, text: str) -> None:
        """Something was assumed, or deserves a look."""

    def warn(self, text: str) -> None:
        """Something looks like a mistake."""

    def begin(self, boxes: int) -> None:
        """All is checked, and so many boxes will be pooled."""

    def advance(self, boxes: int) -> None:
        """So many more boxes are done."""


class Silent:
    """A listener for callers who read the report."""

    def note(self, text: str) -> None:
        """Ignore it; the report has it."""

    def begin(self, boxes: int) -> None:
        """Ignore progress."""

    warn, advance = note, begin


class Told:
    """Passes on what the listener of a job is told, and keeps it for the report."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        """Keep a note."""
        self.notes.append(text)
        self._listener.note(text)

    def warn(self, text: str) -> None:
        """Keep a warning."""
        self.warnings.append(text)
        self._listener.warn(text)
