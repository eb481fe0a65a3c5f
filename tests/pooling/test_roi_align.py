"""`roicli.roi_align` as a function: what it takes, what it gives, what it refuses."""

import re
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import roicli
from roicli import conventions
from roicli.errors import BoxError, FeatureError, UsageError
from roicli.pooling import contraction
from roicli.pooling.arguments import make_spec
from roicli.pooling.channels_last import channels_last
from roicli.pooling.contraction import pool_maps
from roicli.pooling.placement import place
from roicli.pooling.sampling import cells_in_reach
from roicli.spec import PoolSpec

MAPS = np.random.default_rng(0).standard_normal((2, 3, 8, 9)).astype(np.float32)
ROIS = np.array([[1, 0, 1, 6, 7], [0, 2.5, 3, 4, 5], [1, -3, -3, 20, 20]])
EXPECTED = roicli.roi_align(MAPS, ROIS, (3, 2))


@pytest.mark.parametrize(
    "features",
    [
        pytest.param(MAPS.astype(">f4"), id="big-endian"),
        pytest.param(np.asfortranarray(MAPS), id="fortran order"),
        pytest.param(np.repeat(MAPS, 2, axis=3)[..., ::2], id="strided"),
        pytest.param(np.ascontiguousarray(MAPS.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2), id="channels last"),
        pytest.param(MAPS.tolist(), id="nested lists"),
    ],
)
def test_any_array(features):
    np.testing.assert_allclose(roicli.roi_align(features, ROIS, (3, 2)), EXPECTED, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.uint16, np.int64])
def test_dtypes(dtype):
    maps = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).astype(dtype)
    got = roicli.roi_align(maps, ROIS, 2)
    assert got.dtype == (np.float64 if dtype == np.float64 else np.float32)
    np.testing.assert_allclose(got, roicli.roi_align(maps.astype(np.float64), ROIS, 2), rtol=1e-5)


def test_forms_of_boxes():
    one = roicli.roi_align(MAPS[1], ROIS[[0, 2], 1:], (3, 2))
    np.testing.assert_array_equal(one, EXPECTED[[0, 2]])
    listed = roicli.roi_align(MAPS, [ROIS[[1], 1:], ROIS[[0, 2], 1:]], (3, 2))
    np.testing.assert_array_equal(listed, EXPECTED[[1, 0, 2]])
    np.testing.assert_array_equal(roicli.roi_align(MAPS, ROIS.tolist(), (3, 2)), EXPECTED)
    np.testing.assert_array_equal(roicli.roi_align(MAPS, [np.empty((0, 4)), ROIS[[0], 1:]], (3, 2)), EXPECTED[:1])


@pytest.mark.parametrize("boxes", [np.empty((0, 5)), np.empty((0, 4)), [], [np.empty((0, 4))] * 2])
def test_no_boxes(boxes):
    assert roicli.roi_align(MAPS, boxes, (3, 2)).shape == (0, 3, 3, 2)


def test_out():
    out = np.empty((3, 3, 3, 2), np.float32)
    assert roicli.roi_align(MAPS, ROIS, (3, 2), out=out) is out
    np.testing.assert_array_equal(out, EXPECTED)
    half = roicli.roi_align(MAPS, ROIS, (3, 2), out=np.empty((3, 3, 3, 2), np.float16))
    np.testing.assert_array_equal(half, EXPECTED.astype(np.float16))
    with pytest.raises(UsageError, match=r"out is float32 \(3, 3\), the result is float32 \(3, 3, 3, 2\)"):
        roicli.roi_align(MAPS, ROIS, (3, 2), out=np.empty((3, 3), np.float32))


@pytest.mark.parametrize(
    ("features", "error"),
    [
        (np.zeros((4, 4)), r"features must be \(N, C, H, W\), or \(C, H, W\) for one map, got shape \(4, 4\)"),
        (np.zeros((1, 2, 0, 4)), r"features of shape \(1, 2, 0, 4\) have no cells"),
        (np.zeros((1, 4, 4), complex), "features of dtype complex128 cannot be pooled"),
        (np.zeros((1, 4, 4), bool), "features of dtype bool cannot be pooled"),
        (np.full((1, 4, 4), "a"), "features of dtype <U1 cannot be pooled"),
    ],
)
def test_refused_features(features, error):
    with pytest.raises(FeatureError, match=error):
        roicli.roi_align(features, np.empty((0, 4)), 2)


