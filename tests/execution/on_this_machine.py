"""A script: make outputs by a cluster of Dask on this machine, and one more, which Ctrl-C ends and which is resumed."""

import os
import signal
import sys

from driving import Silent
from execution.clusters import make

from roicli.execution import plan
from roicli.execution.engines import opened
from roicli.jobs.align import align


class Stop(Silent):
    """Sends what a terminal sends at Ctrl-C, when the first rows are done."""

    def advance(self, boxes):
        os.killpg(0, signal.SIGINT)


if __name__ == "__main__":
    plan._TASK_BYTES = 0  # each unit is a task
    with opened("dask:", 4, sys.stdout.write) as (dask, _):
        for name in sys.argv[1:]:
            align(make(name, dask), Silent())
        try:
            align(make("stopped.npy", dask), Stop())
        except KeyboardInterrupt as stopped:
            sys.stdout.write(*stopped.__notes__)
        align(make("stopped.npy", dask, resume=True), Silent())
