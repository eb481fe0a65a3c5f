"""Clips (C, T, H, W): the mean, the maximum or one of their frames, from every kind of file."""

import h5py
import numpy as np
import pytest

import roicli
from roicli.errors import FeatureError, UsageError
from roicli.sources import open_source

BOXES = "[[0, 1, 40, 60], [9, 7, 70, 33]]"
OVER_TIME = {
    "mean": lambda clip: clip.astype("f4").mean(axis=1),
    "max": lambda clip: clip.max(axis=1),
    "2": lambda c: c[:, 2],
}


@pytest.fixture
def clip():
    return (np.random.default_rng(0).integers(-64, 64, (6, 4, 9, 7)) / 16).astype(np.float16)


@pytest.mark.parametrize("over_time", OVER_TIME)
@pytest.mark.parametrize("layout", ["cthw", "thwc"])
@pytest.mark.parametrize("way", ["npy", "stack", "npz", "h5", "chunked h5"])
def test_read(tmp_path, clip, over_time, layout, way):
    stored = clip if layout == "cthw" else clip.transpose(1, 2, 3, 0)
    path = tmp_path / f"clips.{way.split()[-1].replace('stack', 'npy')}"
    if way in ("npy", "stack"):
        np.save(path, stored if way == "npy" else np.stack([stored, stored + 1]))
    elif way == "npz":
        np.savez(path, **{"a": stored})
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("a", data=stored, chunks=(2, 2, 4, 3) if way == "chunked h5" else None)
    source = open_source(path, layout=f"{layout}:{over_time}")
    assert len(source) == (2 if way == "stack" else 1)
    assert source.info(0).shape == (6, 9, 7)
    assert source.info(0).dtype == source.read(0).dtype == (np.float32 if over_time == "mean" else np.float16)
    np.testing.assert_array_equal(source.read(0), OVER_TIME[over_time](clip))


@pytest.mark.parametrize("over_time", ["mean", "max", 2])
def test_pooled(tmp_path, clip, over_time):
    np.save(tmp_path / "clip.npy", clip)
    (tmp_path / "boxes.json").write_text(BOXES)
    settings = {"size": (3, 2), "aligned": True, "spatial_scale": 1 / 8}
    roicli.align(*(tmp_path / name for name in ("clip.npy", "boxes.json", "out.npz")), time=over_time, **settings)
    expected = roicli.roi_align(OVER_TIME[str(over_time)](clip), [[0, 1, 40, 60], [9, 7, 70, 33]], **rename(settings))
    with np.load(tmp_path / "out.npz") as written:
        np.testing.assert_allclose(written["features"], expected, atol=1e-6)
        assert f'"time": {over_time!r}'.replace("'", '"') in str(written["parameters"])


def test_open_features(tmp_path, clip):
    np.save(tmp_path / "clip.npy", clip)
    source = roicli.open_features(tmp_path / "clip.npy", time="max")
    np.testing.assert_array_equal(source[0], clip.max(axis=1))


def rename(settings):
    return {"output_size": settings["size"]} | {name: value for name, value in settings.items() if name != "size"}


def test_what_is_refused(tmp_path, clip):
    np.save(tmp_path / "clip.npy", clip)
    with pytest.raises(FeatureError, match="expected a clip with a frame 4, got 4 frames"):
        open_source(tmp_path / "clip.npy", layout="cthw:4").info(0)
    (tmp_path / "boxes.json").write_text(BOXES)
    for settings, said in [
        ({"time": "median"}, "got 'median'"),
        ({"time": "mean", "layout": "tokens"}, "is for clips"),
    ]:
        with pytest.raises(UsageError, match=said):
            roicli.check(tmp_path / "clip.npy", tmp_path / "boxes.json", **settings)
