"""What a run leaves beside its output: how far it came, whether it still works, and what to do."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from roicli.errors import OutputError
from roicli.newfiles import JOURNAL, LOCK, beside, is_complete, real
from roicli.outputs import suffixes
from roicli.outputs.base import Parameters
from roicli.outputs.sidefiles import origin_file, shard_file, skipped_file
from roicli.resume.history import EarlierRun, find_history
from roicli.resume.instore import read_holder
from roicli.stores.path import is_store

_HIDDEN = re.compile(r"\.(.+)\.(?:journal|partial|lock)", re.DOTALL)
SIDE_ENDINGS = tuple(name(Path("x")).name[1:] for name in (shard_file, skipped_file, origin_file))


@dataclass(frozen=True)
class Writer:
    """A run that holds the lock of an output: its process, its machine, and whether it still works."""

    process: int
    host: str
    alive: bool


@dataclass(frozen=True)
class Unfinished:
    """An output that is not complete, or that a run is still writing."""

    output: str
    exists: bool  # whether there is a file of that name
    rows_done: int | None  # on the disk for sure; None if nothing is known
    rows: int | None
    job: Parameters  # its settings
    writer: Writer | None  # who holds its lock
    files: tuple[str, ...]  # hidden ones beside it
    waiting: bool  # whether rows or files wait to be published
    state: str  # how far it is, for people
    remedy: str  # what to do

    @property
    def matters(self) -> bool:
        """Whether there is more than what a run that has ended left beside a complete output, which does no harm."""
        return not self.exists or self.waiting or (self.writer is not None and self.writer.alive)


def output_of(path: Path) -> Path | None:
    """Return the output, or the index, that a hidden file belongs to; None for any other file."""
    if not (found := _HIDDEN.fullmatch(path.name)):
        return None
    name = found[1]
    for ending in SIDE_ENDINGS:
        name = name.removesuffix(ending)
    return path.with_name(name) if Path(name).suffix.lower() in (*suffixes(), ".csv") else None


def look_beside(output: Path) -> Unfinished | None:
    """Look for what a run has laid beside an output; None if there is nothing."""
    final = real(output)
    try:
        files = tuple(name for name in _hidden_in(final) if output_of(final.with_name(name)) == final)
    except OSError:
        return None
    if not files:
        return None
    exists = is_complete(output)
    earlier, writer = None, None
    waiting = any(name.endswith(".partial") for name in files)
    try:
        if (lock := beside(output, LOCK)).name in files and (holder := read_holder(lock)):
            writer = Writer(holder.process, holder.host, holder.alive)
        earlier = find_history(output)
        waiting |= earlier is not None and any(earlier.is_pending(path) for path in earlier.files)
        alive = writer is not None and writer.alive
        state, remedy = _say(final, earlier, exists=exists, alive=alive, waiting=waiting)
    except OutputError as error:
        state, remedy = error.message, error.hint
    settings = earlier.job.get("settings") if earlier else None
    job = {
        str(name): value
        for name, value in (settings if isinstance(settings, dict) else {}).items()
        if isinstance(value, (str, int, float))
    }
    done, rows = (earlier.done.rows, earlier.total) if earlier else (None, None)
    return Unfinished(str(output), exists, done, rows, job, writer, files, waiting, state, remedy)


def _hidden_in(output: Path) -> list[str]:
    """List hidden files in the folder of an output; in a store only those beside it."""
    if is_store(output):
        return [path.name for path in (beside(output, JOURNAL), beside(output, LOCK)) if path.is_file()]
    with os.scandir(output.parent) as entries:
        return sorted(entry.name for entry in entries if entry.name.startswith("."))


def _say(final: Path, earlier: EarlierRun | None, *, exists: bool, alive: bool, waiting: bool) -> tuple[str, str]:
    """Say how far an output is, and what to do."""
    replace = " and `overwrite`" if exists else ""
    if earlier is not None and earlier.published:
        state = f"all {earlier.total:,} rows are done, and the output is in its place"
        if alive:
            return state, "Wait for it."
        if waiting:
            return state, "Give the same command with `resume`, which publishes what waits beside it."
        return state, "Keep the journal: with it, the same command with `resume` finds that all is done."
    if earlier is not None:
        state = f"{earlier.done.rows:,} of {earlier.total:,} rows are done"
        state += " of what will replace this file" if exists else ""
        if earlier.damaged:
            state += f"; line {earlier.damaged} of its journal is damaged, so it and later lines do not count"
        if alive:
            return state, f"Wait for it; if it is stopped, the same command with `resume`{replace} goes on."
        return state, f"Give the same command with `resume`{replace} to go on, or with `overwrite` to start over."
    if alive:
        return "nothing says yet how far it is", "Wait for it."
    if exists and not waiting:
        return "nothing: a run that has ended left this", "It does no harm; the next run removes it."
    if final.suffix.lower() == ".csv":
        return "a table that appears with its output", "Ask for its output, or give the same command."
    over = " with `overwrite`" if exists else ""
    return "nothing that a run could resume", f"Give the same command{over}, which starts over."
