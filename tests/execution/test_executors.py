"""Who works a plan off: an executor of somebody else's, and processes of ours that may die at any instant."""

import faulthandler
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import replace
from functools import partial
from multiprocessing import active_children, get_context, synchronize

import numpy as np
import pytest
from driving import Silent

from roicli import arrays, interrupts
from roicli.errors import FeatureError, RoicliError, WorkerError
from roicli.execution import executors, plan, processes, worker
from roicli.jobs import likeness, match, trace
from roicli.jobs.align import AlignJob, align
from roicli.sources import open_source
from roicli.spec import PoolSpec


class Elsewhere(Executor):
    """A throw-away executor: each task is run by another Python, as on another machine; one module in all."""

    def submit(self, work, /, *arguments, **named):
        future = Future()
        code = "from pickle import *; from sys import *; work, *given = load(stdin.buffer)\n"
        code += "dump(work(*given), stdout.buffer)"
        sent = pickle.dumps((work, *arguments))
        done = subprocess.run([sys.executable, "-P", "-c", code], input=sent, stdout=subprocess.PIPE, check=True)
        future.set_result(pickle.loads(done.stdout))
        return future


class Broken(Executor):
    def submit(self, work, /, *arguments, **named):
        future = Future()
        future.set_exception(BrokenExecutor("node 7 is gone"))
        return future


@pytest.fixture
def job(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "feats.npy", rng.standard_normal((3, 2, 5, 6), dtype=np.float32))
    np.save(tmp_path / "boxes.npy", np.array([[n % 3, 0, 0, 3 + n % 2, 4] for n in range(12)], np.float64))

    inputs = str(tmp_path / "feats.npy"), tmp_path / "boxes.npy"
    return lambda output: AlignJob(*inputs, PoolSpec((2, 2)), output=tmp_path / output, batch_size=2)


def test_a_signal_that_python_swallows_is_heard_after_the_task(job, monkeypatch):
    """Python prints what is raised in a destructor, and goes on as if nothing had happened."""
    monkeypatch.setattr(interrupts, "_received", signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt) as caught:
        align(job("out.npy"), Silent())
    assert interrupts.exit_code(caught.value) == 143


class Worker:
    """Stands for a Pooler; what its tasks are to do it has from a fork."""

    def __init__(self, works):
        self.works = works

    def pool(self, task):
        return self.works[task]()


class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__("it has no copy")
        self.held = threading.Lock()  # or tblib, which Dask installs, would know how to copy it


def die():
    faulthandler.disable()
    os.kill(os.getpid(), signal.SIGBUS)


def sleep():
    time.sleep(60)


@pytest.fixture(autouse=True)
def _forked(monkeypatch):
    """Fork, and wait less; nobody may be left."""
    monkeypatch.setattr(processes, "start_context", lambda: get_context("fork"))
    monkeypatch.setattr(processes, "_TO_LEAVE", 0.2)
    monkeypatch.setattr(processes, "_TO_END", 0.2)
    yield
    assert not active_children()


def run_all(*works, workers=2):
    with processes.worker_processes(Worker(works).pool, range(len(works)), workers) as results:
        return [result for _, result in results]


def nothing():
    return "done"


def test_each_task_is_done_once():
    assert sorted(run_all(*(partial(int, n) for n in range(100)), workers=3)) == [*range(100)]
    assert run_all(nothing, workers=3) == ["done"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_workers_that_do_not_leave_are_not_waited_for(number):
    """Killed or stopped when all tasks are done: the job is done all the same."""
    with processes.worker_processes(Worker([nothing] * 4).pool, range(4), 2) as results:
        assert len(list(results)) == 4
        for child in active_children():
            os.kill(child.pid, number)


def test_a_worker_that_dies_ends_the_others():
    with pytest.raises(WorkerError, match=r"a worker process died before its work was done \(SIGBUS\)") as caught:
        run_all(sleep, die)
    assert "no input is cut short" in caught.value.hint


def test_a_death_that_no_pipe_tells_is_seen(monkeypatch):
    """A child of the worker still holds its end of the pipe."""
    monkeypatch.setattr(processes, "_LOOK", 0.05)

    def die_with_an_heir():
        if os.fork():
            os._exit(7)
        time.sleep(0.5)
        os._exit(0)

    with pytest.raises(WorkerError, match="exit code 7"):
        run_all(sleep, die_with_an_heir)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FeatureError("it is wrong", "Mend it."), FeatureError),
        (ConnectionResetError(104, "reset"), ConnectionResetError),  # of the task, not of the pipe
        (Unpicklable(1, 2), WorkerError),
    ],
)
def test_the_error_of_a_task_is_raised(error, expected):
    def fail():
        raise error

    with pytest.raises(expected) as caught:
        run_all(sleep, fail)
    assert str(error) in str(caught.value)
    assert "in fail" in str(caught.value.__cause__), "where it happened"


