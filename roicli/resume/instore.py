"""The lock and the journal of an output in a store: objects beside it, each written as a whole.

The store creates a lock only where there is none, and replaces only the one that a run has seen. So of several runs on
any machines one writes. The journal proves shards, which are objects too; no run needs anything of an earlier one's
machine.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from roicli.errors import FileError, OutputError
from roicli.newfiles import LOCK, beside
from roicli.outputs.rowfile import RowFile
from roicli.progress import Progress
from roicli.resume.history import EarlierRun
from roicli.resume.journal import Journal, checksum, done_line, first_line, journal_path
from roicli.resume.lock import Holder, Lock, holder_of, read_lock
from roicli.stores import requests
from roicli.stores.path import StorePath, is_store

# Seconds between two heartbeats, each of which is a request that costs.
_BEAT = 60.0


class StoreLock(Lock):
    """The lock of one run on an output in a store; see `Lock`."""

    def __init__(self, output: StorePath) -> None:
        super().__init__(output)
        self._at = StorePath(beside(output, LOCK))
        self._text = self.said(run=os.urandom(8).hex())
        self._seen: Any = "create"  # the version of the object that ours replaces
        self._touched = float("-inf")

    def acquire(self) -> None:
        """See `Lock`."""
        while self._seen == "create":
            try:
                self._write()
            except FileExistsError:
                text, meta = requests.content_of(self._at.address)
                if text is None:  # it has just gone
                    continue
                holder = holder_of(text, meta["last_modified"].timestamp())
                if holder.alive:
                    raise self._refusal(holder) from None
                self._seen = _version(meta)

    def confirm(self) -> None:
        """See `Lock`."""
        if self._touched < 0:
            try:
                self._write()
            except FileExistsError:
                raise self._refusal(None) from None
        self.touch()

    def touch(self) -> None:
        """See `Lock`; once a minute."""
        if time.monotonic() - self._touched > _BEAT:
            try:
                self._write()
            except FileExistsError:
                raise self._lost() from None

    def release(self) -> None:
        """Remove the lock if it is still ours."""
        with suppress(FileError, OutputError):
            if requests.content_of(self._at.address)[0] == self._text:
                self._at.unlink()

    def _write(self) -> None:
        self._seen = _version(self._at.write_as(self._text, self._seen))
        self._touched = time.monotonic()


def _version(meta: Any) -> dict[str, str]:
    return {name: meta[name] for name in ("e_tag", "version") if meta[name] is not None}


def read_holder(path: Path) -> Holder | None:
    """Read a lock, here or in a store; None if there is none."""
    if not isinstance(path, StorePath):
        return read_lock(path)
    text, meta = requests.content_of(path.address)
    return None if text is None else holder_of(text, meta["last_modified"].timestamp())


class StoreJournal(Journal):
    """The journal of a running job in a store: its first line, one of all that is done, those of what is published."""

    def __init__(self, output: Path, lines: list[dict[str, Any]], done: Progress) -> None:
        self._output, self._lines, self._done = output, lines, done
        self._at = StorePath(journal_path(output))

    def add(self, done: Progress) -> None:
        """See `Journal`."""
        self._done = Progress.sum([self._done, done])

    def flush(self) -> None:
        """Write the object."""
        first, *publishing = self._lines
        text = last = b""
        for line in (first, done_line(self._done), *publishing):
            content = json.dumps(line).encode() + b"\n"
            last = checksum(content, last)
            text += last + b" " + content
        self._at.write_bytes(text)

    def close(self) -> None:
        """Do nothing."""

    def remove(self) -> None:
        """See `Journal`."""
        with suppress(OutputError):
            self._at.unlink()

    def _append(self, line: dict[str, Any]) -> None:
        self._lines.append(line)

    def _name(self, path: Path) -> str:
        return str(path)


def begin_journal(output: Path, job: dict[str, Any], total: int, rows: RowFile) -> Journal:
    """Begin the journal of a new output; see `Journal.create`."""
    if not is_store(output):
        return Journal.create(output, job, total, rows)
    journal = StoreJournal(output, [first_line(output, job, total, rows)], Progress())
    journal.flush()
    return journal


def reopen_journal(output: Path, earlier: EarlierRun) -> Journal:
    """Continue a journal after its last valid line; see `Journal.reopen`."""
    if not is_store(output):
        return Journal.reopen(output, earlier.end, earlier.last)
    text = journal_path(output).read_bytes()[: earlier.end]
    lines = [json.loads(line.partition(b" ")[2]) for line in text.splitlines()]
    return StoreJournal(output, [line for line in lines if "done" not in line], earlier.done)
