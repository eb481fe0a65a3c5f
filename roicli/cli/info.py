"""`roicli info`."""

from __future__ import annotations

import json
import sys

import click

from roicli.cli.command import Command, option
from roicli.cli.flags import as_flags
from roicli.cli.options import OUTPUT, PATTERN, json_option


@click.command(cls=Command)
@click.argument("file", type=PATTERN)
@option(OUTPUT, "--verify", is_flag=True, help="Read all rows of an output, and compare them with their checksums.")
@json_option
def info(file: str, verify: bool, as_json: bool) -> None:
    """Describe a file of feature maps, boxes or pooled features.

    FILE is anything that roicli reads or writes: a file, a folder of .npy files, or a quoted pattern. For an output
    that is not complete, info says how far it is and what to do. It reads no features: large files take no longer.
    With --verify it does, and finds every bit that has changed since; the exit code is 1 then.

    \b
    Examples:
      roicli info feats.h5
      roicli info boxes.json --json
      roicli info 'feats/*.npy'
      roicli info --verify pooled.h5
    """
    from roicli.jobs.info import info as run_job

    found = run_job(file, verify=verify)
    if as_json:
        plain = found.as_dict()
        if plain["unfinished"] is not None:
            plain["unfinished"]["remedy"] = as_flags(plain["unfinished"]["remedy"])
        click.echo(json.dumps(plain))
    else:
        from roicli.cli.infotable import show_info

        show_info(found)
    if found.verified is not None and found.verified.damaged:
        sys.exit(1)
