"""Boxes chosen and made: parts of a file, pairs, larger boxes, whole images."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from roicli.boxfiles import read_regions
from roicli.cli.main import main
from roicli.errors import BoxError, RoicliError, UsageError
from roicli.jobs.choose import Choice, choose

# Two images, 30 x 40 and 20 x 10 (height x width); boxes as xywh, scores, categories.
ANNOTATIONS = [
    {"id": 11, "image_id": 7, "bbox": [0, 0, 10, 20], "score": 0.5, "category_id": 1},
    {"id": 12, "image_id": 9, "bbox": [2, 4, 4, 4], "score": 0.9, "category_id": 2},
    {"id": 13, "image_id": 7, "bbox": [20, 10, 10, 10], "score": 0.7, "category_id": 2},
    {"id": 14, "image_id": 7, "bbox": [30, 0, 20, 10], "score": 0.5, "category_id": 1},
]
COCO = {
    "images": [{"id": 7, "height": 30, "width": 40}, {"id": 9, "height": 20, "width": 10}, {"id": 10}],
    "annotations": ANNOTATIONS,
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "hot, dog"}],
}


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.json").write_text(json.dumps(COCO))
    return read_regions(tmp_path / "b.json")


def chosen(table, image_size=None, normalized=False, **choice):
    notes = []
    found = choose(table, Choice(**choice), image_size, notes.append, normalized=normalized)
    return found, notes


def ids(table):
    return [table.image_ids[index] for index in table.image_index]


def test_nothing_is_done_unasked(table):
    assert chosen(table) == (table, [])


@pytest.mark.parametrize(
    ("choice", "origin"),
    [
        ({"category": "cat"}, [0, 3]),
        ({"category": "hot, dog"}, [1, 2]),
        ({"category": "2"}, [1, 2]),
        ({"category": "cat, 2"}, [0, 1, 2, 3]),
        ({"min_score": 0.7}, [1, 2]),
        ({"top_k": 1}, [1, 2]),
        ({"top_k": 2}, [0, 1, 2]),
        ({"top_k": 9}, [0, 1, 2, 3]),
        ({"category": "cat", "top_k": 1}, [0]),
    ],
)
def test_boxes_are_chosen_in_the_order_of_the_file(table, choice, origin):
    found, notes = chosen(table, **choice)
    assert found.places.tolist() == origin
    assert found.boxes.tolist() == table.boxes[origin].tolist()
    assert ids(found) == [ids(table)[row] for row in origin]
    assert set(found.image_ids) == set(ids(found))
    assert len(found.image_sizes) == len(found.image_ids)
    assert len(notes) == (len(origin) < 4)


def test_labels_as_names(tmp_path):
    (tmp_path / "b.csv").write_text("image_id,x1,y1,x2,y2,label\na,0,0,1,1,dog\na,0,0,2,2,cat\nb,0,0,3,3,\n")
    found, _ = chosen(read_regions(tmp_path / "b.csv"), category="cat")
    assert (found.boxes[:, 2].tolist(), found.image_ids) == ([2], ("a",))
    with pytest.raises(BoxError, match="no box of category 'cow'; it has 'dog', 'cat'"):
        chosen(read_regions(tmp_path / "b.csv"), category="cow")


@pytest.mark.parametrize("choice", [{"top_k": 1}, {"min_score": 0.5}])
def test_scores_that_are_missing(tmp_path, choice):
    (tmp_path / "b.csv").write_text("image_id,x1,y1,x2,y2\na,0,0,1,1\n")
    with pytest.raises(UsageError, match=r"needs scores, and .*b\.csv has none"):
        chosen(read_regions(tmp_path / "b.csv"), **choice)


@pytest.mark.parametrize(
    ("choice", "first", "last"),
    [
        ({"expand": 1.5}, [-2.5, -5, 12.5, 25], [25, -2.5, 55, 12.5]),
        ({"expand": "2px"}, [-2, -2, 12, 22], [28, -2, 52, 12]),
        ({"square": True}, [-5, 0, 15, 20], [30, -5, 50, 15]),
        ({"clip": True}, [0, 0, 10, 20], [30, 0, 40, 10]),
        ({"expand": "0.5", "square": True, "clip": True}, [0, 5, 10, 15], [35, 0, 40, 10]),
    ],
)
def test_boxes_are_changed(table, choice, first, last):
    found, _ = chosen(table, **choice)
    assert found.boxes[[0, 3]].tolist() == [first, last]
    assert found.given.tolist() == table.given.tolist()
    assert found.places.tolist() == [0, 1, 2, 3]


def test_boxes_in_0_to_1_are_changed_in_pixels(tmp_path):
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    table = read_regions(tmp_path / "a.txt")
    for choice, expected in (
        ({"expand": 2}, [0.3, 0.3, 0.7, 0.7]),
        ({"expand": "10px"}, [0.35, 0.3, 0.65, 0.7]),
        ({"square": True}, [0.4, 0.3, 0.6, 0.7]),
        ({"expand": 9, "clip": True}, [0, 0, 1, 1]),
    ):
        np.testing.assert_allclose(chosen(table, "100x200", **choice)[0].boxes, [expected])
    assert chosen(table, whole_image=True)[0].boxes.tolist()[1] == [0, 0, 1, 1]
    with pytest.raises(BoxError, match="the sizes of 1 image are not known: 'a'"):
        chosen(table, square=True)


def test_whole_images_come_last(table):
    found, notes = chosen(table, whole_image=True, category="hot, dog", expand=2)
    assert found.boxes[2:].tolist() == [[0, 0, 40, 30], [0, 0, 10, 20]]
    assert found.given[2:].tolist() == [[0, 0, 40, 30], [0, 0, 10, 20]]
    assert ids(found) == ["9", "7", "7", "9"]
    assert found.places.tolist() == [1, 2, -1, -1]
    assert found.box_ids.tolist() == ["12", "13", "", ""]
    assert notes[1] == f"{table.source}: 2 whole images added, after all boxes"


def test_the_whole_of_an_only_image(tmp_path):
    (tmp_path / "b.json").write_text("[[1, 2, 3, 4], [1, 2, 4, 5]]")
    found, _ = chosen(read_regions(tmp_path / "b.json"), "30x40", whole_image=True)
    assert found.boxes.tolist() == [[1, 2, 3, 4], [1, 2, 4, 5], [0, 0, 40, 30]]
    assert found.image_index is None
    with pytest.raises(BoxError, match="the sizes of 1 image are not known"):
        chosen(read_regions(tmp_path / "b.json"), whole_image=True)


def test_all_pairs_of_an_image(table):
    found, _ = chosen(table, pairs="all")
    assert found.boxes.tolist() == [[0, 0, 30, 20], [0, 0, 50, 20], [20, 0, 50, 20]]
    assert [found.columns[name].tolist() for name in ("subject", "object")] == [[0, 0, 2], [2, 3, 3]]
    assert (ids(found), found.places.tolist()) == (["7"] * 3, [-1] * 3)
    assert found.rows.tolist() == [-1] * 3
    assert found.where(np.arange(3)) == "3 boxes made of others"
    assert chosen(table, pairs="all", category="cat")[0].columns["object"].tolist() == [3]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.json", "[[14, 11], [12, 12]]"),
        ("p.json", '{"7": [[2, 0]], "9": [[0, 0]]}'),
        ("p.csv", "subject,object,predicate\n14,11,on\n12, 12,is\n"),
    ],
)
def test_pairs_of_a_file(table, tmp_path, name, content):
    (tmp_path / name).write_text(content)
    found, _ = chosen(table, pairs=tmp_path / name)
    assert found.boxes.tolist() == [[0, 0, 50, 20], [2, 4, 6, 8]]
    assert [found.columns[name].tolist() for name in ("subject", "object")] == [[3, 1], [0, 1]]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.json", "[[14, 1]]", "pair 0: .* has not both boxes of id 14, 1"),
        ("p.json", "[[11, 12]]", "pair 0: two images, annotations 0, 1"),
        ("p.json", '{"7": [[0, 3]]}', "pair 0: .* has not both boxes of position 0, 3"),
        ("p.json", '{"7": 3}', "image '7': expected a list of pairs"),
        ("p.json", "[[1]]", "pair 0: expected array of length 2"),
        ("p.csv", "a,b\n1,2\n", "line 1: no columns subject and object"),
    ],
)
def test_pairs_that_are_not_there(table, tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(BoxError, match=said) as caught:
        chosen(table, pairs=tmp_path / name)
    assert caught.value.hint


def test_turned_boxes(tmp_path):
    (tmp_path / "b.csv").write_text("image_id,cx,cy,w,h,angle,height,width\na,5,5,4,2,30,10,20\n")
    table = read_regions(tmp_path / "b.csv")
    for choice in ({"clip": True}, {"pairs": "all"}):
        with pytest.raises(BoxError, match="are for upright boxes, got the angle 30"):
            chosen(table, **choice)
    found, _ = chosen(table, expand=2, whole_image=True)
    assert found.boxes.tolist() == [[1, 3, 9, 7], [0, 0, 20, 10]]
    assert found.columns["angle"].tolist() == [30, 0]


@pytest.mark.parametrize("expand", ["0", "-1", "px", "2pt", 0])
def test_what_cannot_be_expanded_by(expand):
    with pytest.raises(UsageError, match="expand must be a factor or pixels"):
        Choice(expand=expand)


def align(*arguments):
    done = CliRunner().invoke(main, ["align", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def maps(table):
    np.savez("f.npz", **{"7": np.ones((2, 3, 4), np.float32), "9": np.full((2, 2, 1), 2, np.float32)})


def test_what_is_chosen_is_written(maps):
    align(
        "f.npz", "b.json", "-o", "o.npz", "--stride", 10, "--aligned", "--top-k", 1, "--whole-image", "--index", "i.csv"
    )
    with np.load("o.npz") as out:
        assert out["rows"].tolist() == [1, 2, -1, -1]
        assert out["features"].mean(axis=(1, 2, 3)).tolist() == [2, 1, 1, 2]
    with Path("i.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["hot, dog", "hot, dog", "", ""]
    assert [row["score"] for row in rows] == ["0.9", "0.7", "", ""]
    assert [row["box_file_row"] for row in rows] == ["1", "2", "-1", "-1"]


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_pairs_are_written_and_merged(maps, suffix):
    options = ("f.npz", "b.json", "--stride", 10, "--pairs", "all")
    align(*options, "-o", f"whole{suffix}", "--index", "i.csv")
    for part in (1, 2):
        align(*options, "-o", f"part{part}{suffix}", "--shard", f"{part}/2")
    done = CliRunner().invoke(main, ["merge", f"merged{suffix}", f"part1{suffix}", f"part2{suffix}"])
    assert done.exit_code == 0, done.output
    assert Path(f"merged{suffix}").read_bytes() == Path(f"whole{suffix}").read_bytes()
    if suffix == ".npz":
        with np.load("merged.npz") as out:
            assert out["pairs"].tolist() == [[0, 2], [0, 3], [2, 3]]
    with Path("i.csv").open(newline="") as file:
        assert [(row["subject"], row["object"]) for row in csv.DictReader(file)] == [("0", "2"), ("0", "3"), ("2", "3")]


def test_only_images_of_chosen_boxes_need_features(table):
    np.savez("f.npz", **{"9": np.ones((2, 2, 1), np.float32)})
    align("f.npz", "b.json", "-o", "o.npy", "--stride", 10, "--min-score", 0.8)
    assert np.load("o.npy").shape == (1, 2, 7, 7)


def test_a_choice_is_part_of_what_a_job_is(maps):
    align("f.npz", "b.json", "-o", "o.npy", "--stride", 10, "--resume")
    done = CliRunner().invoke(
        main, ["align", "f.npz", "b.json", "-o", "o.npy", "--stride", "10", "--resume", "--expand", "2"]
    )
    assert "expand was unknown, is 2" in done.output
    with pytest.raises(RoicliError, match=r"none\.json: No such file"):
        Choice(pairs="none.json").stamps()
