"""What may happen to a cluster of Dask: the bytes are those of one process, or the job can be resumed."""

import os
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import Executor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from driving import Silent, content, wait_until
from execution.clusters import make

from roicli.errors import WorkerError
from roicli.execution import elsewhere
from roicli.execution.engines import opened
from roicli.jobs.align import align

HERE = Path(__file__).parent
# Some machines have no memory that processes share; there it is mounted for those that a test starts.
OWN_SHM = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs none /dev/shm && exec "$@"', "sh"]
# Networks, processes and mounts that end with the test.
OWN_NETWORKS = ["unshare", "-rmnpf", "--kill-child", "--mount-proc", "bash", HERE / "networks.sh"]


class Deadly(Silent):
    """Does something once, when the first rows are done."""

    def __init__(self, *then):
        super().__init__()
        self.then = list(then)

    def advance(self, boxes):
        if self.then:
            self.then.pop()()


def resumed(note):
    """Resume what a failure has left, and compare it with what one process writes."""
    assert "of 32 rows are done; continue with `resume`" in note
    align(make("usual.npy"), Silent())
    assert align(make("out.npy", resume=True), Silent()).resumed > 0
    assert Path("out.npy").read_bytes() == Path("usual.npy").read_bytes()


def run_apart(before, script, *arguments):
    """Run a script of this folder in a process group of its own, as a shell does; return what it says."""
    if before and subprocess.run([*before[:2], "true"], check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("needs namespaces of Linux")
    known = os.environ | {"PYTHONPATH": str(HERE.parent)}
    command = [*before, sys.executable, HERE / script, *arguments]
    return subprocess.run(command, env=known, process_group=0, capture_output=True, text=True, check=True)


def same_as_serial(names):
    """Compare outputs with those of one process."""
    for name in names:
        Path(name).rename(f"other-{name}")
        align(make(name), Silent())
        assert content(Path(name)) == content(Path(f"other-{name}"))


@pytest.fixture
def outputs(dose):
    pytest.importorskip("distributed")
    return ["out.npy", "out.h5", *["out.zarr"] * (find_spec("zarr") is not None)]


def test_a_cluster_on_this_machine(inputs, outputs):
    """Of four workers; then Ctrl-C ends a job, which all processes hear, and only one speaks of."""
    done = run_apart([] if os.access("/dev/shm", os.W_OK) else OWN_SHM, "on_this_machine.py", *outputs)
    assert "4 workers of Dask" in done.stdout
    assert "continue with `resume`" in done.stdout
    assert not done.stderr
    same_as_serial([*outputs, "stopped.npy"])


def test_workers_in_networks_of_their_own(inputs, outputs):
    """As on other machines, with folders of their own, but for that of the job."""
    assert run_apart(OWN_NETWORKS, "on_other_machines.py", *outputs).stdout == "node2 node3\n"
    same_as_serial(outputs)


def test_workers_that_are_killed_at_random(inputs, cluster, enter, dose):
    """Twenty die while a job runs, each with what it was at; others take their places."""
    np.save("boxes.npy", np.array([[n % 4, n % 5, 0, 5 + n % 3, 6.5] for n in range(1600)], np.float64))
    align(make("usual.npy"), Silent())
    killed, lucky = 0, random.Random(dose)
    dask = enter(opened(cluster.name, 4, print))[0]

    class Lossy(Executor):
        """Kills a worker after each 20 of 400 tasks."""

        def __init__(self):
            self.tasks = 0

        def submit(self, *arguments):
            nonlocal killed
            self.tasks += 1
            if self.tasks % 20 == 0 and killed < 20 * dose:
                assert wait_until(lambda: len(dask._client.nthreads()) >= 2), "workers start"
                cluster.replace(lucky.randrange(4))
                killed += 1
            return dask.submit(*arguments)

    align(make("out.npy", Lossy()), Silent())
    assert killed == 20
    assert Path("out.npy").read_bytes() == Path("usual.npy").read_bytes()


def test_a_scheduler_that_dies_leaves_what_can_be_resumed(inputs, cluster, capfd):
    with pytest.raises(WorkerError, match="the executor lost its workers") as caught:
        align(make("out.npy", cluster.name), Deadly(lambda: cluster.kill(cluster.scheduler)))
    assert not capfd.readouterr().err
    resumed(caught.value.__notes__[0])


def test_a_job_does_not_wait_for_ever_for_workers(inputs, cluster, monkeypatch):
    """They may all go; how long to wait for others is set as Dask says."""
    import dask

    monkeypatch.setattr(elsewhere, "_LOOK", 0.01)
    with (
        dask.config.set({"distributed.scheduler.no-workers-timeout": "100 ms"}),
        pytest.raises(WorkerError, match="the executor has had no worker for 0 s") as caught,
    ):
        align(make("out.npy", cluster.name), Deadly(cluster.kill_workers))
    cluster.start_workers()
    resumed(caught.value.__notes__[0])


def test_a_signal_ends_the_wait(inputs, cluster, enter):
    dask = enter(opened(cluster.name, 4, print))[0]

    def stop():
        cluster.kill_workers()
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt) as caught:
        align(make("out.npy", dask), Deadly(stop))
    resumed(caught.value.__notes__[0])
    cluster.start_workers()

    def states(dask_scheduler):
        return {task.state for task in dask_scheduler.tasks.values()}

    assert wait_until(lambda: dask._client.run_on_scheduler(states) <= {"memory"}), "nothing is left to do"
