"""Precise RoI pooling: a fine numerical integral, and sums of the surface that can be checked by hand."""

import numpy as np

import roicli


def test_a_fine_numerical_integral():
    """The mean of 400 x 400 samples a bin."""
    maps = np.random.default_rng(1).standard_normal((2, 6, 7))
    box = [0.3, -0.7, 5.2, 4.9]
    got = roicli.precise_roi_pool(maps, [box], (2, 3))
    around = np.pad(maps, ((0, 0), (1, 2), (1, 2)))
    steps = (np.arange(400) + 0.5) / 400
    for ph, pw in np.ndindex(2, 3):
        y = box[1] + (ph + steps) * (box[3] - box[1]) / 2 + 1
        x = box[0] + (pw + steps) * (box[2] - box[0]) / 3 + 1
        low_y, low_x = y.astype(int), x.astype(int)
        fy, fx = (y - low_y)[:, None], x - low_x
        fine = (
            around[:, low_y[:, None], low_x] * (1 - fy) * (1 - fx)
            + around[:, low_y[:, None], low_x + 1] * (1 - fy) * fx
            + around[:, low_y[:, None] + 1, low_x] * fy * (1 - fx)
            + around[:, low_y[:, None] + 1, low_x + 1] * fy * fx
        ).mean(axis=(1, 2))
        np.testing.assert_allclose(got[0, :, ph, pw], fine, atol=2e-5)


def test_the_whole_surface_is_the_sum_of_the_cells():
    maps = np.random.default_rng(0).standard_normal((1, 4, 3)).astype(np.float32)
    got = roicli.precise_roi_pool(maps, [[-1, -1, 3, 4]], 1)
    np.testing.assert_allclose(got[0, 0, 0, 0], maps.sum() / 20, atol=1e-6)


def test_a_tiny_box_is_the_value_there():
    maps = np.random.default_rng(0).standard_normal((1, 4, 3))
    got = roicli.precise_roi_pool(maps, [[1.25, 2.5, 1.25 + 1e-6, 2.5 + 1e-6]], 1)
    value = 0.5 * (0.75 * maps[0, 2, 1] + 0.25 * maps[0, 2, 2] + 0.75 * maps[0, 3, 1] + 0.25 * maps[0, 3, 2])
    np.testing.assert_allclose(got[0, 0, 0, 0], value, atol=1e-6)


def test_a_thin_box_is_the_mean_along_it():
    maps = np.random.default_rng(0).standard_normal((1, 4, 3))
    got = roicli.precise_roi_pool(maps, [[0, 0, 1, 1.0661528e-12]], (3, 1))
    np.testing.assert_allclose(got[0, 0, :, 0], maps[0, 0, :2].mean(), atol=1e-9)
