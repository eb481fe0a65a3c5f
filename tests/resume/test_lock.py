"""One run writes an output: lock files, what makes them stale, and who may replace them."""

import json
import os
import sys
import time

import pytest

from roicli.errors import OutputError
from roicli.resume import lock as module
from roicli.resume.lock import Lock, LostLockError, read_lock


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out.npy"


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".out.npy.lock"


def lay(path, host="elsewhere", machine="another", process=77):
    path.write_text(json.dumps({"host": host, "machine": machine, "process": process}))


def a_process_that_ended():
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def take(output):
    lock = Lock(output)
    lock.acquire()
    lock.confirm()
    return lock


def test_a_second_run_is_refused(output, path):
    first = take(output)
    with pytest.raises(OutputError, match=rf"is being written by process {os.getpid()} of {os.uname().nodename}"):
        Lock(output).acquire()
    first.release()
    assert not path.exists()
    take(output).release()


def test_a_lock_file_has_its_content_with_its_name(output, path, monkeypatch):
    """A run that is killed while it makes one leaves none; where that cannot be had, it is made all the same."""
    write, seen = os.write, []
    monkeypatch.setattr(os, "write", lambda *given: (seen.append(path.exists()), write(*given))[1])
    take(output).release()
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    take(output).release()
    assert seen == [sys.platform != "linux", True]
    assert not path.exists()


def test_a_foreign_lock_lives_while_it_is_touched(output, path, monkeypatch):
    lay(path)
    with pytest.raises(OutputError, match="is being written by process 77 of elsewhere"):
        Lock(output).acquire()
    now = time.time
    monkeypatch.setattr(module.time, "time", lambda: now() + 599)
    with pytest.raises(OutputError, match="of elsewhere"):
        Lock(output).acquire()
    monkeypatch.setattr(module.time, "time", lambda: now() + 601)
    lock = take(output)
    monkeypatch.undo()
    assert read_lock(path).process == os.getpid()
    lock.release()


def test_a_time_in_the_future_does_not_block_for_ever(output, path, monkeypatch):
    """A restored backup, or a clock that was wrong: what counts is when the file was last changed here."""
    lay(path)
    later = time.time() + 10**9
    os.utime(path, (later, later))
    now = time.time
    monkeypatch.setattr(module.time, "time", lambda: now() + 601)
    take(output).release()


def test_a_process_that_ended_holds_nothing(output, path):
    lay(path, machine=module._machine(), process=a_process_that_ended())
    take(output).release()


def test_a_process_of_another_user_is_alive(output, path, monkeypatch):
    """The system refuses to signal it; that it does not show it in /proc proves nothing."""

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    lay(path, machine=module._machine(), process=a_process_that_ended())
    monkeypatch.setattr(module.os, "kill", refuse)
    with pytest.raises(OutputError, match="is being written by process"):
        Lock(output).acquire()


def test_a_stale_lock_stays_until_everything_else_was_checked(output, path):
    """A run that is refused later must not have removed it."""
    lay(path, machine=module._machine(), process=a_process_that_ended())
    before = path.read_bytes()
    lock = Lock(output)
    lock.acquire()
    lock.release()
    assert path.read_bytes() == before
    lock.acquire()
    lock.confirm()
    assert path.read_bytes() != before


def test_of_two_that_find_a_stale_lock_one_goes_on(output, path):
    lay(path, machine=module._machine(), process=a_process_that_ended())
    first, second = Lock(output), Lock(output)
    first.acquire()
    second.acquire()
    second.confirm()
    with pytest.raises(OutputError, match=f"is being written by process {os.getpid()}"):
        first.confirm()
    first.release()
    second.touch()
    second.release()
    assert not list(path.parent.iterdir())


def test_of_two_that_find_a_stale_lock_the_slow_one_is_refused(output, path):
    """Even where the other is done already: what it found may not be as it is now."""
    lay(path, machine=module._machine(), process=a_process_that_ended())
    slow = Lock(output)
    slow.acquire()
    take(output).release()
    with pytest.raises(OutputError, match="is being written by another run"):
        slow.confirm()


def test_the_heartbeat(output, path):
    lock = take(output)
    os.utime(path, (1, 1))
    lock.touch()
    assert time.time() - path.stat().st_mtime < 60
    path.unlink()
    with pytest.raises(LostLockError, match=r"another run has taken over, or .* was removed"):
        lock.touch()
    lay(path)
    with pytest.raises(LostLockError):
        lock.touch()
    lock.release()
    assert path.exists()  # another run's


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": 3}', '{"host": "a", "machine": "b", "process": "x"}', "\0"])
def test_what_is_not_a_lock_counts_by_its_age(output, path, monkeypatch, text):
    path.write_text(text)
    with pytest.raises(OutputError, match="is being written by process unknown of an unknown host"):
        Lock(output).acquire()
    monkeypatch.setattr(module, "STALE_SECONDS", 0)
    lock = Lock(output)
    lock.acquire()


def test_a_pipe_or_a_link_is_not_a_lock(output, path):
    for make in (os.mkfifo, lambda name: name.symlink_to("/etc/passwd"), os.mkdir):
        make(path)
        with pytest.raises(OutputError, match=r"\.lock is not a regular file"):
            Lock(output).acquire()
        path.rmdir() if path.is_dir() else path.unlink()
