"""`roicli verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from roicli.cli.command import Command, option, print_json
from roicli.cli.options import FILE, RUN, dtype_option, job_options, json_option, quiet_option
from roicli.cli.values import tolerance as read_tolerance
from roicli.cli.values import whole


@click.command(cls=Command)
@click.argument("reference", type=FILE)
@job_options
@dtype_option
@option(
    *(RUN, "--tolerance"),
    type=read_tolerance,
    default="1e-5",
    metavar="X",
    help="Largest difference that is allowed, in units of the spread of the values.",
)
@option(RUN, "--workers", type=whole(1, 1024), metavar="N", help="Use at most N cores.  [default: all]")
@quiet_option
@json_option
def verify(
    reference: Path,
    features: str,
    boxes: Path,
    quiet: bool,
    as_json: bool,
    tolerance: float,
    workers: int | None,
    **options: Any,
) -> None:
    """Compare the pooled features in REFERENCE with what roicli align computes.

    FEATURES, BOXES and the options are those of roicli align. Options that REFERENCE records need not be given. The
    exit code is 1 if a difference is beyond the tolerance.

    \b
    Examples:
      roicli verify pooled.h5 feats.h5 boxes.json
      roicli verify onnx.npy feats.h5 boxes.json --spatial-scale 1/16 --aligned --tolerance 1e-4
    """
    from roicli.cli.comparetable import show_verified
    from roicli.cli.render import Display
    from roicli.jobs.alignjob import check_job
    from roicli.jobs.foreign import read_reference
    from roicli.jobs.verify import verify as run_job
    from roicli.pooling.team import usable_cores

    context = click.get_current_context()
    chosen = {
        name: value
        for name, value in options.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    known = read_reference(reference)
    chosen = known.options(chosen)
    job = check_job(features, boxes, **chosen)
    with Display(quiet=quiet) as display:
        report = run_job(job, known, display, tolerance=tolerance, workers=workers or usable_cores())
    if as_json:
        print_json(report)
    else:
        show_verified(report, features, boxes, chosen)
    if not report.agrees:
        context.exit(1)
