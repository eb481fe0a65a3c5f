"""Rotated RoIAlign: cases that other projects published, angle 0, files of turned boxes, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import roicli
from roicli.cli.main import main
from roicli.errors import BoxError, FeatureError, UsageError

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("rotated_*.npz"))
TURNED = np.array([[40.0, 50, 60, 24, 30], [70, 30, 20.5, 33, -75], [64, 64, 30, 30, 0]])


def load(path):
    with np.load(path) as arrays:
        meta = json.loads(str(arrays["meta"]))
        return {name: arrays[name] for name in ("input", "rois", "expected", "print_halfulp")} | meta


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_published(path):
    """Of detectron2, mmcv and OpenVINO, with so many digits as they print."""
    case = load(path)
    settings = {name: case[name] for name in ("spatial_scale", "sampling_ratio", "angle_unit", "clockwise")}
    got = roicli.roi_align_rotated(case["input"], case["rois"], tuple(case["output_size"]), **settings)
    tolerance = 1.02 * case["print_halfulp"] + 3e-6 * max(1, np.abs(case["expected"]).max())
    assert (np.abs(got - case["expected"]) <= tolerance).all()


@pytest.fixture
def maps():
    return np.random.default_rng(0).standard_normal((3, 16, 14))


def test_angle_0_is_aligned_roi_align(maps):
    upright = TURNED * [1, 1, 1, 1, 0]
    cx, cy, w, h, _ = upright.T
    boxes = np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], axis=1)
    got = roicli.roi_align_rotated(maps, upright, (3, 2), 1 / 8)
    np.testing.assert_allclose(got, roicli.roi_align(maps, boxes, (3, 2), 1 / 8, aligned=True), atol=1e-12)


def test_a_quarter_turns_the_block(maps):
    upright, turned = (
        roicli.roi_align_rotated(maps, [[64, 60, 40, 40, degrees]], 4, 1 / 8, 2) for degrees in (0.0, 90.0)
    )
    np.testing.assert_allclose(turned, np.rot90(upright, -1, (2, 3)), atol=1e-9)


def test_units(maps):
    got = roicli.roi_align_rotated(maps, TURNED, 2, 1 / 8)
    radians = TURNED * [1, 1, 1, 1, -np.pi / 180]
    other = roicli.roi_align_rotated(maps, radians, 2, 1 / 8, angle_unit="radian", clockwise=True)
    np.testing.assert_allclose(got, other, atol=1e-9)
    with pytest.raises(UsageError, match="angle_unit must be 'degree' or 'radian', got 'turn'"):
        roicli.roi_align_rotated(maps, TURNED, 2, angle_unit="turn")
    with pytest.raises(BoxError, match="rows of 5 numbers, or of 6 with the batch index first"):
        roicli.roi_align_rotated(maps, TURNED[:, :4], 2)


@pytest.fixture
def folder(tmp_path, monkeypatch, maps):
    monkeypatch.chdir(tmp_path)
    np.savez("maps.npz", P3=maps.astype(np.float32))
    lines = [",".join(map(str, ["P3", *box])) for box in TURNED.tolist()]
    Path("boxes.csv").write_text("\n".join(["image_id,cx,cy,w,h,angle", *lines]))
    return tmp_path


SETTINGS = {"op": "roi_align_rotated", "size": (3, 2), "stride": 8}


def test_files(folder, maps):
    roicli.align("maps.npz", "boxes.csv", "out.npz", **SETTINGS)
    with np.load("out.npz") as written:
        expected = roicli.roi_align_rotated(maps.astype(np.float32), TURNED, (3, 2), 1 / 8)
        np.testing.assert_allclose(written["features"], expected, atol=1e-6)
        assert json.loads(str(written["parameters"]))["aligned"] is True


def test_another_unit_in_files(folder, maps):
    roicli.align("maps.npz", "boxes.csv", "out.npy", angle="deg-cw", **SETTINGS)
    expected = roicli.roi_align_rotated(maps.astype(np.float32), TURNED, (3, 2), 1 / 8, clockwise=True)
    np.testing.assert_allclose(np.load("out.npy"), expected, atol=1e-6)


def test_what_cannot_be_turned(folder):
    with pytest.raises(BoxError, match="expected upright boxes, got the angle 30") as error:
        roicli.align("maps.npz", "boxes.csv", "out.npy", stride=8)
    assert "`op=roi_align_rotated`" in error.value.hint
    with pytest.raises(UsageError, match="not as high as wide"):
        roicli.align("maps.npz", "boxes.csv", "out.npy", **SETTINGS | {"stride": (8, 4)})
    Path("huge.csv").write_text("image_id,cx,cy,w,h,angle\nP3,50,50,1e7,1e7,20")
    with pytest.raises(BoxError, match="too large to sample"):
        roicli.align("maps.npz", "huge.csv", "out.npy", **SETTINGS)


def test_a_cell_that_is_not_finite_reaches_the_bins_that_read_it(maps):
    got = roicli.roi_align_rotated(maps, TURNED, (3, 2), 1 / 8, 2)
    assert np.isfinite(got).all()
    maps[1, 5, 6] = np.nan
    again = roicli.roi_align_rotated(maps, TURNED, (3, 2), 1 / 8, 2)
    assert np.isnan(again).any()
    assert not np.isnan(again[:, [0, 2]]).any()
    np.testing.assert_allclose(again[~np.isnan(again)], got[~np.isnan(again)], atol=1e-12)


def test_a_trace(folder, maps):
    trace = roicli.trace_bin(maps, [10, 20, 90, 80], (3, 2), 1 / 8, op="roi_align_rotated", bin=(2, 1))
    assert (trace.angle, trace.around) == (0, trace.roi)
    said = CliRunner().invoke(
        main,
        "trace maps.npz boxes.csv --op roi-align-rotated --stride 8 --size 3x2 --picture bin.png --json --channel 2 "
        "--bin 2,1",
    )
    assert said.exit_code == 0, said.output
    traced = json.loads(said.stdout)["traces"][0]
    assert traced["angle"] == 30
    expected = roicli.roi_align_rotated(maps.astype(np.float32), TURNED[:1], (3, 2), 1 / 8)[0, 2, 2, 1]
    np.testing.assert_allclose([traced["result"], traced["align_value"]], expected, atol=1e-6)
    assert Path("bin.png").stat().st_size > 0


def test_no_maps_of_other_ranks():
    with pytest.raises(FeatureError, match="features must be"):
        roicli.roi_align_rotated(np.zeros((4, 4)), TURNED, 2)
