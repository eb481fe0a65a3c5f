"""Faults while files are completed and published, and what lies where they would go."""

import errno
import os
import re
import resource
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from driving import Silent, Torn, interrupt, kill_while_publishing, run
from resume.resuming import BOXES, FORMATS, content, expected, make_job, refused

from roicli import newfiles
from roicli.errors import OutputError
from roicli.jobs.align import align
from roicli.newfiles import NewFile
from roicli.outputs import rowfile
from roicli.resume import checkpoints, session
from roicli.resume.journal import Journal


def test_what_is_no_file_where_files_of_a_job_would_lie(folder):
    """A folder cannot be removed for it, and who opens a pipe waits forever."""
    job = make_job(folder, ".npy")
    for name in (".out.npy.partial", ".out.npy.journal", ".rows.csv.partial"):
        for make, remove in ((Path.mkdir, Path.rmdir), (os.mkfifo, Path.unlink)):
            make(folder / name)
            for refusing in (job, replace(job, resume=True), replace(job, overwrite=True)):
                with pytest.raises(OutputError, match=f"{re.escape(name)} is not a regular file"):
                    align(refusing, Silent())
            remove(folder / name)


def test_a_file_of_a_job_is_never_written_through_a_link(folder, inputs):
    for name in (".rows.csv.partial", ".out.npy.partial"):
        (folder / name).symlink_to("boxes.npy")
    align(make_job(folder, ".npy"), Silent())
    assert content(folder) == expected(inputs, ".npy")
    assert np.load("boxes.npy").shape == (BOXES, 5)


def test_rows_are_flushed_before_they_are_proved(folder, monkeypatch):
    steps = []
    flush, add, sync = rowfile.RowFile.flush, Journal.add, Journal.flush
    monkeypatch.setattr(rowfile.RowFile, "flush", lambda *a: (steps.append("rows"), flush(*a))[1])
    monkeypatch.setattr(Journal, "add", lambda *a: (steps.append("line"), add(*a))[1])
    monkeypatch.setattr(Journal, "flush", lambda *a: (steps.append("journal"), sync(*a))[1])
    monkeypatch.setattr(checkpoints, "_PAUSE", 0.01)
    interrupt(monkeypatch, make_job(folder, ".npy"), 5)
    assert len(steps) >= 3
    assert steps == ["rows", "line", "journal"] * (len(steps) // 3)


def test_a_file_that_cannot_be_closed_is_complete_all_the_same(folder, inputs, monkeypatch):
    """All that must last was flushed; after the output has its name, a failure would deny it."""
    close = os.close

    def fail(descriptor):
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        close(descriptor)
        if name.startswith((".out.npy", "out.npy", ".rows.csv")):
            failed.append(name)
            raise OSError(errno.EIO, "Input/output error")

    failed = []
    monkeypatch.setattr(os, "close", fail)
    align(make_job(folder, ".npy"), Silent())
    monkeypatch.undo()
    assert len(failed) > 2
    assert content(folder) == expected(inputs, ".npy")


def test_after_a_failed_flush_nothing_more_is_proved(folder, monkeypatch):
    """The system reports rows that it lost once, and takes them for written afterwards."""
    calls = []

    def fails_once(descriptor):
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(rowfile, "_fdatasync", fails_once)
    monkeypatch.setattr(checkpoints, "_PAUSE", 0.001)
    with pytest.raises(OutputError, match=r"out\.npy: cannot write: Input/output error"):
        align(make_job(folder, ".npy"), Silent())
    assert len(calls) == 1
    assert content(folder) == {}


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def after(calls, function):
    """Make a function that works so many times, then finds the disk full."""
    left = iter(range(calls))
    return lambda *a, **k: function(*a, **k) if next(left, None) is not None else full()


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    ("place", "kept"),
    [
        ("create", False), ("first row", False), ("middle", True), ("journal", False), ("later in the journal", True),
        ("finish", True), ("index", True), ("publish", True),
    ],
)  # fmt: skip
def test_a_full_disk(folder, inputs, monkeypatch, suffix, place, kept):
    """One error, the output that was there untouched, and what is done kept."""
    output = folder / f"out{suffix}"
    output.write_text("before")
    job = make_job(folder, suffix, overwrite=True)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_PAUSE", 0.01)
        if place == "create":
            patch.setattr(Journal, "_append", full_in(Journal._append, 0))
        elif place in ("first row", "middle"):
            patch.setattr(rowfile.os, "pwrite", after(0 if place == "first row" else 900, os.pwrite))
        elif "journal" in place:
            patch.setattr(Journal, "_append", full_in(Journal._append, 1 if place == "journal" else 2))
        elif place == "finish":
            patch.setattr(rowfile.RowFile, "check", newfiles.writing(output)(full))
        elif place == "index":
            patch.setattr("csv.writer", full)
        else:
            patch.setattr(os, "replace", full)
        with pytest.raises(OutputError, match=r"cannot write: No space left on device") as caught:
            align(job, Silent())
    assert output.read_text() == "before"
    assert bool(getattr(caught.value, "__notes__", [])) == kept
    left = content(folder).keys() - {output.name}
    rows = f".out{suffix}.partial"
    assert left == ({rows, f".out{suffix}.journal"} if kept else set())
    assert (align(replace(job, resume=True), Silent()).resumed > 0) == kept
    assert content(folder) == expected(inputs, suffix)


