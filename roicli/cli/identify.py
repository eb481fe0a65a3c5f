"""`roicli identify`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from roicli.cli.command import Command, option, print_json
from roicli.cli.lines import say
from roicli.cli.options import FILE, OUTPUT, job_options, json_option, overwrite_option, quiet_option
from roicli.cli.plain import plain


@click.command(cls=Command)
@click.argument("reference", type=FILE)
@job_options
@option(OUTPUT, "--picture", type=FILE, metavar="FILE", help="Draw solved weights beside those of the options: a .png.")
@overwrite_option
@quiet_option
@json_option
def identify(
    reference: Path,
    features: str,
    boxes: Path,
    picture: Path | None,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Find which convention, or which mistake, made the pooled features in REFERENCE.

    FEATURES, BOXES and the options are those of roicli align, as they should have been. The exit code is 1 if nothing
    fits; the nearest is shown then.

    \b
    Examples:
      roicli identify onnx.npy feats.h5 boxes.json --spatial-scale 1/16
      roicli identify theirs.npy map.npy boxes.npy --stride 16 --picture weights.png
    """
    from roicli.cli.comparetable import UNSOLVED, WEIGHTS, show_identified
    from roicli.cli.render import Display
    from roicli.jobs.alignjob import check_job
    from roicli.jobs.identify import identify as run_job

    if picture is not None:
        from roicli.newfiles import check_name
        from roicli.picture.heat import check_png

        check_png(picture)
        check_name(picture, overwrite=overwrite)
    job = check_job(features, boxes, **options)
    with Display(quiet=quiet) as display:
        found = run_job(job, reference, display, weights=picture is not None)
    solved = found.footprint
    if picture is not None and solved is None:
        say(f"warning: {picture} is not drawn: {UNSOLVED}")
    elif picture is not None and solved is not None:
        from roicli.picture.heat import draw_maps

        heading = plain(f"{reference}, RoI {solved.row}, weights of bin {solved.bin[0]},{solved.bin[1]}")
        draw_maps((solved.read, solved.ours), picture, heading, WEIGHTS, solved.corner)
        if not quiet:
            say(f"{picture} drawn")
    if as_json:
        print_json(found)
    else:
        show_identified(found)
    if not found.fits:
        click.get_current_context().exit(1)
