"""`roicli check`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from roicli.cli.command import Command, option, print_json
from roicli.cli.options import (
    RUN,
    dtype_option,
    job_options,
    json_option,
    quiet_option,
)


@click.command(cls=Command)
@job_options
@dtype_option
@quiet_option
@json_option
@option(RUN, "--strict", is_flag=True, help="End with exit code 1 if there is a warning.")
def check(features: str, boxes: Path, quiet: bool, as_json: bool, strict: bool, **options: Any) -> None:
    """Do all checks of roicli align without pooling, and follow one box from its file to its map.

    FEATURES, BOXES and the options are those of roicli align, and so is the exit code. check warns of likely mistakes:
    boxes in another format, boxes in 0..1, a wrong spatial scale, maps in another layout.

    \b
    Examples:
      roicli check feats.h5 boxes.json --spatial-scale 1/16
      roicli check 'feats/*.npy' boxes.csv --aligned --json
    """
    from roicli.cli.render import Display
    from roicli.jobs.alignjob import check_job
    from roicli.jobs.check import check as run_job

    job = check_job(features, boxes, **options)
    with Display(quiet=quiet) as display:
        report = run_job(job, display)
    if as_json:
        print_json(report)
    else:
        from roicli.cli.checktable import show_check

        show_check(report)
    if strict and report.warnings:
        click.get_current_context().exit(1)
