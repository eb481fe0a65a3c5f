"""All files that one job writes: begun or resumed, published together, and on failure kept to be resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from roicli.errors import ChangedInputError, OutputError
from roicli.interrupts import held_off
from roicli.newfiles import (
    PARTIAL,
    WORK,
    NewFile,
    NewFolder,
    beside,
    check_name,
    flush_folder,
    is_complete,
    real,
    remove_hidden,
)
from roicli.outputs.base import OutputFormat, Record, was_changed
from roicli.outputs.sidefiles import SideFile
from roicli.progress import Progress
from roicli.resume.checkpoints import Checkpoints
from roicli.resume.history import EarlierRun, find_history
from roicli.resume.instore import StoreLock, begin_journal, reopen_journal
from roicli.resume.journal import discard
from roicli.resume.lock import Lock
from roicli.stores.path import StorePath, is_store

COMPLETE = "the output is complete"


class Locks:
    """The locks of one run on all files that it writes."""

    def __init__(self, locks: Sequence[Lock]) -> None:
        self._locks = locks

    def confirm(self) -> None:
        """Replace stale lock files; OutputError if another run was faster."""
        for lock in self._locks:
            lock.confirm()

    def touch(self) -> None:
        """Show others that this run is alive; LostLockError if one has taken over."""
        for lock in self._locks:
            lock.touch()


@contextmanager
def locked(paths: Iterable[Path]) -> Iterator[Locks]:
    """Keep other runs off all files that this one writes; OutputError if one is alive."""
    finals: dict[Path, Path] = {}
    for path in paths:
        if finals.setdefault(real(path), path) is not path:
            raise OutputError(f"{path} and {finals[real(path)]} are one file", "Give each file a name of its own.")
    locks = [StoreLock(path) if isinstance(path, StorePath) else Lock(path) for path in finals.values()]
    try:
        for lock in locks:
            with held_off():
                lock.acquire()
        yield Locks(locks)
    finally:
        with held_off():
            for lock in locks:
                lock.release()


def find_earlier(output: Path, *, resume: bool, overwrite: bool, is_folder: bool = False) -> EarlierRun | None:
    """Find what an earlier run has left to be resumed, and refuse to write over what must not be.

    Raises OutputError: the output exists, or is unfinished, and it was not said what to do about it.
    """
    if overwrite and not resume:
        check_name(output, overwrite=True, is_folder=is_folder)
        return None
    earlier = find_history(output)
    if earlier is not None and earlier.published and resume:
        return earlier
    begun = earlier is not None and is_store(output) and not is_complete(output)  # its shards are there
    check_name(output, overwrite=overwrite or resume or begun, is_folder=is_folder)
    if output.exists() and not (overwrite or begun):
        _refuse_complete(output, earlier)
    if earlier is None or not (earlier.done.rows or earlier.files or earlier.damaged):
        return None
    if not resume:
        raise OutputError(
            f"{output} is unfinished: {_how_far(earlier.done.rows, earlier.total)}",
            "If roicli align began it, run that with `resume` to go on; or give `overwrite` to start over.",
        )
    return earlier


def _refuse_complete(output: Path, earlier: EarlierRun | None) -> NoReturn:
    """Refuse to resume where an output is: without its journal nobody knows what it was made from."""
    if earlier is not None and earlier.done.rows:
        raise OutputError(
            f"{output} exists, and {_how_far(earlier.done.rows, earlier.total)} of what will replace it",
            "Give `overwrite` and `resume` to go on.",
        )
    raise OutputError(
        f"{output} exists, and no journal proves that it was made from the same inputs",
        "If it was, all is done. Otherwise give `overwrite` to replace it, or name another output.",
    )


def is_settled(output: Path) -> bool:
    """Whether nothing waits beside an output to be written or published."""
    if beside(output, PARTIAL).exists():
        return False
    earlier = find_history(output)
    return earlier is None or not any(earlier.is_pending(path) for path in earlier.files)


def _to_go_on(output: Path, done: int, total: int) -> str:
    """Say how far an output is, and how to go on: it may replace one that is there."""
    return f"{_how_far(done, total)}; continue with `resume`{' and `overwrite`' * is_complete(output)}"


def _how_far(done: int, total: int) -> str:
    return f"{done:,} of {total:,} rows are done"


class Session:
    """The output of a running job, with its journal, from its beginning until it is published or given up.

    It is a context manager. Whatever fails inside gets a note that says what was kept.

    `output_format`: its format.
    `shape`, `dtype`: of the features.
    `record`: what is recorded beside them.
    `job`: fingerprint of the job.
    `order` (K',): rows to compute.
    `locks`: are confirmed before anything is written.
    `earlier`: what is resumed.
    `overwrite`, `keep_journal`: whether an output that exists is replaced; whether the journal stays and proves what
    the output was made from.
    """

    def __init__(
        self,
        output: Path,
        output_format: OutputFormat,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        record: Record,
        *,
        order: NDArray[np.intp],
        locks: Locks,
        overwrite: bool,
        job: dict[str, Any] | None = None,
        earlier: EarlierRun | None = None,
        keep_journal: bool = False,
    ) -> None:
        self.earlier = earlier
        self._output, self._format, self._of = output, output_format, (shape, dtype, record)
        self._job, self._order, self._locks, self._keep_journal = job or {}, order, locks, keep_journal
        self._overwrite = overwrite
        is_folder = output_format.folder and not output_format.assembled
        self._file = (NewFolder if is_folder else NewFile)(output, overwrite=overwrite)
        self._side: Sequence[NewFile] = ()
        self._published = False

    def __enter__(self) -> Session:
        self._locks.confirm()
        # Before the rows of another run may be replaced: workers that nobody told of its end look for this file.
        NewFile(self._output, overwrite=True, ending=WORK).remove()
        where = (self._file.path, self._output, *self._of)
        if self.earlier is None:
            discard(self._output)
            self.target = self._format.create(*where)
        else:
            self.target = self._format.resume(*where)
            if self.target.offset != self.earlier.offset:
                raise was_changed(self._file.path)
        try:
            if self.earlier is None:
                self._journal = begin_journal(self._output, self._job, len(self._order), self.target)
            else:
                self._journal = reopen_journal(self._output, self.earlier)
            proved = 0 if self.earlier is None else self.earlier.done.rows
            self.checkpoints = Checkpoints(self._journal, self.target, self._locks.touch, proved)
        except BaseException:
            self.target.close()
            if self.earlier is None:
                self.target.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                with held_off():
                    left = self._give_up(trusted=not isinstance(error, ChangedInputError))
                    if left is None and isinstance(error, KeyboardInterrupt):
                        left = "what was not complete has been removed"
                    if left is not None:
                        error.add_note(left)
        finally:
            self.target.close()
            self._journal.close()

    def publish(
        self, side_files: Sequence[SideFile], done: Progress, check: Callable[[Path], None] | None = None
    ) -> None:
        """Complete and flush all files, `check` the output under its hidden name, then let them appear.

        The journal proves everything before the first file appears. An output that replaces another appears before
        its side files, and any other one after them: a new side file never lies beside an old output.
        """
        self.target.check(self._order)
        self._format.finish(self.target, self._of[2])
        self.checkpoints.stop()
        self.target.flush()
        if self._format.assembled:
            self.checkpoints.save()  # the rows are proved before what may take long
        made = self._format.assemble(self.target, self._of[2], self._output, overwrite=self._overwrite)
        output = self._file if made is None else made
        self._side = side_files if made is None else [made, *side_files]
        for side in side_files:
            side.prepare()
        if check is not None:
            check(output.path)
        self._locks.touch()
        files: list[NewFile] = [output, *side_files] if output.final.exists() else [*side_files, output]
        self._journal.add_publishing([file for file in files if _has_content(file)], done)
        with held_off():
            try:
                for file in files:
                    file.publish()
                    self._published |= file is output
                _settle([*files, self._file])
            except OutputError as error:
                if self._published:
                    raise OutputError(
                        f"{self._output} is complete, but {error.message}", "Give the same command with `resume`."
                    ) from error
                raise
            if not self._keep_journal:
                self._journal.remove()

    def _give_up(self, *, trusted: bool) -> str | None:
        """Keep `trusted` rows that are done for a later run, remove all else; return what to say of what is there."""
        if self._published:
            return COMPLETE
        proved = self.checkpoints.save()
        if proved is None:
            return None
        for file in self._side:
            file.remove()
        # What an earlier run has left stays even without rows: it may have published a file beside the output.
        if trusted and (proved > 0 or self.earlier is not None) and self.target.stays:
            return _to_go_on(self._output, proved, len(self._order))
        self.target.remove()
        self._journal.remove()
        return None


def finish_published(output: Path, side_files: Sequence[SideFile], earlier: EarlierRun, locks: Locks) -> None:
    """Do what is left to do for a complete output: publish files that wait for it, make those that are missing."""
    missing = [file for file in side_files if not (_has_content(file) and earlier.is_there(file.name))]
    locks.confirm()
    if not missing and earlier.settled:
        return
    for path in earlier.files:
        if earlier.is_there(path):
            remove_hidden(path)  # such as a second name of it
    journal = reopen_journal(output, earlier)
    try:
        made = [file for file in missing if _has_content(file) and not earlier.is_pending(file.name)]
        for file in made:
            file.prepare()
        journal.add_publishing(made, earlier.done)
        with held_off():
            for file in missing:
                file.publish()
            _settle(missing)
    except BaseException:
        for file in missing:
            file.remove()
        raise
    finally:
        journal.close()


def _settle(files: Sequence[NewFile]) -> None:
    """Force the names of files onto the disk; then their hidden names can go."""
    for folder, file in {file.final.parent: file for file in files}.items():
        try:
            flush_folder(file.final)
        except OSError as error:
            raise OutputError(
                f"the folder {folder} could not be flushed: {error.strerror}", "Check the disk."
            ) from error
    for file in files:
        remove_hidden(file.name)


def _has_content(file: NewFile) -> bool:
    return not isinstance(file, SideFile) or file.content is not None
