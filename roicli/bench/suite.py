"""All parts of the benchmark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from roicli.bench import scaling, wholejob
from roicli.bench.engine import time_engine
from roicli.bench.machine import describe_machine, describe_versions
from roicli.bench.peers import working_peers
from roicli.bench.report import BenchReport
from roicli.bench.workloads import WORKLOADS
from roicli.errors import WorkerError

Part = Literal["engine", "jobs", "scaling"]


@dataclass(frozen=True)
class Bench:
    """All that `roicli bench` was told.

    Attributes
    ----------
    threads : int
        Threads or worker processes that everyone may use.
    repeat : int
        Rounds of which each figure is the median.
    only : {"engine", "jobs", "scaling"}, optional
        One part instead of all.
    quick : bool
        Smaller work; its ratios say less.
    """

    threads: int
    repeat: int = 5
    only: Part | None = None
    quick: bool = False


def bench(settings: Bench, say: Callable[[str], None]) -> BenchReport:
    """Time what was asked for; `say` is told what is going on.

    Raises
    ------
    RoicliError
        Not enough disk or memory.
    """
    parts = (settings.only,) if settings.only else get_args(Part)
    threads, repeat, quick = settings.threads, settings.repeat, settings.quick
    workloads = [workload.smaller() for workload in WORKLOADS] if quick else WORKLOADS
    job, growing = (wholejob.QUICK, scaling.QUICK) if quick else (wholejob.FULL, scaling.FULL)
    peers = working_peers(say) if {"engine", "jobs"} & {*parts} else {}
    try:
        return BenchReport(
            describe_machine(),
            describe_versions(),
            asdict(settings),
            tuple(time_engine(workloads, peers, threads=threads, repeat=repeat, say=say)) if "engine" in parts else (),
            tuple(wholejob.time_jobs(job, peers, threads=threads, repeat=repeat, say=say)) if "jobs" in parts else (),
            scaling.time_scaling(growing, threads=threads, repeat=repeat, say=say) if "scaling" in parts else None,
        )
    except MemoryError as error:
        raise WorkerError("memory ran out", "Give --quick, or one part with --only.") from error
