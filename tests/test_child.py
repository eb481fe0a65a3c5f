"""The child that asks libraries about files: its answers, its limits, and what becomes of it."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from roicli import child, interrupts
from roicli.child import Answer
from roicli.errors import FeatureError, FileError

HERE = "test_child"


def echo(path, *arguments):
    return Answer([path, *arguments])


def numbers(path, count):
    return Answer("some", np.arange(count, dtype=">f4").reshape(-1, 2))


def refuse(path):
    raise FeatureError(f"{path} has no maps", "Name another.")


def stumble(path):
    raise SystemError("odd")


def die(path, number):
    os.kill(os.getpid(), number)
    time.sleep(60)


def loop(path):
    while True:
        pass


def fill(path, size):
    return Answer(len(bytearray(size)))


def who(path):
    return Answer([os.getpid(), sorted(map(int, os.listdir("/proc/self/fd")))])  # noqa: PTH208


@pytest.fixture(autouse=True)
def _own_child(tmp_path):
    """Each test has a child of its own, which knows this module."""
    child.stop()
    sys.modules.setdefault(HERE, sys.modules[__name__])
    yield
    child.stop()


@pytest.fixture
def path(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"?")
    return tmp_path / "a.h5"


def ask(function, path, *arguments, **more):
    return child.ask(f"{HERE}:{function.__name__}", path, *arguments, **more)


def test_plain_data_come_back(path):
    assert ask(echo, path, 1, None, ["a", "\udcff"]).value == [str(path), 1, None, ["a", "\udcff"]]


def test_an_array_comes_beside(path):
    value, data = ask(numbers, path, 6)
    assert (value, data.dtype) == ("some", np.dtype(">f4"))
    np.testing.assert_array_equal(data, [[0, 1], [2, 3], [4, 5]])


def test_an_error_is_raised_as_it_is(path):
    with pytest.raises(FeatureError, match="has no maps") as refusal:
        ask(refuse, path)
    assert refusal.value.hint == "Name another."
    with pytest.raises(FileError, match="cannot be read: SystemError: odd"):
        ask(stumble, path)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
def test_a_child_that_dies_is_a_damaged_file(path, number):
    with pytest.raises(FileError, match=r"a\.h5 is damaged: it makes its library crash"):
        ask(die, path, int(number))
    assert ask(echo, path).value == [str(path)]  # by another


def test_a_child_that_is_killed_is_no_damage(path):
    with pytest.raises(FileError, match="its reader was killed"):
        ask(die, path, int(signal.SIGKILL))


def test_a_child_that_comes_to_no_end_is_ended(path, monkeypatch):
    monkeypatch.setattr(child, "_SECONDS", 0.2)
    with pytest.raises(FileError, match=r"a\.h5 is damaged: it takes more than 0\.2 s to open"):
        ask(loop, path)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone keeps to the limit")
def test_a_child_has_so_much_memory(path):
    with pytest.raises(FileError, match="cannot be read: MemoryError"):
        ask(fill, path, 2**29)
    assert ask(fill, path, 2**29, memory=2**28).value == 2**29


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux lists open files")
def test_a_child_holds_nothing_of_its_parent_open(path):
    with path.open() as file:
        _, descriptors = ask(who, path).value
        assert file.fileno() not in descriptors[3:]
    assert len(descriptors) <= 7  # its two pipes, the three streams, what they go to, and the list


def test_one_child_serves_all_questions_and_no_other_process(path):
    first = ask(who, path).value[0]
    assert ask(who, path).value[0] == first
    pid = os.fork()
    if not pid:
        os._exit(ask(who, path).value[0] == first)
    assert os.waitpid(pid, 0)[1] == 0
    assert ask(who, path).value[0] == first


def test_a_process_with_threads_starts_its_child_afresh(path):
    released = threading.Event()
    thread = threading.Thread(target=released.wait)
    thread.start()
    try:
        assert child.ask("roicli.sources.hdf5.inside:take_stock", path_of_maps(path)).value["arrays"]
    finally:
        released.set()
        thread.join()


def test_a_signal_at_its_fork_is_heard_after_it(path, monkeypatch):
    """Modules such as logging have something to do there, in which Python would print it and go on."""
    monkeypatch.setattr(interrupts, "_last", float("-inf"))
    monkeypatch.setattr(interrupts, "_received", None)
    monkeypatch.setattr(os, "fork", lambda fork=os.fork: (os.kill(os.getpid(), signal.SIGTERM), fork())[1])
    before = signal.signal(signal.SIGTERM, interrupts._stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            ask(echo, path)
    finally:
        signal.signal(signal.SIGTERM, before)
    monkeypatch.undo()
    child_of_it = child._child
    assert child_of_it is not None
    assert ask(echo, path).value == [str(path)]
    assert child._child is child_of_it


def test_threads_of_zarr_hinder_no_fork_and_those_of_other_loops_do():
    released = threading.Event()

    async def main():
        waiting = asyncio.get_running_loop().run_in_executor(None, released.wait)
        try:
            return [thread.name for thread in threading.enumerate()], child.can_fork()
        finally:
            released.set()
            await waiting

    names, may = asyncio.run(main())
    assert "asyncio_0" in names
    assert not may
    thread = threading.Thread(target=released.wait, name="zarr_io")
    released.clear()
    thread.start()
    assert child.can_fork() == (sys.platform == "linux")
    released.set()
    thread.join()


def path_of_maps(path):
    import h5py

    with h5py.File(path, "w") as file:
        file["a"] = np.ones((2, 3, 4))
    return path


def test_a_child_ends_with_its_parent(path):
    code = "import pathlib, sys; from roicli import child; print(child._start().pid, flush=True); sys.stdin.read()"
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    for _ in range(2000):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
        except FileNotFoundError:
            break
        if state == "Z":
            break
        time.sleep(0.005)
    else:
        pytest.fail("it is still there")
