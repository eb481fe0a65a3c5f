"""PSRoIAlign and PSRoIPool: torchvision's own numbers, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

import roicli
from roicli.errors import FeatureError, UsageError
from roicli.pooling import reference
from roicli.spec import PoolSpec

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("ps*.npz"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden(path):
    with np.load(path) as arrays:
        features, rois, expected = arrays["input"], arrays["rois"], arrays["expected"]
        meta = json.loads(str(arrays["meta"]))
    settings = {name: meta[name] for name in ("spatial_scale", "sampling_ratio") if name in meta}
    got = getattr(roicli, meta["op"])(features, rois, tuple(meta["output_size"]), **settings)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)
    spec = PoolSpec(tuple(meta["output_size"]), meta.get("sampling_ratio", -1), op=meta["op"])
    loops = getattr(reference, f"{meta['op']}_reference")(features, rois[:2], spec, meta["spatial_scale"])
    np.testing.assert_allclose(loops, expected[:2], rtol=0, atol=1e-6)


def test_by_the_command_line(tmp_path):
    maps = np.random.default_rng(0).standard_normal((12, 9, 7)).astype(np.float32)
    np.save(tmp_path / "map.npy", maps)
    (tmp_path / "boxes.json").write_text("[[0, 1, 60, 80], [33, 20, 100, 130]]")
    report = roicli.align(
        *(tmp_path / "map.npy", tmp_path / "boxes.json", tmp_path / "out.npz"),
        **{"op": "ps_roi_align", "size": (3, 2), "spatial_scale": 1 / 16, "sampling_ratio": 2},
    )
    assert report.shape == (2, 2, 3, 2)
    with np.load(tmp_path / "out.npz") as written:
        expected = roicli.ps_roi_align(maps, [[0, 1, 60, 80], [33, 20, 100, 130]], (3, 2), 1 / 16, 2)
        np.testing.assert_array_equal(written["features"], expected)
        assert json.loads(str(written["parameters"]))["aligned"] is True


def test_channels_that_bins_cannot_share():
    with pytest.raises(FeatureError, match="PSRoIPool needs a multiple of 3 x 2 = 6 channels, got 10"):
        roicli.ps_roi_pool(np.zeros((10, 4, 4)), [[0, 0, 2, 2]], (3, 2))


def test_a_trace_reads_the_channel_of_its_bin():
    maps = np.random.default_rng(0).standard_normal((12, 9, 7)).astype(np.float32)
    trace = roicli.trace_bin(maps, [1, 1, 6, 8], (3, 2), op="ps_roi_align", bin=(2, 1), channel=1)
    assert trace.channel == 11
    np.testing.assert_allclose(trace.result, roicli.ps_roi_align(maps, [[1, 1, 6, 8]], (3, 2))[0, 1, 2, 1], atol=1e-6)
    with pytest.raises(UsageError, match="channel 2 is not among 2"):
        roicli.trace_bin(maps, [1, 1, 6, 8], (3, 2), op="ps_roi_align", channel=2)


@pytest.mark.parametrize("op", ["ps_roi_align", "ps_roi_pool", "precise_roi_pool"])
def test_a_cell_that_is_not_finite_reaches_the_bins_that_read_it(op):
    maps = np.ones((4, 8, 8), np.float32)
    box = [[0, 0, 4, 4]]
    clean = getattr(roicli, op)(maps, box, 2)
    maps[:, 3, 3] = np.nan
    got = getattr(roicli, op)(maps, box, 2)
    assert np.isnan(got[:, :, 1, 1]).all()
    got[:, :, 1, 1] = clean[:, :, 1, 1]
    np.testing.assert_allclose(got, clean, atol=1e-6)
