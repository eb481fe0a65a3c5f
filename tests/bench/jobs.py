"""Whole jobs as processes: `roicli align`, and a script around torchvision where that is installed."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import h5py

import roicli

from . import launch
from .timing import interleaved
from .workloads import BINS, Workload


@dataclass(frozen=True)
class Job:
    """An HDF5 file of one (C, H, W) dataset an image, and so many boxes on each."""

    images: int
    shape: tuple[int, int, int]
    boxes: int
    compression: str | None = None
    chunks: tuple[int, ...] | None = None  # of one dataset of all maps

    def __str__(self):
        shape = " x ".join(map(str, self.shape))
        chunks = f" in chunks {self.chunks}" if self.chunks else ""
        return f"{self.images} of {shape}, {self.compression or 'plain'}{chunks}, {self.boxes} boxes each"

    def write(self, folder):
        """Write the features, flushed, and a JSON file of boxes."""
        workload = Workload(self.shape, self.boxes, 16)
        with h5py.File(folder / "features.h5", "w") as file:
            if self.chunks:
                shape, cells = (self.images, *self.shape), workload.features()
                stack = file.create_dataset("features", shape, "f4", chunks=self.chunks, compression=self.compression)
                for first in range(0, self.shape[0], self.chunks[1]):
                    part = cells[first : first + self.chunks[1]]
                    stack[:, first : first + len(part)] = [part + image for image in range(self.images)]
            for image in range(0 if self.chunks else self.images):
                file.create_dataset(str(image), data=workload.features() + image, compression=self.compression)
        with (folder / "features.h5").open("rb") as written:
            os.fsync(written.fileno())  # or the disk is still busy with it while jobs are timed
        boxes = {str(image): workload.boxes(image).tolist() for image in range(self.images)}
        (folder / "boxes.json").write_text(json.dumps(boxes))


JOBS = [Job(64, (1024, 50, 68), 36), Job(64, (1024, 50, 68), 36, "gzip"), Job(1, (1024, 50, 68), 10)]
# The chunks that h5py chooses for 1000, 5000, 1000, 500 and 123,287 maps: each holds pieces of many.
JOBS += [
    Job(126, (2048, 14, 14), 2, "gzip", (63, 128, 2, 2)),
    Job(313, (2048, 7, 7), 2, "gzip", (313, 128, 1, 1)),
    Job(63, (1024, 38, 63), 2, "gzip", (63, 64, 3, 4)),
    Job(32, (256, 200, 272), 2, "gzip", (32, 16, 13, 17)),
    Job(1927, (2048, 14, 14), 2, "gzip", (1927, 64, 1, 1)),
]


def commands(threads, beside=None):
    """Return the commands that take turns, by name; `beside` is the Python of another roicli."""
    settings = ["--size", str(BINS), "--aligned", "--spatial-scale", "1/16", "--quiet", "--workers"]
    align = ["-m", "roicli", "align", "features.h5", "boxes.json", "-o", "pooled.npy", *settings]
    found = {f"align, {threads} workers": [sys.executable, "-P", *align, str(threads)]}
    if beside:
        found["align, beside"] = [beside, "-P", *align, str(threads)]
    found["align, 1 worker"] = [sys.executable, "-P", *align, "1"]
    if find_spec("torchvision"):
        found["torchvision"] = [sys.executable, "-P", str(Path(__file__).with_name("torchvision_job.py"))]
    return found


def run(folder, command, threads=1):
    """Run a command in a folder; return its wall time, processor time and peak memory.

    -P in the command: a random.py in the folder is not Python's.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled
    if command[0] == sys.executable:
        environment["PYTHONPATH"] = str(Path(roicli.__file__).parent.parent)  # the roicli that is timed on arrays
    starter = [sys.executable, "-I", "-S", launch.__file__, *command]
    done = subprocess.run(starter, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def time_job(folder, job, rounds, threads, beside=None):
    """Write a job's files, and run all commands on them in turn."""
    job.write(folder)

    def once(command):
        usage = run(folder, command, threads)
        (folder / "pooled.npy").unlink()
        return usage

    return interleaved({name: partial(once, command) for name, command in commands(threads, beside).items()}, rounds)
