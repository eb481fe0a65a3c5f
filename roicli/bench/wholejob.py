"""The whole job, files to files, as processes: `roicli align`, a script around torchvision, and the floor."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from roicli.bench.children import Usage, as_run, run_python
from roicli.bench.jobfiles import JobSize, temporary_folder, write_boxes, write_features
from roicli.bench.report import Comparison, Run
from roicli.bench.timing import interleaved

FULL = JobSize(64, (1024, 50, 68), 36)
QUICK = JobSize(16, (512, 50, 68), 36)
ONE_MAP = JobSize(1, (1024, 50, 68), 10)


def time_jobs(
    size: JobSize, peers: Container[str], *, threads: int, repeat: int, say: Callable[[str], None]
) -> Iterator[Comparison]:
    """Time a job on uncompressed and on gzip features, and one on a single map with ten boxes."""
    cases = ((size, None, (threads, 1)), (size, "gzip", (threads, 1)), (ONE_MAP, None, (threads,)))
    for case, compression, workers in cases:
        with temporary_folder(case.read + case.written) as folder:
            work = job_lines(case, compression)
            say(f"whole job: {', '.join(work)}")
            features = write_features(folder / "features.h5", case, compression)
            boxes = write_boxes(folder / "boxes.json", case)
            output = folder / "pooled.npy"
            commands = {align_name(count): align_command(features, boxes, output, count) for count in workers}
            for name in ("torchvision", "floor") if "torchvision" in peers else ("floor",):
                commands[name] = ["-m", f"roicli.bench.{name}_job", str(features), str(boxes), str(output)]
            yield Comparison(work, (align_name(threads),), time_commands(commands, output, threads, repeat))


def time_commands(commands: Mapping[str, Sequence[str]], output: Path, threads: int, repeat: int) -> tuple[Run, ...]:
    """Run all commands in turn; each finds no output of another, and leaves none for the disk to be busy with."""

    def run(arguments: Sequence[str]) -> Usage:
        usage = run_python(arguments, threads)
        output.unlink()
        return usage

    usages = interleaved({name: partial(run, arguments) for name, arguments in commands.items()}, repeat)
    return tuple(as_run(name, rounds) for name, rounds in usages.items())


def align_name(workers: int) -> str:
    """Name `roicli align` with so many workers."""
    return f"align, {workers} worker{'s' * (workers != 1)}"


def align_command(features: Path, boxes: Path, output: Path, workers: int) -> list[str]:
    """Ask for what the torchvision script computes."""
    settings = ["--size", "7", "--aligned", "--spatial-scale", "1/16", "--workers", str(workers), "--quiet"]
    return ["-m", "roicli", "align", str(features), str(boxes), "-o", str(output), *settings]


def job_lines(size: JobSize, compression: str | None) -> tuple[str, ...]:
    """Describe a job in a few lines."""
    maps, each = ("map", "") if size.images == 1 else ("maps", " each")
    return (
        f"{size.images} {maps}, {compression or 'plain'}",
        " x ".join(map(str, size.shape)),
        f"{size.boxes} boxes{each}",
        f"{size.read / 1e6:.0f} MB read",
        f"{size.written / 1e6:.0f} MB written",
    )
