"""`roicli check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from roicli.cli.lines import say
from roicli.cli.options import FILE, PATTERN, input_options, make_spec, pool_options, reduce_option, row_options


@click.command(short_help="See what align would do, and whether the boxes make sense.")
@click.argument("features", type=PATTERN)
@click.argument("boxes", type=FILE)
@pool_options
@reduce_option
@input_options
@row_options
@click.option("--quiet", is_flag=True, help="Do not say what was assumed or looks like a mistake.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def check(features: str, boxes: Path, quiet: bool, as_json: bool, **options: Any) -> None:
    """Do all checks of roicli align without pooling, and follow one box from its file to its map.

    FEATURES, BOXES and the options are as in roicli align. Ends as align would: with 0, or with 3 and its message.
    Warns of what looks like a mistake: boxes of another format, normalised, without their spatial scale, or scaled
    twice; maps of another layout.

    \b
    Examples:
      roicli check feats.h5 boxes.json --spatial-scale 1/16
      roicli check 'feats/*.npy' boxes.csv --aligned --json
    """
    from roicli.jobs.check import check as run_job
    from roicli.jobs.prepare import PoolJob

    def tell(kind: str, text: str) -> None:
        if not quiet:
            say(f"{kind}: {text}")

    job = PoolJob(features, boxes, spec=make_spec(options), **options)
    report = run_job(job, lambda text: tell("note", text), lambda text: tell("warning", text))
    if as_json:
        click.echo(json.dumps(report.as_dict()))
    else:
        from roicli.cli.checktable import show_check

        show_check(report)
