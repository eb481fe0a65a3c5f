"""`roicli info`."""

from __future__ import annotations

import json

import click

from roicli.cli.options import PATTERN


@click.command(short_help="Describe a file of feature maps, boxes or pooled features.")
@click.argument("file", type=PATTERN)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def info(file: str, as_json: bool) -> None:
    """Describe FILE: what roicli reads, and what it wrote.

    FILE holds feature maps (.npy, .npz, HDF5, a folder of .npy files, a quoted pattern), boxes (JSON, JSON Lines, CSV,
    .npy) or pooled features, or lies beside them: info tells how far an unfinished output is, and what to do about it.
    No feature is read, so the size of FILE does not matter.

    \b
    Examples:
      roicli info feats.h5
      roicli info boxes.json --json
      roicli info 'feats/*.npy'
    """
    from roicli.jobs.info import info as run_job

    found = run_job(file)
    if as_json:
        click.echo(json.dumps(found.as_dict()))
    else:
        from roicli.cli.infotable import show_info

        show_info(found)
