"""Features taken for what they are not: another layout, tokens as a map, another grid or order, all seen or refused."""

import numpy as np
import pytest

import roicli
from roicli.errors import FeatureError, RoicliError
from roicli.jobs.likeness import likeness

KINDS = [
    *("chw as hwc", "hwc as chw", "hwc unsaid", "hwc as tokens", "chw as tokens"),
    *("tokens as chw", "tokens as hwc", "tokens unsaid", "batch unsaid", "swapped grid"),
    *("another grid", "unmerged", "merged", "another prefix"),
]


def smooth(rng, channels, height, width):
    """Maps as networks make them: channels of their own mean and strength, smooth over 1 to 3 cells, some rectified."""
    noise = rng.standard_normal((channels, height, width))
    y, x = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]
    sigma = rng.uniform(1, 3)
    maps = np.fft.ifft2(np.fft.fft2(noise) * np.exp(-2 * (np.pi * sigma) ** 2 * (y**2 + x**2))).real
    maps /= maps.std(axis=(1, 2), keepdims=True)
    maps += rng.uniform(0, 0.3) * rng.standard_normal(maps.shape)
    maps *= np.exp(rng.normal(0, 0.5, (channels, 1, 1)))
    maps += rng.normal(0, 1, (channels, 1, 1))
    return (np.maximum(maps, 0) if rng.random() < 0.4 else maps).astype(np.float32)


def sequence(rng, feature_map, prefix):
    """The tokens of a map, after prefix tokens of larger norm."""
    patches = feature_map.reshape(len(feature_map), -1).T
    return np.concatenate([3 * rng.standard_normal((prefix, len(feature_map))), patches]).astype(np.float32)


