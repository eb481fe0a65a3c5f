"""`roicli identify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from roicli.cli.command import Command
from roicli.cli.options import FILE, job_options, json_option, quiet_option


@click.command(cls=Command)
@click.argument("reference", type=FILE)
@job_options
@quiet_option
@json_option
def identify(reference: Path, features: str, boxes: Path, quiet: bool, as_json: bool, **options: Any) -> None:
    """Find which convention, or which mistake, made the pooled features in REFERENCE.

    FEATURES, BOXES and the options are those of roicli align, as they should have been. The exit code is 1 if nothing
    fits; the nearest is shown then.

    \b
    Examples:
      roicli identify onnx.npy feats.h5 boxes.json --spatial-scale 1/16
      roicli identify theirs.npy map.npy boxes.npy --stride 16 --json
    """
    from roicli.cli.comparetable import show_identified
    from roicli.cli.render import Display
    from roicli.jobs.alignjob import check_job
    from roicli.jobs.identify import identify as run_job

    job = check_job(features, boxes, **options)
    with Display(quiet=quiet) as display:
        found = run_job(job, reference, display)
    if as_json:
        click.echo(json.dumps(found.as_dict()))
    else:
        show_identified(found)
    if not found.fits:
        click.get_current_context().exit(1)
