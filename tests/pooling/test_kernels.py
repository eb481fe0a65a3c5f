"""The compiled kernel against the oracle and against NumPy's, and the option that chooses between them."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roicli.errors import UsageError
from roicli.execution.plan import is_large
from roicli.pooling.channels_last import channels_last
from roicli.pooling.contraction import pool_maps
from roicli.pooling.kernels.choose import NUMPY_KERNEL, load_kernel
from roicli.pooling.placement import place
from roicli.pooling.reference import roi_align_reference
from roicli.spec import PoolSpec

ALIGN = [sys.executable, "-m", "roicli", "align"]
needs_numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="roicli[fast] is not installed")
without_numba = pytest.mark.skipif(importlib.util.find_spec("numba") is not None, reason="roicli[fast] is installed")

numbers = st.one_of(st.floats(-30, 60, width=32), st.integers(-60, 120).map(lambda n: n / 2))
boxes = st.tuples(numbers, numbers, numbers, numbers)
specs = st.builds(
    PoolSpec,
    output_size=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    sampling_ratio=st.sampled_from([-1, 1, 2]),
    aligned=st.booleans(),
    reduce=st.sampled_from(["none", "mean"]),
)


def pooled(kernel, features, rois, spec, scale=1.0):
    out = np.empty((len(rois), *spec.row_shape(features.shape[0])), features.dtype)
    placement = place(np.zeros(len(rois), np.intp), rois, scale)
    return out, pool_maps(lambda _: channels_last(features), placement, features.shape[1:], spec, out, kernel)


@needs_numba
@given(
    channels=st.integers(1, 40),
    size=st.tuples(st.integers(1, 60), st.integers(1, 50)),
    some_boxes=st.lists(boxes, min_size=1, max_size=5),
    spec=specs,
    scale=st.sampled_from([1.0, 0.5, 0.1]),
    broken=st.sampled_from([None, np.nan, np.inf]),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numba_equals_numpy_and_the_oracle(dtype, channels, size, some_boxes, spec, scale, broken, seed):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((channels, *size)).astype(dtype)
    if broken is not None:
        features[rng.integers(channels), rng.integers(size[0]), rng.integers(size[1])] = broken
    rois = np.array(some_boxes, dtype)
    got, not_finite = pooled(load_kernel("numba", np.dtype(dtype)), features, rois, spec, scale)
    other, not_finite_there = pooled(NUMPY_KERNEL, features, rois, spec, scale)
    np.testing.assert_allclose(got, other, rtol=0, atol=2e-6)
    assert not_finite == not_finite_there
    with np.errstate(invalid="ignore"):
        first = roi_align_reference(features[None], np.insert(rois[:1], 0, 0, axis=1), spec, scale)
    np.testing.assert_allclose(got[:1], first, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ["numpy", pytest.param("numba", marks=needs_numba)])
def test_golden(name, golden_align):
    kernel = load_kernel(name, golden_align.expected.dtype)
    for roi, expected in zip(golden_align.rois, golden_align.expected, strict=True):
        features = golden_align.features[int(roi[0])].astype(expected.dtype)
        got, _ = pooled(kernel, features, roi[None, 1:], golden_align.spec, golden_align.spatial_scale)
        np.testing.assert_allclose(got[0], expected, rtol=0, atol=1e-6)


@needs_numba
def test_a_roi_does_not_depend_on_its_neighbours():
    rng = np.random.default_rng(5)
    features = rng.standard_normal((70, 40, 50)).astype(np.float32)
    corners = rng.uniform(-20, 60, (300, 2))
    rois = np.concatenate([corners, corners + rng.uniform(0, 60, (300, 2))], axis=1)
    kernel, spec = load_kernel("numba", features.dtype), PoolSpec((7, 5), sampling_ratio=2, aligned=True)
    together, _ = pooled(kernel, features, rois, spec)
    for part in (slice(0, 1), slice(17, 40), slice(299, 300)):
        np.testing.assert_array_equal(pooled(kernel, features, rois[part], spec)[0], together[part])


@pytest.fixture
def job(tmp_path: Path):
    rng = np.random.default_rng(2)
    np.save(tmp_path / "maps.npy", rng.standard_normal((9, 64, 40, 50)).astype(np.float32))
    corners = rng.uniform(0, 20, (600, 2))
    table = np.concatenate([np.sort(rng.integers(0, 9, (600, 1)), axis=0), corners, corners + 15], axis=1)
    np.save(tmp_path / "boxes.npy", table)
    return tmp_path


def align(folder, output, *options, expect=0, environment=None):
    command = [*ALIGN, "maps.npy", "boxes.npy", "-o", output, *options]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=os.environ | (environment or {})
    )
    assert done.returncode == expect, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@needs_numba
def test_the_command_takes_the_kernel_asked_for(job):
    for name, *options in (
        ("numpy.npy", "--kernel", "numpy"),
        ("auto.npy",),
        ("numba.npy", "--kernel", "numba", "--workers", "1"),
        ("again.npy", "--kernel", "numba", "--workers", "2", "--batch-size", "7"),
    ):
        align(job, name, "--aligned", *options)
    numpy, auto, numba, again = (np.load(job / f"{name}.npy") for name in ("numpy", "auto", "numba", "again"))
    np.testing.assert_array_equal(auto, numpy)  # too small a job to load a compiler for
    np.testing.assert_array_equal(again, numba)
    np.testing.assert_allclose(numba, numpy, rtol=0, atol=1e-6)
    assert not np.array_equal(numba, numpy)


@needs_numba
def test_it_works_where_nothing_can_be_kept(job):
    """A read-only home and installation: compiled anew each time, but compiled."""
    align(job, "pooled.npy", "--kernel", "numba", environment={"NUMBA_CACHE_DIR": "/dev/null/nowhere"})
    assert np.isfinite(np.load(job / "pooled.npy")).all()


def test_a_kernel_that_is_not_installed_is_named(job):
    (job / "numba.py").write_text("raise ImportError('no numba here')")
    error = align(job, "pooled.npy", "--kernel", "numba", expect=2, environment={"PYTHONPATH": str(job)})
    assert "error: the kernel numba cannot be loaded: no numba here\n" in error
    assert "its extra [fast]; or give --kernel numpy" in error
    assert not (job / "pooled.npy").exists()


def test_maxima_have_one_kernel(job):
    error = align(job, "pooled.npy", "--kernel", "numba", "--mode", "max", expect=2)
    assert "computes averages only" in error


def test_numpy_needs_nothing():
    assert load_kernel("numpy", np.dtype(np.float32)) is NUMPY_KERNEL


@without_numba
def test_numba_is_asked_for_in_words():
    with pytest.raises(UsageError, match="numba"):
        load_kernel("numba", np.dtype(np.float32))


def test_a_compiler_is_loaded_for_large_jobs():
    assert is_large(2**32)
    assert not is_large(2**32 - 1)


def test_a_call_takes_numba_where_it_is_installed():
    numba = importlib.util.find_spec("numba") is not None
    assert (load_kernel("auto", np.dtype(np.float32)) is not NUMPY_KERNEL) == numba
