"""`roicli project`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from roicli.cli.command import Command, option
from roicli.cli.lines import say
from roicli.cli.options import FILE, OUTPUT, job_options, overwrite_option, quiet_option
from roicli.words import count


@click.command(cls=Command)
@click.argument("pooled", type=FILE)
@job_options
@option(OUTPUT, "-o", "--output", type=FILE, required=True, metavar="MAP", help="File to write: .npz or .npy.")
@option(OUTPUT, "--picture", type=FILE, metavar="FILE", help="Draw the first map, summed over channels, as a .png.")
@overwrite_option
@quiet_option
def project(
    pooled: Path,
    features: str,
    boxes: Path,
    output: Path,
    picture: Path | None,
    overwrite: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Scatter a value a bin back onto the maps that the bins were pooled from.

    POOLED holds (K, C, PH, PW) or (K, PH, PW) values: what matters in each bin, or a gradient. FEATURES gives the sizes
    of the maps, and is not read. Options are those of roicli align; the size is that of POOLED. Each bin adds its value
    to the cells that it reads, times their weights: the adjoint of pooling.

    \b
    Examples:
      roicli project saliency.npy feats.h5 boxes.json -o maps.npz --stride 16 --aligned
      roicli project saliency.npy map.npy boxes.json -o map-of-saliency.npy --picture saliency.png
    """
    from roicli.jobs.project import project as run_job
    from roicli.jobs.project import project_job

    if picture is not None:
        from roicli.newfiles import check_name
        from roicli.picture.heat import check_png

        check_png(picture)
        check_name(picture, overwrite=overwrite)
    job = project_job(pooled, features, boxes, output, overwrite=overwrite, **options)
    projected = run_job(job, lambda text: None if quiet else say(f"note: {text}"))
    if picture is not None:
        from roicli.picture.heat import draw_maps

        name, first = next(iter(projected.maps.items()))
        heading = f"{pooled} on the map of image {name}, sum of {count(len(first), 'channel')}"
        draw_maps([first.sum(axis=0)], picture, heading)
    if not quiet:
        say(f"{count(len(projected.maps), 'map')}: {output}")
