"""What may happen to a cluster of Dask: the bytes are those of one process, or the job can be resumed."""

import os
import random
import signal
import threading
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
import pytest
from driving import Silent, wait_until
from execution.clusters import make

from roicli.errors import WorkerError
from roicli.execution import elsewhere
from roicli.execution.engines import opened
from roicli.jobs.align import align


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


def test_a_scheduler_that_dies_leaves_what_can_be_resumed(inputs, cluster):
    with pytest.raises(WorkerError, match="the executor lost its workers") as caught:
        align(make("out.npy", cluster.name), Deadly(lambda: cluster.kill(cluster.scheduler)))
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
