"""Jobs that tests interrupt, and what they leave."""

import os
from pathlib import Path

import numpy as np
import pytest
from driving import Silent, files_in

from roicli.errors import OutputError
from roicli.jobs.align import AlignJob, align
from roicli.spec import PoolSpec

BOXES = 1500
FORMATS = (".npy", ".npz", ".h5")


def make_job(folder, suffix, **settings):
    os.chdir(folder)
    spec = PoolSpec((64, 64), reduce="mean")
    return AlignJob(
        "feats.h5", Path("boxes.npy"), spec, output=Path(f"out{suffix}"), index=Path("rows.csv"), **settings
    )


def make_stacks(maps, boxes):
    """Write a stack of maps, and boxes on them, into the current folder."""
    rng = np.random.default_rng(0)
    np.save("feats.npy", rng.standard_normal((maps, 2, 8, 8)).astype(np.float32))
    corner = rng.uniform(0, 5, (boxes, 2))
    np.save("boxes.npy", np.concatenate([rng.integers(0, maps, (boxes, 1)), corner, corner + 2], axis=1))


def content(folder):
    return files_in(folder, "feats.h5", "boxes.npy")


def expected(inputs, suffix):
    return {name: (inputs / "expected" / name).read_bytes() for name in (f"out{suffix}", "rows.csv")}


def refused(job):
    """Run a job that is refused and changes nothing; return its message."""
    before = content(Path.cwd())
    with pytest.raises(OutputError) as caught:
        align(job, Silent())
    assert content(Path.cwd()) == before
    return caught.value.message
