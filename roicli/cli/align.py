"""`roicli align`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from roicli.cli.command import Command, option, print_json
from roicli.cli.options import (
    FILE,
    OUTPUT,
    dtype_option,
    index_option,
    job_options,
    json_option,
    layout_options,
    overwrite_option,
    quiet_option,
    run_options,
)


@click.command(cls=Command)
@job_options
@option(
    OUTPUT,
    *("-o", "--output"),
    type=FILE,
    metavar="FILE",
    required=True,
    help="File to write; its ending says the format, such as .npy, .h5 or .zarr (roicli help formats).",
)
@index_option
@option(OUTPUT, "--sidecar", is_flag=True, help="Also write OUTPUT.origin.json beside an .npy: how it was made.")
@option(
    OUTPUT,
    "--report",
    type=FILE,
    metavar="FILE",
    help="Also write a JSON file about the run: versions, inputs, counts.",
)
@layout_options
@option(
    OUTPUT,
    "--group-by",
    type=click.Choice(["category", "image"]),
    help="Write one row for each category or image: the mean of its boxes.",
)
@dtype_option
@overwrite_option
@run_options
@quiet_option
@json_option
def align(features: str, boxes: Path, quiet: bool, as_json: bool, **options: Any) -> None:
    """Pool the boxes in BOXES from the feature maps in FEATURES.

    FEATURES is a file, a folder of .npy files named by image id, or a quoted pattern; BOXES likewise, or - for
    standard input. `roicli help formats` lists what both may hold. Row i of the output is box i of BOXES.

    \b
    Examples:
      roicli align feats.h5 boxes.json -o pooled.npy --size 7 --aligned
      roicli align 'feats/*.h5' instances.json -o pooled.h5 --spatial-scale 1/16
      roicli align map.npy boxes.csv -o means.npy --reduce mean --index rows.csv
    """
    from roicli.cli.render import Display, show_report
    from roicli.jobs.align import align as run_job
    from roicli.jobs.alignjob import align_job

    spatial = options.pop("spatial")
    job = align_job(features, boxes, spatial=spatial and int(spatial), **options)
    with Display(quiet=quiet) as display:
        report = run_job(job, display)
    if not quiet:  # before the JSON, which a full disk may refuse
        show_report(report)
    if as_json:
        print_json(report)