@pytest.mark.parametrize(
    ("boxes", "error"),
    [
        ([[0, 1, 2, 3, np.nan]], r"box 0 is not finite in float32: \[1.0, 2.0, 3.0, nan\]"),
        ([[0, 1, 2, 3, 4], [0, -np.inf, 2, 3, 4]], "box 1 is not finite"),
        ([[0, 0, 0, 1e39, 1]], "box 0 is not finite in float32"),
        ([[0, 0, 0, 3e38, 1]], "a box that spans 0 to 3e.38 image pixels is too large to sample"),
        ([[2, 0, 0, 1, 1]], "box 0 has batch index 2, expected a whole number below 2"),
        ([[0, 0, 0, 1, 1], [-1, 0, 0, 1, 1]], "box 1 has batch index -1"),
        ([[0.5, 0, 0, 1, 1]], "box 0 has batch index 0.5"),
        ([[np.nan, 0, 0, 1, 1]], "box 0 has batch index nan"),
        ([[0, 0, 1, 1]], r"boxes of shape \(1, 4\) do not say which of 2 maps"),
        ([[0, 0, 1]], r"boxes must be rows of 4 numbers, .* got dtype int64 and shape \(1, 3\)"),
        ([[0, 0, 1, 1], [1, 2]], "boxes must be rows of 4 numbers"),
        ([["a", "b", "c", "d"]], "boxes must be rows of 4 numbers"),
        (np.empty((0, 7)), r"got dtype float64 and shape \(0, 7\)"),
    ],
)
def test_refused_boxes(boxes, error):
    with pytest.raises(BoxError, match=error):
        roicli.roi_align(MAPS, boxes, 2)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"output_size": 0}, "output size 0 x 0 is out of range"),
        ({"output_size": (2, 3, 4)}, "is not one whole number or two"),
        ({"output_size": 2.5}, "is not one whole number or two"),
        ({"spatial_scale": 0}, "spatial scale 0.0 is not a positive number"),
        ({"spatial_scale": float("nan")}, "spatial scale nan"),
        ({"sampling_ratio": 5000}, "sampling ratio 5000 is out of range"),
        ({"spatial_scale": 1e-50}, "spatial scale 1e-50 is not a positive number from 1e-09"),
        ({"sampling_ratio": 2.7}, "sampling_ratio 2.7 is not a whole number"),
        ({"mode": "median"}, "mode 'median' is unknown"),
    ],
)
def test_refused_settings(settings, error):
    with pytest.raises(UsageError, match=error):
        roicli.roi_align(MAPS, ROIS, **{"output_size": 2} | settings)


def test_errors_are_of_two_kinds():
    with pytest.raises(ValueError, match="features must be") as caught:
        roicli.roi_align(np.zeros(3), [], 2)
    assert isinstance(caught.value, roicli.RoicliError)
    assert caught.value.hint == "Reshape or transpose the array."


@given(
    corners=st.lists(st.tuples(*[st.floats(-1e9, 1e9, width=32) | st.floats(-40, 90, width=32)] * 4), max_size=3),
    scale=st.sampled_from([1.0, 0.25, 1 / 3]),
    aligned=st.booleans(),
    sampling_ratio=st.sampled_from([-1, 1, 3]),
    op=st.sampled_from(["roi_align", "roi_pool"]),
)
def test_no_cell_out_of_reach_is_read(corners, scale, aligned, sampling_ratio, op):
    """What lies beyond the window of `channels_last` may be anything; here it is NaN, which would spread."""
    features = np.random.default_rng(0).standard_normal((2, 30, 40)).astype(np.float32)
    boxes = np.array(corners, np.float32).reshape(-1, 4)
    settings = {"aligned": aligned, "sampling_ratio": sampling_ratio} if op == "roi_align" else {"mode": "max"}
    spec = PoolSpec((2, 3), op=op, **settings)
    placement = place(np.zeros(len(boxes), np.intp), boxes, scale)
    window = cells_in_reach(placement, None, 30, 40)
    expected, got = (np.empty((len(boxes), 2, 2, 3), np.float32) for _ in range(2))
    broken = channels_last(features, window, np.full((30, 40, 2), np.nan, np.float32))
    for feature_map, out in (broken, got), (channels_last(features), expected):
        assert pool_maps(lambda _, laid_out=feature_map: laid_out, placement, (30, 40), spec, out) == 0
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", [one.name for one in conventions.ALL.values() if "rule" in one.settings])
def test_rules_that_move_boxes_by_pixels_of_many_cells_read_no_memory_of_others(name):
    """Cells that were not laid out were read: here they are NaN."""
    features = np.random.default_rng(0).standard_normal((2, 30, 40)).astype(np.float32)
    spec = make_spec(2, sampling_ratio=2, **conventions.find(name).settings)
    placement = place(np.zeros(2, np.intp), np.array([[1, 1, 1.5, 1.75], [-9, 1, -8, 2]]), 8)
    broken = channels_last(features, cells_in_reach(placement, spec.rule, 30, 40), np.full((30, 40, 2), np.nan, "f4"))
    expected, got = (np.empty((2, 2, 2, 2), np.float32) for _ in range(2))
    for feature_map, out in (broken, got), (channels_last(features), expected):
        pool_maps(lambda _, laid_out=feature_map: laid_out, placement, (30, 40), spec, out)
    np.testing.assert_array_equal(got, expected)


