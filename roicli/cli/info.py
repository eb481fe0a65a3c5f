"""`roicli info`."""

from __future__ import annotations

import json

import click

from roicli.cli.command import Command
from roicli.cli.flags import as_flags
from roicli.cli.options import PATTERN, json_option


@click.command(cls=Command)
@click.argument("file", type=PATTERN)
@json_option
def info(file: str, as_json: bool) -> None:
    """Describe a file of feature maps, boxes or pooled features.

    FILE is anything that roicli reads or writes: a file, a folder of .npy files, or a quoted pattern. For an output
    that is not complete, info says how far it is and what to do. It reads no features: large files take no longer.

    \b
    Examples:
      roicli info feats.h5
      roicli info boxes.json --json
      roicli info 'feats/*.npy'
    """
    from roicli.jobs.info import info as run_job

    found = run_job(file)
    if as_json:
        plain = found.as_dict()
        if plain["unfinished"] is not None:
            plain["unfinished"]["remedy"] = as_flags(plain["unfinished"]["remedy"])
        click.echo(json.dumps(plain))
    else:
        from roicli.cli.infotable import show_info

        show_info(found)
