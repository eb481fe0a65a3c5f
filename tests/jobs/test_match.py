"""From files to regions with a map each: absent boxes, rotated ones, and maps that have no ids."""

import json

import h5py
import numpy as np
import pytest

from roicli.errors import BoxError
from roicli.jobs import match
from roicli.jobs.api import align


def annotation(image, box=(0, 0, 4, 4)):
    return {"image_id": image, "bbox": box}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Write a stack of three maps, whose cells are 0, 1 and 2, and a box file; return the features of its boxes."""
    monkeypatch.chdir(tmp_path)
    np.save("f.npy", np.ones((3, 1, 8, 8), np.float32) * np.arange(3)[:, None, None, None])

    def write_and_align(document, name="b.json", **options):
        text = document if isinstance(document, str) else json.dumps(document)
        (tmp_path / name).write_text(text)
        report = align("f.npy", name, "o.npy", size=1, overwrite=True, **options)
        return np.load("o.npy").ravel().tolist(), report

    return write_and_align


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("b.json", [annotation(1), annotation(None, []), annotation(2), annotation(1, None), {"image_id": 9}]),
        ("b.csv", "image_id,x1,y1,x2,y2\n1,0,0,4,4\n1,,,,\n2,0,0,4,4\n1,NA,NA,NA,NA\n9,None,None,None,None\n"),
    ],
)
def test_absent_boxes_end_the_job_or_are_left_out_or_zeros(files, name, document):
    with pytest.raises(
        BoxError, match=r"b\.\w+, (boxes 1, 3, 4|lines 3, 5, 6): absent \(empty, null, NaN or missing\), 3 of 5 boxes"
    ):
        files(document, name, missing_features="skip")
    with pytest.raises(BoxError, match="absent"):
        files(document, name, bad_boxes="keep", missing_features="skip")
    pooled, report = files(document, name, bad_boxes="skip", missing_features="skip")
    assert (pooled, report.skipped) == ([1, 2], (1, 3, 4))
    pooled, report = files(document, name, bad_boxes="zero", missing_features="skip")
    assert (pooled, report.zeroed) == ([1, 0, 2, 0, 0], (1, 3, 4))


def test_rotated_boxes_are_refused(files):
    header = "image_id,cx,cy,w,h,angle\n"
    assert files(f"{header}1,2,2,4,4,0\n2,2,2,4,4,\n", "b.csv")[0] == [1, 2]
    with pytest.raises(BoxError, match=r"b\.csv, line 3: expected upright boxes, got the angle 30"):
        files(f"{header}1,2,2,4,4,0\n2,2,2,4,4,30\n", "b.csv")


@pytest.mark.parametrize("name", ["angle", "theta", "rotation"])
def test_rotated_boxes_in_json_are_refused(files, name):
    assert files([annotation(1) | {name: 0}, annotation(2) | {name: None}])[0] == [1, 2]
    with pytest.raises(BoxError, match=r"b\.json, box 1: expected upright boxes, got the angle 0\.5"):
        files([annotation(1), annotation(2) | {name: 0.5}])


def coco(ids, *annotations):
    return {"images": [{"id": number} for number in ids], "annotations": annotations}


@pytest.mark.parametrize(
    ("ids", "images", "expected"),
    [
        ((1, 2, 3), (1, 2), [0, 1]),  # a shift by one would go unseen: no box is of the last image
        ((7, 139, 632), (632, 7), [2, 0]),
        ((0, 1, 2), (1, 2), [1, 2]),
        ((2, 0, 1), (1, 2), [1, 2]),
    ],
)
def test_maps_without_ids_are_in_the_order_of_the_images(files, ids, images, expected):
    pooled, report = files(coco(ids, *map(annotation, images)))
    assert pooled == expected
    assert any("positions are those in the list" in note for note in report.notes) == (sorted(ids) != [0, 1, 2])


def test_maps_without_ids_of_images_in_no_order(files):
    with pytest.raises(BoxError, match=r"in the order of their ids, since the maps of .* have none"):
        files(coco((3, 1, 2), annotation(1)))


def test_ids_that_may_count_from_one_are_noted(files):
    pooled, report = files([annotation(1), annotation(2)])
    assert pooled == [1, 2]
    assert "if the ids count from 1, each box gets the map after its own" in report.warnings[0]
    assert not any("the id 0" in note for note in files([annotation(0), annotation(2)])[1].notes)


def test_ids_or_file_names_decide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("f.npz", **{str(index): np.full((1, 8, 8), index, np.float32) for index in range(2)})
    images = [{"id": 1, "file_name": "0.png"}]
    (tmp_path / "b.json").write_text(json.dumps({"images": images, "annotations": [annotation(1)]}))
    for decides, expected in (("id", 1), ("file-name", 0)):
        align("f.npz", "b.json", "o.npy", size=1, overwrite=True, match=decides)
        assert np.load("o.npy").ravel().tolist() == [expected]
    with pytest.raises(BoxError, match="by its id, and '0' by its file name"):
        align("f.npz", "b.json", "o.npy", size=1, overwrite=True)


@pytest.mark.parametrize("fate", ["skip", "zero"])
def test_a_job_of_which_no_image_has_features_fails(files, fate):
    with pytest.raises(BoxError, match=r"b\.json: none of its 2 images has features in f\.npy: '7', '8'"):
        files([annotation(7), annotation(8), annotation(7)], missing_features=fate)
    assert files([annotation(7), annotation(2)], missing_features=fate)[0][-1] == 2


def test_a_file_that_takes_long_to_read_is_noted(files, monkeypatch):
    text = "image_id,x1,y1,x2,y2\n1,0,0,4,4\n"
    said = "reading the boxes of b.csv, 31 bytes"
    assert said not in files(text, "b.csv")[1].notes
    monkeypatch.setattr(match, "_SLOW", 30)
    assert files(text, "b.csv")[1].notes[0] == said


@pytest.mark.parametrize("last", [0.9, 1.0, 2])
def test_a_batch_index_that_is_last_is_named(files, last):
    """Boxes whose last number is a score, a label or the batch index."""
    with pytest.raises(BoxError) as caught:
        files([[1, 2, 6, 6, last], [4, 3, 8, 9, last]])
    assert caught.value.hint.startswith("The first of five numbers is the batch index: put it there, if it is last.")
    with pytest.raises(BoxError) as caught:
        files([[0, 2, 6, 6, last], [1, 3, 8, 9, last]])
    assert (
        caught.value.hint
        == "The first of five numbers is the batch index: is it last, or is the last one a score or a label?"
    )


@pytest.mark.parametrize(("path", "pattern"), [("data/{}/feat/conv", "data/*/feat/conv"), ("feat_{}", "feat_*")])
def test_paths_that_hold_ids_lead_to_a_pattern(tmp_path, monkeypatch, path, pattern):
    monkeypatch.chdir(tmp_path)
    with h5py.File("f.h5", "w") as file:
        for image in (139, 285):
            file[path.format(image)] = np.full((1, 8, 8), image, np.float32)
    (tmp_path / "b.json").write_text(json.dumps([annotation(285), annotation(139)]))
    with pytest.raises(BoxError) as caught:
        align("f.h5", "b.json", "o.npy", size=1)
    assert caught.value.hint == f"Give `dataset='{pattern}'`, whose * is the image id."
    align("f.h5", "b.json", "o.npy", size=1, dataset=pattern)
    assert np.load("o.npy").ravel().tolist() == [285, 139]
