"""A damaged journal: a run goes on with what it still proves and ends with the same bytes, or is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
from driving import Silent, files_in, interrupt, kill_while_publishing, run
from resume.resuming import make_stacks

from roicli.errors import OutputError
from roicli.execution import plan
from roicli.jobs.align import AlignJob, align
from roicli.resume.history import find_history
from roicli.resume.journal import journal_path
from roicli.spec import PoolSpec

BOXES = 40
OPTIONS = ("align", "feats.npy", "boxes.npy", "-o", "out.npy", "--index", "rows.csv", "--size", "2")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The inputs of a job of ten tasks, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "_TASK_BYTES", 1)
    make_stacks(3, BOXES)
    return tmp_path


def make_job(suffix):
    spec, index = PoolSpec((2, 2)), Path("rows.csv")
    return AlignJob("feats.npy", Path("boxes.npy"), spec, output=Path(f"out{suffix}"), index=index, batch_size=4)


def content(folder):
    return files_in(folder, "feats.npy", "boxes.npy")


def everything(folder):
    return content(folder) | {path.name: path.read_bytes() for path in folder.glob(".*.journal")}


def restore(folder, before):
    """Make files what they were; those that are it already stay the same files."""
    now = everything(folder)
    for name in now.keys() - before.keys():
        (folder / name).unlink()
    for name, text in before.items():
        if now.get(name) != text:
            (folder / name).write_bytes(text)


def stop_often(monkeypatch, job):
    """Interrupt a job again and again: one checkpoint each time."""
    interrupt(monkeypatch, job, 2)
    for _ in range(3):
        interrupt(monkeypatch, replace(job, resume=True), 2)


def killed_while_publishing(monkeypatch, job, moves):
    """Leave what a run leaves that was interrupted, taken up, and killed after so many moves."""
    interrupt(monkeypatch, job, 4)
    kill_while_publishing(monkeypatch, replace(job, resume=True), moves)


def complete(monkeypatch, job):
    stop_often(monkeypatch, job)
    align(replace(job, resume=True), Silent())


def damages(text, long):
    """A bit of every byte flipped, or every bit; every line lost, doubled or moved, and any lines in a row lost."""
    for place in range(len(text)):
        for bit in range(8) if long else [place % 8]:
            yield text[:place] + bytes([text[place] ^ 1 << bit]) + text[place + 1 :]
    lines = text.splitlines(keepends=True)
    for n, line in enumerate(lines):
        yield b"".join([*lines[:n], *lines[n + 1 :]])
        yield b"".join([*lines[:n], line, *lines[n:]])
        for m in range(n):
            yield b"".join([*lines[:m], line, *lines[m:n], *lines[n + 1 :]])
            yield b"".join([*lines[:m], *lines[n:]])
            yield b"".join([*lines[:m], line, *lines[m + 1 : n], lines[m], *lines[n + 1 :]])


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
@pytest.mark.parametrize(
    "leave",
    [
        stop_often,
        lambda *a: killed_while_publishing(*a, 0),
        lambda *a: killed_while_publishing(*a, 1),
        complete,
    ],
    ids=["stopped often", "killed before it published", "killed after the index", "complete"],
)
def test_no_damage_is_believed(folder, monkeypatch, request, suffix, leave):
    """All that a run knows of a journal is a `Past`: the job is run once for each that any damage gives."""
    if suffix != ".npy" and not request.config.getoption("--long"):
        pytest.skip("with --long 1")
    job = make_job(suffix)
    align(job, Silent())
    expected = content(folder)
    restore(folder, {})
    leave(monkeypatch, job)
    before, path = everything(folder), journal_path(job.output)
    text, whole = path.read_bytes(), find_history(job.output)
    assert text.count(b"\n") >= 3
    pasts = {}
    for damaged in damages(text, request.config.getoption("--long") > 1):
        path.write_bytes(damaged)
        try:
            past = find_history(job.output)
        except OutputError as error:
            past = error
        pasts[str(past)] = damaged, past
    assert str(whole) not in pasts
    assert len(pasts) >= 3
    refusals = 0
    for damaged, past in pasts.values():
        restore(folder, before | {path.name: damaged})
        listener = Silent()
        try:
            align(replace(job, resume=True), listener)
        except OutputError:
            refusals += 1
            assert everything(folder) == before | {path.name: damaged}
        else:
            assert content(folder) == expected
            assert any("is damaged" in note for note in listener.notes) == bool(past and past.damaged)
    assert refusals >= 1


def test_what_is_damaged_is_told(folder, monkeypatch):
    """By a run that goes on, and by info; no run begins anew unless it is told to."""
    stop_often(monkeypatch, make_job(".npy"))
    path = journal_path(Path("out.npy"))
    lines = path.read_bytes().splitlines(keepends=True)
    for number, done in ((2, 0), (4, 14)):
        line = lines[number - 1]
        path.write_bytes(b"".join([*lines[: number - 1], line[:-5] + b"7" + line[-4:], *lines[number:]]))
        far = f"{done} of {BOXES} rows are done"
        assert run(folder, *OPTIONS, expect=3).stderr.startswith(f"error: out.npy is unfinished: {far}\n")
        told = " ".join(run(folder, "info", "out.npy").stdout.split())
        assert f"{far}; line {number} of its journal is damaged, so it and later lines do not count" in told
    done = run(folder, *OPTIONS, "--resume").stderr
    assert "14 of 40 rows of out.npy were there already" in done
    assert f"line 4 of {path} is damaged: rows that only it and later ones prove are computed again" in done
    assert content(folder).keys() == {"out.npy", "rows.csv"}
