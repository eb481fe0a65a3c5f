"""`roicli bench`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from roicli.cli.align import usable_cores
from roicli.cli.lines import say

if TYPE_CHECKING:
    from roicli.bench.suite import Part


@click.command()
@click.option(
    "--only", type=click.Choice(["engine", "jobs", "scaling"]), help="Time one part.  [default: all, one after another]"
)
@click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="What everyone may use.  [default: cores]")
@click.option(
    "--repeat", type=click.IntRange(1), metavar="N", help="Rounds to take medians of.  [default: 5; 1 with --quick]"
)
@click.option("--quick", is_flag=True, help="Smaller work, for a first look.")
@click.option("--quiet", is_flag=True, help="Do not say what is being timed.")
@click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON.")
def bench(only: Part | None, threads: int | None, repeat: int | None, quick: bool, quiet: bool, as_json: bool) -> None:
    """Time roicli on this machine, beside torchvision and onnxruntime where they are installed.

    engine: arrays to arrays, on six workloads. jobs: files to files, as processes, against a torchvision script and
    against plainly reading and writing as much. scaling: more and more workers, and more and more images.

    All take turns on the same data with the same number of threads. Files are made in a temporary folder (TMPDIR),
    3 GB of them at most, and removed.

    \b
    Examples:
      roicli bench
      roicli bench --quick
      roicli bench --only engine --threads 1 --json > engine.json
    """
    from roicli.bench.suite import Bench
    from roicli.bench.suite import bench as run_bench

    def tell(text: str) -> None:
        if not quiet:
            say(text)

    report = run_bench(Bench(threads or usable_cores(), repeat or (1 if quick else 5), only, quick), tell)
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=1))
    else:
        from roicli.cli.benchtable import show_bench

        show_bench(report)
