"""What a run lays beside its output: how far it came, whether it goes on, and what to do."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from roicli.errors import OutputError
from roicli.files import HDF5_SUFFIXES, file_size
from roicli.outputs.readback import Parameters
from roicli.outputs.shardfile import shard_file
from roicli.outputs.sinks import find_past
from roicli.outputs.skipped import SkippedFile
from roicli.resume.lock import Owner, is_alive
from roicli.resume.past import Past

_OUTPUTS = (".npy", ".npz", *HDF5_SUFFIXES)
_HIDDEN = re.compile(r"\.(.+)\.(?:journal|partial|[0-9a-f]{8,40}-[0-9]{1,10}-[0-9]{1,20}\.claim)", re.DOTALL | re.ASCII)
_SIDE_ENDINGS = tuple(beside(Path("x")).name[1:] for beside in (shard_file, SkippedFile.beside))
_LONGEST_HOST = 256


@dataclass(frozen=True)
class Writer:
    """A run that has laid claim to an output.

    Attributes
    ----------
    process : int
        Its number.
    host : str
        The machine.
    alive : bool
        Whether it still runs, as far as can be told from here.
    """

    process: int
    host: str
    alive: bool


@dataclass(frozen=True)
class Unfinished:
    """An output that is not complete, or whose run has not ended.

    Attributes
    ----------
    output : str
        Its name.
    exists : bool
        Whether there is a file of that name.
    rows_done, rows : int or None
        How many of how many rows are on the disk for sure; None if nothing is known of them.
    job : dict
        The settings of the job.
    writers : tuple of Writer
        Who has laid claim to it.
    files : tuple of str
        What lies beside it.
    state, remedy : str
        How far it is, and what to do, for people.
    """

    output: str
    exists: bool
    rows_done: int | None
    rows: int | None
    job: Parameters
    writers: tuple[Writer, ...]
    files: tuple[str, ...]
    state: str
    remedy: str

    @property
    def matters(self) -> bool:
        """Whether there is more than what a run that has ended left beside a complete output, which does no harm."""
        return not self.exists or _has_rows(self.files) or any(writer.alive for writer in self.writers)


def output_of(path: Path) -> Path | None:
    """Return the output, or the index, that a hidden file belongs to; None for any other file."""
    if not (found := _HIDDEN.fullmatch(path.name)):
        return None
    name = found[1].removesuffix(".rows") if path.name.endswith(".npz.rows.partial") else found[1]
    for ending in _SIDE_ENDINGS:
        name = name.removesuffix(ending)
    return path.with_name(name) if Path(name).suffix.lower() in (*_OUTPUTS, ".csv") else None


def look_beside(output: Path) -> Unfinished | None:
    """Look for what a run has laid beside an output; None if there is nothing."""
    final = Path(os.path.realpath(output))
    files = sorted(path for path in _hidden_files(final.parent) if output_of(path) == final)
    if not files:
        return None
    writers = tuple(_writer(path) for path in files if path.suffix == ".claim")
    past: Past | None = None
    unreadable: OutputError | None = None
    try:
        past = find_past(output)
    except OutputError as error:
        unreadable = error
    exists, alive = os.access(final, os.F_OK), any(writer.alive for writer in writers)
    rows = _has_rows(path.name for path in files)
    if unreadable is not None:
        state, remedy = unreadable.message, unreadable.hint
    elif past is not None:
        state, remedy = _state(past, exists=exists), _remedy(past, exists=exists, alive=alive, rows=rows)
    elif alive:
        state, remedy = "nothing says yet how far it is", "Wait for it."
    elif exists and not rows:
        state, remedy = "nothing: a run that has ended left this", "It does no harm; the next run removes it."
    elif final.suffix.lower() == ".csv":
        state, remedy = "a table that appears with its output", "Ask for its output, or give the same command."
    else:
        state = "nothing that one could go on with"
        remedy = f"Give the same command{' with --overwrite' * exists}, which begins anew."
    return Unfinished(
        output=str(output),
        exists=exists,
        rows_done=past.done.rows if past else None,
        rows=past.total if past else None,
        job=_settings(past) if past else {},
        writers=writers,
        files=tuple(path.name for path in files),
        state=state,
        remedy=remedy,
    )


def _hidden_files(folder: Path) -> Sequence[Path]:
    try:
        with os.scandir(folder) as entries:
            return [folder / entry.name for entry in entries if entry.name.startswith(".")]
    except OSError:
        return []


def _has_rows(names: Iterable[str]) -> bool:
    return any(name.endswith(".partial") for name in names)


def _state(past: Past, *, exists: bool) -> str:
    if past.published:
        return f"all {past.total:,} rows are done, and the output is in its place"
    of = " of what will replace this file" if exists else ""
    damage = f"; line {past.damaged} of its journal is damaged and ends what counts" if past.damaged else ""
    return f"{past.done.rows:,} of {past.total:,} rows are done{of}{damage}"


def _remedy(past: Past, *, exists: bool, alive: bool, rows: bool) -> str:
    if past.published and alive:
        return "Wait for it."
    if past.published and rows:
        return "Give the same command with --resume, which removes the rows beside it: they are in the output."
    if past.published:
        return "Keep it: by it, the same command with --resume finds that all is done."
    replace = " --overwrite" if exists else ""
    if alive:
        return f"Wait for it; should it be stopped, the same command with --resume{replace} goes on."
    return f"Give the same command with --resume{replace} to go on, or with --overwrite alone to begin anew."


def _settings(past: Past) -> Parameters:
    said = past.job.get("settings")
    plain = said if isinstance(said, dict) else {}
    return {str(name): value for name, value in plain.items() if isinstance(value, (str, int, float))}


def _writer(claim: Path) -> Writer:
    owner = Owner.of(claim)
    try:
        file_size(claim)  # a pipe would wait
        host = claim.read_bytes()[:_LONGEST_HOST].decode("ascii", "backslashreplace")
    except OSError:  # it has just gone, or is no claim
        return Writer(owner.pid, "an unknown host", alive=False)
    # By the clock of this machine: that of the file system is only told to who writes there.
    return Writer(owner.pid, host or "an unknown host", is_alive(claim, time.time))
