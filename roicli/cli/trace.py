"""`roicli trace`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from roicli.cli.command import Command, option
from roicli.cli.lines import say
from roicli.cli.options import (
    FILE,
    NUMBERS,
    PATTERN,
    choice_options,
    input_options,
    level_options,
    pool_options,
    quiet_option,
)
from roicli.cli.plain import plain
from roicli.cli.values import matched, sampling_ratio, whole

if TYPE_CHECKING:
    from roicli.spec import PoolSpec

REGION, SHOWN = "What to trace", "What to show"
_MOST = 3  # conventions to compare with: more would leave no room beside each other


def four_numbers(text: str) -> tuple[float, float, float, float]:
    """Read `x1,y1,x2,y2`."""
    try:
        a, b, c, d = (float(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"expected four numbers such as 10,20,110,220, got {text!r}.") from None
    return a, b, c, d


def bin_place(text: str) -> tuple[int, int]:
    """Read `row,column` of a bin."""
    found = matched(r"(\d{1,6})\s*,\s*(\d{1,6})", text, "the row and column of a bin such as 0,0")
    return int(found[1]), int(found[2])


def convention(text: str) -> dict[str, Any]:
    """Read what to compare with: an operator, and the settings in which it differs from what is traced."""
    from roicli.pooling.operators import names
    from roicli.spec import PoolSpec

    name, _, value = text.strip().lower().partition("=")
    default = {"op": PoolSpec.op}
    if name == "sampling-ratio" and value:
        return default | {"sampling_ratio": sampling_ratio(value)}
    known: dict[str, dict[str, Any]] = {
        "aligned": default | {"aligned": True},
        "no-aligned": default | {"aligned": False},
        **{op.replace("_", "-"): {"op": op} for op in names()},
    }
    if name not in known or value:
        raise click.BadParameter(
            f"{text!r} is not a convention; give one of {', '.join(known)}, sampling-ratio=N, sampling-ratio=auto."
        )
    return known[name]


@click.command(cls=Command)
@click.argument("features", type=PATTERN)
@click.argument("boxes", type=FILE, required=False)
@option(REGION, "--roi", type=whole(0), default="0", metavar="K", help="Which box of the box file.")
@option(REGION, "--image", metavar="ID", help="Count --roi among the boxes of this image only.")
@option(REGION, "--box", type=four_numbers, metavar="x1,y1,x2,y2", help="Trace this box; no box file is read.")
@option(REGION, "--bin", type=bin_place, default="0,0", metavar="ROW,COL", help="Bin to trace.")
@option(REGION, "--channel", type=whole(0), default="0", metavar="C", help="Channel to trace.")
@pool_options
@option(
    *(NUMBERS, "--vs"),
    type=convention,
    multiple=True,
    metavar="CONVENTION",
    help="Trace the bin by another convention too: aligned, no-aligned, sampling-ratio=N|auto, or an operator. "
    "Give it up to three times.",
)
@choice_options
@input_options
@level_options
@option(SHOWN, "--point", type=whole(0), metavar="N", help="Sample to explain.  [default: maximum, or first in range]")
@option(SHOWN, "--limit", type=whole(0, 10_000), default="100", metavar="N", help="List N samples.")
@option(SHOWN, "--bins", is_flag=True, help="Show the whole pooled block.")
@option(SHOWN, "--footprint", is_flag=True, help="Show which cells the bin reads, with which total weight.")
@option(SHOWN, "--json", "as_json", is_flag=True, help="Print everything as JSON, in full precision.")
@option(SHOWN, "--picture", type=FILE, metavar="FILE", help="Draw a .png, or a .gif that adds the samples up.")
@option(SHOWN, "--dpi", type=whole(48, 300), default="96", metavar="N", help="Pixels an inch.")
@option(SHOWN, "--overwrite", is_flag=True, help="Replace a picture that exists.")
@quiet_option
def trace(
    features: str,
    boxes: Path | None,
    vs: tuple[dict[str, Any], ...],
    bins: bool,
    footprint: bool,
    limit: int,
    as_json: bool,
    picture: Path | None,
    point: int | None,
    dpi: int,
    overwrite: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Explain one number: every sample of one bin of one RoI in one channel.

    FEATURES and BOXES are as in roicli align. Coordinates are in feature cells, 0 at the center of the first one.

    \b
    Examples:
      roicli trace feats.h5 boxes.json --roi 3 --bin 0,0 --size 7 --aligned
      roicli trace feats.h5 boxes.json --image 139 --channel 5 --picture bin.png
      roicli trace map.npy --box 10,20,110,220 --spatial-scale 1/16 --vs roi-pool
    """
    from roicli.jobs.options import grouped, take_spec
    from roicli.jobs.trace import TraceJob
    from roicli.jobs.trace import trace as run_job
    from roicli.picture.story import check_point

    if picture is None and (_is_given("dpi") or overwrite):
        raise click.UsageError("--dpi and --overwrite are for a picture; give --picture too, or leave them out.")
    if picture is not None and picture.suffix.lower() == ".gif" and point is not None:
        raise click.UsageError("--point is for a .png; a .gif goes through all samples.")
    if options["box"] is not None and _is_given("roi"):
        raise click.UsageError("--roi is for a box file, --box for a box without one; give one of them.")
    if as_json and _is_given("limit"):
        raise click.UsageError("--limit is for the table; --json gives all samples.")
    specs = _specs(take_spec(options), vs)
    job = TraceJob(features, boxes, specs, **grouped(options))
    traced = run_job(job, lambda text: None if quiet else say(f"note: {text}"))
    check_point(traced.traces[0], point)
    titles = [one.operator.convention(one.spec) for one in traced.traces]
    if picture is not None:
        from roicli.newfiles import check_name
        from roicli.picture.draw import draw

        check_name(picture, overwrite=overwrite)
        heading = plain(f"{traced.origin.words}, image {traced.image_id}")
        draw(traced.traces, picture, point=point, heading=heading, titles=titles, dpi=dpi)
        if not quiet:
            say(f"{picture} drawn")
    if as_json:
        from roicli.cli.tracedata import as_json as document

        click.echo(document(traced), nl=False)
    else:
        from roicli.cli.tracetable import show_traced

        show_traced(traced, titles=titles, limit=limit, point=point, bins=bins, footprint=footprint)


def _is_given(name: str) -> bool:
    """Whether an option stands on the command line."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def _specs(spec: PoolSpec, conventions: tuple[dict[str, Any], ...]) -> tuple[PoolSpec, ...]:
    """Return the spec to trace and those to compare with."""
    from roicli.pooling.operators import find

    if len(conventions) > _MOST:
        raise click.UsageError(f"--vs is given {len(conventions)} times; give it at most {_MOST} times.")
    specs = [spec]
    for vs in conventions:
        operator = find(vs["op"])
        other = replace(operator.adopt(spec), **vs)
        if other in specs:
            raise click.UsageError(f"--vs names what is traced already: {operator.convention(other)}.")
        specs.append(other)
    return tuple(specs)
