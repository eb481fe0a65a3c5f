"""An interrupted job goes on with --resume, ends with the same bytes, and never goes on with anything else."""

import csv
import errno
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import crash
import h5py
import numpy as np
import pytest
from driving import Silent, Torn, files_in, interrupt, kill_while_publishing, lines_of, write_journal

from roicli import newfiles
from roicli.errors import FileError, OutputError
from roicli.execution.worker import Pooler
from roicli.jobs.align import AlignJob, align
from roicli.newfiles import NewFile
from roicli.outputs import rowfile
from roicli.resume import checkpoints, session
from roicli.resume.history import find_history
from roicli.resume.journal import Journal
from roicli.spec import PoolSpec

BOXES = 1500
FORMATS = (".npy", ".npz", ".h5")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with the inputs of a job of about ten tasks, and its outputs, undisturbed."""
    folder = tmp_path_factory.mktemp("inputs")
    crash.make_inputs(folder, BOXES)
    (folder / "expected").mkdir()
    for suffix in FORMATS:
        align(make_job(folder, suffix), Silent())
        for name in (f"out{suffix}", "rows.csv"):
            (folder / name).rename(folder / "expected" / name)
    return folder


@pytest.fixture
def folder(inputs, tmp_path, monkeypatch):
    """The inputs in a folder of their own, which is the current one."""
    for name in ("feats.h5", "boxes.npy"):
        shutil.copy2(inputs / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_job(folder, suffix, **settings):
    os.chdir(folder)
    spec = PoolSpec((64, 64), reduce="mean")
    return AlignJob(
        "feats.h5", Path("boxes.npy"), spec, output=Path(f"out{suffix}"), index=Path("rows.csv"), **settings
    )


def content(folder):
    return files_in(folder, "feats.h5", "boxes.npy")


def expected(inputs, suffix):
    return {name: (inputs / "expected" / name).read_bytes() for name in (f"out{suffix}", "rows.csv")}


def refused(job):
    """Run a job that is refused and changes nothing; return its message."""
    before = content(Path.cwd())
    with pytest.raises(OutputError) as caught:
        align(job, Silent())
    assert content(Path.cwd()) == before
    return caught.value.message


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("other", [{}, {"workers": 2}, {"batch_size": 7}, {"max_memory": 200 * 2**20}], ids=str)
def test_the_same_bytes(folder, inputs, monkeypatch, suffix, other):
    job = make_job(folder, suffix)
    [note] = interrupt(monkeypatch, job)
    done = int(note.split(" ")[0].replace(",", ""))
    assert note == f"{done:,} of {BOXES:,} rows are done; continue with `resume`"
    assert f"out{suffix}" not in content(folder)
    rows = f".out{suffix}.partial"
    assert content(folder).keys() == {rows, f".out{suffix}.journal"}
    listener = Silent()
    report = align(replace(job, resume=True, **other), listener)
    assert (report.boxes, report.resumed) == (BOXES, done)
    assert 0 < done < BOXES
    assert f"{done:,} of 1,500 rows of out{suffix} were there already" in listener.notes
    assert content(folder) == expected(inputs, suffix)


def test_interrupted_again_and_again(folder, inputs, monkeypatch):
    job = make_job(folder, ".npy", batch_size=9)
    interrupt(monkeypatch, job, 1)
    for _ in range(3):
        interrupt(monkeypatch, replace(job, resume=True), 1)
    assert align(replace(job, resume=True, batch_size=50), Silent()).resumed > 500
    assert content(folder) == expected(inputs, ".npy")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("suffix", FORMATS)
def test_nothing_is_kept_of_inputs_that_change_meanwhile(folder, inputs, monkeypatch, suffix, workers):
    module = sys.modules["roicli.jobs.align"]
    run_tasks = module.run

    def run_and_replace(*arguments):
        done = run_tasks(*arguments)
        shutil.copy("feats.h5", "new.h5")
        Path("new.h5").replace("feats.h5")
        return done

    job = make_job(folder, suffix, workers=workers)
    with monkeypatch.context() as patch:
        patch.setattr(module, "run", run_and_replace)
        with pytest.raises(FileError, match=r"^feats\.h5 was modified while the job ran, so its output"):
            align(job, Silent())
    assert content(folder) == {}
    align(job, Silent())
    assert content(folder) == expected(inputs, suffix)


def test_a_map_that_changes_its_shape_meanwhile_is_not_pooled(folder, monkeypatch):
    """Where its boxes lie was reckoned for the shape that it had."""
    Path("feats").mkdir()
    np.save("feats/0.npy", np.ones((2, 8, 8), np.float32))
    Path("boxes.json").write_text('{"0": [[0, 0, 7, 7]]}')
    pool = Pooler.pool

    def replace_and_pool(self, task):
        np.save("feats/0.npy", np.ones((2, 8, 3), np.float32))
        return pool(self, task)

    monkeypatch.setattr(Pooler, "pool", replace_and_pool)
    job = AlignJob("feats", Path("boxes.json"), PoolSpec((2, 2)), output=Path("out.npy"))
    with pytest.raises(FileError, match=r"^feats/0\.npy was modified after it was opened"):
        align(job, Silent())
    assert {path.name for path in folder.iterdir()} >= {"feats", "boxes.json"}
    assert not list(folder.glob(".*"))
    assert not list(folder.glob("out*"))


def test_the_journal_of_another_output_is_refused(folder, inputs, monkeypatch):
    job = make_job(folder, ".npy")
    interrupt(monkeypatch, job)
    for ending in ("journal", "partial"):
        shutil.copy(f".out.npy.{ending}", f".other.npy.{ending}")
    other = replace(job, output=Path("other.npy"), resume=True)
    assert refused(other).endswith(".other.npy.journal is damaged, of another output, or of another version of roicli")


def test_what_is_written_after_a_torn_line_counts(folder, inputs, monkeypatch):
    job = make_job(folder, ".npy")
    interrupt(monkeypatch, job, 1)
    with Path(".out.npy.journal").open("ab") as file:
        file.write(b'{"done": [[1' + b"0" * 500)
    [note] = interrupt(monkeypatch, replace(job, resume=True), 2)
    assert note.startswith(f"{find_history(job.output).done.rows:,} of")
    assert b"00000" not in Path(".out.npy.journal").read_bytes()
    align(replace(job, resume=True), Silent())
    assert content(folder) == expected(inputs, ".npy")


def test_to_begin_anew_is_to_begin_a_new_file(folder, inputs, monkeypatch):
    """A worker of a killed run may live for a moment, with the old file open."""
    job = make_job(folder, ".npy")
    interrupt(monkeypatch, job)
    with Path(".out.npy.partial").open("r+b") as old:
        align(replace(job, overwrite=True), Silent())
        old.write(bytes(5000))
    assert content(folder) == expected(inputs, ".npy")


def test_rows_that_nothing_proves_are_computed_again(folder, inputs, monkeypatch):
    """The journal alone says what is done: whatever else lies in the partial file is written over."""
    job = make_job(folder, ".npy")
    interrupt(monkeypatch, job)
    unfinished = find_history(job.output)
    order = np.argsort(np.load("boxes.npy")[:, 0], kind="stable")
    [(first, stop)] = unfinished.done.ranges
    proved = set(order[first:stop].tolist())
    with Path(".out.npy.partial").open("r+b") as file:
        for row in set(range(BOXES)) - proved:
            file.seek(unfinished.offset + row * 32)
            file.write(b"\xff" * 32)
    align(replace(job, resume=True), Silent())
    assert content(folder) == expected(inputs, ".npy")


def test_what_is_counted_is_counted_over_all_runs(folder, monkeypatch):
    import h5py

    with h5py.File("feats.h5", "r+") as file:
        file["000"][0, 9, 9] = np.nan
        file["059"][0, 9, 9] = 1e12
    job = make_job(folder, ".npy", out_dtype="float16")
    whole = align(job, Silent())
    interrupt(monkeypatch, replace(job, overwrite=True))
    resumed = align(replace(job, overwrite=True, resume=True), Silent())
    assert (resumed.not_finite, resumed.overflowed) == (whole.not_finite, whole.overflowed)
    assert whole.not_finite * whole.overflowed > 0


def test_features_that_were_replaced_with_their_time_are_noticed(folder, monkeypatch):
    """By cp -p, rsync -t or tar: size and time of modification are the same, the content is not."""
    job = make_job(folder, ".npy", resume=True)
    interrupt(monkeypatch, job)
    status = Path("feats.h5").stat()
    with h5py.File("feats.h5", "r+") as file:
        for maps in file.values():
            maps[...] *= 2
    os.utime("feats.h5", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert Path("feats.h5").stat().st_size == status.st_size
    assert refused(job) == "out.npy was begun by another job: feats.h5 was modified since"


def test_a_new_run_does_not_throw_away_rows(folder, inputs, monkeypatch):
    job = make_job(folder, ".npy")
    interrupt(monkeypatch, job)
    message = refused(job)
    assert message.startswith("out.npy is unfinished: ")
    assert message.endswith(" of 1,500 rows are done")
    align(replace(job, overwrite=True), Silent())
    assert content(folder) == expected(inputs, ".npy")
    proof = "out.npy exists, and no journal proves that it was made from the same inputs"
    assert refused(replace(job, resume=True)) == proof
    [note] = interrupt(monkeypatch, replace(job, overwrite=True))
    done, _, _ = note.partition("; ")
    assert refused(replace(job, resume=True)) == f"out.npy exists, and {done} of what will replace it"


def test_nothing_to_resume_begins_anew(folder, inputs, monkeypatch):
    job = make_job(folder, ".npy", resume=True)
    align(job, Silent())
    assert content(folder) == expected(inputs, ".npy")
    for name in expected(inputs, ".npy"):
        (folder / name).unlink()
    interrupt(monkeypatch, job)
    (folder / ".out.npy.partial").unlink()
    assert align(job, Silent()).resumed == 0
    assert content(folder) == expected(inputs, ".npy")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_complete_output_is_proved_by_its_journal(folder, inputs, suffix):
    """So that a script may give the same command until it ends with 0."""
    job = make_job(folder, suffix, resume=True)
    output, journal = Path(f"out{suffix}"), Path(f".out{suffix}.journal")
    align(replace(job, resume=False), Silent())
    assert not journal.exists()  # only who asked for it gets one
    assert refused(job) == f"{output} exists, and no journal proves that it was made from the same inputs"
    assert align(replace(job, overwrite=True), Silent()).resumed == 0
    written = output.stat().st_mtime_ns
    for again in (job, replace(job, overwrite=True)):
        assert align(again, Silent()).resumed == BOXES
        assert output.stat().st_mtime_ns == written
    status = Path("boxes.npy").stat()
    os.utime("boxes.npy", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert refused(job) == f"{output} was begun by another job: boxes.npy was modified since"
    assert align(replace(job, overwrite=True), Silent()).resumed == 0
    assert align(job, Silent()).resumed == BOXES
    with output.open("r+b") as file:  # as large as before
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    os.utime(output, ns=(0, output.stat().st_mtime_ns + 1))  # clocks of file systems are coarse
    assert refused(job) == f"{output} exists, and no journal proves that it was made from the same inputs"
    align(replace(job, resume=False, overwrite=True), Silent())
    assert not journal.exists()
    assert content(folder) == expected(inputs, suffix)


def test_what_is_missing_beside_a_complete_output_is_made(folder, inputs):
    job = make_job(folder, ".npy", resume=True)
    align(replace(job, index=None), Silent())
    for index in ("rows.csv", "more.csv", "rows.csv"):
        named = replace(job, index=Path(index))
        assert align(named, Silent()).resumed == BOXES
        assert align(named, Silent()).resumed == BOXES
        Path(index).unlink()
        assert align(named, Silent()).resumed == BOXES
    Path("out.npy.shard.json").write_text("{}")  # of a part that lay here
    assert refused(named) == "out.npy.shard.json exists"
    assert align(replace(named, overwrite=True), Silent()).resumed == BOXES
    assert not Path("out.npy.shard.json").exists()
    other = content(folder).pop("more.csv")
    assert other == expected(inputs, ".npy")["rows.csv"]
    Path("more.csv").unlink()
    assert content(folder) == expected(inputs, ".npy")
    Path("mine.csv").write_text("mine")
    assert refused(replace(job, index=Path("mine.csv"))) == "mine.csv exists"


def test_what_has_changed_is_said(folder, monkeypatch):
    job = make_job(folder, ".npy", resume=True)
    interrupt(monkeypatch, job)
    for change, said in [
        ({"spec": replace(job.spec, sampling_ratio=4)}, "sampling_ratio was -1, is 4"),
        ({"spec": replace(job.spec, aligned=True)}, "aligned was False, is True"),
        ({"out_dtype": "float16"}, "dtype was float32, is float16"),
        ({"bad_boxes": "zero", "layout": "chw"}, "bad_boxes was error, is zero"),
        ({"spec": replace(job.spec, reduce="none", output_size=(2, 3))}, "shape was 1500 x 8, is 1500 x 8 x 2 x 3"),
    ]:
        assert said in refused(replace(job, **change))
    for name in ("feats.h5", "boxes.npy"):
        status = Path(name).stat()
        os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
        assert refused(job) == f"out.npy was begun by another job: {name} was modified since"
        os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns))
    status = Path("boxes.npy").stat()
    boxes = np.load("boxes.npy")
    boxes[7, 2] += 1
    np.save("boxes.npy", boxes)
    os.utime("boxes.npy", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert refused(job) == "out.npy was begun by another job: other boxes"


def test_a_journal_cut_anywhere_proves_no_more_than_before(folder, monkeypatch):
    monkeypatch.setattr(checkpoints, "_PAUSE", 60)  # one checkpoint, the last
    interrupt(monkeypatch, make_job(folder, ".npy"))
    path = Path(".out.npy.journal")
    more = '{"done": [[1200, 1300], [1350, 1400]], "not_finite": 1, "overflowed": 0}'
    write_journal(path, *lines_of(path), more)
    text, whole = path.read_bytes(), find_history(Path("out.npy"))
    assert whole.done.ranges[1:] == ((1200, 1300), (1350, 1400))
    ends = [end + 1 for end, byte in enumerate(text) if byte == ord("\n")]
    for length in range(len(text)):
        path.write_bytes(text[:length])
        lines = sum(end <= length for end in ends)
        found = find_history(Path("out.npy"))
        assert (found is None) == (lines == 0)
        if found:
            assert found.done.ranges == ((), whole.done.ranges[:1], whole.done.ranges)[lines - 1]
            assert found.end == ends[lines - 1]
    path.write_bytes(text[:-9] + b"\0\0\n" + text[ends[0] :])
    assert find_history(Path("out.npy")).done.ranges == whole.done.ranges[:1]


@pytest.mark.parametrize(
    "text",
    [
        "[]\n", "{}\n", '{"format": "roicli journal 9"}\n', "7\n", "[" * 5000 + "\n",
        '{"format": "roicli journal 2", "output": "out.npy", "job": [3], "total": 5, "offset": 0, "size": 0}\n',
        '{"format": "roicli journal 2", "output": "out.npy", "job": {}, "total": 5, "offset": 0, "size": 0}\n'
        '{"done": [[0, 6]]}\n',
        '{"format": "roicli journal 2", "output": "out.npy", "job": {}, "total": 5, "offset": 0, "size": 0}\n'
        '{"done": 3}\n',
        '{"format": "roicli journal 2", "output": "out.npy", "job": {}, "total": "x", "offset": 0, "size": 0}\n'
        '{"done": [[0, 2]]}\n',
        '{"format": "roicli journal 2", "output": "out.npy", "job": {}, "total": 5, "offset": {}, "size": 0}\n',
        '{"format": "roicli journal 2", "output": "out.npy", "job": {}, "total": 5, "offset": true, "size": 0}\n',
        '{"format": "roicli journal 2", "output": "out.npy", "job": {}, "total": 5, "offset": 0, "size": 0}\n'
        '{"done": [[0, 2]], "not_finite": -1, "overflowed": 0}\n',
        "x\n{}\n",
    ],
)  # fmt: skip
def test_what_is_no_journal_is_refused(folder, inputs, text):
    Path(".out.npy.partial").write_bytes(b"some")
    job, path = make_job(folder, ".npy"), Path(".out.npy.journal")
    for write in (lambda: path.write_text(text), lambda: write_journal(path, *text.splitlines())):
        write()
        for refusing in (job, replace(job, resume=True)):
            assert refused(refusing).endswith(
                ".out.npy.journal is damaged, of another output, or of another version of roicli"
            )
    align(replace(job, overwrite=True), Silent())
    assert content(folder) == expected(inputs, ".npy")


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_was_changed_by_hand_is_refused(folder, inputs, monkeypatch, suffix):
    """Rows would be written to wrong places, or taken for done."""
    job = make_job(folder, suffix, resume=True)
    interrupt(monkeypatch, job)
    journal = Path(f".out{suffix}.journal")
    rows = Path(f".out{suffix}.partial")
    kept, first, *rest = journal.read_bytes(), *lines_of(journal)
    header = json.loads(first)
    changed = f"{folder}/{rows} and its journal do not fit: one of them was changed"
    for change, said in [
        ({"offset": header["offset"] + 4}, changed),
        ({"offset": 0}, changed),
        ({"offset": 10**30}, changed),
        ({"total": BOXES + 1}, "out.* was begun by another job: 1,501 rows were to be computed, now 1,500"),
        ({"total": 10**30}, "out.* was begun by another job: 1,0.* rows were to be computed, now 1,500"),
        ({"job": header["job"] | {"settings": [1]}}, "out.* was begun by another job: .* was unknown, is .*"),
        ({"job": header["job"] | {"files": None}}, "out.* was begun by another job: boxes.npy was not an input; .*"),
    ]:
        write_journal(journal, json.dumps(header | change), *rest)
        assert re.fullmatch(said, refused(job))
    journal.write_bytes(kept)
    with rows.open("r+b") as file:
        file.write(bytes(8))
    assert refused(job) == changed
    align(replace(job, resume=False, overwrite=True), Silent())
    assert content(folder) == expected(inputs, suffix)


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


# -- faults while files are completed


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
            patch.setattr("roicli.outputs.sidefiles.csv.writer", full)
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


# -- one writer


def test_a_run_that_was_taken_for_dead_stops_and_touches_nothing(folder, monkeypatch):
    job = make_job(folder, ".npy")
    monkeypatch.setattr(checkpoints, "_PAUSE", 0.02)
    write = rowfile.RowFile.write
    left = []

    def slow(self, rows, block):
        write(self, rows, block)
        if not left:
            for path in folder.glob(".out.npy.lock"):
                path.unlink()
            (folder / ".out.npy.journal").write_text("another's")
            left.append(True)
            time.sleep(0.2)

    monkeypatch.setattr(rowfile.RowFile, "write", slow)
    with pytest.raises(OutputError, match="another run has taken over"):
        align(job, Silent())
    assert (folder / ".out.npy.journal").read_text().startswith("another's")
    assert (folder / ".out.npy.partial").exists()


# -- boxes that are not pooled


@pytest.fixture
def partly(tmp_path, monkeypatch):
    """Two maps; boxes of three images, one of them bad."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "feats").mkdir()
    for name in "ab":
        np.save(tmp_path / "feats" / f"{name}.npy", np.ones((2, 8, 8), np.float32))
    boxes = {"a": [[0, 0, 4, 4], [5, 5, 1, 1]], "gone": [[0, 0, 2, 2], [9, 1, 3, 1.5]], "b": [[1, 1, 3, 3]]}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    return tmp_path


