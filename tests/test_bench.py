"""`roicli bench`: who takes turns computes the same, what is measured is measured right, and nothing stays behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial

import h5py
import numpy as np
import pytest
from threadpoolctl import threadpool_info

from roicli import roi_align
from roicli.bench import machine
from roicli.bench.children import run_python
from roicli.bench.engine import our_kernels, time_engine
from roicli.bench.jobfiles import JobSize, temporary_folder, write_boxes, write_features
from roicli.bench.peers import working_peers
from roicli.bench.report import BenchReport, Comparison, Run, Scaling
from roicli.bench.scaling import time_scaling, worker_counts
from roicli.bench.timing import exponent, interleaved
from roicli.bench.wholejob import align_command, time_jobs
from roicli.bench.workers import Workers, shared_work
from roicli.bench.workloads import WORKLOADS, Workload
from roicli.cli.benchtable import show_bench
from roicli.errors import OutputError, WorkerError
from roicli.spec import PoolSpec

BENCH = [sys.executable, "-m", "roicli", "bench"]
TINY = JobSize(6, (4, 20, 30), 3)
PEERS = working_peers(print)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where temporary files go; empty again at the end."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


def ours(kernel, features, boxes, spec, threads):
    with Workers(threads) as workers, shared_work(features, boxes, spec) as work:
        return workers.pool(kernel, work)


def theirs(prepare, features, boxes, spec, threads):
    return prepare(features, boxes, spec, threads)()


CALLS = {str(name): partial(ours, name) for name in our_kernels()}
CALLS |= {name: partial(theirs, prepare) for name, prepare in PEERS.items()}


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [2, -1])
@pytest.mark.parametrize("name", CALLS)
def test_all_compute_the_same(name, sampling_ratio, aligned):
    workload = Workload((3, 40, 50), 20, 8)
    features, boxes = workload.features(), workload.boxes()
    pooled = CALLS[name](features, boxes, PoolSpec((5, 4), 1 / 8, sampling_ratio, aligned), 3)
    expected = roi_align(features, boxes, (5, 4), 1 / 8, sampling_ratio, aligned)
    assert pooled.shape == (20, 3, 5, 4)
    assert np.abs(pooled - expected).max() < 1e-6


def test_workloads_are_those_that_are_published():
    assert [(w.shape, w.rois, w.stride, w.sampling_ratio) for w in WORKLOADS] == [
        ((256, 200, 272), 1000, 4, 2),
        ((256, 200, 272), 1000, 4, -1),
        ((1024, 50, 68), 300, 16, 2),
        ((1024, 50, 68), 300, 16, -1),
        ((256, 50, 68), 1000, 16, 2),
        ((256, 50, 68), 1000, 16, -1),
    ]
    assert {(w.spec.output_size, w.spec.aligned) for w in WORKLOADS} == {((7, 7), True)}
    boxes = WORKLOADS[0].boxes()
    sides = boxes[:, 2:] - boxes[:, :2]
    assert len(boxes) == 1000
    assert sides.min() >= 15.9
    assert sides.max() <= 500.1
    assert abs(np.median(sides) / np.sqrt(16 * 500) - 1) < 0.1  # log-uniform
    assert boxes.min() >= 0
    assert (boxes <= np.array([1088, 800, 1088, 800]) + 0.1).all()
    np.testing.assert_array_equal(boxes, WORKLOADS[0].boxes())


def test_runs_take_turns():
    order = []
    results = interleaved({name: lambda name=name: order.append(name) or len(order) for name in "abc"}, 3)
    assert "".join(order) == "abcabcabc"
    assert results == {"a": [1, 4, 7], "b": [2, 5, 8], "c": [3, 6, 9]}


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_exponent(power):
    assert exponent([3, 12, 48], [7 * size**power for size in (3, 12, 48)]) == pytest.approx(power)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("raise RuntimeError('operator does not exist\\nand more')", "RuntimeError: operator does not exist"),
        ("import a_library_that_it_lacks", "ModuleNotFoundError: No module named 'a_library_that_it_lacks'"),
        ("SessionOptions = None", "TypeError: 'NoneType' object is not callable"),
    ],
)
def test_a_broken_peer_is_left_out(module, reason, tmp_path, monkeypatch):
    (tmp_path / "onnxruntime.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "onnxruntime"]:
        monkeypatch.delitem(sys.modules, name)
    notes = []
    assert working_peers(notes.append).keys() == PEERS.keys() - {"onnxruntime"}
    assert notes == [f"note: onnxruntime is installed, but fails, and is left out: {reason}"]


def test_engine_compares_everyone_with_the_first():
    said = []
    (comparison,) = time_engine([Workload((4, 20, 30), 10, 16)], PEERS, threads=2, repeat=3, say=said.append)
    assert said == ["engine: 4 x 20 x 30, 10 RoIs at 1/16, adaptive"]
    assert [run.name for run in comparison.runs] == list(CALLS)
    assert comparison.ours == tuple(map(str, our_kernels()))
    for run in comparison.runs:
        assert len(run.seconds) == 3
        assert run.difference < 1e-6


def test_a_process_is_measured_without_what_we_hold():
    held = np.ones(40 * 2**20)  # 320 MiB
    usage = run_python(["-c", "x = b'1' * (100 << 20); y = sum(range(3_000_000))"], 1)
    assert 100 * 2**20 < usage.peak_memory < held.nbytes / 2
    assert usage.cpu_seconds > 0.02
    assert usage.seconds > 0.02


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("raise ValueError('no such thing')", "ValueError: no such thing"),
        ("import os; os.kill(os.getpid(), 9)", "exit code 137"),
    ],
)
def test_a_process_that_fails(program, message):
    with pytest.raises(WorkerError, match=message) as caught:
        run_python(["-c", program], 1)
    assert "--quick" in caught.value.hint


def test_processes_import_nothing_from_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "random.py").write_text("raise ImportError('not this one')")
    monkeypatch.chdir(tmp_path)
    run_python(["-c", "import random"], 1)


def test_feature_files(tmp_path):
    plain, packed = (write_features(tmp_path / f"{kind}.h5", TINY, kind) for kind in (None, "gzip"))
    with h5py.File(plain) as maps, h5py.File(packed) as same:
        assert sorted(maps) == list("012345")
        assert len({maps[name].id.get_offset() for name in maps} - {None}) == 6
        assert len({maps[name][()].tobytes() for name in maps}) == 4
        for name in maps:
            assert (maps[name].shape, maps[name].dtype) == ((4, 20, 30), np.float32)
            assert (maps[name].compression, same[name].compression) == (None, "gzip")
            np.testing.assert_array_equal(maps[name][()], same[name][()])
    assert TINY.read == 6 * 4 * 20 * 30 * 4


def test_features_are_on_the_disk_before_anything_is_timed(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor)))
    path = write_features(tmp_path / "maps.h5", TINY)
    assert [(status.st_ino, status.st_size) for status in flushed] == [(path.stat().st_ino, path.stat().st_size)]


@pytest.mark.parametrize("name", ["align", "floor", *(["torchvision"] if "torchvision" in PEERS else [])])
def test_every_job_writes_as_much_and_the_same(name, tmp_path):
    features, boxes = write_features(tmp_path / "maps.h5", TINY), write_boxes(tmp_path / "boxes.json", TINY)
    output = tmp_path / "pooled.npy"
    script = ["-m", f"roicli.bench.{name}_job", str(features), str(boxes), str(output)]
    run_python(align_command(features, boxes, output, 1) if name == "align" else script, 1)
    header = 0 if name == "floor" else 128
    assert output.stat().st_size == TINY.written + header
    if name != "floor":
        with h5py.File(features) as maps:
            expected = [
                roi_align(maps[image][()], corners, 7, 1 / 16, aligned=True)
                for image, corners in json.loads(boxes.read_text()).items()
            ]
        np.testing.assert_allclose(np.load(output), np.concatenate(expected), atol=1e-6, rtol=0)


def test_jobs(temporary):
    comparisons = list(time_jobs(TINY, PEERS, threads=2, repeat=2, say=lambda text: None))
    scripts = ["torchvision", "floor"] if "torchvision" in PEERS else ["floor"]
    assert [[run.name for run in comparison.runs] for comparison in comparisons] == [
        ["align, 2 workers", "align, 1 worker", *scripts],
        ["align, 2 workers", "align, 1 worker", *scripts],
        ["align, 2 workers", *scripts],
    ]
    for run in (run for comparison in comparisons for run in comparison.runs):
        assert len(run.seconds) == len(run.cpu_seconds) == len(run.peak_memory) == 2
    json.dumps([comparison.as_dict() for comparison in comparisons])


def test_scaling(temporary):
    scaling = time_scaling(TINY, threads=2, repeat=1, say=lambda text: None)
    assert list(scaling.by_workers) == [1, 2]
    assert list(scaling.by_images) == [6, 24, 96]
    assert scaling.by_workers[2] is scaling.by_images[96]
    assert scaling.exponent == exponent([6, 24, 96], [run.cpu for run in scaling.by_images.values()])


@pytest.mark.parametrize(("cores", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_worker_counts(cores, counts):
    assert worker_counts(cores) == counts


def test_a_full_disk_is_said_before_anything_is_made(temporary, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9e9, 8e9, 1e9))
    with pytest.raises(OutputError, match=r"need 2\.0 GB, .* has 1\.0 GB free") as caught, temporary_folder(2 * 10**9):
        pass
    assert "TMPDIR" in caught.value.hint


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_stays_behind_when_stopped(tmp_path, number):
    arguments = [*BENCH, "--only", "scaling", "--quick"]
    with subprocess.Popen(arguments, env=os.environ | {"TMPDIR": str(tmp_path)}, stderr=subprocess.PIPE) as process:
        while not list(tmp_path.glob("*/.pooled.npy.*")):  # a job of the benchmark is at work
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert b"Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_the_command(tmp_path):
    done = subprocess.run(
        [*BENCH, "--only", "engine", "--quick", "--repeat", "1", "--threads", "2", "--json"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert list(report) == ["machine", "versions", "settings", "engine", "jobs", "scaling"]
    assert set(report["machine"]) == {"system", "cpu", "cores", "memory"}
    assert {"roicli", "Python", "BLAS", "numpy", *PEERS} <= set(report["versions"])
    assert report["settings"] == {"threads": 2, "repeat": 1, "only": "engine", "quick": True}
    assert (len(report["engine"]), report["jobs"], report["scaling"]) == (6, [], None)
    for comparison in report["engine"]:
        assert [run["name"] for run in comparison["runs"]] == list(CALLS)
        for run in comparison["runs"]:
            assert run["largest_difference"] < 1e-6
            assert set(run["times_as_long_as"]) == set(map(str, our_kernels())) - {run["name"]}
    assert done.stderr.count("engine: ") == 6


def test_the_blas_is_named_without_other_libraries_of_threads(monkeypatch):
    openmp = {"user_api": "openmp", "internal_api": "openmp", "version": None}
    monkeypatch.setattr(machine, "threadpool_info", lambda: [openmp, *threadpool_info()])
    assert "openmp" not in machine.describe_versions()["BLAS"]


def report_of(engine_run, job_run):
    """A report of every part, with the longest names and numbers that are likely."""
    names = ("numpy", "numba", "torchvision", "onnxruntime")
    engine = [Run(name, (time_,), difference=4.8e-7) for name, time_ in zip(names, engine_run, strict=True)]
    jobs = [
        Run(name, (seconds,), (seconds * 2,), (memory << 20,))
        for (name, (seconds, memory)) in zip(
            ("align, 128 workers", "align, 1 worker", "torchvision", "floor"), job_run, strict=True
        )
    ]
    return BenchReport(
        {"system": "Linux x86_64", "cpu": "A CPU", "cores": 128, "memory": 2**34},
        {"roicli": "1.0", "numpy": "2.0"},
        {"threads": 2, "repeat": 5, "only": None, "quick": False},
        (Comparison(("1024 x 200 x 272", "1000 RoIs at 1/16", "sampling ratio 2"), ("numpy", "numba"), tuple(engine)),),
        (Comparison(("64 maps, plain", "1024 x 50 x 68", "36 boxes each"), ("align, 128 workers",), tuple(jobs)),),
        Scaling({1: jobs[1], 2: jobs[0]}, {8: jobs[0], 128: jobs[1]}, 0.987),
    )


@pytest.mark.parametrize("columns", [80, 160])
def test_tables_fit(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    show_bench(report_of((0.1, 0.0404, 11.56, 1.2), ((100.0, 1234), (150.0, 123), (1234.5, 1780), (50.0, 60))))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    assert not [line for line in lines if "…" in line]
    assert "onnxruntime 1200.0 12 x faster 30 x faster 4.8e-07" in [" ".join(line.split()) for line in lines]


@pytest.mark.parametrize("columns", [40, 60])
def test_versions_stay_with_their_names(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    report = report_of((1,) * 4, ((1.0, 1),) * 4)
    show_bench(replace(report, versions={"roicli": "1.0", "Python": "3.11.7", "BLAS": "openblas 0.3.31.188.0"}))
    shown = capsys.readouterr().out
    assert f"roicli 1.0, Python 3.11.7,{' ' if columns == 60 else chr(10)}BLAS openblas 0.3.31.188.0\n" in shown
    assert "medians of 5 rounds, all in turn\n" in shown
    assert "…" not in shown


def test_a_kernel_alone_is_compared_with_nothing(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    report = report_of((0.2, 0.1, 0.8, 0.1), ((2.0, 100),) * 4)
    alone = tuple(replace(one, ours=("numpy",), runs=one.runs[:1]) for one in report.engine)
    show_bench(replace(report, engine=alone, jobs=(), scaling=None))
    shown = capsys.readouterr().out
    assert "map, RoIs" in shown
    assert "numpy is" not in shown
    assert "difference" not in shown


def test_tables_say_which_way_a_ratio_goes(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    show_bench(report_of((0.2, 0.1, 0.8, 0.1), ((2.0, 100), (3.0, 50), (20.0, 1000), (1.0, 100))))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for expected in (
        "1024 x 200 x 272 numpy 200.0 2.0 x faster",
        "1000 RoIs at 1/16 numba 100.0 2.0 x slower 4.8e-07",
        "sampling ratio 2 torchvision 800.0 4.0 x faster 8.0 x faster 4.8e-07",
        "onnxruntime 100.0 2.0 x slower as fast 4.8e-07",
        "1024 x 50 x 68 align, 1 worker 3.00 6.00 50 1.5 x faster 2.0 x more",
        "36 boxes each torchvision 20.00 40.00 1000 10 x faster 10 x less",
        "floor 1.00 2.00 100 2.0 x slower as much",
        "2 2.00 4.00 100 1.5 x faster",
        "128 3.00 6.00 50 1.50 x 0.50 x",
        "CPU time grows as images to the power of 0.99",
    ):
        assert expected in lines
