"""`roicli trace`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from roicli.cli.command import Command
from roicli.cli.lines import say
from roicli.cli.options import FILE, PATTERN, input_options, make_spec, pool_options
from roicli.cli.plain import plain
from roicli.cli.values import sampling_ratio

if TYPE_CHECKING:
    from roicli.spec import PoolSpec


def four_numbers(text: str) -> tuple[float, float, float, float]:
    """Read `x1,y1,x2,y2`."""
    try:
        a, b, c, d = (float(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} are not four numbers, such as 10,20,110,220.") from None
    return a, b, c, d


def bin_place(text: str) -> tuple[int, int]:
    """Read `row,column` of a bin."""
    found = re.fullmatch(r"\s*(\d{1,6})\s*,\s*(\d{1,6})\s*", text)
    if not found:
        raise click.BadParameter(f"{text!r} is no bin; give its row and column, such as 0,0.")
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
        raise click.BadParameter(f"{text!r} is none of {', '.join(known)}, sampling-ratio=N, sampling-ratio=auto.")
    return known[name]


@click.command(cls=Command)
@click.argument("features", type=PATTERN)
@click.argument("boxes", type=FILE, required=False)
@click.option(
    "--roi",
    type=click.IntRange(0),
    default=0,
    metavar="K",
    show_default=True,
    help="Which box of the box file.",
)
@click.option("--image", metavar="ID", help="Count --roi among the boxes of this image only.")
@click.option("--box", type=four_numbers, metavar="x1,y1,x2,y2", help="Trace this box; no box file is read.")
@click.option("--bin", type=bin_place, default="0,0", show_default=True, metavar="ROW,COL", help="Bin to trace.")
@click.option("--channel", type=click.IntRange(0), default=0, show_default=True, metavar="C", help="Channel to trace.")
@pool_options
@input_options
@click.option(
    "--vs",
    type=convention,
    metavar="CONVENTION",
    help="Trace it by another convention too: aligned, no-aligned, sampling-ratio=N, sampling-ratio=auto, "
    "roi-align or roi-pool.",
)
@click.option("--bins", is_flag=True, help="Show the whole pooled block.")
@click.option("--footprint", is_flag=True, help="Show which cells the bin reads, with which total weight.")
@click.option(
    "--limit", type=click.IntRange(0, 10_000), default=100, show_default=True, metavar="N", help="List so many samples."
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, in full precision.")
@click.option("--csv", "as_csv", is_flag=True, help="Print the samples as CSV, in full precision.")
@click.option(
    "--picture",
    type=FILE,
    metavar="FILE",
    help="Draw it to a .png, or sample by sample to a .gif.",
)
@click.option(
    "--point",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="Sample whose four neighbours a .png shows.",
)
@click.option("--overwrite", is_flag=True, help="Replace a picture that exists.")
def trace(
    features: str,
    boxes: Path | None,
    vs: dict[str, Any] | None,
    bins: bool,
    footprint: bool,
    limit: int,
    as_json: bool,
    as_csv: bool,
    picture: Path | None,
    point: int,
    overwrite: bool,
    **options: Any,
) -> None:
    """Explain one number: every sample of one bin of one RoI in one channel.

    FEATURES and BOXES are as in roicli align. Coordinates are in feature cells, 0 at the centre of the first one.

    \b
    Examples:
      roicli trace feats.h5 boxes.json --roi 3 --bin 0,0 --size 7 --aligned
      roicli trace feats.h5 boxes.json --image 139 --channel 5 --picture bin.png
      roicli trace map.npy --box 10,20,110,220 --spatial-scale 1/16 --vs roi-pool
    """
    from roicli.jobs.trace import TraceJob
    from roicli.jobs.trace import trace as run_job

    if as_json and as_csv:
        raise click.UsageError("--json and --csv are two answers to one question; give one of them.")
    if as_csv and (bins or footprint):
        raise click.UsageError("--csv gives samples only; leave --bins and --footprint out, or see both with --json.")
    if picture is None and (_is_given("point") or overwrite):
        raise click.UsageError("--point and --overwrite are for a picture; give --picture too, or leave them out.")
    if picture is not None and picture.suffix.lower() == ".gif" and _is_given("point"):
        raise click.UsageError("--point is for a .png; a .gif goes through all samples.")
    if options["box"] is not None and _is_given("roi"):
        raise click.UsageError("--roi is for a box file, --box for a box without one; give one of them.")
    if (as_json or as_csv) and _is_given("limit"):
        raise click.UsageError("--limit is for the table; --json and --csv give all samples.")
    spec = make_spec(options)
    job = TraceJob(features, boxes, specs=(spec, *_other(spec, vs)), **options)
    traced = run_job(job, lambda text: say(f"note: {text}"))
    titles = [convention_name(one.spec) for one in traced.traces]
    if picture is not None:
        from roicli.picture import draw
        from roicli.resume.partial import check_name

        check_name(picture, overwrite=overwrite)
        whose = plain(f"{traced.origin.words}, image {traced.image_id}")
        draw(traced.traces, picture, point=point, titles=[f"{title}: {whose}" for title in titles])
        say(f"{picture} drawn")
    if as_json or as_csv:
        from roicli.cli.tracedata import as_text

        click.echo(as_text(traced, as_json=as_json), nl=False)
    else:
        from roicli.cli.tracetable import show_traced

        show_traced(traced, titles=titles, limit=limit, bins=bins, footprint=footprint)


def _is_given(name: str) -> bool:
    """Whether an option stands on the command line."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def _other(spec: PoolSpec, vs: dict[str, Any] | None) -> list[PoolSpec]:
    """Spec to compare with, none without --vs."""
    if vs is None:
        return []
    from roicli.pooling.operators import find

    other = replace(find(vs["op"]).adopt(spec), **vs)
    if other == spec:
        raise click.UsageError(f"--vs names what is traced already: {convention_name(spec)}.")
    return [other]


def convention_name(spec: PoolSpec) -> str:
    """Name the convention of a trace."""
    from roicli.pooling.operators import find

    return find(spec.op).convention(spec)
