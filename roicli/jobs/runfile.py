"""The report of a run as a file: what ran, on which inputs, and what came of it."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime

import numpy as np

from roicli import __version__
from roicli.errors import OutputError
from roicli.files import Stamp
from roicli.jobs.alignjob import AlignJob
from roicli.jobs.prepare import PoolJob
from roicli.jobs.report import RunReport
from roicli.newfiles import NewFile, check_name, flush_folder, writing
from roicli.outputs.base import Parameters

_NANO = 10**9


def check_report(job: AlignJob) -> None:
    """Refuse a name that the report of a job cannot or must not have."""
    if job.report is not None:
        if job.report.suffix.lower() != ".json":
            raise OutputError(f"{job.report}: the report is JSON", "Give it a name that ends in .json.")
        check_name(job.report, overwrite=job.overwrite or job.resume)


def write_report(job: AlignJob, report: RunReport, parameters: Parameters, inputs: Mapping[str, Stamp]) -> None:
    """Write the report of a job that is done, if one is wanted: all of it appears at once, or nothing.

    Raises OutputError: it cannot be written; the output is complete.
    """
    if job.report is None:
        return
    run = {field.name: getattr(job, field.name) for field in fields(AlignJob)}
    said = {
        "roicli": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": f"{platform.node()}, {platform.platform()}",
        "ended": _when(time.time()),
        "options": {name: value for name, value in parameters.items() if name != "roicli_version"}
        | {name: value for name, value in run.items() if name not in {field.name for field in fields(PoolJob)}},
        "inputs": [
            {"name": name, "bytes": stamp.size, "modified": _when(stamp.modified / _NANO)}
            for name, stamp in inputs.items()
        ],
        **report.as_dict(),
    }
    made = NewFile(job.report, overwrite=True)
    try:
        made.write([json.dumps(said, indent=1, default=str).encode() + b"\n"])
        made.publish()
        with writing(job.report):
            flush_folder(made.final)
    except OutputError as error:
        raise OutputError(f"{job.output} is complete, but {error.message}", error.hint) from error
    finally:
        made.remove()


def _when(seconds: float) -> str:
    """Return a time in UTC, in words of ISO 8601."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()