def test_only_what_is_in_reach_is_copied():
    features = np.ones((3, 200, 300), np.float16)
    window = cells_in_reach(place(np.zeros(1, np.intp), np.array([[40, 80, 60, 120]]), 0.5), None, 200, 300)
    assert window == (slice(36, 64), slice(16, 34))
    copied = channels_last(features, window, np.zeros((200, 300, 3), np.float32))
    assert copied.sum() == 3 * 28 * 18


def test_each_map_is_asked_for_once(monkeypatch):
    """And let go before the next, however few RoIs are placed at once."""
    monkeypatch.setattr(contraction, "_CHUNK_VALUES", 100)
    rng = np.random.default_rng(0)
    features = rng.standard_normal((3, 5, 9, 6)).astype(np.float32)
    corner = rng.uniform(0, 5, (30, 2))
    boxes, index = np.concatenate([corner, corner + 3], axis=1), np.repeat([2, 0, 1], 10)
    asked = []

    def laid_out(image):
        assert not asked or asked[-1][1]() is None, "the last map is held still"
        feature_map = channels_last(features[image])
        asked.append((image, weakref.ref(feature_map)))
        return feature_map

    out = np.empty((30, 5, 2, 2), np.float32)
    pool_maps(laid_out, place(index, boxes), (9, 6), PoolSpec((2, 2)), out)
    assert [image for image, _ in asked] == [2, 0, 1]
    np.testing.assert_array_equal(
        out, roicli.roi_align(features, np.insert(boxes, 0, index, axis=1), 2, kernel="numpy")
    )


def test_the_number_of_threads_changes_no_bit():
    rng = np.random.default_rng(3)
    features = rng.standard_normal((3, 64, 40, 50), dtype=np.float32)
    corners = rng.uniform(0, 30, (2000, 2))
    rois = np.concatenate([rng.integers(0, 3, (2000, 1)), corners, corners + rng.uniform(1, 20, (2000, 2))], axis=1)
    alone = roicli.roi_align(features, rois, 7, aligned=True, threads=1)
    for threads in (2, 5):
        np.testing.assert_array_equal(roicli.roi_align(features, rois, 7, aligned=True, threads=threads), alone)
    ordered = np.argsort(rois[:, 0], kind="stable")
    np.testing.assert_array_equal(roicli.roi_align(features, rois[ordered], 7, aligned=True), alone[ordered])


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ({"features": np.ma.masked_less(MAPS, 0)}, "features are a masked array"),
        ({"boxes": np.ma.masked_less(ROIS, 0)}, "boxes are a masked array"),
        ({"features": [np.zeros((1, 2, 2)), np.zeros((1, 3, 2))]}, "features are a ragged list"),
        ({"spatial_scale": None}, "spatial scale nan"),
        ({"spatial_scale": "a"}, "spatial scale must be a number, or two for y and x, got 'a'"),
        ({"out": [1]}, "out must be an array, got list"),
        ({"kernel": "fast"}, "kernel must be 'auto', 'numpy' or 'numba', got 'fast'"),
    ],
)
def test_wrong_arguments_are_errors_of_our_own(arguments, wrong):
    with pytest.raises(roicli.RoicliError, match=re.escape(wrong)):
        roicli.roi_align(**{"features": MAPS, "boxes": ROIS, "output_size": 2} | arguments)


def test_a_result_is_not_written_over_its_features():
    features = np.ones((4, 4, 4), np.float32)
    with pytest.raises(roicli.RoicliError, match="out overlaps the features"):
        roicli.roi_align(features, np.zeros((1, 4)), 4, out=features[None])
