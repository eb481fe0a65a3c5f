"""Box files of every format: what they become, and what is said of those that are not boxes."""

import json

import numpy as np
import pytest
from boxfiles.boxwriting import BOX, CXCYWH, HEADER, NAN, XYWH, XYXY, ann, coco, column, npy

from roicli.errors import FileError
from roicli.regions import BoxFormat, Names


# --- What each layout becomes: boxes are always those two, as xyxy.
@pytest.mark.parametrize(
    ("name", "content", "image_index", "image_ids", "rows", "row_word"),
    [
        ("b.json", "[[1, 2, 4, 6], [1, 2, 4, 6.0]]\n", None, None, [0, 1], "box"),
        ("b.json", "[[1, 1, 2, 4, 6], [0.0, 1, 2, 4, 6]]", [1, 0], None, [0, 1], "box"),
        ("b.json", '{"b": [[1, 2, 4, 6]], "empty": [], "a": [[1, 2, 4, 6]]}', [0, 1], ["b", "a"], [0, 1], "box"),
        ("b.json", json.dumps([ann(139), ann("139")]), [0, 0], ["139"], [0, 1], "box"),
        ("b.json", json.dumps([ann(2.0), ann(2.5)]), [0, 1], ["2", "2.5"], [0, 1], "box"),
        ("b.json", coco(ann(7), ann(3)), [0, 1], ["7", "3"], [0, 1], "annotation"),
        ("b.json", b"\xef\xbb\xbf" + json.dumps([BOX, BOX], indent=1).encode(), None, None, [0, 1], "box"),
        ("B.JSONL", json.dumps(ann(5)) + "\r\n\n" + json.dumps(ann(5)), [0, 0], ["5"], [1, 3], "line"),
        ("b.ndjson", b"\xef\xbb\xbf[1,2,4,6]\n[1,2,4,6]\n", None, None, [1, 2], "line"),
        ("b.json", json.dumps(ann(5)) + "\n" + json.dumps(ann(6)) + "\n", [0, 1], ["5", "6"], [1, 2], "line"),
        ("b.csv", "x1,y1,x2,y2\n1,2,4,6\n\n,,,\n 1 , 2,4e0,6\n", None, None, [2, 5], "line"),
        (
            "b.csv",
            '\ufeff"Image ID";Y1; "X1";X2 ;y2\r\n "a;b";2;1;4;6\r\n007;2;1;4;6',
            [0, 1],
            ["a;b", "007"],
            [2, 3],
            "line",
        ),
        ("b.tsv", "y\tx\tw\th\timg\n2\t1\t3\t4\t 1 \n2\t1\t3\t4\t1\n", [0, 0], ["1"], [2, 3], "line"),
        ("b.csv", 'file,cx,cy,w,h\n"a\nb",2.5,4,3,4\nc,2.5,4,3,4', [0, 1], ["a\nb", "c"], [2, 4], "line"),
        ("b.csv", 'file,x1,y1,x2,y2\r\n"a\r\nb",1,2,4,6\r\n"a\r\nb",1,2,4,6', [0, 0], ["a\r\nb"], [2, 4], "line"),
        ("b.csv", "x1,y1,x2,y2\r1,2,4,6\r1,2,4,6\r", None, None, [2, 3], "line"),
        ("b.csv", "batch_idx,left,top,right,bottom\n3,1,2,4,6\n0.0,1,2,4,6", [3, 0], None, [2, 3], "line"),
        (
            "b.csv",
            "filename,width,height,xmin,ymin,xmax,ymax\na.jpg,640,480,1,2,4,6\na.jpg,640,480,1,2,4,6",
            [0, 0],
            ["a.jpg"],
            [2, 3],
            "line",
        ),
        ("b.csv", "sep=;\r\nx1;y1;x2;y2\r\n1;2;4;6\r\n1;2;4;6", None, None, [3, 4], "line"),
        ("b.csv", '\ufeff"sep=|"\nimage|x1|y1|x2|y2\na,b|1|2|4|6\na,b|1|2|4|6', [0, 0], ["a,b"], [3, 4], "line"),
        ("b.csv", "sep=\t\nx1\ty1\tx2\ty2\n1\t2\t4\t6\n1\t2\t4\t6", None, None, [3, 4], "line"),
        ("b.npy", npy(np.array([BOX, BOX], ">f4")), None, None, [0, 1], "box"),
        ("b.npy", npy(np.array([[1, *BOX], [0, *BOX]], "i2", order="F")), [1, 0], None, [0, 1], "box"),
    ],
)
def test_layouts(read, name, content, image_index, image_ids, rows, row_word):
    table, _ = read(name, content)
    assert table.boxes.dtype == np.float64
    assert table.boxes.tolist() == [BOX, BOX]
    assert column(table.image_index) == image_index
    assert column(table.image_ids) == image_ids
    assert table.rows.tolist() == rows
    assert (table.row_word, table.source) == (row_word, name)