def merge(feature_map):
    """The map whose tokens, line by line, are those of the given map in blocks of 2 x 2."""
    channels, height, width = feature_map.shape
    blocks = feature_map.reshape(channels, height // 2, 2, width // 2, 2).transpose(0, 1, 3, 2, 4)
    return blocks.reshape(feature_map.shape)


def wrong(kind, rng):
    """An array, and settings that take it for something else; sizes as networks make them."""
    channels = int(rng.choice([32, 64, 96, 192, 256, 384]))
    height, width = (int(side) for side in rng.choice([14, 16, 20, 24, 26, 32, 38, 50], 2, replace=False))
    side, prefix = int(rng.choice([14, 16, 24, 27, 32, 37])), int(rng.choice([0, 1, 5]))
    if kind.startswith("chw"):
        return smooth(rng, channels, height, width), {"layout": kind[7:]}
    if kind.startswith("hwc"):
        layout = None if kind == "hwc unsaid" else kind[7:]
        return smooth(rng, channels, height, width).transpose(1, 2, 0), {"layout": layout}
    square = sequence(rng, smooth(rng, channels, side, side), prefix)
    if kind in ("tokens as chw", "tokens as hwc", "tokens unsaid"):
        return square[None], {"layout": None if kind == "tokens unsaid" else kind[10:]}
    if kind == "batch unsaid":
        return np.stack([square, sequence(rng, smooth(rng, channels, side, side), prefix)]), {}
    tokens = {"layout": "tokens"}
    if kind == "another prefix":
        return square, tokens | {"prefix": prefix + int(rng.choice([1, 2, 3]))}
    if kind == "swapped grid":
        oblong = smooth(rng, channels, height, width)
        return sequence(rng, oblong, prefix), tokens | {"prefix": prefix, "grid": (width, height)}
    if kind == "another grid":
        half = smooth(rng, channels, 16, 24)
        grid = [(12, 32), (32, 12), (24, 16), (8, 48)][rng.integers(4)]
        return sequence(rng, half, prefix), tokens | {"prefix": prefix, "grid": grid}
    even = smooth(rng, channels, 2 * (height // 2), 2 * (width // 2))
    grid = even.shape[1:]
    if kind == "unmerged":
        return sequence(rng, merge(even), prefix), tokens | {"prefix": prefix, "grid": grid}
    return sequence(rng, even, prefix), tokens | {"prefix": prefix, "grid": grid, "token_order": "merge-2x2"}


def judged(folder, array, **settings):
    """What check says: the error, or its warnings."""
    np.save(folder / "feats.npy", array)
    (folder / "boxes.json").write_text("[[0, 1, 2, 5, 6], [0, 3, 1, 9, 8]]")
    try:
        return "; ".join(roicli.check(folder / "feats.npy", folder / "boxes.json", **settings).warnings)
    except RoicliError as error:
        return f"{error.message}. {error.hint}"


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_layouts_are_refused_or_named(tmp_path, kind, request):
    """Of 14 kinds, 3 each; 15 each with --long."""
    for seed in range(15 if request.config.getoption("--long") else 3):
        array, settings = wrong(kind, np.random.default_rng([KINDS.index(kind), seed]))
        said = judged(tmp_path, array, **settings)
        named = any(option in said for option in ("`layout=", "`grid=", "`prefix=", "`token_order="))
        assert named or "expected the batch index" in said, (seed, array.shape, settings, said)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("make", [smooth, lambda rng, *shape: rng.standard_normal(shape)], ids=["smooth", "noise"])
def test_right_layouts_are_not_warned_of(tmp_path, make, seed):
    rng = np.random.default_rng(seed)
    channels, height, width = int(rng.choice([4, 64, 256])), *(int(side) for side in rng.choice([14, 24, 37, 50], 2))
    feature_map = make(rng, channels, height, width)
    tokens = {"layout": "tokens", "prefix": 1, "grid": (height, width)}
    for array, settings in [
        (feature_map, {"layout": "chw"}),
        (feature_map.transpose(1, 2, 0), {"layout": "hwc"}),
        (sequence(rng, feature_map, 1), tokens),
    ]:
        assert "correlate" not in judged(tmp_path, array, **settings)


def test_a_ramp_is_alike_in_any_reading(tmp_path):
    assert "correlate" not in judged(tmp_path, np.arange(8.0 * 9 * 12).reshape(8, 9, 12))


def test_likeness():
    rng = np.random.default_rng(0)
    assert likeness(smooth(rng, 8, 30, 40)) > 0.6
    assert np.isnan(likeness(np.ones((8, 30, 40))))
    assert np.isnan(likeness(np.full((8, 30, 40), np.nan)))
    assert np.isnan(likeness(rng.standard_normal((8, 1, 40))))
    broken = smooth(rng, 8, 30, 40)
    broken[0, 3, 4] = np.inf
    assert likeness(broken) > 0.6


@pytest.mark.parametrize("shape", [(1, 1374, 1024), (2, 1369, 8), (1, 197, 768), (3, 577, 1024)])
def test_sequences_are_not_pooled_as_pictures(tmp_path, shape):
    rng = np.random.default_rng(1)
    np.save(tmp_path / "feats.npy", rng.integers(-9, 9, shape).astype(np.float16))
    (tmp_path / "boxes.json").write_text("[[1, 2, 5, 6], [3, 1, 9, 8]]")
    with pytest.raises(FeatureError, match="which is either") as caught:
        roicli.align(tmp_path / "feats.npy", tmp_path / "boxes.json", tmp_path / "out.npy")
    assert "`layout=tokens`" in caught.value.message
    assert "`layout=chw`" in caught.value.message
    assert not (tmp_path / "out.npy").exists()
    roicli.align(tmp_path / "feats.npy", tmp_path / "boxes.json", tmp_path / "out.npy", layout="chw")


def test_smooth_maps_of_few_channels_are_taken_for_maps(tmp_path):
    np.save(tmp_path / "feats.npy", smooth(np.random.default_rng(2), 3, 196, 256))
    (tmp_path / "boxes.json").write_text("[[1, 2, 5, 6], [3, 1, 9, 8]]")
    report = roicli.check(tmp_path / "feats.npy", tmp_path / "boxes.json")
    assert report.alike > 0.6
    assert any("taken for maps of axes C, H, W, not for tokens" in note for note in report.notes)
