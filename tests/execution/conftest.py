"""What tests of executors share."""

from contextlib import ExitStack

import numpy as np
import pytest
from execution.clusters import Cluster

from roicli.execution import elsewhere, plan


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """Maps and boxes of a job in the current folder; each unit is a task, and goes out by itself."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "_TASK_BYTES", 0)
    monkeypatch.setattr(elsewhere, "_TOGETHER", 1)
    rng = np.random.default_rng(0)
    np.save("feats.npy", rng.standard_normal((4, 5, 9, 11), dtype=np.float32))
    np.save("boxes.npy", np.array([[n % 4, n % 5, 0, 5 + n % 3, 6.5] for n in range(32)], np.float64))
    return tmp_path


@pytest.fixture(scope="session")
def clusters(tmp_path_factory):
    pytest.importorskip("distributed")
    started = []
    yield started
    for one in started:
        one.end()


@pytest.fixture
def cluster(clusters, tmp_path_factory, dose):
    """A cluster of four workers that lives."""
    if not clusters or not clusters[-1].lives(clusters[-1].scheduler):  # a test has killed it
        clusters.append(Cluster(tmp_path_factory.mktemp("cluster"), 4))
    return clusters[-1]


@pytest.fixture
def enter():
    with ExitStack() as stack:
        yield stack.enter_context
