"""A loss of power at any instant: what may then be on the disk never gives a wrong output, and `resume` goes on.

The writes, flushes and renames of a short job are recorded. A disk may lose what was not flushed: the content of a
file since its last fsync, and any changes of names since the folder's. Each state that is left is laid into a folder
and resumed there.
"""

import itertools
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from driving import Silent, files_in
from resume.resuming import make_stacks

from roicli.execution import plan
from roicli.jobs.align import AlignJob, align
from roicli.outputs import rowfile
from roicli.resume import checkpoints
from roicli.spec import PoolSpec

INPUTS = ("feats.npy", "boxes.npy")
ROWS = 24


class Recorder:
    """Records what a job does to the files of its folder, through `os`.

    `states` are what may be on the disk after a loss of power: name, inode and content of each file.
    """

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self.durable = {}  # inode -> content as of its last fsync
        self.now = {}  # inode -> content as of the last look
        self.names = {}  # name -> inode, as the folder's last fsync left it
        self.changes = []  # changes of names since: (name, inode or None)
        self.states = []
        self.look()
        self.durable |= self.now
        self.names = {name: inode for name, inode in self._listing().items()}
        self.changes = []
        for name in (
            "replace",
            "rename",
            "link",
            "unlink",
            "fsync",
            "fdatasync",
            "write",
            "pwrite",
            "ftruncate",
            "open",
        ):
            monkeypatch.setattr(os, name, self.recorded(name, getattr(os, name)))
        monkeypatch.setattr(rowfile, "_fdatasync", os.fdatasync)

    def _listing(self):
        with os.scandir(self.folder) as entries:
            return {entry.name: entry.inode() for entry in entries if not entry.name.endswith(".lock")}

    def look(self):
        """See what the folder holds now, and which names have changed."""
        known = dict(self.names)
        for name, inode in self.changes:
            known.pop(name, None) if inode is None else known.__setitem__(name, inode)
        listing = self._listing()
        for name, inode in listing.items():
            with open(self.folder / name, "rb") as file:  # noqa: PTH123 -- not by the recorded functions
                self.now[inode] = file.read()
            if known.get(name) != inode:
                self.changes.append((name, inode))
        self.changes += [(name, None) for name in known if name not in listing]

    def recorded(self, name, function):
        def call(*arguments, **more):
            flushed = None
            if name in ("fsync", "fdatasync"):
                self.look()
                self.keep()
                flushed = os.fstat(arguments[0])
            result = function(*arguments, **more)
            self.look()
            if flushed is not None:
                if flushed.st_ino == os.stat(self.folder).st_ino:  # noqa: PTH116
                    self.names, self.changes = self._listing(), []
                elif flushed.st_ino in self.now:
                    self.durable[flushed.st_ino] = self.now[flushed.st_ino]
            self.keep()
            return result

        return call

    def keep(self):
        """Note the states that a loss of power may leave now."""
        for taken in subsets(self.changes):
            names = dict(self.names)
            for name, inode in taken:
                names.pop(name, None) if inode is None else names.__setitem__(name, inode)
            files = {name: inode for name, inode in names.items() if name not in INPUTS}
            contents = {inode: self.contents(inode) for inode in files.values()}
            for chosen in itertools.islice(itertools.product(*contents.values()), 30):
                content = dict(zip(contents, chosen, strict=True))
                self.states.append(tuple((name, inode, content[inode]) for name, inode in sorted(files.items())))

    def contents(self, inode):
        """What may be left of a file: what was flushed, all of it, nothing, or a mixture of blocks."""
        now, durable = self.now[inode], self.durable.get(inode, b"")
        if now == durable:
            return [now]
        old = durable.ljust(len(now), b"\0")
        size = max(len(now) // 3, 1)
        mixed = b"".join((now if n % 2 else old)[at : at + size] for n, at in enumerate(range(0, len(now), size)))
        return list(dict.fromkeys([durable, now, mixed, now[: len(now) * 2 // 3]]))


def subsets(changes):
    for number in range(len(changes) + 1):
        yield from itertools.combinations(changes, number)


@pytest.mark.parametrize(("suffix", "overwrite"), [(".npy", False), (".npy", True), (".npz", False), (".h5", True)])
def test_no_state_gives_a_wrong_output(tmp_path, monkeypatch, request, suffix, overwrite):
    folder, copy = tmp_path / "job", tmp_path / "copy"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(plan, "_TASK_BYTES", 1)
    make_stacks(2, ROWS)
    spec, index = PoolSpec((2, 2)), Path("rows.csv")
    job = AlignJob("feats.npy", Path("boxes.npy"), spec, output=Path(f"out{suffix}"), index=index, batch_size=6)
    align(job, Silent())
    whole = files_in(folder, *INPUTS)
    old = {}
    if overwrite:
        align(replace(job, spec=PoolSpec((2, 2), aligned=True), overwrite=True), Silent())
        old = files_in(folder, *INPUTS)
    else:
        for name in whole:
            Path(name).unlink()
    job = replace(job, resume=True, overwrite=overwrite)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_PAUSE", 0.0)
        recorder = Recorder(folder, patch)
        align(job, Silent())
        for name in (job.output, index):  # a loss of power just after the job does not take what it has published
            assert recorder.names.get(name.name) == name.stat().st_ino
    states = list(dict.fromkeys(recorder.states))
    assert len(states) > 50
    if not request.config.getoption("long"):
        states = random.Random(suffix).sample(states, min(len(states), 40))
    for state in states:
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for name in INPUTS:
            shutil.copy2(folder / name, copy / name)
        names, first = {name: content for name, _, content in state}, {}
        for name, inode, content in state:  # two names may be of one file
            if first.setdefault(inode, name) == name:
                (copy / name).write_bytes(content)
            else:
                os.link(copy / first[inode], copy / name)
        output = f"out{suffix}"
        assert names.get(output) in (None, whole[output], old.get(output)), "a wrong output was published"
        restore_times(copy, folder, recorder, state)
        monkeypatch.chdir(copy)
        align(job, Silent())
        assert files_in(copy, *INPUTS) == whole, sorted(names)


def restore_times(copy, folder, recorder, state):
    """Give files the times that the journal knows them by, as a disk does that keeps their content."""
    known = {path.read_bytes(): path.stat() for path in folder.iterdir()}
    for name, _, content in state:
        if content in known and not name.endswith(".journal"):
            os.utime(copy / name, ns=(known[content].st_atime_ns, known[content].st_mtime_ns))
