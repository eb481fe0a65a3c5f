"""The whole job on more and more workers, and on more and more images."""

from __future__ import annotations

from collections.abc import Callable

from roicli.bench.jobfiles import JobSize, temporary_folder, write_boxes, write_features
from roicli.bench.report import Scaling
from roicli.bench.timing import exponent
from roicli.bench.wholejob import align_command, align_name, time_commands

FULL = JobSize(8, (1024, 50, 68), 36)
QUICK = JobSize(4, (512, 50, 68), 36)
_GROWTH = (1, 4, 16)


def time_scaling(size: JobSize, *, threads: int, repeat: int, say: Callable[[str], None]) -> Scaling:
    """Time 1, 2, 4, ... workers up to `threads` on 16 times the images, and all workers on 1, 4 and 16 times."""
    images = [size.images * growth for growth in _GROWTH]
    whole = size.of(images[-1])
    # As many as have two maps each even of the fewest images, so that all sizes are shared out alike.
    all_workers = min(threads, max(1, size.images // 2))
    points = {(count, whole.images) for count in worker_counts(threads)} | {(all_workers, count) for count in images}
    with temporary_folder(whole.read + whole.written) as folder:
        say(f"scaling: {', '.join(map(str, worker_counts(threads)))} workers; {', '.join(map(str, images))} images")
        features, output = write_features(folder / "features.h5", whole), folder / "pooled.npy"
        boxes = {count: write_boxes(folder / f"boxes{count}.json", size.of(count)) for count in images}
        commands = {
            f"{align_name(workers)}, {count} images": align_command(features, boxes[count], output, workers)
            for workers, count in sorted(points)
        }
        runs = dict(zip(sorted(points), time_commands(commands, output, threads, repeat), strict=True))
    by_images = {count: runs[all_workers, count] for count in images}
    return Scaling(
        {workers: runs[workers, whole.images] for workers in worker_counts(threads)},
        by_images,
        exponent(images, [run.cpu for run in by_images.values()]),
    )


def worker_counts(most: int) -> list[int]:
    """Powers of two up to `most`, and `most` itself.

    Examples
    --------
    >>> worker_counts(6)
    [1, 2, 4, 6]
    """
    return sorted({2**power for power in range(most.bit_length())} | {most})
