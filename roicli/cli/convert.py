"""`roicli convert`."""

from __future__ import annotations

from pathlib import Path

import click

from roicli.cli.command import Command, option, print_json
from roicli.cli.options import (
    FILE,
    OUTPUT,
    index_option,
    json_option,
    layout_options,
    overwrite_option,
    quiet_option,
)


@click.command(cls=Command)
@click.argument("source", metavar="IN", type=FILE)
@click.argument("output", metavar="OUT", type=FILE)
@layout_options
@index_option
@option(OUTPUT, "--dtype", choices=["float16", "float32"], help="Dtype of OUT.  [default: that of IN]")
@overwrite_option
@quiet_option
@json_option
def convert(
    source: Path,
    output: Path,
    output_layout: str | None,
    spatial: str | None,
    index: Path | None,
    dtype: str | None,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Write the output IN anew as OUT, in the format that the name of OUT says.

    IN and OUT are of any format and layout that roicli align writes. Rows are copied some at a time, and read back
    before OUT appears: values, ids and boxes must be those of IN. Numbers too large for --dtype are refused.

    \b
    Examples:
      roicli convert pooled.h5 pooled.parquet --dtype float16
      roicli convert pooled.zarr vqa.h5 --output-layout butd-h5-fixed --spatial 6
      roicli convert pooled.h5 pooled.npy --index rows.csv
    """
    from roicli.cli.render import show_converted
    from roicli.jobs.convert import ConvertJob
    from roicli.jobs.convert import convert as run_job

    job = ConvertJob(source, output, output_layout, int(spatial) if spatial else None, index, dtype, overwrite)
    report = run_job(job, lambda rows: None)
    if not quiet:
        show_converted(report, index)
    if as_json:
        print_json(report)
