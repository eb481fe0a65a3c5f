"""The benchmark: everyone computes the same, jobs are run as they should be, and ratios say their direction."""

import re
import subprocess

import h5py
import numpy as np
import pytest
from bench import jobs
from bench.__main__ import main
from bench.arrays import contestants
from bench.jobs import Job
from bench.scoreboard import HEIGHT, WIDTH, cases, exact, implementations, score
from bench.timing import interleaved, ratio
from bench.workloads import WORKLOADS, Workload

from roicli import roi_align

TINY = Job(3, (4, 20, 30), 3)


def test_workloads_are_those_that_are_published():
    assert [(w.shape, w.rois, w.stride, w.sampling_ratio) for w in WORKLOADS] == [
        ((256, 200, 272), 1000, 4, 2),
        ((256, 200, 272), 1000, 4, -1),
        ((1024, 50, 68), 300, 16, 2),
        ((1024, 50, 68), 300, 16, -1),
        ((256, 50, 68), 1000, 16, 2),
        ((256, 50, 68), 1000, 16, -1),
    ]
    boxes = WORKLOADS[0].boxes()
    sides = boxes[:, 2:] - boxes[:, :2]
    assert (len(boxes), sides.min() >= 15.9, sides.max() <= 500.1) == (1000, True, True)
    assert abs(np.median(sides) / np.sqrt(16 * 500) - 1) < 0.1  # log-uniform
    assert boxes.min() >= 0
    assert (boxes <= np.array([1088, 800, 1088, 800]) + 0.1).all()
    np.testing.assert_array_equal(boxes, WORKLOADS[0].boxes())


@pytest.mark.parametrize("sampling_ratio", [2, -1])
@pytest.mark.parametrize("name", contestants())
def test_all_compute_the_same(name, sampling_ratio):
    workload = Workload((3, 40, 50), 20, 8, sampling_ratio)
    features, boxes = workload.features(), workload.boxes()
    pooled = contestants()[name](features, boxes, workload, 2)()
    expected = roi_align(features, boxes, 7, 1 / 8, sampling_ratio, aligned=True)
    np.testing.assert_allclose(pooled, expected, atol=1e-6, rtol=0)


def test_jobs_write_the_same_and_are_measured(tmp_path):
    TINY.write(tmp_path)
    with h5py.File(tmp_path / "features.h5") as file:
        maps = np.array([file[name][()] for name in "012"])
    boxes = [Workload(TINY.shape, 3, 16).boxes(image) for image in range(3)]
    expected = np.concatenate([roi_align(maps[n], boxes[n], 7, 1 / 16, aligned=True) for n in range(3)])
    for command in jobs.commands(2).values():
        usage = jobs.run(tmp_path, command)
        assert usage["peak_memory"] > 10 << 20
        assert usage["cpu_seconds"] > 0
        np.testing.assert_allclose(np.load(tmp_path / "pooled.npy"), expected, atol=1e-6, rtol=0)
        (tmp_path / "pooled.npy").unlink()


def test_processes_import_nothing_from_the_current_folder(tmp_path, monkeypatch):
    TINY.write(tmp_path)
    for name in ("random", "struct", "json"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not this one')")
    monkeypatch.chdir(tmp_path)
    for command in jobs.commands(2).values():
        jobs.run(tmp_path, command)
        (tmp_path / "pooled.npy").unlink()


def test_a_job_that_fails_is_an_error(tmp_path):
    with pytest.raises(subprocess.CalledProcessError):
        jobs.run(tmp_path, next(iter(jobs.commands(1).values())))


def test_runs_take_turns():
    order = []
    results = interleaved({name: lambda name=name: order.append(name) or len(order) for name in "abc"}, 3)
    assert "".join(order) == "abcabcabc"
    assert results == {"a": [1, 4, 7], "b": [2, 5, 8], "c": [3, 6, 9]}


@pytest.mark.parametrize(
    ("ours", "other", "said"),
    [
        (1, 2, "2.0 x faster"),
        (3, 1, "3.0 x slower"),
        (1, 12.4, "12 x faster"),
        (100, 104, "as fast"),
        (104, 100, "as fast"),
    ],
)
def test_a_ratio_says_its_direction(ours, other, said):
    assert ratio(ours, other) == said


def test_what_it_prints(capsys):
    main(["--rounds", "1", "--threads", "2"], [Workload((4, 20, 30), 10, 16)], [TINY])
    printed = capsys.readouterr().out
    assert re.search(r"cores, .* GiB, .*\nroicli \S+, Python \S+, numpy .*openblas", printed)
    for name in contestants():
        assert re.search(rf"4 x 20 x 30 +10  adaptive  {name} +\d", printed)
    assert re.search(r"3 of 4 x 20 x 30, plain, 3 boxes each +align, 1 worker .*(faster|slower|as fast)\n", printed)


def test_the_scoreboard_holds_all_to_rational_arithmetic():
    """As far as float32 goes; where an adaptive count turns on the last bit, nobody is near."""
    rng = np.random.default_rng(1)
    image = rng.standard_normal((HEIGHT, WIDTH)).astype(np.float32)
    every = cases(rng)
    for name in ("1/14", "edges", "small"):
        given, *how = every[name]
        boxes = np.float32(given[:3])
        right = exact(image, boxes, *how)
        for compute in implementations().values():
            assert score(compute(image, boxes, *how), right)[0] < 50
