"""Executors of somebody else: the same bytes as one process, whatever becomes of their workers."""

import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from driving import Silent, interrupt, run
from execution.clusters import make

from roicli.errors import FeatureError, UsageError, WorkerError
from roicli.execution import elsewhere, plan
from roicli.execution.engines import opened
from roicli.execution.worker import Pooler
from roicli.jobs.align import align
from roicli.newfiles import WORK, beside
from roicli.outputs.rowfile import RowFile

OUTPUTS = ["out.npy", "out.h5", "out.npz", "out.zarr"]


def tree(folder):
    """Content of all files in a folder, hidden ones too."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Fresh(Executor):
    """Each task in a new Python, in a folder of its own, as on another machine."""

    def submit(self, work, /, *arguments):
        future = Future()
        code = "import pickle, sys; work, *given = pickle.load(sys.stdin.buffer)\n"
        code += "pickle.dump(work(*given), sys.stdout.buffer)"
        sent = pickle.dumps((work, *arguments))
        done = subprocess.run(
            [sys.executable, "-P", "-c", code], input=sent, stdout=subprocess.PIPE, check=True, cwd="/"
        )
        future.set_result(pickle.loads(done.stdout))
        return future


class Serial(Executor):
    """Each task here and now, unless it fails."""

    def __init__(self, *failures):
        self.failures, self.given = list(failures), []

    def submit(self, work, /, *arguments):
        future = Future()
        self.given.append(arguments)
        if self.failures and (failure := self.failures.pop(0)) is not None:
            future.set_exception(failure)
        else:
            future.set_result(work(*arguments))
        return future


@pytest.fixture(params=["serial", "threads", "processes", "fresh", "dask"])
def executor(request):
    kind = request.param
    if kind == "dask":
        cluster = request.getfixturevalue("cluster")
        return request.getfixturevalue("enter")(opened(cluster.name, 1, print))[0]
    if kind == "processes":
        try:
            return ProcessPoolExecutor(2, get_context("fork"))
        except OSError:
            pytest.skip("needs semaphores, which containers may not have")
    return {"serial": Serial, "threads": lambda: ThreadPoolExecutor(2), "fresh": Fresh}[kind]()


class TestConformance:
    """What holds for any executor."""

    @pytest.mark.parametrize("name", OUTPUTS)
    def test_the_same_bytes(self, inputs, executor, name, monkeypatch):
        if name.endswith(".zarr"):
            pytest.importorskip("zarr")
        if isinstance(executor, Fresh):
            if name != "out.npy":
                pytest.skip("starts Python")
            monkeypatch.setattr(plan, "_TASK_BYTES", 2**30)  # one task, which starts one Python
        align(make(name), Silent())
        expected = tree(inputs)
        with executor:
            report = align(make(name, executor, overwrite=True), Silent())
        assert (report.strategy, report.boxes) == (type(executor).__name__, 32)
        assert tree(inputs) == expected

    def test_what_is_done_is_not_done_again(self, inputs, executor, monkeypatch):
        align(make("usual.npy"), Silent())
        expected = Path("usual.npy").read_bytes()
        interrupt(monkeypatch, make("out.npy"), tasks=1)
        if isinstance(executor, Fresh):
            monkeypatch.setattr(plan, "_TASK_BYTES", 2**30)
        with executor:
            report = align(make("out.npy", executor, resume=True), Silent())
        assert report.resumed > 0
        assert Path("out.npy").read_bytes() == expected


@pytest.mark.parametrize("fails", [CancelledError(), BrokenExecutor("node 7 is gone"), KeyError("node 7")])
def test_what_an_executor_loses_is_given_out_again_or_kept(inputs, fails):
    """A task that is lost is retried; an executor that has ended leaves a job that can be resumed."""
    align(make("usual.npy"), Silent())
    if isinstance(fails, KeyError):
        serial = Serial(None, fails, fails, None, fails)
        align(make("out.npy", serial), Silent())
        assert len(serial.given) == 8 + 3
    else:
        with pytest.raises(WorkerError, match=f"the executor lost its workers .{type(fails).__name__}") as caught:
            align(make("out.npy", Serial(None, fails)), Silent())
        assert "of 32 rows are done" in caught.value.__notes__[0]
        assert align(make("out.npy", resume=True), Silent()).resumed > 0
    assert Path("out.npy").read_bytes() == Path("usual.npy").read_bytes()
    assert not beside(Path("out.npy"), WORK).exists()


def test_tasks_go_out_together_if_there_are_many(inputs, monkeypatch):
    monkeypatch.setattr(elsewhere, "_MOST", 3)
    align(make("usual.npy"), Silent())
    serial = Serial()
    align(make("out.npy", serial), Silent())
    assert [len(arguments[-1]) for arguments in serial.given] == [3, 3, 2]
    assert Path("out.npy").read_bytes() == Path("usual.npy").read_bytes()


def test_a_task_that_is_lost_each_time_ends_the_job(inputs):
    serial = Serial(*[OSError("died")] * 40)
    with pytest.raises(WorkerError, match=r"the executor lost its workers \(OSError: died\)"):
        align(make("out.npy", serial), Silent())


def test_an_executor_that_takes_no_more_is_one_clear_error(inputs):
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(WorkerError, match="cannot schedule new futures after shutdown"):
        align(make("out.npy", executor), Silent())


def test_an_error_of_a_task_is_raised_at_once(inputs, monkeypatch):
    def fail(*_):
        raise FeatureError("it is wrong", "Mend it.")

    monkeypatch.setattr(Pooler, "pool", fail)
    serial = Serial()
    with pytest.raises(FeatureError, match="it is wrong") as caught:
        align(make("out.npy", serial), Silent())
    assert "in fail" in str(caught.value.__cause__), "where it happened"


class TestRefusals:
    """Workers that would compute something else, or elsewhere; each message names both."""

    @pytest.fixture
    def differing(self, inputs, monkeypatch):
        def check(pattern, name=None, values=(), before=lambda: None):
            if name is not None:
                ours = iter(values)
                monkeypatch.setattr(elsewhere, name, lambda: next(ours, "Other"))

            class Late(Serial):
                def submit(self, *arguments):
                    before()
                    return super().submit(*arguments)

            with pytest.raises(WorkerError, match=pattern):
                align(make("out.npy", Late()), Silent())

        return check

    def test_of_another_kernel(self, differing):
        differing(r"the worker on \S+ multiplies by Other, the job by Ours", "blas_kernel", ["Ours"])

    def test_of_another_version(self, differing, monkeypatch):
        monkeypatch.setattr(elsewhere, "_submit", lambda executor, handed, task: executor.submit(
            elsewhere.pool_rows, "0.1.9", *handed, "more", task))  # fmt: skip
        differing(r"has roicli \S+, the job 0\.1\.9")

    def test_without_roicli(self, inputs):
        with pytest.raises(WorkerError, match=r"cannot run roicli .ModuleNotFoundError: no roicli"):
            align(make("out.npy", Serial(ModuleNotFoundError("no roicli"))), Silent())

    @pytest.mark.parametrize(
        "change", [lambda path: path.unlink(missing_ok=True), lambda path: path.write_bytes(b"other")]
    )
    def test_that_see_another_folder(self, differing, change):
        work = beside(Path("out.npy"), WORK)
        differing(r"the worker on \S+ does not see \S+out.npy.work as the job does", before=lambda: change(work))

    def test_that_see_other_features(self, differing):
        def replaced():
            np.save("feats.npy", np.zeros((4, 5, 9, 10), np.float32))

        differing(r"feats.npy on \S+ has 7,328 bytes of .*; where the job began it has 8,048", before=replaced)

    def test_whose_run_has_ended(self, inputs, monkeypatch):
        """Workers that nobody stops refuse what a later run would not know of."""
        serial, modes = Serial(), []
        monkeypatch.setattr(
            serial,
            "submit",
            lambda *given: (modes.append(beside(Path("out.npy"), WORK).stat().st_mode), Serial.submit(serial, *given))[
                1
            ],
        )
        align(make("out.npy", serial), Silent())
        assert {mode & 0o777 for mode in modes} == {0o600}, "it may hold passwords"
        result = elsewhere.pool_rows(*serial.given[0])
        with pytest.raises(WorkerError, match="does not see"):
            raise pickle.loads(result)
        beside(Path("out.npy"), WORK).write_bytes(b"of another run")
        with pytest.raises(WorkerError, match="another run has taken the place"):
            raise pickle.loads(elsewhere.pool_rows(*serial.given[0]))


def test_workers_on_another_machine_flush_what_they_write(inputs, monkeypatch):
    flushed, machines = [], iter(["here"])
    flush = RowFile.flush
    monkeypatch.setattr(elsewhere, "_machine", lambda: next(machines, "there"))
    monkeypatch.setattr(RowFile, "flush", lambda self: (flushed.append(self._access), flush(self)))
    serial = Serial()
    align(make("out.npy", serial), Silent())
    assert flushed.count(os.O_WRONLY) == len(serial.given), "a client of NFS that may read writes back whole pages"


def test_a_process_works_for_one_job_at_a_time(monkeypatch):
    """Paths of each start from its folder; threads that work for the same job share it."""
    seen = []

    def take(handed):
        monkeypatch.setattr(elsewhere, "_held", elsewhere._Held(handed, None, None))
        return elsewhere._held

    def work_for_another():
        with elsewhere._taken("b"):
            seen.append("b")

    monkeypatch.setattr(elsewhere, "_take", take)
    other = threading.Thread(target=work_for_another)
    with elsewhere._taken("a"), elsewhere._taken("a"):
        other.start()
        other.join(0.02)
        assert not seen
    other.join()
    assert seen == ["b"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("slurm", "must be local, dask:... or MODULE:FACTORY, got 'slurm'"),
        ("no.such:thing", "cannot be made: ModuleNotFoundError"),
        ("concurrent.futures:no_such", "cannot be made: AttributeError"),
        ("builtins:dict", "must be a concurrent.futures.Executor, got dict"),
    ],
)
def test_names_that_make_no_executor(inputs, name, message):
    with pytest.raises((UsageError, WorkerError), match=message):
        align(make("out.npy", name), Silent())
    assert not Path("out.npy").exists()


def test_the_command_takes_a_function_of_the_current_folder(inputs):
    Path("cluster.py").write_text("from concurrent.futures import ThreadPoolExecutor as make\n")
    given = ["align", "feats.npy", "boxes.npy", "--size", "2x3", "-q", "--executor"]
    run(inputs, *given, "local", "-o", "a.npy")
    run(inputs, *given, "cluster:make", "-o", "b.npy")
    assert Path("a.npy").read_bytes() == Path("b.npy").read_bytes()
    assert "`" not in run(inputs, *given, "cluster:other", "-o", "c.npy", expect=2).stderr


def test_a_complete_output_needs_no_executor(inputs):
    align(make("out.npy", resume=True), Silent())
    assert align(make("out.npy", "no.such:thing", resume=True), Silent()).resumed == 32
