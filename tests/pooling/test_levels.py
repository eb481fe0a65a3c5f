"""Levels of pyramids: each rule against its framework at the edges, and torchvision's pooled numbers."""

import json
from pathlib import Path

import numpy as np
import pytest

import roicli
from roicli.errors import FeatureError, UsageError
from roicli.pooling.levels import RULES, assign_levels

GOLDEN = Path(__file__).parents[1] / "golden"
SIDES = (111.9, 112, 223.9999, 224, 448)
STRIDES = (4, 8, 16, 32)
# Computed in float32 by torch 2.13: LevelMapper of torchvision, the other formulas as their projects have them.
EXPECTED = {
    "torchvision": [0, 1, 2, 2, 3],
    "detectron2": [0, 1, 1, 2, 3],
    "mmdet": [0, 1, 1, 2, 3],
    "matterport": [1, 1, 2, 2, 3],
}


def squares(sides, dtype=np.float32):
    sides = np.asarray(sides, dtype)
    return np.stack([0 * sides, 0 * sides, sides, sides], axis=1)


@pytest.mark.parametrize("rule", RULES)
def test_rules_at_their_edges(rule):
    assert assign_levels(squares(SIDES), STRIDES, rule).tolist() == EXPECTED[rule]


@pytest.mark.parametrize("rule", RULES)
def test_levels_are_limited_to_those_there_are(rule):
    assert assign_levels(squares([0, 1, 1e6]), STRIDES, rule).tolist() == [0, 0, 3]


def test_mmdet_counts_from_the_first_level_and_others_by_stride():
    found = {rule: assign_levels(squares([300]), (8, 16, 32), rule).item() for rule in RULES}
    assert found == {"torchvision": 1, "detectron2": 1, "mmdet": 2, "matterport": 1}


def test_canonical_scale_and_level():
    for rule in ("torchvision", "detectron2", "mmdet"):
        assert assign_levels(squares([111, 113]), STRIDES, rule, canonical_scale=112).tolist() == [1, 2]
        assert assign_levels(squares([223, 225]), STRIDES, rule, canonical_level=3).tolist() == [0, 1]


def test_one_inverted_axis_has_no_level():
    assert assign_levels(np.array([[9, 0, 5, 9], [9, 9, 5, 5]], np.float32), STRIDES).tolist() == [-1, 0]


@pytest.mark.parametrize("strides", [(4, 8, 32), (7, 14), (8, 4)])
def test_rules_need_strides_that_double(strides):
    with pytest.raises(UsageError, match="each twice the one before"):
        assign_levels(squares([10]), strides)


@pytest.mark.parametrize("name", [f"pyramid_a_{image}_sr{ratio}" for image in range(4) for ratio in (0, 2)])
def test_multiscale_has_the_numbers_of_torchvision(name):
    with np.load(GOLDEN / f"{name}.npz") as case:
        meta = json.loads(str(case["meta"]))
        levels = [case[f"level{number}"] for number in range(4)]
        boxes, expected = case["boxes"], case["expected"]
    settings = {key: meta[key] for key in ("sampling_ratio", "canonical_scale", "canonical_level")}
    got = roicli.multiscale_roi_align(levels, [boxes], (7, 7), image_shapes=[meta["image_size"]], **settings)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)
    named = dict(zip("0123", levels, strict=True)) | {"pool": levels[3][..., ::2, ::2]}
    scales = [1 / stride for stride in meta["strides"]]
    again = roicli.multiscale_roi_align(named, [boxes], 7, featmap_names="0123", scales=scales, **settings)
    np.testing.assert_array_equal(again, got)


def test_multiscale_of_several_images_and_an_empty_list():
    rng = np.random.default_rng(0)
    levels = [rng.standard_normal((2, 3, side, side + 1)) for side in (32, 16)]
    boxes = [[1, 2, 60, 70], [3, 3, 120, 125.5]]
    rois = [[1, *boxes[0]], [0, *boxes[1]]]
    got = roicli.multiscale_roi_align(levels, rois, (2, 3), scales=(1 / 4, 1 / 8), aligned=True)
    for row, level in enumerate((0, 1)):
        expected = roicli.roi_align(levels[level], rois[row : row + 1], (2, 3), (1 / 4, 1 / 8)[level], 2, True)
        np.testing.assert_array_equal(got[row], expected[0])
    nothing = [np.empty((0, 4))] * 2
    assert roicli.multiscale_roi_align(levels, nothing, 7, scales=(1 / 4, 1 / 8)).shape == (0, 3, 7, 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "scales of the levels are missing"),
        ({"scales": [1 / 4]}, "one scale a level"),
        ({"image_shapes": [(128, 512)]}, "axes of level 0 differ in scale"),
        ({"featmap_names": ["0"], "scales": [1 / 4]}, "for a mapping"),
        ({"scales": [1 / 4, 1 / 8], "level_rule": "fpn"}, "level rule 'fpn' is unknown"),
    ],
)
def test_multiscale_refuses(arguments, message):
    levels = [np.zeros((1, 2, side, side)) for side in (32, 16)]
    with pytest.raises(UsageError, match=message):
        roicli.multiscale_roi_align(levels, [[0, 0, 9, 9]], 7, **arguments)


def test_multiscale_refuses_levels_that_are_not_there():
    with pytest.raises(FeatureError, match="no level 'p9'"):
        roicli.multiscale_roi_align({"p2": np.zeros((1, 1, 4, 4))}, [[0, 0, 9, 9]], 7, featmap_names=["p9"])