def test_work_that_is_not_inherited_comes_by_a_pipe(monkeypatch):
    class Afresh(type(get_context("fork"))):
        def get_start_method(self):
            return "spawn"

    monkeypatch.setattr(processes, "start_context", Afresh)
    assert sorted(run_all(*(partial(int, n) for n in range(5)))) == [*range(5)]
    with processes.worker_processes(Worker([partial(int, 3)]).pool, [0, 0], 1, 2) as results:
        assert [result for _, result in results] == [3, 3]


def test_the_end_of_a_killed_parent_is_quiet():
    ours, theirs = get_context("fork").Pipe()
    ours.close()
    worker = get_context("fork").Process(target=processes._serve, args=(None, [theirs]))
    worker.start()
    worker.join(10)
    assert worker.exitcode == 1


def test_no_semaphores_are_needed(monkeypatch):
    """They live in /dev/shm, which containers may not have or may not let us write."""

    def refuse(*arguments, **named):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(synchronize, "SemLock", refuse)
    assert run_all(nothing, nothing) == ["done", "done"]


def test_a_worker_that_gets_no_thread_is_one_clear_error(monkeypatch):
    def refuse(*arguments, **named):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(processes.threading, "Thread", refuse)
    with pytest.raises(WorkerError, match="exit code 1"):
        run_all(nothing)


@pytest.fixture
def mapped(tmp_path, monkeypatch):
    """Map all maps; cut the file short as soon as one is laid out or measured."""
    values = np.zeros((3, 64, 40, 48), np.uint16)
    values[:, ::7] = np.arange(48)
    np.save(tmp_path / "feats.npy", values)
    monkeypatch.setattr(arrays, "READ_AT_MOST", 0)
    monkeypatch.setattr(executors, "_APART_BYTES", 0)
    parent = os.getpid()

    def cut(module, name):
        function = getattr(module, name)

        def cut_and_go_on(feature_map, *rest):
            faulthandler.disable()  # or the bus error would be shown among the results of the tests
            os.truncate(tmp_path / "feats.npy", 100)
            assert os.getpid() != parent, "the death of this process would be silent"
            return function(feature_map, *rest)

        monkeypatch.setattr(module, name, cut_and_go_on)

    return cut


@pytest.mark.parametrize("strategy", plan.Strategy)
def test_a_mapped_file_that_is_cut_short_is_a_message(job, tmp_path, mapped, monkeypatch, strategy):
    monkeypatch.setattr(plan, "_strategy", lambda *_: strategy)
    mapped(worker, "channels_last")
    with pytest.raises(RoicliError, match=r"cut short|truncated|than file size"):  # or by one that opens it then
        align(replace(job("out.npy"), workers=2), Silent())
    assert not (tmp_path / "out.npy").exists()


@pytest.mark.parametrize(("module", "name"), [(match, "are_bits"), (trace, "trace_placed")])
def test_one_map_is_looked_at_in_another_process(job, mapped, module, name):
    mapped(module, name)
    given = job("out.npy")
    with pytest.raises(WorkerError, match="cut short"):
        trace.trace(trace.TraceJob(given.features, given.boxes, (given.spec,)), print)


def test_neighbors_are_compared_in_another_process(job, mapped):
    mapped(likeness, "likeness")
    assert likeness.better_reading(open_source(job("out.npy").features), 0, "chw")[1] is None


def test_nothing_is_mapped_where_no_process_can_be_forked(job, tmp_path, mapped, monkeypatch):
    monkeypatch.setattr(processes, "can_fork", lambda: False)
    assert align(job("out.npy"), Silent()).boxes == 12
    feature_map = open_source(str(tmp_path / "feats.npy"))[0]
    os.truncate(tmp_path / "feats.npy", 100)
    assert feature_map.sum() > 0


def test_threads_of_one_process_share_the_work():
    def both():
        assert meeting.wait(10) in (0, 1)
        return os.getpid()

    meeting = threading.Barrier(2)
    with processes.worker_processes(lambda _: both(), range(2), 1, 2) as results:
        assert len({pid for _, pid in results}) == 1