def listed(path):
    with path.open(newline="", encoding="utf-8") as file:
        return [(line["box_file_row"], line["image_id"], line["reason"], line["fate"]) for line in csv.DictReader(file)]


def call(*arguments):
    done = subprocess.run([crash.ROICLI, "align", *arguments], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize("fate", ["skip", "zero"])
def test_images_without_features(partly, fate):
    arguments = ("feats", "boxes.json", "-o", "out.npz", "--size", "2", "--bad-boxes", "zero", "--json")
    assert "1 of 3 images of boxes.json has no features in feats: 'gone'" in call(*arguments).stderr
    assert not list(partly.glob("*out*"))
    done = call(*arguments, "--missing-features", fate)
    report = json.loads(done.stdout)
    skipped = [2, 3] if fate == "skip" else []
    assert report["skipped"] == skipped
    assert report["zeroed"] == ([1] if skipped else [1, 2, 3])
    assert report["missing_images"] == 1
    assert "'gone'; 2 boxes " in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "not pooled: 2 boxes skipped, 1 written as zeros"
        if skipped
        else "not pooled: 0 boxes skipped, 3 written as zeros"
    )
    with np.load("out.npz") as archive:
        assert archive["image_ids"].tolist() == ["a", "a", "b"] if skipped else ["a", "a", "gone", "gone", "b"]
        assert (archive["features"] != 0).any(axis=(1, 2, 3)).tolist() == (
            [True, False, True] if skipped else [True, False, False, False, True]
        )
    word = f"{fate}ped" if skipped else "zeroed"
    assert listed(partly / "out.npz.skipped.csv") == [
        ("1", "a", "inverted", "zeroed"),
        ("2", "gone", "no features", word),
        ("3", "gone", "no features", word),
    ]


