"""Clusters of Dask for tests: a scheduler and workers, each a process with a folder of its own."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from driving import wait_until
from execution import forge

from roicli.jobs.align import AlignJob
from roicli.spec import PoolSpec


def make(output, executor="local", **more):
    """Make the job of the fixture `inputs`."""
    return AlignJob("feats.npy", Path("boxes.npy"), PoolSpec((2, 3)), output=Path(output), batch_size=4,
                    executor=executor, **more)  # fmt: skip


class Cluster:
    """A scheduler and its workers, named as people name them."""

    def __init__(self, folder, workers):
        self._folder, self._file, self._started = folder, folder / "scheduler.json", []
        self._forge = subprocess.Popen([sys.executable, forge.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.scheduler = self._start("scheduler", "--port", "0", "--scheduler-file", self._file)
        assert wait_until(self._file.exists)
        self.workers = []
        self.start_workers(workers)
        self.name = f"dask:{self._file}"

    def start_workers(self, number=4):
        """Start workers."""
        self.workers += [self._start_worker() for _ in range(number)]

    def kill_workers(self):
        """Kill all workers."""
        while self.workers:
            self.kill(self.workers.pop())

    def replace(self, number):
        """Kill one worker, and start another in its place."""
        self.kill(self.workers[number])
        self.workers[number] = self._start_worker()

    def _start_worker(self):
        return self._start("worker", "--scheduler-file", self._file, "--no-nanny", "--nthreads", "1")

    def _start(self, what, *arguments):
        folder = self._folder / str(len(self._started))
        folder.mkdir()
        words = [what, str(folder), "--host", "127.0.0.1", "--no-dashboard", *map(str, arguments)]
        self._forge.stdin.write(json.dumps(words).encode() + b"\n")
        self._forge.stdin.flush()
        self._started.append(int(self._forge.stdout.readline()))
        return self._started[-1]

    @staticmethod
    def kill(process):
        """Kill a worker or the scheduler; returns when it is gone."""
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        assert wait_until(lambda: not Cluster.lives(process))

    @staticmethod
    def lives(process):
        """Whether a worker or the scheduler has not been killed."""
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        return True

    def end(self):
        for process in self._started:
            self.kill(process)
        self._forge.communicate()
