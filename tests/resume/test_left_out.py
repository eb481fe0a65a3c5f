"""Boxes that are not pooled, over all runs of a job."""

import csv
import json

import numpy as np
import pytest
from driving import run


@pytest.fixture
def partly(tmp_path, monkeypatch):
    """Two maps; boxes of three images, one of them bad."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "feats").mkdir()
    for name in "ab":
        np.save(tmp_path / "feats" / f"{name}.npy", np.ones((2, 8, 8), np.float32))
    boxes = {"a": [[0, 0, 4, 4], [5, 5, 1, 1]], "gone": [[0, 0, 2, 2], [9, 1, 3, 1.5]], "b": [[1, 1, 3, 3]]}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    return tmp_path


def listed(path):
    with path.open(newline="", encoding="utf-8") as file:
        return [(line["box_file_row"], line["image_id"], line["reason"], line["fate"]) for line in csv.DictReader(file)]


def call(*arguments, expect=0):
    return run(".", "align", *arguments, expect=expect)


@pytest.mark.parametrize("fate", ["skip", "zero"])
def test_images_without_features(partly, fate):
    arguments = ("feats", "boxes.json", "-o", "out.npz", "--size", "2", "--bad-boxes", "zero", "--json")
    assert "boxes.json: no features in feats for 1 of 3 images: 'gone'" in call(*arguments, expect=3).stderr
    assert not list(partly.glob("*out*"))
    done = call(*arguments, "--missing-features", fate)
    report = json.loads(done.stdout)
    skipped = [2, 3] if fate == "skip" else []
    assert report["skipped"] == skipped
    assert report["zeroed"] == ([1] if skipped else [1, 2, 3])
    assert report["missing_images"] == 1
    assert "'gone'; 2 boxes " in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "not pooled: 2 boxes skipped, 1 written as zeros"
        if skipped
        else "not pooled: 0 boxes skipped, 3 written as zeros"
    )
    with np.load("out.npz") as archive:
        assert archive["image_ids"].tolist() == ["a", "a", "b"] if skipped else ["a", "a", "gone", "gone", "b"]
        assert (archive["features"] != 0).any(axis=(1, 2, 3)).tolist() == (
            [True, False, True] if skipped else [True, False, False, False, True]
        )
    word = f"{fate}ped" if skipped else "zeroed"
    assert listed(partly / "out.npz.skipped.csv") == [
        ("1", "a", "inverted", "zeroed"),
        ("2", "gone", "no features", word),
        ("3", "gone", "no features", word),
    ]


def test_a_list_of_skipped_boxes_goes_with_its_output(partly):
    arguments = ("feats", "boxes.json", "-o", "out.npy", "--size", "2", "--missing-features", "skip")
    path = partly / "out.npy.skipped.csv"
    path.write_text("old")
    assert "out.npy.skipped.csv exists" in call(*arguments, "--bad-boxes", "skip", expect=3).stderr
    assert path.read_text() == "old"
    call(*arguments, "--bad-boxes", "skip", "--overwrite")
    assert len(listed(path)) == 3
    (partly / "boxes.json").write_text('{"a": [[0, 0, 4, 4]]}')
    (partly / "out.npy").unlink()
    assert "out.npy.skipped.csv is of an earlier run" in call(*arguments).stderr
    assert path.exists()
    call(*arguments, "--overwrite")
    assert not path.exists()


def test_all_images_without_features(partly):
    """Somebody meant other features: nothing is written, whatever was said of missing ones."""
    (partly / "boxes.json").write_text('{"x": [[0, 0, 4, 4]], "y": [[0, 0, 4, 4]]}')
    for fate in ("skip", "zero"):
        done = call("feats", "boxes.json", "-o", "out.npy", "--missing-features", fate, expect=3)
        assert "none of its 2 images has features in feats: 'x', 'y'" in done.stderr
        assert not (partly / "out.npy").exists()


def test_two_images_of_one_map_are_refused_all_the_same(partly):
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "a.png"}, {"id": 3, "file_name": "gone.png"}]
    annotations = [{"id": n, "image_id": n, "bbox": [0, 0, 4, 4]} for n in (1, 2, 3)]
    (partly / "boxes.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    done = call("feats", "boxes.json", "-o", "out.npy", "--missing-features", "skip", expect=3)
    assert "would all be map 'a'" in done.stderr
