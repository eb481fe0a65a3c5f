"""RoIPool: torchvision's own numbers, the loop-only oracle, and tables that can be checked by hand."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import roicli
from roicli.errors import UsageError
from roicli.pooling.arguments import make_spec
from roicli.pooling.reference import roi_pool_reference
from roicli.spec import PoolSpec

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("pool_*.npz"))


def case(path):
    with np.load(path) as arrays:
        meta = json.loads(str(arrays["meta"]))
        return arrays["input"], arrays["rois"], arrays["expected"], tuple(meta["output_size"]), meta["spatial_scale"]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden(path):
    features, rois, expected, size, scale = case(path)
    np.testing.assert_array_equal(roicli.roi_pool(features, rois, size, scale), expected)
    spec = PoolSpec(size, mode="max", op="roi_pool")
    np.testing.assert_array_equal(roi_pool_reference(features, rois, spec, scale), expected)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_by_the_command_line(path, tmp_path):
    features, rois, expected, size, scale = case(path)
    np.save(tmp_path / "maps.npy", features)
    np.save(tmp_path / "boxes.npy", rois)
    command = [
        *(Path(sys.executable).with_name("roicli"), "align", "maps.npy", "boxes.npy", "-o", "out.npz", "--quiet"),
        *("--op", "roi-pool", "--bad-boxes", "keep", "--size", f"{size[0]}x{size[1]}", "--spatial-scale", str(scale)),
    ]
    subprocess.run(command, cwd=tmp_path, check=True)
    with np.load(tmp_path / "out.npz") as archive:
        np.testing.assert_array_equal(archive["features"], expected)
        assert json.loads(str(archive["parameters"]))["op"] == "roi_pool"


numbers = st.one_of(st.floats(-30, 60, width=32), st.integers(-60, 120).map(lambda n: n / 2))


@given(
    boxes=st.lists(st.tuples(numbers, numbers, numbers, numbers), min_size=1, max_size=4),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    scale=st.sampled_from([1.0, 0.5, 0.1, 0.0625, 1.7]),
    shape=st.tuples(st.just(1), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    holes=st.sampled_from([None, np.nan, np.inf, -np.inf]),
)
def test_equals_the_oracle(boxes, size, scale, shape, holes):
    features = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    if holes is not None:
        features[..., 0, 0] = features[..., -1, -1] = holes
    rois = np.array([[0, *box] for box in boxes], np.float32)
    expected = roi_pool_reference(features, rois, PoolSpec(size, mode="max", op="roi_pool"), scale)
    np.testing.assert_array_equal(roicli.roi_pool(features, rois, size, scale), expected)


def test_corners_are_rounded_half_away_from_zero():
    line = np.arange(10.0).reshape(1, 1, 10)
    for x1, x2, expected in [(2.5, 4.5, 5), (2.4, 4.4, 4), (-0.5, 0.5, 1), (0.49999997, 0.49999997, 0), (6, 3, 6)]:
        assert roicli.roi_pool(line, np.array([[x1, 0, x2, 0]], np.float32), 1).item() == expected


def test_bins_share_cells_and_empty_ones_are_zero():
    line = np.arange(1.0, 6.0).reshape(1, 1, 5)
    np.testing.assert_array_equal(roicli.roi_pool(line, [[0, 0, 2, 0]], (1, 2))[0, 0, 0], [2, 3])
    np.testing.assert_array_equal(roicli.roi_pool(line, [[3, 0, 6, 0]], (1, 2))[0, 0, 0], [5, 0])
    np.testing.assert_array_equal(roicli.roi_pool(line, [[8, 0, 9, 0]], (1, 2))[0, 0, 0], [0, 0])


@pytest.mark.parametrize("settings", [{"aligned": True}, {"sampling_ratio": 2}, {"mode": "avg"}])
def test_settings_that_roi_pool_does_not_have(settings):
    with pytest.raises(UsageError, match="RoIPool takes the maximum over whole cells"):
        make_spec(2, op="roi_pool", **settings)
