"""The numbers: against torchvision's own, against the loop-only oracle, and on maps that can be checked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import roicli
from roicli.pooling import sampling
from roicli.pooling.channels_last import channels_last
from roicli.pooling.contraction import pool_maps
from roicli.pooling.placement import place
from roicli.pooling.reference import roi_align_reference
from roicli.pooling.sampling import Sides, make_bins, sample_coordinates, sample_grid
from roicli.spec import PoolSpec


def reduced(features, rois, spec, scale=1.0):
    """The engine's result for every setting of `spec`, also those that `roi_align` does not offer."""
    out = np.empty((len(rois), *spec.row_shape(features.shape[1])), features.dtype)
    for image in np.unique(rois[:, 0]):
        rows = np.flatnonzero(rois[:, 0] == image)
        part = np.empty((len(rows), *out.shape[1:]), out.dtype)
        placement = place(np.zeros(len(rows), np.intp), rois[rows, 1:], np.broadcast_to(scale, (len(rois), 2))[rows])
        pool_maps(lambda _, index=int(image): channels_last(features[index]), placement, features.shape[2:], spec, part)
        out[rows] = part
    return out


def test_golden(golden_align):
    got = roicli.roi_align(golden_align.features, golden_align.rois, golden_align.output_size, **golden_align.settings)
    np.testing.assert_allclose(got, golden_align.expected, rtol=0, atol=1e-6)


def test_reference_is_the_definition(golden_align):
    case = golden_align
    got = roi_align_reference(case.features, case.rois[:4], case.spec, case.spatial_scale)
    np.testing.assert_allclose(got, golden_align.expected[:4], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("aligned", "expected"),
    [(False, [[0.00497395, 0.00982172], [0, 0.0107874]]), (True, [[0.03358412, 0.01127181], [0, 0]])],
)
def test_tutorial(tutorial, aligned, expected):
    got = roicli.roi_align(*tutorial, 2, aligned=aligned)
    np.testing.assert_allclose(got[0, 0], expected, atol=5e-9)


coordinates = st.one_of(
    st.floats(-30, 60, width=32),
    st.integers(-60, 120).map(lambda n: n / 2),  # on cells, between cells, on the last cell, just outside
    st.integers(-100, 200).map(lambda n: n / 10),  # decimals, whose multiples round
)
boxes = st.tuples(coordinates, coordinates, coordinates, coordinates).map(
    lambda c: [min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3])]
)
specs = st.builds(
    PoolSpec,
    output_size=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    sampling_ratio=st.sampled_from([-1, 0, 1, 2, 3]),
    aligned=st.booleans(),
    mode=st.sampled_from(["avg", "max"]),
    reduce=st.sampled_from(["none", "mean"]),
)
scales = st.sampled_from([1.0, 0.5, 0.1, 0.0625, 1.7])
shapes = st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 12), st.integers(1, 9))


@given(shape=shapes, some_boxes=st.lists(boxes, max_size=4), spec=specs, seed=st.integers(0, 99), data=st.data())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_the_oracle(dtype, shape, some_boxes, spec, seed, data):
    features = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    batch = [data.draw(st.integers(0, shape[0] - 1)) for _ in some_boxes]
    rois = np.array([[b, *box] for b, box in zip(batch, some_boxes, strict=True)]).reshape(-1, 5).astype(dtype)
    # Each region has a scale of its own, and another along y than along x.
    scale = np.array([[data.draw(scales), data.draw(scales)] for _ in some_boxes]).reshape(-1, 2)
    expected = roi_align_reference(features, rois, spec, scale)
    np.testing.assert_allclose(reduced(features, rois, spec, scale), expected, rtol=0, atol=2e-6)


