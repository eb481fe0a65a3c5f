"""`roicli merge`."""

from __future__ import annotations

from pathlib import Path

import click

from roicli.cli.command import Command, option, print_json
from roicli.cli.options import FILE, OUTPUT, PATTERN, json_option, overwrite_option, quiet_option


@click.command(cls=Command)
@click.argument("output", metavar="OUT", type=FILE)
@click.argument("parts", metavar="PART...", type=PATTERN, nargs=-1, required=True)
@option(OUTPUT, "--virtual", is_flag=True, help="Refer to the features in the parts instead of copying (HDF5 only).")
@overwrite_option
@quiet_option
@json_option
def merge(output: Path, parts: tuple[str, ...], virtual: bool, overwrite: bool, quiet: bool, as_json: bool) -> None:
    """Join the parts that roicli align --shard made into OUT, in the order of the box file.

    OUT equals, byte for byte, what roicli align writes without --shard. OUT and its parts have the same format. Give
    parts in any order, or as a quoted pattern. merge refuses parts that are missing, doubled or of another job.

    \b
    Examples:
      roicli merge pooled.h5 part-1.h5 part-2.h5 part-3.h5
      roicli merge pooled.npy 'part-*.npy'
      roicli merge pooled.h5 'parts/*.h5' --virtual
    """
    from roicli.cli.render import show_merged
    from roicli.jobs.merge import MergeJob
    from roicli.jobs.merge import merge as run_job

    report = run_job(MergeJob(output, parts, virtual, overwrite), lambda rows: None)
    if not quiet:
        show_merged(report)
    if as_json:
        print_json(report)
