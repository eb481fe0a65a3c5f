"""`roicli merge`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from roicli.cli.options import FILE, PATTERN


@click.command(short_help="Join the parts of a job that was shared out.")
@click.argument("output", metavar="OUT", type=FILE)
@click.argument("parts", metavar="PART...", type=PATTERN, nargs=-1, required=True)
@click.option("--virtual", is_flag=True, help="HDF5: refer to the features in the parts instead of copying them.")
@click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print what was joined as JSON.")
def merge(output: Path, parts: tuple[str, ...], virtual: bool, overwrite: bool, quiet: bool, as_json: bool) -> None:
    """Join parts made by roicli align --shard into OUT, in the order of the box file.

    OUT is, byte for byte, what roicli align writes without --shard. It ends as the parts do: .npy, .npz or .h5. Parts
    may be given in any order, or as a quoted pattern. Parts that are missing, doubled or of another job are refused.

    \b
    Examples:
      roicli merge pooled.h5 part-1.h5 part-2.h5 part-3.h5
      roicli merge pooled.npy 'part-*.npy'
      roicli merge pooled.h5 'parts/*.h5' --virtual
    """
    from roicli.cli.render import show_merged
    from roicli.execution import interrupts as signals
    from roicli.jobs.merge import MergeJob
    from roicli.jobs.merge import merge as run_job

    report = run_job(MergeJob(output, parts, virtual, overwrite), lambda rows: signals.check())
    if not quiet:
        show_merged(report)
    if as_json:
        click.echo(json.dumps(report.as_dict()))
