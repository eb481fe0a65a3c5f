"""All files that one job writes: begun or taken up again, published together, and on failure kept to go on with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn, Protocol

from roicli.errors import ChangedInputError, OutputError
from roicli.execution.interrupts import held_off
from roicli.outputs.record import PooledSink
from roicli.outputs.rowfile import RowFile
from roicli.outputs.sinks import discard_past, discard_rows, find_past
from roicli.resume.checkpoints import Checkpoints
from roicli.resume.journal import Journal, Progress
from roicli.resume.lock import Claim
from roicli.resume.partial import check_name
from roicli.resume.past import Past

COMPLETE = "the output is complete"


class SideFile(Protocol):
    """A small file that appears together with the output."""

    @property
    def path(self) -> Path:
        """Its final name."""
        ...

    def publish(self) -> None:
        """Move it to its final name."""
        ...

    def abort(self) -> None:
        """Remove what is not published."""
        ...


@contextmanager
def claimed(paths: Iterable[Path]) -> Iterator[Callable[[], None]]:
    """Keep other runs off all files that this one writes; yields what shows them that this one is alive."""
    claims = [Claim(path) for path in paths]
    with ExitStack() as stack:
        for claim in claims:
            claim.take()
            stack.callback(claim.release)

        def beat() -> None:
            for claim in claims:
                claim.beat()

        yield beat


def find_unfinished(output: Path, *, resume: bool, overwrite: bool) -> Past | None:
    """Find what an earlier run has left to go on with, and refuse to write over what must not be.

    Raises
    ------
    OutputError
        The output exists, or is unfinished, and it was not said what to do about it.
    """
    if overwrite and not resume:
        check_name(output, overwrite=True)
        return None
    past = find_past(output)
    if past is not None and past.published and resume:
        return past
    check_name(output, overwrite=overwrite or resume)
    if output.exists() and not overwrite:
        _refuse_complete(output, past)
    if past is None or not (past.done.rows or past.beside or past.damaged):
        return None
    if not resume:
        raise OutputError(
            f"{output} is unfinished: {_how_far(past.done.rows, past.total)}",
            "Go on with roicli align --resume, or give --overwrite to begin anew.",
        )
    return past


def _refuse_complete(output: Path, past: Past | None) -> NoReturn:
    """Refuse to resume where an output is: what it was made from, beyond names, is forgotten once it is complete."""
    if past is not None and past.done.rows:
        raise OutputError(
            f"{output} exists, and {_how_far(past.done.rows, past.total)} of what will replace it",
            "Give --overwrite with --resume to go on.",
        )
    raise OutputError(
        f"{output} exists, and nothing proves that it was made from the same inputs",
        "If it was, all is done. Otherwise give --overwrite to replace it, or name another output.",
    )


def finish_published(output: Path, side_files: Mapping[Path, Callable[[], SideFile]], past: Past) -> None:
    """Do what is left to do about a complete output: remove its rows, let files appear that are missing beside it.

    The rows are there if it was killed in that moment; files may not have been asked for then, or were removed since.
    """
    discard_rows(output)
    there = {path for path in map(Path, past.beside) if path.exists()}
    missing = [make for path, make in side_files.items() if Path(os.path.realpath(path)) not in there]
    if not missing:
        return
    journal = Journal.reopen(output, past.end, past.last)
    files: list[SideFile] = []
    try:
        for make in missing:
            files.append(make())
        journal.add_publishing(output, [*there, *(file.path for file in files)], past.done)
        for file in files:
            file.publish()
    except BaseException:
        for file in files:
            file.abort()
        raise
    finally:
        journal.close()


def _to_go_on(output: Path, done: int, total: int) -> str:
    """Tell how far an output is, and how to go on: it may replace one that is there."""
    return f"{_how_far(done, total)}; continue with --resume{' --overwrite' * output.exists()}"


def _how_far(done: int, total: int) -> str:
    return f"{done:,} of {total:,} rows are done"


class Outputs:
    """The output of a running job, with its journal, until it is published or given up.

    Parameters
    ----------
    sink : PooledSink
        The output.
    journal : Journal
        What is done of it.
    past : Past, optional
        What an earlier run has left.
    beat : callable
        Called again and again: shows other runs that this one is alive, and raises what must end it.
    """

    def __init__(self, sink: PooledSink, journal: Journal, past: Past | None, beat: Callable[[], None]) -> None:
        self._sink, self._journal, self._past = sink, journal, past
        self._side: list[SideFile] = []
        self._published = False
        self.checkpoints = Checkpoints(journal, sink.target, beat, past.done.rows if past else 0)

    @property
    def target(self) -> RowFile:
        """Where rows are written."""
        return self._sink.target

    def publish(self, side_files: Iterable[Callable[[], SideFile]], done: Progress, *, keep_journal: bool) -> None:
        """Complete and flush all files, then let them appear, the output last; a journal that is kept proves it all."""
        self._sink.finish()
        for make in side_files:
            self._side.append(make())
        self.checkpoints.stop()
        self._journal.add_publishing(self._sink.moved, [file.path for file in self._side], done)
        with held_off():
            for file in self._side:
                file.publish()
            self._sink.publish()
            if not keep_journal:
                self._journal.remove()
            self._published = True

    def give_up(self, total: int, *, trusted: bool) -> str | None:
        """Keep `trusted` rows that are done for a later run, remove all else; returns what to tell of what is there."""
        if self._published:
            return COMPLETE
        proved = self.checkpoints.save()
        if proved is None:
            return None
        for file in self._side:
            file.abort()
        # What an earlier run has left stays even without rows: it may have published a file beside the output.
        keep = trusted and (proved > 0 or self._past is not None) and self.target.path.exists()
        self._sink.abort(keep_rows=keep)
        if not keep:
            self._journal.remove()
            return None
        return _to_go_on(self.target.name, proved, total)


@contextmanager
def begun(
    output: Path,
    open_sink: Callable[[], PooledSink],
    past: Past | None,
    job: dict[str, Any],
    total: int,
    beat: Callable[[], None],
    is_unchanged: Callable[[], bool],
) -> Iterator[Outputs]:
    """Begin an output of `total` rows for `job`, or go on with one; whatever fails inside tells what was kept of it.

    Nothing is kept where the inputs are not what they were any more.
    """
    beat()  # after the inputs were read, which may have taken long
    if past is None:
        discard_past(output)
    sink = open_sink()
    try:
        if past is None:
            journal = Journal.create(output, job, total, sink.target)
        else:
            journal = Journal.reopen(output, past.end, past.last)
        outputs = Outputs(sink, journal, past, beat)
    except BaseException:
        sink.abort(keep_rows=past is not None)
        raise
    try:
        yield outputs
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        with held_off():
            # A signal tells nothing of inputs, and who sent it does not wait for a look at all of them.
            trusted = not isinstance(error, ChangedInputError) and (stopped or is_unchanged())
            if left := outputs.give_up(total, trusted=trusted):
                error.add_note(left)
            elif stopped:
                error.add_note("what was not complete has been removed")
        raise
    finally:
        outputs.checkpoints.close()