@pytest.mark.parametrize(
    "columns",
    [
        *("x1,y1,x2,y2", "XMin,YMin,XMax,YMax", "x_min,y_min,x_max,y_max", "left,top,right,bottom", "x0,y0,x1,y1"),
        *(
            "xtl,ytl,xbr,ybr",
            "tl_x,tl_y,br_x,br_y",
            "bbox_x1,bbox_y1,bbox_x2,bbox_y2",
            "box_xmin,box_ymin,box_xmax,box_ymax",
        ),
    ],
)
def test_columns_of_corners(read, columns):
    assert read("b.csv", f"score,{columns}\n0.9,1,2,4,6")[0].boxes.tolist() == [BOX]


@pytest.mark.parametrize("position", ["x,y", "x_min,y_min", "left,top", "cx,cy", "x_center,y_center"])
@pytest.mark.parametrize("size", ["w,h", "width,height"])
def test_columns_of_sizes(read, position, size):
    numbers = "2.5,4,3,4" if "c" in position else "1,2,3,4"
    assert read("b.csv", f"{position},{size}\n{numbers}")[0].boxes.tolist() == [BOX]
    names = ",".join(f"bbox_{name}" for name in f"{position},{size}".split(","))
    table, _ = read("b.csv", f"x,y,width,height,{names}\n9,9,640,480,{numbers}")  # a point, and the size of the image
    assert table.boxes.tolist() == [BOX]


@pytest.mark.parametrize("column", ["image_name", "image_path", "path", "file_path", "filepath", "File Name"])
def test_columns_of_images(read, column):
    assert read("b.csv", f"{column},x1,y1,x2,y2\na/b.jpg,1,2,4,6")[0].image_ids == ("a/b.jpg",)
    assert read("b.csv", f"{column},image_id,x1,y1,x2,y2\na/b.jpg,7,1,2,4,6")[0].image_ids == ("7",)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("b.json", " []"),
        ("b.json", "{}"),
        ("b.json", coco(images=[{"id": 1}])),
        ("b.jsonl", ""),
        ("b.csv", "image_id,x1,y1,x2,y2"),
        ("b.npy", npy(np.zeros((0, 4)))),
        ("b.npy", npy(np.zeros((0, 5)))),
    ],
)
def test_no_boxes_at_all(read, name, content):
    table, notes = read(name, content)
    assert table.boxes.shape == (0, 4)
    assert table.rows.shape == (0,)
    assert notes == (f"{name} holds no boxes",)


def test_coco_file_names_are_aliases(read):
    images = [{"id": 139, "file_name": "000000000139.jpg", "height": 426}, {"id": 5, "file_name": "5.jpg"}, {"id": 9}]
    table, _ = read("b.json", coco(ann(9), ann(139), ann(9), images=images))
    assert table.image_ids == ("9", "139")
    assert table.aliases == ("9", "000000000139.jpg")
    assert table.image_index.tolist() == [0, 1, 0]


def test_crowds_are_boxes_like_others(read):
    table, _ = read("b.json", coco(ann(1), ann(1, iscrowd=1), ann(1)))
    assert table.rows.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "content", "box_ids"),
    [
        ("b.json", coco(ann(1, id=9), ann(1, id=-(2**40))), [9, -(2**40)]),
        ("b.json", json.dumps([ann(1, id=9), ann(1)]), ["9", ""]),
        ("b.json", json.dumps([ann(1, id="7")]), ["7"]),
        ("b.json", json.dumps([ann(1, id=2**70)]), [str(2**70)]),
        ("b.json", json.dumps([ann(1), ann(1, id=None)]), None),
        ("b.csv", "box_id,x1,y1,x2,y2\n 12 ,1,2,3,4\n0,1,2,3,4", [12, 0]),
        ("b.csv", "x1,y1,x2,y2,Ann ID\n1,2,3,4,007\n1,2,3,4,", ["007", ""]),
        ("b.csv", "id,x1,y1,x2,y2\n" + "9" * 4000 + ",1,2,3,4", ["9" * 4000]),
    ],
)
def test_box_ids(read, name, content, box_ids):
    table, _ = read(name, content)
    assert (table.box_ids if box_ids is None else table.box_ids.tolist()) == box_ids
    assert box_ids is None or isinstance(table.box_ids, np.ndarray if isinstance(box_ids[0], int) else Names)


