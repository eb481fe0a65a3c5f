"""`roicli missing`."""

from __future__ import annotations

import sys

import click

from roicli.cli.command import Command, option, print_json
from roicli.cli.options import OUTPUT, PATTERN, json_option
from roicli.words import count


@click.command(cls=Command)
@click.argument("parts", metavar="PART...", type=PATTERN, nargs=-1, required=True)
@option(OUTPUT, "--array", is_flag=True, help="Print the numbers alone, as sbatch --array takes them: 3,7-9.")
@json_option
def missing(parts: tuple[str, ...], array: bool, as_json: bool) -> None:
    """Say which parts of a job are not done, from the files of those that are.

    Give the parts that roicli align --shard made, or a quoted pattern. The exit code is 1 if parts are missing.

    \b
    Examples:
      roicli missing 'part-*.h5'
      roicli missing 'part-*.h5' && roicli merge pooled.h5 'part-*.h5'
      sbatch --array=$(roicli missing --array 'part-*.h5') job.sh
    """
    from roicli.jobs.missing import missing as run_job

    report = run_job(parts)
    if as_json:
        print_json(report)
    elif array:
        click.echo(report.array)
    else:
        lacking = f"missing: {report.array}" if report.missing else "none is missing"
        click.echo(f"{len(report.done):,} of {count(report.parts, 'part')} are done; {lacking}")
    if report.missing:
        sys.exit(1)
