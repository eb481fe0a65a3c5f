"""Mask pooling on arrays: each rule equals its loops, wherever the image lies on the map."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import roicli
from roicli.errors import BoxError, FeatureError, UsageError
from roicli.pooling.adjoint import scatter
from roicli.pooling.arguments import make_spec
from roicli.pooling.channels_last import channels_last
from roicli.pooling.contraction import pool_maps
from roicli.pooling.mask_reference import grid_mask_reference, mask_in_box_reference, mask_mean_reference
from roicli.pooling.maskpool import ArrayMasks
from roicli.pooling.masks import cell_weights
from roicli.pooling.operators import find
from roicli.pooling.placement import PlacedMasks, place
from roicli.pooling.trace import trace_placed
from roicli.spec import MaskRule

RULES = get_args(MaskRule)
RAMP = np.arange(3.0).reshape(1, 1, 3)
FEATURES = np.random.default_rng(0).standard_normal((3, 5, 7))


def placed(masks, scale=(1.0, 1.0), ratio=(1.0, 1.0), offset=(0.0, 0.0)):
    number = len(masks)
    at = place(np.zeros(number, np.intp), np.zeros((number, 4)), np.tile(scale, (number, 1)))
    of = PlacedMasks(
        ArrayMasks(masks), np.full((number, 2), np.nan), *(np.tile(one, (number, 1)) for one in (ratio, offset))
    )
    return replace(at, masks=of)


def pooled(features, regions, rule, reduce="mean"):
    spec = make_spec(1, op="mask_mean", mask_rule=rule, reduce=reduce)
    out = np.empty((len(regions), len(features)), features.dtype)
    return out, pool_maps(lambda _: channels_last(features), regions, features.shape[1:], spec, out)


@pytest.mark.parametrize(
    ("rule", "weights"),
    [
        ("coverage", [0.5, 1, 0]),
        ("upsampled", [1, 1.75, 0.25]),
        ("resize", [0.5, 1, 0]),
        ("resize-antialias", [1 / 1.75, 1.75 / 2, 0.25 / 1.75]),
        ("resize-any", [1, 1, 0]),
        ("nearest", [1, 1, 0]),
    ],
)
def test_the_table_of_the_guide(rule, weights):
    mask = np.array([[[False, True, True, True, False, False]]])
    found = cell_weights(placed(mask, scale=(1, 0.5)), 0, (1, 3), rule, np.dtype(np.float64))
    np.testing.assert_allclose(found, [weights], atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.differing_executors], max_examples=25, deadline=None)
def test_a_rule_equals_its_loops(rule, data):
    """Images that are resized, padded, cropped; maps with fewer and with more cells than pixels."""
    size = data.draw(st.tuples(st.integers(1, 24), st.integers(1, 24)))
    step = [data.draw(st.sampled_from([1 / 14, 1 / 3, 0.3, 0.5, 1.0, 1.7])) for _ in "yx"]
    begin = [data.draw(st.sampled_from([0.0, 0.0, 2 / 7, 0.5, -1.25, 1.0])) for _ in "yx"]
    share = data.draw(st.sampled_from([0.02, 0.5, 1.0]))
    mask = np.random.default_rng(data.draw(st.integers(0, 99))).random(size) < share
    regions = placed(
        mask[None], scale=(0.5, 0.25), ratio=(step[0] / 0.5, step[1] / 0.25), offset=(begin[0] / 0.5, begin[1] / 0.25)
    )
    for reduce in ("mean",) if rule == "upsampled" else ("mean", "max"):
        expected = mask_mean_reference(FEATURES, mask, rule, (step[0], begin[0]), (step[1], begin[1]), reduce)
        for dtype, tolerance in ((np.float64, 1e-9), (np.float32, 1e-6)):
            found, _ = pooled(FEATURES.astype(dtype), regions, rule, reduce)
            np.testing.assert_allclose(found[0], expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("rule", RULES)
def test_arrays(rule):
    masks = np.random.default_rng(1).random((4, 20, 14)) < [[[0.5]], [[0.05]], [[1]], [[0]]]
    found = roicli.mask_pool(FEATURES.astype(np.float32), masks, rule)
    expected = [mask_mean_reference(FEATURES, mask, rule, (1 / 4, 0), (1 / 2, 0)) for mask in masks]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert (found[3] == 0).all()


def test_a_mask_is_pooled_alike_beside_others():
    masks = np.random.default_rng(1).random((5, 20, 14)) < 0.3
    together = roicli.mask_pool(FEATURES.astype(np.float32), masks)
    for row in range(5):
        np.testing.assert_array_equal(
            roicli.mask_pool(FEATURES.astype(np.float32), masks[row : row + 1])[0], together[row]
        )


def test_a_scale_that_is_not_exact_hits_whole_cells():
    """1 / 14 is not a float: no cell may be read with a weight of 1e-17."""
    mask = np.zeros((1, 518, 518), bool)
    mask[0, 7 * 14 : 9 * 14, 30 * 14 : 31 * 14] = True
    for rule in ("coverage", "nearest"):
        found = cell_weights(placed(mask, scale=(1 / 14, 1 / 14)), 0, (37, 37), rule, np.dtype(np.float64))
        assert np.argwhere(found).tolist() == [[7, 30], [8, 30]]


@pytest.mark.parametrize("rule", RULES)
def test_cells_that_are_not_finite_reach_masks_that_read_them(rule):
    features, masks = FEATURES.copy(), np.zeros((3, 10, 14), bool)
    features[1, 2, 3] = np.nan
    masks[0, 4:6, 6:8] = True  # that cell
    masks[1, :, 10:] = True
    masks[2, 0], masks[2, -1] = True, True  # a window around it
    found, not_finite = pooled(features, placed(masks, scale=(0.5, 0.5)), rule)
    assert not_finite == 1
    assert np.isnan(found).tolist() == [[False, True, False], [False] * 3, [False] * 3]
    expected = mask_mean_reference(FEATURES, masks[2], rule, (0.5, 0), (0.5, 0))
    np.testing.assert_allclose(found[2], expected, atol=1e-9)


def test_the_mask_on_the_grid():
    mask = np.random.default_rng(3).random((11, 9)) < 0.4
    for rule in RULES:
        if rule != "upsampled":
            found = cell_weights(placed(mask[None], scale=(0.4, 0.7)), 0, (5, 7), rule, np.dtype(np.float64))
            np.testing.assert_allclose(found, grid_mask_reference(mask, rule, (5, 7), (0.4, 0), (0.7, 0)), atol=1e-9)
            assert found.max() <= 1 + 1e-9


def test_settings_that_masks_have_not():
    operator = find("mask_mean")
    for settings_, fault in (
        ({"aligned": True}, "no half-cell shift"),
        ({"sampling_ratio": 2}, "no samples"),
        ({"mode": "max"}, "no mode max"),
        ({"reduce": "max", "mask_rule": "upsampled"}, "no maximum"),
        ({"mask_rule": "middle"}, "mask rule 'middle' is unknown"),
    ):
        with pytest.raises(UsageError, match=fault):
            make_spec(7, op="mask_mean", **settings_)
    with pytest.raises(UsageError, match="one vector a region, got size 3 x 2"):
        make_spec((3, 2), op="mask_mean")
    spec = make_spec(7, op="mask_mean", mask_rule="nearest", reduce="max")
    assert (spec.output_size, spec.reduce, operator.convention(spec)) == ((1, 1), "max", "mask pooling, nearest, max")
    other = make_spec(3, op="roi_align", aligned=True, sampling_ratio=2)
    operator.check(operator.adopt(other))


def test_arrays_that_are_not_masks():
    with pytest.raises(FeatureError, match="one map"):
        roicli.mask_pool(FEATURES[None], np.ones((1, 4, 4)))
    with pytest.raises(BoxError, match="masks must be"):
        roicli.mask_pool(FEATURES, np.ones((4, 4)))
    assert roicli.mask_pool(FEATURES, np.ones((0, 4, 4))).shape == (0, 3)


def in_boxes(features, regions, spec):
    out = np.empty((len(regions), len(features), *spec.output_size), features.dtype)
    return out, pool_maps(lambda _: channels_last(features), regions, features.shape[1:], spec, out)


def boxes_on(regions, boxes):
    return replace(regions, boxes=np.array(boxes, np.float64))


def test_masked_roi_align_is_that_of_torchvision_on_the_masked_map():
    golden = np.load(Path(__file__).parents[1] / "golden/mask_in_box.npz")
    regions = boxes_on(placed(golden["masks"], scale=(1 / 4, 1 / 4)), golden["boxes"])
    for aligned, ratio in ((True, 0), (True, 2), (False, 0)):
        spec = make_spec((3, 2), op="mask_in_box", aligned=aligned, sampling_ratio=ratio)
        found, _ = in_boxes(golden["features"], regions, spec)
        np.testing.assert_allclose(found, golden[f"aligned{aligned:d}_sr{ratio}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "upsampled"])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_masked_roi_align_equals_its_loops_and_its_trace(rule, mode):
    rng = np.random.default_rng(5)
    masks, features = rng.random((3, 21, 14)) < [[[0.5]], [[0.04]], [[0]]], FEATURES.astype(np.float32)
    boxes = [[1, 2, 11, 18], [-3, 4, 20, 9.5], [0, 0, 4, 4]]
    regions = boxes_on(placed(masks, scale=(0.25, 0.5)), boxes)
    spec = make_spec((3, 2), op="mask_in_box", aligned=True, mode=mode, mask_rule=rule)
    found, _ = in_boxes(features, regions, spec)
    assert not found[2].any()
    for row, (mask, box) in enumerate(zip(masks, boxes, strict=True)):
        expected = mask_in_box_reference(features, mask, box, spec, (0.25, 0.5))
        np.testing.assert_allclose(found[row], expected, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(in_boxes(features, regions.take([row]), spec)[0][0], found[row])
        trace = trace_placed(features, regions.take([row]), spec, (1, 0), 2)
        assert abs(trace.result - found[row, 2, 1, 0]) < 1e-6


def test_a_cell_that_is_not_finite_reaches_the_bins_that_read_it():
    features = np.ones((2, 5, 7), np.float32)
    features[1, 2, 3] = np.nan
    regions = boxes_on(placed(np.ones((2, 5, 7), bool)), [[0, 0, 7, 5], [4.6, 0, 7, 5]])
    found, not_finite = in_boxes(features, regions, make_spec((5, 7), op="mask_in_box", aligned=True))
    assert not_finite == 1
    assert np.isnan(found).sum() == np.isnan(found[0, 1, 1:3, 2:4]).sum() == 4


def test_masked_roi_align_has_no_enlarged_map():
    with pytest.raises(UsageError, match="upsampled enlarges the map"):
        make_spec(7, op="mask_in_box", mask_rule="upsampled")
    other = make_spec(1, op="mask_mean", mask_rule="upsampled")
    find("mask_in_box").check(find("mask_in_box").adopt(other))


def test_masked_roi_align_and_its_adjoint():
    """<A x, y> = <x, A' y>."""
    rng = np.random.default_rng(6)
    regions = boxes_on(placed(rng.random((2, 21, 14)) < 0.5, scale=(0.25, 0.5)), [[1, 2, 11, 18], [-3, 4, 20, 9.5]])
    spec = make_spec((3, 2), op="mask_in_box", aligned=True)
    found, _ = in_boxes(FEATURES, regions, spec)
    blocks = rng.standard_normal(found.shape)
    back = scatter(blocks, regions, (1, *FEATURES.shape), spec, np.dtype(np.float64))[0]
    np.testing.assert_allclose((found * blocks).sum(), (FEATURES * back).sum(), rtol=1e-12)
