"""Whole jobs as processes: started, measured, and ended with us."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from roicli.bench import launch
from roicli.bench.report import Run
from roicli.errors import WorkerError


class Usage(NamedTuple):
    """What one process took, with all those that it started.

    Attributes
    ----------
    seconds, cpu_seconds : float
        Wall and processor time.
    peak_memory : int
        Peak resident bytes of the largest process.
    """

    seconds: float
    cpu_seconds: float
    peak_memory: int


def run_python(arguments: Sequence[str], threads: int) -> Usage:
    """Run this Python with `arguments`, and measure it.

    Raises
    ------
    WorkerError
        It failed; the message ends in what it said last.
    """
    # -P: a random.py in the current folder is not Python's.
    command = [sys.executable, "-I", "-S", launch.__file__, sys.executable, "-P", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    # A group of their own, which a Ctrl-C on the terminal spares: they are ended here, at once and all of them.
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as launcher:
        try:
            found, errors = launcher.communicate()
        except BaseException:
            os.killpg(launcher.pid, signal.SIGKILL)
            raise
    if launcher.returncode:
        name = " ".join(["python", *arguments[:3]])
        said = " ".join(errors.strip().splitlines()[-2:]) or f"exit code {launcher.returncode}"
        raise WorkerError(f"{name} failed: {said}", "If memory ran out, give --quick; or go without, by --only engine.")
    return Usage(**json.loads(found))


def as_run(name: str, usages: Iterable[Usage]) -> Run:
    """Gather what the rounds of one command took."""
    seconds, cpu_seconds, peak_memory = zip(*usages, strict=True)
    return Run(name, seconds, cpu_seconds, peak_memory)
