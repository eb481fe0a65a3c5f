"""The adjoint of every linear operator: <A x, y> = <x, A' y>, finite differences, and published gradients."""

import json
from pathlib import Path

import numpy as np
import pytest

import roicli
from roicli.errors import BoxError, FeatureError, UsageError
from roicli.pooling import operators
from roicli.pooling.arguments import make_spec
from roicli.pooling.engine import pool_batch

SHAPE = (2, 12, 9, 7)
SIZE = (3, 2)
LINEAR = [
    name for name in operators.names() if name not in ("roi_pool", "mask_mean", "mask_in_box")
]  # test_masks has the last
SETTINGS = {"roi_align": [{}, {"aligned": True}, {"sampling_ratio": 1}, {"sampling_ratio": 3, "aligned": True}]}


def boxes_of(op, rng, number=9):
    corners = np.sort(rng.uniform(-3, 12, (number, 2, 2)), axis=1).reshape(number, 4)
    if operators.find(op).turns:
        corners = np.insert(corners, 4, rng.uniform(-180, 180, number), axis=1)
    return np.insert(corners, 0, rng.integers(0, 2, number), axis=1)


CASES = [(op, settings) for op in LINEAR for settings in SETTINGS.get(op, [{}])]


@pytest.mark.parametrize(("op", "settings"), CASES, ids=str)
def test_it_is_the_adjoint(op, settings):
    rng = np.random.default_rng(0)
    boxes = boxes_of(op, rng)
    maps = rng.standard_normal(SHAPE)
    pooled = pool_batch(maps, boxes, SIZE, 0.7, None, 1, op=op, **settings)
    grad = rng.standard_normal(pooled.shape)
    back = roicli.roi_align_backward(grad, boxes, SHAPE, 0.7, op=op, **settings)
    assert back.shape == SHAPE
    np.testing.assert_allclose((pooled * grad).sum(), (maps * back).sum(), rtol=1e-12)


@pytest.mark.parametrize("op", LINEAR)
def test_finite_differences(op):
    rng = np.random.default_rng(1)
    boxes, maps = boxes_of(op, rng, 3), rng.standard_normal(SHAPE)
    grad = rng.standard_normal((3, make_channels(op), *SIZE))
    back = roicli.roi_align_backward(grad, boxes, SHAPE, op=op)
    for _ in range(12):
        cell = tuple(rng.integers(0, end) for end in SHAPE)
        step = np.zeros(SHAPE)
        step[cell] = 0.5
        up, down = (pool_batch(maps + sign * step, boxes, SIZE, 1.0, None, 1, op=op) for sign in (1, -1))
        np.testing.assert_allclose(back[cell], ((up - down) * grad).sum(), atol=1e-10)


def make_channels(op):
    return operators.find(op).channels(SHAPE[1], make_spec(SIZE, op=op))


def test_published_gradients():
    """mmcv's: of the sum of all bins, so that each is 1."""
    seen = 0
    for path in (Path(__file__).parents[1] / "golden").glob("rotated_mmcv_*.npz"):
        with np.load(path) as case:
            meta = json.loads(str(case["meta"]))
            grad = np.ones_like(case["expected"])
            boxes = case["rois"].copy()
            boxes[:, 5] = np.rad2deg(boxes[:, 5])
            got = roicli.roi_align_backward(
                *(grad, boxes, case["input"].shape, meta["spatial_scale"], meta["sampling_ratio"]),
                op="roi_align_rotated",
            )
            np.testing.assert_allclose(got, case["expected_input_grad"], atol=1e-6)
            seen += 1
    assert seen == 2


def test_of_one_map_in_float32():
    back = roicli.roi_align_backward(np.ones((2, 1, 2, 2), np.float32), [[0, 0, 4, 4], [1, 1, 3, 3]], (1, 8, 8))
    assert (back.dtype, back.shape) == (np.float32, (1, 8, 8))
    np.testing.assert_allclose(back.sum(), 8, rtol=1e-6)


def test_what_does_not_fit():
    grad = np.ones((2, 1, 2, 2))
    with pytest.raises(BoxError, match="grad has 2 blocks of 1 channels, expected 1 of 3"):
        roicli.roi_align_backward(grad, [[0, 0, 4, 4]], (3, 8, 8))
    with pytest.raises(FeatureError, match=r"expected \(K, C, PH, PW\)"):
        roicli.roi_align_backward(grad[0], [[0, 0, 4, 4]], (3, 8, 8))
    with pytest.raises(UsageError, match="RoIPool has no adjoint"):
        roicli.roi_align_backward(grad, [[0, 0, 4, 4]] * 2, (1, 8, 8), op="roi_pool")
