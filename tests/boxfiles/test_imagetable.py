"""Files of numbers an image: sizes, ratios and offsets."""

import json

import numpy as np
import pytest

from roicli.boxfiles.imagetable import read_image_table
from roicli.errors import RoicliError


def read(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_image_table(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "image_id,height,width\n7,30,40\nb,50,60\n"),
        ("a.csv", "Width;Height;File Name\n40;30;7\n60;50;b\n\n"),
        ("a.csv", "sep=;\nimage_id;height;width\n7;30;40\nb;50;60\n"),
        ("a.tsv", "img_id\timg_h\timg_height\timg_width\n7\t1\t30\t40\nb\t1\t50\t60\n"),
        ("a.csv", 'sep,image_id,width,height,url\nx,7,40,30,"a,b"\nx,b,60,50,\n'),
        ("a.json", [{"image_id": 7, "height": 30, "width": 40, "url": None}, {"id": "b", "height": 50, "width": 60}]),
        ("a.json", {"images": [{"id": 7, "height": 30, "width": 40}, {"id": "b", "height": 50, "width": 60}],
                    "annotations": [{"bbox": "anything"}]}),
        ("a.json", {"7": {"height": 30, "width": 40, "objects": {"1": {}}}, "b": {"height": 50.0, "width": 60}}),
        ("a.json", {"7": [30, 40], "b": [50, 60]}),
        ("a.hw.tsv", '7\t[{"height": 30, "width": 40}]\nb\t[{"height": 50, "width": 60}]\n'),
    ],
)  # fmt: skip
def test_sizes_in_all_forms(tmp_path, name, content):
    table = read(tmp_path, name, content)
    assert table.ids == ("7", "b")
    assert table.sizes().tolist() == [[30, 40], [50, 60]]


def test_what_is_missing_is_nan(tmp_path):
    table = read(tmp_path, "a.csv", "id,rx,ry,px\n1,0.5,0.25,\n2,1,1,-3.5\n")
    assert sorted(table.columns) == ["px", "rx", "ry"]
    np.testing.assert_array_equal(table.columns["px"], [np.nan, -3.5])
    assert table.sizes() is None


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "", "line 1: expected a column of image ids, got"),
        ("a.csv", "a,b\n1,2\n", "a.csv, line 1: expected a column of image ids, got"),
        ("a.csv", "image_id,b\n1,2\n", "expected columns of sizes, got"),
        ("a.csv", "image_id,height,width\n1,2\n", "line 2: expected 3 cells as in the header, got 2"),
        ("a.csv", "image_id,height,width\n1,2,x\n", "line 2: expected a number, got 'x'"),
        ("a.csv", "image_id,height,width\n1,2,0\n", "image '1': width must be a positive number, got 0"),
        ("a.csv", "image_id,height,width\n1,2,inf\n", "width must be a positive number, got inf"),
        ("a.csv", "image_id,height,width\n1,2,3\n1,2,4\n", "image '1' is listed twice, with different numbers"),
        ("a.json", "[", "malformed JSON"),
        ("a.tsv", '7\t[{"height": "x"}]\n', "a.tsv, line 1"),
        ("a.json", "{}", "no columns of sizes"),
        ("a.json", [{"height": 1, "width": 2}], "item 0: no image_id"),
        ("a.json", [3], "expected"),
        ("a.json", {"1": [1, 2, 3]}, "expected"),
        ("a.json", {"1": {"height": "30", "width": 40}}, "expected float, got str"),
        ("a.json", {"images": 3}, "expected"),
    ],
)
def test_files_that_say_nothing(tmp_path, name, content, said):
    with pytest.raises(RoicliError, match=said) as error:
        read(tmp_path, name, content)
    assert str(tmp_path) in error.value.message
    assert error.value.hint
