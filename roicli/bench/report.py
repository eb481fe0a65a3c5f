"""What a benchmark found, for people and for scripts. All times are in seconds, all memory in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Run:
    """One way of doing a piece of work, done several times.

    Attributes
    ----------
    name : str
        Who did it.
    seconds : tuple of float
        Wall time of each round.
    cpu_seconds : tuple of float
        Processor time of each round, all processes together; empty where it was not measured.
    peak_memory : tuple of int
        Peak resident bytes of the largest process in each round; empty where it was not measured.
    difference : float, optional
        Largest difference of its numbers from those of the first run.
    """

    name: str
    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...] = ()
    peak_memory: tuple[int, ...] = ()
    difference: float | None = None

    @property
    def wall(self) -> float:
        """Median wall time."""
        return median(self.seconds)

    @property
    def cpu(self) -> float:
        """Median processor time."""
        return median(self.cpu_seconds)

    @property
    def memory(self) -> float:
        """Median peak memory."""
        return median(self.peak_memory)

    def as_dict(self) -> dict[str, Any]:
        """Return medians, and all that they are medians of."""
        plain: dict[str, Any] = {"name": self.name, "median_seconds": self.wall, "seconds": self.seconds}
        if self.cpu_seconds:
            plain |= {"median_cpu_seconds": self.cpu, "cpu_seconds": self.cpu_seconds}
            plain |= {"median_peak_memory": self.memory, "peak_memory": self.peak_memory}
        if self.difference is not None:
            plain["largest_difference"] = self.difference
        return plain


@dataclass(frozen=True)
class Comparison:
    """The same work, done in several ways in turn.

    Attributes
    ----------
    work : tuple of str
        What was done, in a few short lines.
    ours : tuple of str
        Names of the runs that the others are held against.
    runs : tuple of Run
        In the order in which they took turns.
    """

    work: tuple[str, ...]
    ours: tuple[str, ...]
    runs: tuple[Run, ...]

    def __getitem__(self, name: str) -> Run:
        return next(run for run in self.runs if run.name == name)

    def as_dict(self) -> dict[str, Any]:
        """Return each run, with how many times as long it took, and as much memory, as each of ours."""
        runs = []
        for run in self.runs:
            plain = run.as_dict()
            others = [self[name] for name in self.ours if name != run.name]
            plain["times_as_long_as"] = {other.name: run.wall / other.wall for other in others}
            if run.peak_memory:
                plain["times_the_memory_of"] = {other.name: run.memory / other.memory for other in others}
            runs.append(plain)
        return {"work": self.work, "runs": runs}


@dataclass(frozen=True)
class Scaling:
    """The whole job on more and more workers, and on more and more images.

    Attributes
    ----------
    by_workers, by_images : dict of int to Run
        The same images for all workers, the same workers for all images.
    exponent : float
        Power of the number of images that the processor time grows with.
    """

    by_workers: dict[int, Run]
    by_images: dict[int, Run]
    exponent: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "by_workers": [{"workers": workers} | run.as_dict() for workers, run in self.by_workers.items()],
            "by_images": [{"images": images} | run.as_dict() for images, run in self.by_images.items()],
            "exponent": self.exponent,
        }


@dataclass(frozen=True)
class BenchReport:
    """All that `roicli bench` found; parts that were not asked for are empty.

    Attributes
    ----------
    machine, versions, settings : dict
        What it ran on, and how.
    engine, jobs : tuple of Comparison
        Arrays to arrays; files to files.
    scaling : Scaling, optional
        What more workers and more images do.
    """

    machine: dict[str, Any]
    versions: dict[str, str]
    settings: dict[str, Any]
    engine: tuple[Comparison, ...] = ()
    jobs: tuple[Comparison, ...] = ()
    scaling: Scaling | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON can hold them."""
        return {
            "machine": self.machine,
            "versions": self.versions,
            "settings": self.settings,
            "engine": [comparison.as_dict() for comparison in self.engine],
            "jobs": [comparison.as_dict() for comparison in self.jobs],
            "scaling": self.scaling.as_dict() if self.scaling else None,
        }