def full_in(append, calls):
    """Journal lines, of which all after so many find the disk full half way."""
    left = iter(range(calls))

    def torn(self, line):
        if next(left, None) is not None:
            append(self, line)
            return
        os.write(self._descriptor, b'{"done": [[')
        with newfiles.writing(self._output):
            full()

    return torn


def test_a_disk_that_cannot_flush_folders(folder, inputs, monkeypatch):
    flush = os.fsync

    def files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    align(make_job(folder, ".npy"), Silent())
    assert content(folder) == expected(inputs, ".npy")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_folder_that_fails_to_be_flushed_at_last(folder, inputs, monkeypatch, suffix):
    """The output has its name by then: it stays, and the message says what is not sure."""
    job, flush = make_job(folder, suffix), os.fsync

    def fail(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) and job.output.exists():
            raise OSError(errno.EIO, "Input/output error")
        flush(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OutputError) as caught:
            align(job, Silent())
    assert caught.value.message == (
        f"out{suffix} is complete, but the folder {folder.resolve()} could not be flushed: Input/output error"
    )
    assert caught.value.hint == "Give the same command with `resume`."
    assert caught.value.__notes__ == ["the output is complete"]
    assert align(replace(job, resume=True), Silent()).resumed == BOXES
    assert content(folder) == expected(inputs, suffix)
    assert not list(folder.glob(".*.partial"))


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("step", ["before", "after the index", "after the output"])
def test_killed_while_publishing(folder, inputs, monkeypatch, suffix, step):
    """A kill between two moves: the next run makes the rest, and takes the index for its own."""
    job = make_job(folder, suffix)
    kill_while_publishing(monkeypatch, job, {"before": 0, "after the index": 1, "after the output": 2}[step])
    whole = expected(inputs, suffix)
    assert (f"out{suffix}" in content(folder)) == (step == "after the output")
    assert ("rows.csv" in content(folder)) == (step != "before")
    if step == "after the output":
        assert refused(job).endswith(f"out{suffix} exists")
        assert refused(replace(job, resume=True, spec=replace(job.spec, aligned=True))).endswith(
            "aligned was False, is True"
        )
    if step != "after the output":  # the next run may be killed as well
        kill_while_publishing(monkeypatch, replace(job, resume=True), 1)
    report = align(replace(job, resume=True), Silent())
    assert (report.boxes, report.resumed) == (BOXES, BOXES)  # all was proved before the first move
    assert content(folder) == whole


def test_an_hdf5_output_without_room_from_the_start(folder):
    arguments = ("align", "feats.h5", "boxes.npy", "-o", "out.h5", "--size", "9")
    done = run(folder, *arguments, expect=3, limits=[(resource.RLIMIT_FSIZE, 4096)])
    assert "out.h5: cannot write: " in done.stderr
    assert not list(folder.glob(".out*"))


def test_an_index_that_leads_to_the_output(folder):
    (folder / "rows.csv").symlink_to("out.npy")
    with pytest.raises(OutputError, match=r"rows\.csv and out\.npy are one file"):
        align(make_job(folder, ".npy"), Silent())


def test_another_name_of_an_output_goes_on_with_it(folder, inputs, monkeypatch):
    """By a link, and from another folder, even where files beside the output were published already."""
    job = make_job(folder, ".npy")
    job = replace(job, features=str(folder / "feats.h5"), boxes=folder / "boxes.npy")
    publish = NewFile.publish

    def torn(self):
        if self.final.name == "out.npy":
            raise Torn
        publish(self)

    with monkeypatch.context() as patch:
        patch.setattr(NewFile, "publish", torn)
        patch.setattr(session.Session, "_give_up", lambda *_, **__: None)
        with pytest.raises(Torn):
            align(job, Silent())
    assert "rows.csv" in content(folder)
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    Path("link.npy").symlink_to("../out.npy")
    align(replace(job, output=Path("link.npy"), index=Path("../rows.csv"), resume=True), Silent())
    assert Path("link.npy").is_symlink()
    shutil.rmtree(folder / "elsewhere")
    assert content(folder) == expected(inputs, ".npy")


@pytest.mark.parametrize("name", ["out.npy.skipped.csv"])
def test_an_index_by_a_name_of_the_output(folder, name):
    assert "needs for itself" in refused(replace(make_job(folder, ".npy"), index=Path(name)))
