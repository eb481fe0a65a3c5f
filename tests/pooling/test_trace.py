"""A traced bin: the tutorial's numbers, torchvision's in all golden cases, and the engine's everywhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import roicli
from roicli.errors import BoxError, FeatureError, UsageError
from roicli.pooling.sampling import Sides, make_bins, sample_grid
from roicli.pooling.weights import axis_weights, cells_read
from roicli.spec import PoolSpec


def test_the_tutorial(tutorial):
    feature_map, boxes = tutorial
    trace = roicli.trace_bin(feature_map, boxes[0], 2)
    assert trace.grid == (3, 2)
    np.testing.assert_allclose(trace.x, [2.5718336, 3.1512046] * 3, rtol=1e-6)
    np.testing.assert_allclose(trace.y, np.repeat([0.7408991, 1.6223521, 2.5038052], 2), rtol=1e-6)
    np.testing.assert_allclose(trace.interpolated, [0.024148501, 0.0056951838, 0, 0, 0, 0], atol=1e-9)
    assert trace.result == pytest.approx(0.00497395, abs=5e-9)
    assert trace.count == 6
    np.testing.assert_allclose(trace.pooled, roicli.roi_align(feature_map, boxes, 2)[0, 0])


def test_golden(golden_align):
    """Some bins of each of torchvision's cases: the traced result is torchvision's number."""
    rng = np.random.default_rng(0)
    for k, roi in enumerate(golden_align.rois):
        _, channels, height, width = golden_align.expected.shape
        place, channel = (int(rng.integers(height)), int(rng.integers(width))), int(rng.integers(channels))
        trace = roicli.trace_bin(
            golden_align.features[int(roi[0])], roi[1:], (height, width), **golden_align.settings,
            bin=place, channel=channel,
        )  # fmt: skip
        assert trace.result == pytest.approx(golden_align.expected[(k, channel, *place)], abs=1e-6)


numbers = st.one_of(st.floats(-20, 30, width=32), st.integers(-40, 60).map(lambda n: n / 2))


@given(
    corners=st.tuples(numbers, numbers, numbers, numbers),
    settings=st.one_of(
        st.fixed_dictionaries(
            {
                "spatial_scale": st.sampled_from([1.0, 0.5, 0.3]),
                "sampling_ratio": st.sampled_from([-1, 1, 2, 3]),
                "aligned": st.booleans(),
                "mode": st.sampled_from(["avg", "max"]),
            }
        ),
        st.fixed_dictionaries({"spatial_scale": st.sampled_from([1.0, 0.5, 0.3]), "op": st.just("roi_pool")}),
    ),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 7)),
    hole=st.sampled_from([None, None, np.nan, np.inf]),
    data=st.data(),
)
def test_agrees_with_the_engine(corners, settings, shape, hole, data):
    features = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    if hole is not None:
        features[0, 0, 0] = hole
    size = (data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5)))
    place = (data.draw(st.integers(0, size[0] - 1)), data.draw(st.integers(0, size[1] - 1)))
    channel = data.draw(st.integers(0, shape[0] - 1))
    trace = roicli.trace_bin(features, corners, size, **settings, bin=place, channel=channel)
    np.testing.assert_allclose(trace.result, trace.engine_value, rtol=0, atol=1e-6)
    assert trace.count == trace.grid[0] * trace.grid[1] == len(trace.interpolated)
    np.testing.assert_allclose(trace.weights.sum(axis=1)[trace.in_range], 1, atol=1e-6)
    rows, columns, weights = trace.footprint()
    assert weights.sum() <= 1 + 1e-6
    if trace.count and hole is None and settings.get("op") != "roi_pool":
        # The footprint is the gradient: it gives the value back.
        read = features[channel][np.ix_(rows, columns)]
        np.testing.assert_allclose((weights * read).sum(), trace.result, atol=2e-6)


def test_the_footprint_is_the_outer_product_of_the_axis_weights():
    features = np.random.default_rng(1).standard_normal((2, 9, 7)).astype(np.float32)
    box, spec = np.array([1.3, -2, 5.9, 7.7], np.float32), PoolSpec((3, 2), aligned=True)
    trace = roicli.trace_bin(features, box, (3, 2), aligned=True, bin=(1, 0))
    outer = []
    for low, high, number, length, place in ((box[1], box[3], 3, 9, 1), (box[0], box[2], 2, 7, 0)):
        grid = sample_grid(make_bins(Sides(low[None], high[None], np.ones(1)), number, length, spec))
        weights = axis_weights(grid, cells_read(grid), np.array([True]))
        whole = np.zeros(length)
        whole[weights.cell] = weights.weight.reshape(number, -1)[place]
        outer.append(whole)
    rows, columns, weights = trace.footprint()
    np.testing.assert_allclose(weights, np.outer(*outer)[np.ix_(rows, columns)], atol=1e-6)


def test_the_maximum():
    features = np.zeros((1, 6, 6), np.float32)
    features[0, 2, 2], features[0, 4, 4] = np.nan, 5
    pooled = roicli.trace_bin(features, [1, 1, 4, 4], 1, op="roi_pool")
    assert (pooled.result, pooled.best, pooled.difference) == (5, 15, 0)
    assert pooled.footprint()[2].sum() == pooled.footprint()[2][3, 3] == 1
    assert roicli.trace_bin(features, [1, 1, 4, 4], 1, mode="max").difference == 0  # NaN on both sides
    nothing = roicli.trace_bin(np.full((1, 3, 3), np.nan), [0, 0, 2, 2], 1, op="roi_pool")
    assert nothing.best is None
    assert nothing.result == nothing.engine_value == -np.finfo(np.float32).max
    assert not nothing.footprint()[2].any()


def test_values_near_the_end_of_float32():
    trace = roicli.trace_bin(np.full((1, 6, 6), 3.3e38, np.float32), [0, 0, 4, 4], 1)
    assert trace.result == pytest.approx(3.3e38)
    assert abs(trace.difference) < 1e33


def test_roi_pool_rounds_before_it_clips():
    trace = roicli.trace_bin(np.zeros((1, 7, 7)), [-5, -4.6, 3, 3], 2, op="roi_pool", bin=(1, 1))
    assert trace.roi == (-5.5, -5.5, 3.5, 3.5)
    np.testing.assert_array_equal(trace.bin_columns, [[-5.5, -0.5], [-1.5, 3.5]])
    assert trace.grid == (4, 4)


def test_a_trace_cannot_be_changed(tutorial):
    trace = roicli.trace_bin(tutorial[0], tutorial[1][0], 2)
    with pytest.raises(ValueError, match="read-only"):
        trace.plane[0, 0] = 1
    assert tutorial[0].flags.writeable


def test_notes_of_the_border():
    lines = np.tile(np.arange(4.0), (1, 3, 1))
    trace = roicli.trace_bin(lines, [-1.6, 1, 6.4, 2], (1, 1), aligned=True, sampling_ratio=8)
    np.testing.assert_allclose(trace.x[:8], np.arange(8) - 1.6)
    assert trace.in_range[:8].tolist() == [False, True, True, True, True, True, False, False]
    assert trace.clamped[:8].tolist() == [False, True, False, False, False, True, False, False]
    assert trace.columns[:8, 0].tolist() == [0, 0, 0, 1, 2, 3, 3, 3]
    np.testing.assert_allclose(trace.interpolated[:8], [0, 0, 0.4, 1.4, 2.4, 3, 0, 0])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"bin": (2, 0)}, UsageError, "bin 2,0 is not among 2 x 3"),
        ({"bin": (0, -1)}, UsageError, "bin 0,-1 is not among 2 x 3"),
        ({"channel": 5}, UsageError, "channel 5 is not among 3"),
        ({"bin": 0}, UsageError, "bin must be 2 whole numbers, got 0"),
        ({"bin": (0, 1, 1)}, UsageError, r"bin must be 2 whole numbers, got \(0, 1, 1\)"),
        ({"bin": (0.5, 1)}, UsageError, r"bin must be 2 whole numbers, got \(0.5, 1\)"),
        ({"channel": True}, UsageError, "channel must be 1 whole number"),
        ({"box": [0, 0, 3, 3, 3]}, BoxError, r"box must be x1, y1, x2, y2, got shape \(5,\)"),
        ({"features": np.zeros((0, 4, 4))}, FeatureError, "have no cells"),
        ({"op": "roi_pool", "mode": "avg"}, UsageError, "RoIPool takes the maximum"),
        ({"spatial_scale": 1e4}, UsageError, "samples, more than can be traced"),
        (
            {"features": np.zeros((1, 3, 4, 4))},
            FeatureError,
            r"features must be one map \(C, H, W\), got shape \(1, 3, 4, 4\)",
        ),
        ({"op": "roi_pool", "aligned": True}, UsageError, "RoIPool takes the maximum"),
    ],
)
def test_refused(settings, error, message):
    arguments = {"features": np.zeros((3, 4, 4)), "box": [0, 0, 3, 3], "output_size": (2, 3)} | settings
    with pytest.raises(error, match=message):
        roicli.trace_bin(**arguments)