def test_a_list_of_skipped_boxes_goes_with_its_output(partly):
    arguments = ("feats", "boxes.json", "-o", "out.npy", "--size", "2", "--missing-features", "skip")
    path = partly / "out.npy.skipped.csv"
    path.write_text("old")
    assert "out.npy.skipped.csv exists" in call(*arguments, "--bad-boxes", "skip").stderr
    assert path.read_text() == "old"
    assert call(*arguments, "--bad-boxes", "skip", "--overwrite").returncode == 0
    assert len(listed(path)) == 3
    (partly / "boxes.json").write_text('{"a": [[0, 0, 4, 4]]}')
    (partly / "out.npy").unlink()
    assert "out.npy.skipped.csv is of an earlier run" in call(*arguments).stderr
    assert path.exists()
    assert call(*arguments, "--overwrite").returncode == 0
    assert not path.exists()


def test_all_images_without_features(partly):
    (partly / "boxes.json").write_text('{"x": [[0, 0, 4, 4]], "y": [[0, 0, 4, 4]]}')
    for fate, rows in (("skip", 0), ("zero", 2)):
        done = call("feats", "boxes.json", "-o", "out.npy", "--missing-features", fate, "--overwrite", "--json")
        assert json.loads(done.stdout)["shape"] == [rows, 2, 7, 7]
        assert not np.load("out.npy").any()


