"""`roicli align`."""

from __future__ import annotations

import atexit
import gc
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from roicli.cli.options import (
    FILE,
    PATTERN,
    input_options,
    make_spec,
    memory,
    pool_options,
    reduce_option,
    row_options,
    stacked,
)

if TYPE_CHECKING:
    from roicli.jobs.shards import Shard

run_options = stacked(
    click.option(
        "--workers", type=click.IntRange(1, 1024), metavar="N", help="Work on at most so many cores.  [default: all]"
    ),
    click.option(
        "--batch-size",
        type=click.IntRange(1),
        metavar="N",
        help="Pool and write so many boxes at once.  [default: as many as 16 MiB hold]",
    ),
    click.option(
        "--max-memory",
        type=memory,
        metavar="SIZE",
        help="Memory that all workers together may take, such as 2GiB.  [default: no limit]",
    ),
    click.option(
        "--kernel",
        type=click.Choice(["auto", "numpy", "numba"]),
        default="auto",
        show_default=True,
        help="What computes averages; auto takes numba, compiled code, for large jobs where roicli[fast] is installed.",
    ),
)


def _shard(ctx: click.Context, param: click.Parameter, value: str | None) -> Shard | None:
    from roicli.jobs.shards import read_shard

    return read_shard(value, os.environ) if value is not None else None


@click.command(short_help="Pool the boxes of a file from feature maps in files.")
@click.argument("features", type=PATTERN)
@click.argument("boxes", type=FILE)
@click.option(
    "-o",
    "--output",
    type=FILE,
    metavar="FILE",
    required=True,
    help="File to write: .npy, .npz, .h5 or .hdf5.",
)
@pool_options
@reduce_option
@input_options
@row_options
@click.option(
    "--index",
    type=FILE,
    metavar="FILE",
    help="Also write a CSV that says which box each row of the output is.",
)
@click.option(
    "--shard",
    callback=_shard,
    metavar="I/N|auto",
    help="Do part I of N, counted from 1, for roicli merge. auto: as the array of Slurm or Grid Engine says; "
    "auto/FIRST-LAST: as the task numbers of any array say, PBS too.",
)
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
@click.option("--resume", is_flag=True, help="Go on with this job where it was interrupted.")
@run_options
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print the report of the run as JSON.")
def align(features: str, boxes: Path, quiet: bool, as_json: bool, workers: int | None, **options: Any) -> None:
    """Pool the boxes in BOXES from the feature maps in FEATURES.

    FEATURES is a .npy, .npz or HDF5 file, a folder of .npy files named by image id, or a quoted pattern of them.
    BOXES is a JSON, JSON Lines, CSV or .npy file. Row i of the output is box i of BOXES.

    \b
    Examples:
      roicli align feats.h5 boxes.json -o pooled.npy --size 7 --aligned
      roicli align 'feats/*.h5' instances.json -o pooled.h5 --spatial-scale 1/16
      roicli align map.npy boxes.csv -o means.npy --reduce mean --index rows.csv
    """
    from roicli.cli.render import Display, show_report
    from roicli.execution.interrupts import telling
    from roicli.jobs.align import AlignJob
    from roicli.jobs.align import align as run_job
    from roicli.resume.session import COMPLETE

    # What is there at the end goes with the process: Python need not look through all of it for cycles.
    atexit.register(gc.freeze)
    job = AlignJob(features, boxes, spec=make_spec(options), workers=workers or usable_cores(), **options)
    with telling() as tell:
        with Display(quiet=quiet) as display:
            report = run_job(job, display)
            tell(COMPLETE)
        if not quiet:  # first, since it says that all is written, which standard output may not take any more
            show_report(report)
        if as_json:
            click.echo(json.dumps(report.as_dict()))


def usable_cores() -> int:
    """Count the cores that this process may use, which a container or a batch system may have limited."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