# --- What four numbers mean, and what is said about it.
@pytest.mark.parametrize(
    ("name", "content", "box_format", "box", "notes"),
    [
        ("b.json", "[[1, 2, 3, 4]]", None, [1, 2, 3, 4], ["b.json: boxes taken as xyxy (`box_format` says otherwise)"]),
        ("b.json", "[[1, 2, 3, 4]]", XYWH, [1, 2, 4, 6], []),
        ("b.json", "[[0, 1, 2, 3, 4]]", CXCYWH, [-0.5, 0, 2.5, 4], []),
        (
            "b.json",
            '{"a": [[1, 2, 3, 4]]}',
            None,
            [1, 2, 3, 4],
            ["b.json: boxes taken as xyxy (`box_format` says otherwise)"],
        ),
        ("b.json", '{"a": [[1, 2, 3, 4]]}', XYWH, [1, 2, 4, 6], []),
        (
            "b.json",
            coco(ann(1)),
            None,
            [1, 2, 4, 6],
            ["b.json: COCO dataset, bbox read as xywh (the COCO specification)"],
        ),
        ("b.json", coco(ann(1)), XYXY, [1, 2, 3, 4], []),
        (
            "b.jsonl",
            json.dumps(ann(1)),
            None,
            [1, 2, 4, 6],
            ["b.jsonl: COCO results, bbox read as xywh (the COCO specification)"],
        ),
        ("b.jsonl", json.dumps(ann(1)), XYXY, [1, 2, 3, 4], []),
        ("b.csv", "x1,y1,x2,y2\n1,2,3,4", None, [1, 2, 3, 4], []),
        ("b.csv", "x1,y1,x2,y2\n1,2,3,4", XYXY, [1, 2, 3, 4], []),
        (
            "b.csv",
            "\ufeffX1,y1,x2,y2\n1,2,3,4",
            XYWH,
            [1, 2, 4, 6],
            ["b.csv: columns X1, y1, x2, y2 taken as xywh, against their names (`box_format`)"],
        ),
        ("b.csv", "x1,y1,x2,y2,x,y,w,h\n1,2,3,4,5,5,1,1", XYWH, [5, 5, 6, 6], []),
        ("b.npy", npy(np.ones((1, 4))), None, [1] * 4, ["b.npy: boxes taken as xyxy (`box_format` says otherwise)"]),
        ("b.npy", npy(np.ones((1, 4))), XYWH, [1, 1, 2, 2], []),
    ],
)
def test_box_formats_and_notes(read, name, content, box_format, box, notes):
    table, said = read(name, content, box_format)
    assert table.boxes.tolist() == [box]
    assert table.given.tolist() in ([[1, 2, 3, 4]], [[5, 5, 1, 1]], [[1] * 4])
    assert list(said) == notes


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("b.csv", "x1,y1,x2,y2\nnan,-inf,1e999,4"),
        ("b.npy", npy(np.array([[NAN, -np.inf, np.inf, 4]], "f2"))),
        ("b.npy", npy(np.array([[NAN, -np.inf, np.longdouble("1e4000"), 4]], np.longdouble))),
    ],
)
@pytest.mark.parametrize("box_format", BoxFormat)
def test_nan_and_infinite_boxes_are_passed_on(read, name, content, box_format):
    table, _ = read(name, content, box_format)
    assert np.isnan(table.boxes[0]).any()
    np.testing.assert_array_equal(read(name, content, XYXY)[0].boxes, [[NAN, -np.inf, np.inf, 4]])


@pytest.mark.parametrize("box_format", [XYWH, CXCYWH])
def test_boxes_beyond_float64_are_passed_on(read, box_format):
    table, _ = read("b.json", "[[1e308, -1e308, 1.7e308, 1]]", box_format)
    assert np.isinf(table.boxes).any()
    table, _ = read("b.csv", "x1,y1,x2,y2\ninf,-inf,inf,inf", box_format)
    assert not np.isfinite(table.boxes).any()


def test_signalling_nan_is_a_nan(read):
    bits = np.array([[0x7FA00000] * 4], np.uint32)
    table, _ = read("b.npy", npy(bits.view(np.float32)))
    assert np.isnan(table.boxes).all()


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("b.json", b'[\n{"image_id": "\xe9", "bbox": [1, 2, 3, 4]}]', "line 2: "),
        ("b.json", "[[1, 2, 3, 4]]".encode("utf-16"), "line 1: "),
        ("b.jsonl", b'{"image_id": "\xe9", "bbox": [1, 2, 3, 4]}', "line 1: "),
        ("b.csv", HEADER.encode() + b"a,1,2,3,4\n\xe9,1,2,3,4\n", "line 3: "),
        ("b.csv", HEADER + "a,1,2,3,4\na\0,1,2,3,4\n", "line 3: a NUL byte, so this is "),
        ("b.json", "[\n\0]", "line 2: a NUL byte, so this is "),
        ("b.csv", HEADER.encode("utf-16"), "line 1: "),
    ],
)
def test_other_encodings(read, name, content, fault):
    with pytest.raises(FileError) as caught:
        read(name, content)
    assert str(caught.value) == f"{name}, {fault}not UTF-8 text\nSave the file as UTF-8."