def test_two_images_of_one_map_are_refused_all_the_same(partly):
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "a.png"}, {"id": 3, "file_name": "gone.png"}]
    annotations = [{"id": n, "image_id": n, "bbox": [0, 0, 4, 4]} for n in (1, 2, 3)]
    (partly / "boxes.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    done = call("feats", "boxes.json", "-o", "out.npy", "--missing-features", "skip")
    assert done.returncode == 3
    assert "would all be map 'a'" in done.stderr


def test_values_behind_a_virtual_dataset_count_as_input(folder, inputs):
    """A file that only refers to the features is the same when they are others."""
    (folder / "feats.h5").rename(folder / "real.h5")
    with h5py.File(folder / "real.h5") as real, h5py.File(folder / "feats.h5", "w") as file:
        for name, maps in real.items():
            layout = h5py.VirtualLayout(maps.shape, maps.dtype)
            layout[...] = h5py.VirtualSource("real.h5", name, maps.shape)
            file.create_virtual_dataset(name, layout)
    files = take_files(make_job(folder, ".npy"))
    assert any(path.endswith("real.h5") for path in files)


def take_files(job):
    seen = []

    def take(settings, boxes, features, *others):
        seen.extend(features)
        raise Torn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["roicli.jobs.align"], "fingerprint", take)
        with pytest.raises(Torn):
            align(job, Silent())
    return seen


def test_an_hdf5_output_without_room_from_the_start(folder):
    command = ["sh", "-c", 'ulimit -f 8; exec "$@"', "sh", sys.executable, "-m", "roicli", "align", "feats.h5"]
    done = subprocess.run(
        [*command, "boxes.npy", "-o", "out.h5", "--size", "9"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3, done.stderr
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
