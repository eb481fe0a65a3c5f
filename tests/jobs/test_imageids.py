"""Which map belongs to which image."""

import tracemalloc
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roicli.errors import BoxError
from roicli.jobs.imageids import match_images
from roicli.sources.counted import Counted


def match(image_ids, map_ids, aliases=None, **more):
    return match_images(image_ids, aliases, map_ids, boxes="boxes.json", features="feats.h5", **more).tolist()


@pytest.mark.parametrize(
    ("image_ids", "aliases", "map_ids", "expected"),
    [
        (["b", "a"], None, ["a", "b"], [1, 0]),
        (["139", "285"], None, ["000000000139", "000000000285"], [0, 1]),
        (["000000000139.jpg"], None, ["139"], [0]),
        (["139"], None, ["000000000139.npy.jpg", "000000000139.jpg"], [1]),
        (["val2017/000000000139.jpg"], None, ["000000000139"], [0]),
        (["7"], ["street_7.png"], ["street_7"], [0]),
        (["1", "2"], ["x.jpg", "y.jpg"], ["y", "x"], [1, 0]),
        (["0"], None, ["0000"], [0]),
        (["7", "07"], None, ["07", "7"], [1, 0]),  # an exact name is never ambiguous
        (["frame.cam2", "frame.cam1.PNG"], None, ["frame.cam1.npy", "frame.cam2.Tiff"], [1, 0]),
        (["v1.5"], None, ["v1.5.h5"], [0]),
        (["/data/val/1.jpg", "train\\1.jpg"], None, ["train/001", "val/1.npy"], [1, 0]),
        (["./val/1.jpg"], None, ["/data//val/1"], [0]),
        (["7"], ["val/1.jpg"], ["train/1", "val/1"], [1]),
        (["139.0", "7.00"], None, ["7", "000139.npy"], [1, 0]),  # as a table with an empty cell writes integers
        (["139.0"], None, ["139", "139.0"], [1]),
        (["139   ", "7\0\0"], None, ["7", "139"], [1, 0]),  # names of fixed width
        (["7"], None, ["7  "], [0]),
        (["caf\u00e9"], None, ["cafe\u0301"], [0]),
        (["\u1100\u1161"], None, ["\uac00"], [0]),
        (["42"], None, ["COCO_val2014_000000000042"], [0]),
        (["COCO_val2014_000000000042.jpg"], None, ["42"], [0]),
        (
            ["COCO_val2014_000000000042.jpg", "COCO_train2014_000000000042.jpg"],
            None,
            ["COCO_train2014_42", "COCO_val2014_42"],
            [1, 0],
        ),
        (["a/b/c/d/e/f/g/1"], None, ["/data/a/b/c/d/e/f/g/1.npy"], [0]),
    ],
)
def test_matches(image_ids, aliases, map_ids, expected):
    assert match(image_ids, map_ids, aliases) == expected


def test_missing_images_are_counted_with_examples_of_both_sides():
    with pytest.raises(BoxError) as caught:
        match([str(n) for n in range(100, 109)], ["a100", "a101"])
    assert caught.value.message == (
        "boxes.json: no features in feats.h5 for 9 of 9 images: '100', '101', '102', '103', '104', ..."
    )
    assert caught.value.hint.startswith("The features are named 'a100', 'a101'; ")


@pytest.mark.parametrize(
    ("image_ids", "map_ids"),
    [
        (["42"], ["COCO_val2014_42", "COCO_train2014_42"]),
        (["7", "7.0"], ["07"]),
        (["7"], ["07", "007"]),  # either map could be meant
        (["07", "007"], ["7"]),  # either image could be meant
        (["7", "07"], ["7"]),  # the exact one has taken the map
        (["1"], ["train/1", "val/1"]),
        (["val/1", "train/1"], ["001"]),
        (["b/val/01", "1"], ["val/1"]),
        (["val/1"], ["01", "b/val/1"]),
    ],
)
@pytest.mark.parametrize("all_images", [True, False])
def test_ambiguity_is_an_error(image_ids, map_ids, all_images):
    find = partial(match_images, all_images=all_images)
    with pytest.raises(BoxError, match=r"could be any of the maps|would all be map"):
        find(image_ids, None, map_ids, boxes="boxes.json", features="feats.h5")


