"""What was done to images: the numbers of the frameworks themselves, made by golden/make_preprocess.py."""

import json
from pathlib import Path

import numpy as np
import pytest

import roicli
from roicli.cli.help import read_topic
from roicli.errors import UsageError
from roicli.jobs import preprocess
from roicli.jobs.preprocess import ImageTransform, Preprocess, parse

GOLDEN = Path(__file__).parents[1] / "golden" / "preprocess.npz"
SIZES = ("37x53", "61x40", "45x45")


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


TEXTS = sorted({key.rpartition(" ")[0].rpartition(" ")[0] for key in np.load(GOLDEN).files})


def original_boxes(size):
    height, width = map(int, size.split("x"))
    return [
        [0, 0, width, height],
        [3.25, 5.5, width - 7.75, height - 2.5],
        [width / 2, height / 3, width / 2 + 9.5, height / 3 + 12.25],
    ]


def test_every_name_has_numbers():
    assert {text.partition(":")[0] for text in TEXTS} == {name.partition(":")[0] for name in preprocess.names()}


@pytest.mark.parametrize("text", TEXTS)
def test_boxes_land_where_the_framework_puts_them(golden, text):
    entry, numbers = parse(text)
    for size in SIZES:
        sizes = np.array([[float(side) for side in size.split("x")]])
        transform = entry.make(sizes, *numbers)
        moved = transform.apply(np.array(original_boxes(size)), np.zeros(3, np.intp))
        np.testing.assert_array_equal(transform.input_sizes[0], golden[f"{text} {size} input"])
        # torchvision's ratios are float32, all others float64.
        np.testing.assert_allclose(moved, golden[f"{text} {size} boxes"], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("text", TEXTS)
def test_pooled_as_torchvision_pools_the_tensor_of_the_framework(golden, text, tmp_path):
    np.savez(tmp_path / "maps.npz", **{size: golden[f"{text} {size} map"] for size in SIZES})
    (tmp_path / "boxes.json").write_text(json.dumps({size: original_boxes(size) for size in SIZES}))
    (tmp_path / "sizes.json").write_text(json.dumps({size: [*map(int, size.split("x"))] for size in SIZES}))
    settings = {"size": 2, "aligned": True, "stride": 4, "preprocess": text, "image_size": tmp_path / "sizes.json"}
    report = roicli.align(*(tmp_path / name for name in ("maps.npz", "boxes.json", "out.npy")), **settings)
    expected = np.concatenate([golden[f"{text} {size} pooled"] for size in SIZES])
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-6)
    assert report.warnings == ()
    # Boxes in 0..1 of the same images are the same boxes.
    unit = {}
    for size in SIZES:
        height, width = map(int, size.split("x"))
        unit[size] = (np.array(original_boxes(size)) / [width, height, width, height]).tolist()
    (tmp_path / "unit.json").write_text(json.dumps(unit))
    roicli.align(*(tmp_path / name for name in ("maps.npz", "unit.json", "n.npy")), **settings, normalized=True)
    np.testing.assert_allclose(np.load(tmp_path / "n.npy"), expected, atol=1e-5)


def test_the_guide_lists_every_name():
    guide = read_topic("geometry")
    for name in preprocess.names():
        assert f"| `{name.partition(':')[0]}" in guide


@pytest.mark.parametrize(
    "text",
    ["squash", "squash:", "squash:0", "letterbox:1x2x3", "none:3", "longest-edge:1,2", "shortest-edge:800", "squash:a"],
)
def test_wrong_numbers_are_refused(text):
    with pytest.raises(UsageError, match="preprocess must be "):
        parse(text)


def test_another_name_is_one_function(tmp_path, monkeypatch):
    monkeypatch.setattr(preprocess, "_KNOWN", dict(preprocess._KNOWN))

    def halve(sizes):
        n = len(sizes)
        return ImageTransform(np.full(n, 0.5), np.full(n, 0.5), np.zeros(n), np.zeros(n), sizes / 2)

    preprocess.register(Preprocess("halve", "", halve, 0))
    np.save(tmp_path / "map.npy", np.arange(16, dtype=np.float32).reshape(1, 4, 4))
    (tmp_path / "boxes.json").write_text("[[8, 0, 16, 8]]")
    paths = [tmp_path / name for name in ("map.npy", "boxes.json", "out.npy")]
    roicli.align(*paths, size=1, aligned=True, stride=2, preprocess="halve", image_size="16x16")
    assert np.load(paths[2]).ravel().tolist() == [4.5]