@given(
    value=st.sampled_from([np.nan, np.inf, -np.inf]),
    some_boxes=st.lists(boxes, min_size=1, max_size=5),
    spec=specs,
    scale=scales,
    seed=st.integers(0, 99),
)
def test_a_broken_cell_reaches_the_bins_that_read_it(value, some_boxes, spec, scale, seed):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((1, 2, 9, 7)).astype(np.float32)
    features[0, rng.integers(2), rng.integers(9), rng.integers(7)] = value
    rois = np.array([[0, *box] for box in some_boxes], np.float32)
    with np.errstate(invalid="ignore"):
        expected = roi_align_reference(features, rois, spec, scale)
    # assert_allclose holds NaN against NaN and each infinity against itself.
    np.testing.assert_allclose(reduced(features, rois, spec, scale), expected, rtol=0, atol=2e-6)


@given(some_boxes=st.lists(boxes, min_size=1, max_size=5), spec=specs, scale=scales, length=st.integers(1, 40))
def test_samples_that_cannot_count_may_never_be_made(some_boxes, spec, scale, length):
    """Where samples are few all are made, and left out one by one: the same are left."""
    low, high = np.array(some_boxes, np.float32).reshape(-1, 4).T[[0, 2]]
    bins = make_bins(Sides(low, high, np.array([scale])), spec.output_size[1], length, spec)
    grids = []
    for few in (-1, 2**62):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sampling, "_FEW_SAMPLES", few)
            grids.append(sample_grid(bins))
    for narrowed, whole in zip(grids[0][1:], grids[1][1:], strict=True):
        np.testing.assert_array_equal(narrowed, whole)


def test_coordinates_are_torchvisions_to_the_last_bit():
    """Every operation in its order, in float32: an edge test may turn on the last bit."""
    rng = np.random.default_rng(6)
    low = rng.uniform(-50, 200, 400).astype(np.float32)
    high = low + rng.uniform(0, 300, 400).astype(np.float32)
    spec = PoolSpec((7, 7), 3, aligned=True)
    grid = make_bins(Sides(low, high, np.array([0.0625])), 7, 20, spec)
    roi, bin_of_roi, sample = np.unravel_index(np.arange(400 * 7 * 3), (400, 7, 3))
    got = sample_coordinates(grid, roi * 7 + bin_of_roi, sample)
    real = np.float32
    for k, p, i, coordinate in zip(roi, bin_of_roi, sample, got, strict=True):
        start = low[k] * real(0.0625) - real(0.5)
        size = (high[k] * real(0.0625) - real(0.5) - start) / real(7)
        assert coordinate == start + real(p) * size + real(i + 0.5) * size / real(3)


def test_sample_counts_follow_float32():
    """In float64 this box would take another number of samples: 14.4 / 7 rounds across a whole number."""
    features = np.random.default_rng(3).standard_normal((1, 1, 30, 30)).astype(np.float32)
    rois = np.array([[0, 1.3, 2.7, 15.3, 16.7]], np.float32)
    spec = PoolSpec((7, 7), aligned=True)
    np.testing.assert_allclose(
        roicli.roi_align(features, rois, 7, aligned=True), roi_align_reference(features, rois, spec), atol=1e-6
    )
    in_float64 = roi_align_reference(features.astype(np.float64), rois.astype(np.float64), spec)
    assert np.abs(roi_align_reference(features, rois, spec) - in_float64).max() > 1e-3


@given(box=boxes, spec=specs)
def test_a_constant_map_stays_constant_inside(box, spec):
    """Far from the border every bin of a constant map is that constant, whatever the sampling."""
    shifted = np.array([[0, *np.clip(box, 0, 20)]], np.float32)
    shifted[:, 3:] += 2
    got = reduced(np.full((1, 1, 40, 40), 3.25, np.float32), shifted, spec)
    np.testing.assert_allclose(got, 3.25, atol=2e-6)


def test_a_ramp_gives_the_centres_of_the_bins():
    ramp = np.tile(np.arange(20.0), (1, 12, 1)) + 100 * np.arange(12.0)[:, None]
    got = roicli.roi_align(ramp, [[2, 3, 12, 9]], (3, 5), aligned=True)[0, 0]
    centres_x, centres_y = 2 - 0.5 + 2 * (np.arange(5) + 0.5), 3 - 0.5 + 2 * (np.arange(3) + 0.5)
    np.testing.assert_allclose(got, centres_x + 100 * centres_y[:, None], rtol=1e-12)