@pytest.mark.parametrize(
    ("image_ids", "aliases", "map_ids", "expected"),
    [
        # an exact file name counts for more than what is tolerated of an id
        (["1", "2"], ["000000.png", "000001.png"], ["000000", "000001", "000002"], [0, 1]),
        (["1"], ["x/000002.png"], ["01", "02"], "'01' .* '02'"),
        (["1"], ["0.png"], ["0", "1"], "'1' .* '0'"),
        (["1"], ["val/2.png"], ["train/1", "val/2"], [1]),
        (["1"], ["000000.png"], ["0", "1"], [1]),  # an exact id counts for more than what is tolerated of a name
        (["1"], ["val/1.png"], ["train/1", "val/1"], [1]),  # the name says which of two
        # ids that mean the same map by tolerance are told apart by their file names
        (["1", "01"], ["train/1.png", "val/1.png"], ["val/001", "train/001"], [1, 0]),
        (["1", "01"], ["x/a.png", "x/b.png"], ["001", "b", "a"], [2, 1]),
        (["1"], ["0.png"], Counted(2), "'1' .* '0'"),
    ],
)
def test_ids_and_file_names_must_mean_the_same_map(image_ids, aliases, map_ids, expected):
    if isinstance(expected, list):
        assert match(image_ids, map_ids, aliases) == expected
    else:
        with pytest.raises(
            BoxError, match=f"boxes.json, image '1': it is map {expected.replace('.*', 'of feats.h5 by its id, and')}"
        ):
            match(image_ids, map_ids, aliases)


@pytest.mark.parametrize(
    ("image_ids", "map_ids"),
    [
        (["frame.cam2"], ["frame.cam1"]),  # no extension of a file of images or features
        (["a.v2", "b.v2"], ["a", "b"]),
        (["train/1", "train/2"], ["val/1", "val/2"]),
        (["train/1.jpg"], ["val/000001.npy"]),
        (["train/a/1"], ["val/a/1"]),
        (["retrain/1"], ["train/1"]),
        (["a/val/1"], ["a/1"]),
    ],
)
def test_names_of_different_things_do_not_match(image_ids, map_ids):
    with pytest.raises(BoxError, match="no features"):
        match(image_ids, map_ids)


def test_two_images_never_share_a_map():
    with pytest.raises(BoxError, match=r"boxes\.json, images '1', '2': they would all be map 'x'"):
        match(["1", "2"], ["x"], aliases=["x.jpg", "x.png"])


names = st.lists(st.text("0123ab./", min_size=1, max_size=4), max_size=5, unique=True)


@given(names, names)
def test_never_two_to_one_and_exact_first(image_ids, map_ids):
    try:
        found = match(image_ids, map_ids)
    except BoxError:
        return
    assert len(set(found)) == len(found)
    for name, index in zip(image_ids, found, strict=True):
        assert name not in map_ids or map_ids[index] == name


def test_the_user_says_what_decides():
    known = {"image_ids": ["1", "2"], "aliases": ["000002.jpg", "2"], "map_ids": ["000001", "000002"]}
    with pytest.raises(BoxError, match=r"images '1', '2': they would all be map '000002'"):
        match(**known)
    assert match(**known, match="id") == [0, 1]
    with pytest.raises(BoxError, match=r"is map '1' of feats\.h5 by its id, and '0' by its file name") as caught:
        match(["1"], ["0", "1"], ["0.png"])
    assert caught.value.hint == "Give `match=file-name` if the file names are right, `match=id` if the ids are."
    assert match(["1"], ["0", "1"], ["0.png"], match="file-name") == [0]
    assert match(["1"], ["0", "1"], ["0.png"], match="id") == [1]
    assert match(["1"], Counted(2), ["0.png"], match="file-name") == [0]


@pytest.mark.parametrize("name", ["1.39E+11", "1,139", "'139", "01-Mar"])
def test_excel_has_rounded_an_id(name):
    with pytest.raises(BoxError) as caught:
        match([name], ["139000000001"])
    assert caught.value.hint.startswith("Excel has rounded such ids")


def test_a_path_without_end_takes_little_memory():
    tracemalloc.start()
    found = match_images(["a/" * 20_000 + "b"], None, ["x/b", "c"], boxes="b", features="f", all_images=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.tolist() == [-1]
    assert peak < 20 << 20


def test_file_names_that_count_for_more_are_noted():
    notes = []
    ids = {"image_ids": ["1", "2", "3"], "aliases": ["000002.png", "000003.png", "000001.png"]}
    maps = ["000001", "000002", "000003"]
    find = partial(match_images, boxes="b", features="f", note=notes.append, all_images=False)
    assert find(**ids, map_ids=maps).tolist() == [
        1,
        2,
        0,
    ]
    assert notes == [
        "file names count for more than ids of 3 images: image '1' is map '000002', not '000001' "
        "(`match=id` takes the ids)"
    ]
    assert match_images(
        ["1"], ["000001.png"], maps, boxes="b", features="f", note=notes.append, all_images=False
    ).tolist() == [0]
    assert len(notes) == 1
