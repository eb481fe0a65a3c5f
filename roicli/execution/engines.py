"""What runs a job, by its name: workers of our own, Dask, or whatever else makes a `concurrent.futures.Executor`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roicli.errors import UsageError, WorkerError
from roicli.words import count

if TYPE_CHECKING:
    from concurrent.futures import Executor

LOCAL = "local"
_FORMS = "Give local, dask:, dask://HOST:PORT, dask:SCHEDULER_FILE or MODULE:FACTORY (roicli help cluster)."
# Seconds to wait for workers when there are none, unless Dask is set otherwise.
_PATIENCE = 300.0
# What workers of ours do first: else they show tracebacks at Ctrl-C.
_PRELOAD = "from roicli.interrupts import leave_to_parent; leave_to_parent()"
_NO_SCHEDULER = "Check the name, and that the scheduler runs."
_NO_CLUSTER = (
    "Dask starts workers where /dev/shm may be written. Give `executor=local`, or start dask scheduler and dask worker "
    "without nannies, and name that scheduler."
)


@contextmanager
def opened(
    executor: Executor | str, workers: int, note: Callable[[str], None]
) -> Iterator[tuple[Executor | None, int]]:
    """Start what runs a job, or connect to it; yields it, None for workers of our own, and how many workers there are.

    `executor`: it, which is not shut down then; or its name: "local"; "dask:" for a cluster of Dask on this machine,
    "dask://HOST:PORT" or "dask:FILE" for a scheduler that runs; "MODULE:FACTORY" for what a function returns.
    `workers`: how many there are, where the executor does not tell.
    `note`: is told where the work goes.
    Raises UsageError: the name cannot be read, or what it names is not installed. WorkerError: the scheduler does not
    answer, or another failure to start.
    """
    if executor == LOCAL:
        yield None, workers
        return
    with ExitStack() as stack:
        started: Any = executor
        if isinstance(executor, str):
            name, _, address = executor.partition(":")
            start = _dask(address, workers, note) if name == "dask" else _made(executor, workers)
            started, workers = stack.enter_context(start)
        if not callable(getattr(started, "submit", None)):
            raise UsageError(f"`executor` must be a concurrent.futures.Executor, got {type(started).__name__}", _FORMS)
        yield started, workers


@contextmanager
def _made(name: str, workers: int) -> Iterator[tuple[Any, int]]:
    """Call MODULE:FACTORY, where MODULE may lie in the current folder."""
    module, _, factory = name.partition(":")
    if not (module and factory):
        raise UsageError(f"`executor` must be local, dask:... or MODULE:FACTORY, got {name!r}", _FORMS)
    sys.path.append("")
    try:
        executor = getattr(import_module(module), factory)()
    except Exception as error:
        raise UsageError(f"`executor={name}` cannot be made: {type(error).__name__}: {error}", _FORMS) from error
    finally:
        sys.path.remove("")
    with executor if isinstance(executor, AbstractContextManager) else nullcontext():
        yield executor, workers_of(executor) or workers


def workers_of(executor: Any) -> int | None:
    """Return how many workers an executor has, those of Dask now, others at most; None if it does not tell."""
    number: int | None = getattr(executor, "_max_workers", 0) or None
    if client := getattr(executor, "_client", None):
        with suppress(Exception):  # whatever befalls a scheduler; what it was given tells of it
            number = sum(client.nthreads().values())
    return number


def has_forgotten(executor: Any) -> bool:
    """Return whether an executor of Dask knows nothing that it was given: its scheduler died with results on their way.

    It tells of what was not done by then only.
    """
    client = getattr(executor, "_client", None)
    return client is not None and not getattr(client, "futures", True)


def patience() -> float:
    """Return how many seconds to wait for the workers of Dask when there are none."""
    dask: Any = import_module("dask")
    said = dask.config.get("distributed.scheduler.no-workers-timeout", None)
    return float(dask.utils.parse_timedelta(said or _PATIENCE))


@contextmanager
def _dask(address: str, workers: int, note: Callable[[str], None]) -> Iterator[tuple[Any, int]]:
    """Start a cluster of Dask on this machine, or connect to a scheduler."""
    import json
    import logging

    try:
        dask: Any = import_module("distributed")
    except ImportError as error:
        raise UsageError(
            f"`executor=dask:` needs Dask, which cannot be loaded: {error}", "Install it: pip install 'roicli[dask]'."
        ) from error
    # They log tracebacks where Dask loses what we give out again.
    for name in "distributed", "distributed.client", "tornado.application":
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        try:
            if address.startswith("//"):
                cluster: Any = f"tcp:{address}"
            elif address:
                cluster = json.loads(Path(address).read_bytes())["address"]
            else:
                settings = {"threads_per_worker": 1, "dashboard_address": ":0", "preload": _PRELOAD}
                # Our own limit of memory counts, not one by which Dask would end workers.
                settings |= {"memory_limit": None, "silence_logs": logging.CRITICAL}
                cluster = stack.enter_context(dask.LocalCluster(n_workers=workers, **settings))
            with warnings.catch_warnings(action="ignore"):  # of versions, of which only ours matters
                client = stack.enter_context(dask.Client(cluster, set_as_default=False))
            found = sum(client.nthreads().values())
        except (OSError, ValueError, LookupError, TypeError, RuntimeError) as error:
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            hint = _NO_SCHEDULER if address else _NO_CLUSTER
            raise WorkerError(f"`executor=dask:{address}` cannot be used ({said})", hint) from error
        shown = "dashboard" in client.scheduler_info(n_workers=0)["services"]
        where = f", dashboard {client.dashboard_link}" if shown else ""
        note(f"{count(found, 'worker')} of Dask at {client.scheduler.address}{where}")
        yield client.get_executor(pure=False), found or workers
