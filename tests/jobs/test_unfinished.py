"""`roicli info` on what runs leave beside an output: how far it is, who writes it, and what to do about it."""

import json
import os
from pathlib import Path

import crash
import numpy as np
import pytest
from driving import Silent, interrupt, kill_while_publishing, lines_of, run, write_journal

from roicli.errors import RoicliError
from roicli.jobs.align import AlignJob, align
from roicli.jobs.info import info
from roicli.jobs.shards import Shard
from roicli.jobs.unfinished import Writer
from roicli.resume.journal import journal_path
from roicli.resume.lock import Lock
from roicli.spec import PoolSpec

BOXES = 1500


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The inputs of a job of about ten tasks, in the current folder."""
    monkeypatch.chdir(tmp_path)
    crash.make_inputs(tmp_path, BOXES)
    return tmp_path


def make_job(output, **settings):
    spec = PoolSpec((64, 60), reduce="mean")
    return AlignJob("feats.h5", Path("boxes.npy"), spec, output=Path(output), batch_size=10, **settings)


def rows_done(notes):
    """How many rows a torn job says are done."""
    return int(notes[0].split(" ")[0].replace(",", ""))


def told(folder, name):
    return json.loads(run(folder, "info", name, "--json").stdout)["unfinished"]


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_an_interrupted_output(folder, monkeypatch, suffix):
    """Asked for by its own name, or by that of any file beside it."""
    output = f"out{suffix}"
    done = rows_done(interrupt(monkeypatch, make_job(output, shard=Shard(1, 2)), 2))
    rows_of_part = align(make_job("whole.h5", shard=Shard(1, 2)), Silent()).boxes
    rows = f".out{suffix}.partial"
    for name in (output, f".out{suffix}.journal", rows):
        found = told(folder, name)
        assert (found["output"], found["exists"]) == (output, False)
        assert (found["rows_done"], found["rows"], found["writer"]) == (done, rows_of_part, None)
        assert found["files"] == sorted([rows, f".out{suffix}.journal"])
        assert (found["job"]["output_width"], found["job"]["shard"]) == (60, "1/2")
        assert found["state"] == f"{done} of {rows_of_part} rows are done"
        shown = " ".join(run(folder, "info", name, COLUMNS="80").stdout.split())
        assert f"{done} of {rows_of_part} rows are done" in shown
        assert "the same command with --resume to go on, or with --overwrite to start over" in shown
        assert "shard 1/2" in shown
        assert "not there yet" in shown
        assert "…" not in shown
    align(make_job(output, shard=Shard(1, 2), resume=True), Silent())
    assert info(output).unfinished is None


def test_a_pipe_in_the_place_of_a_journal(folder):
    os.mkfifo(folder / ".out.npy.journal")
    message = f"{folder}/.out.npy.journal is not a regular file"
    assert told(folder, "out.npy")["state"] == message
    assert message in run(folder, "align", "feats.h5", "boxes.npy", "-o", "out.npy", expect=3).stderr


def test_what_is_advised_is_what_align_takes(folder, monkeypatch):
    """An output of an earlier run is there too."""
    align(make_job("out.npy"), Silent())
    done = rows_done(interrupt(monkeypatch, make_job("out.npy", overwrite=True), 2))
    found = info("out.npy")
    assert found.arrays.kinds[0].kind.shape == (BOXES, 8)
    assert found.unfinished.state == f"{done} of 1,500 rows are done of what will replace this file"
    assert "with `resume` and `overwrite` to go on" in found.unfinished.remedy
    with pytest.raises(RoicliError, match="of what will replace it\nGive `overwrite` and `resume` to go on"):
        align(make_job("out.npy", resume=True), Silent())
    assert align(make_job("out.npy", resume=True, overwrite=True), Silent()).resumed == done


def test_nothing_to_go_on_with(folder):
    journal_path(Path("out.npy")).write_text("")
    found = told(folder, "out.npy")
    assert (found["rows_done"], found["rows"], found["job"]) == (None, None, {})
    assert found["remedy"] == "Give the same command, which starts over."
    align(make_job("out.npy"), Silent())
    assert info("out.npy").unfinished is None
    Path(".out.npy.partial").touch()
    assert info("out.npy").unfinished.remedy == "Give the same command with `overwrite`, which starts over."
    align(make_job("out.npy", overwrite=True), Silent())
    assert info("out.npy").unfinished is None


@pytest.mark.parametrize("moves", [0, 1])
def test_an_output_whose_run_had_only_to_publish(folder, monkeypatch, moves):
    """An index waits beside an output that has replaced another."""
    align(make_job("out.npy"), Silent())
    complete = "all 1,500 rows are done, and the output is in its place"
    job = make_job("out.npy", index=Path("rows.csv"), overwrite=True, resume=True)
    kill_while_publishing(monkeypatch, job, moves)
    found = info("out.npy").unfinished
    if moves:
        assert found.state == complete
        assert told(folder, ".rows.csv.partial")["output"] == "rows.csv"
    else:
        assert found.state == "1,500 of 1,500 rows are done of what will replace this file"
    align(job, Silent())
    assert info("out.npy").unfinished is None
    found = told(folder, ".out.npy.journal")
    assert (found["rows_done"], found["rows"], found["exists"]) == (BOXES, BOXES, True)
    assert found["state"] == complete
    assert found["remedy"] == "Keep the journal: with it, the same command with --resume finds that all is done."


def test_a_journal_that_cannot_be_read(folder):
    write_journal(journal_path(Path("out.npy")), '{"format": "roicli journal 99"}')
    found = told(folder, "out.npy")
    assert "out.npy.journal is damaged, of another output, or of another version of roicli" in found["state"]
    assert found["remedy"] == "Give --overwrite without --resume to start over."


def test_who_writes_it(folder):
    """This process does, and then not any more."""
    lock = Lock(Path("out.npy"))
    lock.acquire()
    for asked in ("out.npy", ".out.npy.lock"):
        found = told(folder, asked)
        assert found["writer"] == {"process": os.getpid(), "host": os.uname().nodename, "alive": True}
        assert found["remedy"] == "Wait for it."
        shown = run(folder, "info", asked).stdout
        assert f"process {os.getpid()} of {os.uname().nodename}" in shown
        assert "which has ended" not in shown
    lock.release()
    with pytest.raises(RoicliError, match="does not exist"):
        info("out.npy")
    (folder / ".out.npy.lock").write_text('{"host": "elsewhere", "machine": "x", "process": 1}')  # touched just now
    assert info("out.npy").unfinished.writer == Writer(1, "elsewhere", alive=True)


def test_what_a_dead_run_left_beside_a_complete_output_is_no_matter(folder, monkeypatch):
    align(make_job("out.npy"), Silent())
    (folder / ".out.npy.lock").write_text("")
    monkeypatch.setattr("roicli.resume.lock.STALE_SECONDS", 0)
    assert info("out.npy").unfinished is None
    found = info(".out.npy.lock").unfinished
    assert (found.exists, found.state) == (True, "nothing: a run that has ended left this")


def test_a_table_in_the_making(folder):
    (folder / ".rows.csv.partial").write_text("row,image_id\n")
    assert told(folder, ".rows.csv.partial")["state"] == "a table that appears with its output"
    (folder / ".out.npy.skipped.csv.partial").write_text("")
    assert told(folder, ".out.npy.skipped.csv.partial")["output"] == "out.npy"


def test_the_record_of_a_part(folder):
    align(make_job("part.npy", shard=Shard(2, 2)), Silent())
    found = info("part.npy.shard.json")
    assert (found.output, found.parameters["shard"]) == ("part.npy", "2/2")
    assert "belongs to          part.npy" in run(folder, "info", "part.npy.shard.json").stdout
    for damaged in ("[]", "null", '"x"', '{"parameters": {}}', '{"parameters": 5, "output_rows": []}'):
        (folder / "part.npy.shard.json").write_text(damaged)
        refused = run(folder, "info", "part.npy.shard.json", expect=3).stderr
        assert refused.startswith("error: part.npy.shard.json is not as roicli writes it\nhint: ")


def test_the_list_of_boxes_that_are_not_pooled(folder):
    boxes = np.load("boxes.npy")
    boxes[3, 1], boxes[[4, 5], 3:] = np.nan, -1
    np.save("boxes.npy", boxes)
    align(make_job("out.h5", bad_boxes="skip"), Silent())
    found = info("out.h5.skipped.csv")
    assert (found.output, found.boxes.count, found.boxes.unusable) == ("out.h5", 3, 1)


def test_an_index(folder):
    align(make_job("out.npy", index=Path("rows.csv")), Silent())
    found = info("rows.csv")
    assert (found.boxes.count, found.boxes.images) == (BOXES, 60)


@pytest.mark.parametrize("name", [".hidden.partial", ".notes.txt.partial", ".journal", ".x.y.lock"])
def test_hidden_files_of_others_are_none_of_ours(folder, name):
    (folder / name).write_text("mine")
    with pytest.raises(RoicliError, match="of no kind that is known"):
        info(name)


def test_nothing_is_written(folder, monkeypatch):
    interrupt(monkeypatch, make_job("out.npz"))
    before = {path: path.stat() for path in folder.iterdir()}
    run(folder, "info", "out.npz")
    assert {path: path.stat() for path in folder.iterdir()}.keys() == before.keys()
    assert all(path.stat().st_mtime_ns == then.st_mtime_ns for path, then in before.items())


def test_a_link_to_an_output_that_is_not_there_yet(folder, monkeypatch):
    interrupt(monkeypatch, make_job("out.npy"))
    Path("link.npy").symlink_to("out.npy")
    assert info("link.npy").unfinished.rows == BOXES


def test_a_pipe_that_is_called_a_lock_is_not_waited_for(folder):
    os.mkfifo(".out.npy.lock")
    assert told(folder, "out.npy")["state"] == f"{folder}/.out.npy.lock is not a regular file"


def test_terminals_are_not_obeyed(folder, monkeypatch):
    """Whatever names, ids and settings hold."""
    interrupt(monkeypatch, make_job("out.npy"))
    journal = journal_path(Path("out.npy"))
    write_journal(journal, *(line.replace('"roi_align"', '"\\u001b[31m"') for line in lines_of(journal)))
    np.savez("maps.npz", **{"a\x1b[2J": np.zeros((3, 9, 9), np.float32)})
    Path("b\x1b[2J.json").write_text(json.dumps({"a\x1b[2J": [[0, 0, 5, 5]]}))
    for command in (["info", "out.npy"], ["info", "maps.npz"], ["check", "maps.npz", "b\x1b[2J.json"]):
        done = run(folder, *command)
        assert "\x1b" not in done.stdout + done.stderr
        assert "\\x1b[" in done.stdout
