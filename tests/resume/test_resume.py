"""An interrupted job goes on with --resume, ends with the same bytes, and never goes on with anything else."""

import json
import os
import re
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from driving import Silent, Torn, interrupt, lines_of, write_journal
from resume.resuming import BOXES, FORMATS, content, expected, make_job, refused

from roicli.errors import FileError, OutputError
from roicli.execution.worker import Pooler
from roicli.jobs.align import AlignJob, align
from roicli.jobs.readings import Reading
from roicli.outputs import rowfile
from roicli.resume import checkpoints
from roicli.resume.history import find_history
from roicli.spec import PoolSpec


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
        ({"bad_boxes": "zero", "reading": Reading(layout="chw")}, "bad_boxes was error, is zero"),
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