def test_an_impulse_has_its_footprint():
    impulse = np.zeros((1, 4, 4), np.float32)
    impulse[0, 1, 2] = 1
    got = roicli.roi_align(impulse, [[1.5, 0.5, 3.5, 2.5]], (2, 2), sampling_ratio=1, aligned=True)[0, 0]
    # Samples at y 0.5, 1.5 and x 1.5, 2.5: each half a cell from the impulse along both axes.
    np.testing.assert_array_equal(got, np.full((2, 2), 0.25))


def test_the_edge_rule_on_four_cells():
    """One bin of one sample, at the coordinates of the table in `sampling`."""
    line = np.array([[[1.0, 2.0, 4.0, 8.0]]])
    at = np.array([-1.2, -1.0, -0.4, 1.25, 3.0, 4.0, 4.1])
    rois = np.stack([at, np.full(7, 0.5), at + 1, np.full(7, 0.5) + 1e-9], axis=1)
    got = roicli.roi_align(line, rois, 1, sampling_ratio=1, aligned=True)[:, 0, 0, 0]
    np.testing.assert_allclose(got, [0, 1, 1, 2.5, 8, 8, 0])


def test_resizing_map_and_boxes_together_changes_nothing():
    """Twice the cells of a bilinear map and half the stride: the same values (detectron2's resize invariance)."""
    rng = np.random.default_rng(0)
    coarse = rng.standard_normal((1, 1, 1)) + np.arange(16.0)[:, None] * 2 - np.arange(24.0)
    y, x = (np.arange(32) + 0.5) / 2 - 0.5, (np.arange(48) + 0.5) / 2 - 0.5
    fine = coarse[:, :1, :1] + 2 * y[:, None] - x
    box = [[10.3, 20.1, 60.2, 50.9]]
    np.testing.assert_allclose(
        roicli.roi_align(coarse, box, (5, 3), 1 / 4, aligned=True),
        roicli.roi_align(fine, box, (5, 3), 1 / 2, aligned=True),
        rtol=1e-12,
    )


def test_an_inverted_box_runs_backwards_or_gives_zeros():
    features = np.random.default_rng(1).standard_normal((1, 3, 20, 20)).astype(np.float32)
    box, turned = [[4, 5, 11, 13]], [[11, 13, 4, 5]]
    forward = roicli.roi_align(features, box, (3, 2), sampling_ratio=2, aligned=True)
    backward = roicli.roi_align(features, turned, (3, 2), sampling_ratio=2, aligned=True)
    np.testing.assert_allclose(backward, forward[:, :, ::-1, ::-1], atol=1e-6)
    assert not roicli.roi_align(features, turned, (3, 2), aligned=True).any()


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_a_box_far_larger_than_the_map(mode):
    """Five bins of a box a million cells wide; the middle one covers the whole map and much more."""
    features = np.random.default_rng(1).standard_normal((1, 2, 30, 20)).astype(np.float32)
    got = roicli.roi_align(features, [[-500_000, -500_000, 500_000, 500_000]], 5, mode=mode)
    assert not np.delete(got.reshape(2, 25), 12, axis=1).any()
    middle = got[0, :, 2, 2]
    # One sample a cell: 31 rows (coordinates -1 to 30) and 21 columns of them are in range.
    assert (np.abs(middle) < 1e-6).all() if mode == "avg" else (middle > 1).all()


def test_rois_do_not_depend_on_their_neighbours():
    rng = np.random.default_rng(5)
    features = rng.standard_normal((1, 70, 40, 50)).astype(np.float32)
    rois = rng.uniform(-20, 70, (300, 4))
    rois = np.concatenate([np.minimum(rois[:, :2], rois[:, 2:]), np.maximum(rois[:, :2], rois[:, 2:])], axis=1)
    together = roicli.roi_align(features, rois, (7, 5), aligned=True)
    for part in (slice(0, 1), slice(17, 40), slice(299, 300)):
        np.testing.assert_array_equal(roicli.roi_align(features, rois[part], (7, 5), aligned=True), together[part])
