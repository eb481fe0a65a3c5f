"""A benchmark as people read it: one table a part, each ratio with its direction in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.table import Table

from roicli.bench.report import BenchReport, Comparison, Run
from roicli.cli.console import Console
from roicli.cli.lines import joined

# What the tables need, the longest names in them.
_TABLE = 80


def show_bench(report: BenchReport) -> None:
    """Print what it ran on, and the tables of each part."""
    console = Console()
    console.show("\n".join(joined(_listed(pieces), console.width) for pieces in _heading(report)))
    if report.engine:
        console.show(_engine_table(report.engine), least=_TABLE)
    if report.jobs:
        console.show(_jobs_table(report.jobs), least=_TABLE)
    if report.scaling is not None:
        console.show(_workers_table(report.scaling.by_workers), least=_TABLE)
        console.show(_images_table(report.scaling.by_images, report.scaling.exponent), least=_TABLE)


def _heading(report: BenchReport) -> Iterator[list[str]]:
    """Say what it ran on, with which versions, and how."""
    machine, settings = report.machine, report.settings
    memory = f"{machine['memory'] / 2**30:.0f} GiB"
    yield [f"{settings['threads']} of {machine['cores']} cores", machine["cpu"], memory, machine["system"]]
    yield [f"{name} {version}" for name, version in report.versions.items()]
    rounds = f"medians of {settings['repeat']} rounds" if settings["repeat"] > 1 else "one round"
    yield [rounds, "all in turn", *["smaller work (--quick)"] * settings["quick"]]


def _listed(pieces: Sequence[str]) -> list[str]:
    return [*(f"{piece}," for piece in pieces[:-1]), *pieces[-1:]]


def _engine_table(comparisons: Sequence[Comparison]) -> Table:
    alone = len(comparisons[0].runs) == 1
    ours = () if alone else comparisons[0].ours
    table = _table(
        "Engine: array to array, 7 x 7 bins, aligned",
        None if alone else "difference: the largest of any value, from the first line's",
        ("map, RoIs", "by", "ms", *(f"{name} is" for name in ours), *["difference"] * (not alone)),
    )
    for comparison in comparisons:
        lines = [
            (
                run.name,
                f"{run.wall * 1000:.1f}",
                *(_faster(comparison[name], run) for name in ours),
                *["" if run is comparison.runs[0] else f"{run.difference:.1e}"] * (not alone),
            )
            for run in comparison.runs
        ]
        table.add_row("\n".join(comparison.work), *map("\n".join, zip(*lines, strict=True)))
    return table


def _jobs_table(comparisons: Sequence[Comparison]) -> Table:
    table = _table(
        "Whole job: HDF5 to .npy, as processes, in seconds",
        "align is, memory: the first line against each other. MiB: peak of the largest process. "
        "floor: only reads the maps, and writes and flushes as many bytes",
        ("maps, boxes", "by", "wall", "CPU", "MiB", "align is", "memory"),
    )
    for comparison in comparisons:
        first = comparison.runs[0]
        lines = [(run.name, *_taken(run), _faster(first, run), _smaller(first, run)) for run in comparison.runs]
        table.add_row("\n".join(comparison.work), *map("\n".join, zip(*lines, strict=True)))
    return table


def _workers_table(runs: Mapping[int, Run]) -> Table:
    first = runs[1]
    table = _table("Scaling: the same images, in seconds", None, ("workers", "wall", "CPU", "MiB", "against 1 worker"))
    for workers, run in runs.items():
        table.add_row(str(workers), *_taken(run), _faster(run, first))
    return table


def _images_table(runs: Mapping[int, Run], exponent: float) -> Table:
    fewest, first = next(iter(runs.items()))
    table = _table(
        "Scaling: the same workers, in seconds",
        f"CPU time grows as images to the power of {exponent:.2f}",
        ("images", "wall", "CPU", "MiB", f"CPU time of {fewest}", f"memory of {fewest}"),
    )
    for images, run in runs.items():
        table.add_row(str(images), *_taken(run), f"{run.cpu / first.cpu:.2f} x", f"{run.memory / first.memory:.2f} x")
    return table


def _table(title: str, caption: str | None, headers: Sequence[str]) -> Table:
    """Make a table whose first column, and a second that names who did it, are text; all others are numbers."""
    table = Table(
        title=f"\n{title}",
        caption=caption,
        title_justify="left",
        caption_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
        pad_edge=False,
        show_lines="by" in headers,
    )
    for number, header in enumerate(headers):
        table.add_column(header, justify="left" if number == 0 or header == "by" else "right", no_wrap=True)
    return table


def _taken(run: Run) -> tuple[str, str, str]:
    wall, cpu = (f"{seconds:.{2 if seconds < 100 else 0}f}" for seconds in (run.wall, run.cpu))
    return wall, cpu, f"{run.memory / 2**20:.0f}"


def _faster(ours: Run, other: Run) -> str:
    return "" if ours is other else _direction(other.wall / ours.wall, "faster", "slower", "as fast")


def _smaller(ours: Run, other: Run) -> str:
    return "" if ours is other else _direction(other.memory / ours.memory, "less", "more", "as much")


def _direction(ratio: float, better: str, worse: str, same: str) -> str:
    """Say by how much, and in which direction; three digits are more than a benchmark knows."""
    word, times = (better, ratio) if ratio >= 1 else (worse, 1 / ratio)
    shown = f"{times:.{1 if times < 10 else 0}f}"
    return same if shown == "1.0" else f"{shown} x {word}"
