"""Faults of box files: the exact sentence, since a person must be able to act on it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from boxfiles.boxwriting import BOX, HEADER, NAN, SAME_AS_XYWH, XYWH, XYXY, ann, coco, column, documents, npy

from roicli.boxfiles import npyboxes, read_regions
from roicli.boxfiles.builder import Builder
from roicli.errors import BoxError, ChangedInputError, FileError


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "b.json: empty"),
        (" \n", "b.json: empty"),
        ("3", "b.json: expected object | array, got int"),
        ("[[1, 2, 3, 4], [1, 2, 3]]", "b.json, box 1: expected array of length >= 4, got 3"),
        ("[[1, 2, 3, 4, 5, 6]]", "b.json, box 0: expected array of length <= 5"),
        ("[[1, 2, 3, 4], [0, 1, 2, 3, 4]]", "b.json, box 1: a box of 5 numbers after a box of 4 numbers"),
        ("[[0, 1, 2, 3, 4], [1, 2, 3, 4]]", "b.json, box 1: a box of 4 numbers after a box of 5 numbers"),
        (json.dumps([BOX, ann(1)]), "b.json, box 1: a box of a named image after a box of 4 numbers"),
        (json.dumps([ann(1), BOX]), "b.json, box 1: a box of 4 numbers after a box of a named image"),
        ("[[0, 1, 2, 3, 4], [0.5, 1, 2, 3, 4]]", "b.json, box 1: batch index 0.5 is not a whole number >= 0"),
        ("[[-1, 1, 2, 3, 4]]", "b.json, box 0: batch index -1 is not a whole number >= 0"),
        ("[[1e300, 1, 2, 3, 4]]", "b.json, box 0: batch index 1e+300 is not a whole number >= 0"),
        ('[[1, 2, 3, "4"]]', "b.json, box 0 [3]: expected float, got str"),
        ("[[1, 2, 3, true]]", "b.json, box 0 [3]: expected float, got bool"),
        ("[[1, 2, 3, 1e999]]", "b.json, box 0 [3]: number out of range"),
        ("[1, 2, 3, 4]", "b.json, box 0: expected object | array, got int"),
        (json.dumps([ann(1), ann(1, [1, 2, 3])]), "b.json, box 1 bbox: expected array of length 4, got 3"),
        (json.dumps([ann(1, [1, 2, 3, 4, 5, 6])]), "b.json, box 0 bbox: expected array of length 4, got 6"),
        (
            json.dumps([ann(1, [1, 2, 3, 4, 0.9])]),
            "b.json, box 0 bbox: the fifth number looks like a score, not like an angle",
        ),
        (
            json.dumps([ann(1, [1, 2, 3, 4, 5]), ann(1)]),
            "b.json, box 1 bbox_mode: expected cxcywh as in the boxes before it, got none",
        ),
        (json.dumps([ann(1, [1, 2, "x", 4])]), "b.json, box 0 bbox[2]: expected float, got str"),
        (json.dumps([ann(None)]), "b.json, box 0 image_id: expected int | float | str, got null"),
        ('[{"bbox": [1, 2, 3, 4]}]', "b.json, box 0: object missing required field image_id"),
        ('{"a": [1, 2, 3, 4]}', "b.json, image 'a' [0]: expected array, got int"),
        ('{"a": [[1, 2, 3, 4], [1, 2, 3]]}', "b.json, image 'a' [1]: expected array of length 4"),
        ('{"a": [[1, 2, 3, 4]], "a": []}', "b.json: key 'a' given twice"),
        ('{"annotations": {}}', "b.json annotations: expected array, got object"),
        ('{"images": [{}], "annotations": []}', "b.json images [0]: object missing required field id"),
        ("[" * 100_000, "b.json: nested too deeply to hold boxes"),
        ('[{"image_id": 1, "bbox": ' + "[" * 100_000, "b.json: nested too deeply to hold boxes"),
        ("[\n [1, 2, 3, 4],\n [1, 2 3, 4]]", "b.json, line 3, column 8: malformed JSON, expected ',' or ']'"),
        ('{"é\u20ac" 1}', "b.json, line 1, column 7: malformed JSON, expected ':'"),
        ("[[1, 2, 3, 4],\n [1, 2\n", "b.json, line 2, column 7: malformed JSON, the text ends too early"),
        ("[“a”]", "b.json, line 1, column 2: malformed JSON, invalid character"),
        (json.dumps(ann(1)) + '\n{"image_id" 1}', "b.json, line 2, column 13: malformed JSON, expected ':'"),
        (
            json.dumps(ann(1)) + '\n\n{"image_id":\n',
            "b.json, line 3, column 13: malformed JSON, the text ends too early",
        ),
        (json.dumps(ann(1)) + "\n[1, 2, 3]", "b.json, line 2: expected array of length >= 4, got 3"),
    ],
)
def test_json_faults(read, content, message):
    with pytest.raises(BoxError) as caught:
        read("b.json", content)
    assert caught.value.message == message
    assert re.fullmatch(r".*[^.?!]\.", caught.value.hint)


@pytest.mark.parametrize(("literal", "number"), [("NaN", NAN), ("Infinity", np.inf), ("-Infinity", -np.inf)])
def test_json_as_python_writes_it(read, literal, number):
    table, notes = read("b.json", f"[[1, 2, 3, 4],\n[1, 2, 3, {literal}]]", XYXY)
    np.testing.assert_array_equal(table.boxes, [[1, 2, 3, 4], [1, 2, 3, number]])
    assert notes == ("b.json: NaN and Infinity are not JSON; read as Python writes and reads them",)
    text = '{"a": "NaN, \\"-Infinity\\" \\\\", "image_id": "NaN", "bbox": [1, 2, 3, 4], "score": ' + literal + "}"
    for name, content in (("b.json", f"[{text}]"), ("b.jsonl", text), ("b.json", f'{{"annotations": [{text}]}}')):
        table, _ = read(name, content)
        assert table.image_ids == ("NaN",)
        np.testing.assert_array_equal(table.columns.get("score", [NAN]), [number])
    with pytest.raises(BoxError, match=r"b\.json, box 0 image_id: expected int . float . str, got null"):
        read("b.json", '[{"image_id": NaN, "bbox": [1, 2, 3, 4]}]')
    with pytest.raises(BoxError, match=r"b\.json, line 2, column 10: malformed JSON"):
        read("b.json", f"[[1, 2, 3, {literal}],\n[1, 2, 3 4]]")


@pytest.mark.parametrize(
    ("name", "content", "absent"),
    [
        ("b.json", coco(ann(1), ann(1, []), ann(1, None), {"image_id": 1}, ann(1, [None] * 4)), [1, 2, 3, 4]),
        ("b.json", json.dumps([{"image_id": 1}, ann(1)]), [0]),
        ("b.jsonl", json.dumps(ann(1)) + "\n" + json.dumps(ann(None, [])), [1]),
        ("b.json", json.dumps([BOX, [None] * 4]), [1]),
        ("b.json", json.dumps([BOX, None, []]), [1, 2]),
        ("b.json", json.dumps([None, [0, *BOX]]), [0]),
        ("b.json", json.dumps([ann(1), None]), [1]),
        ("b.json", json.dumps({"a": [BOX, [None] * 4, None], "b": None}), [1, 2]),
        ("b.csv", f"{HEADER}a,1,2,4,6\na,-,-,-,-\na,<NA>,<NA>,NULL,#N/A\n", [1, 2]),
        ("b.npy", npy(np.array([[0, *BOX], [NAN] * 5])), [1]),
        ("b.csv", "image,x1,y1,x2,y2,label\na,1,2,4,6,cat\nb,,,,,\nc,NA,NA,NA,NA,\nd,None,None,null,n/a,", [1, 2, 3]),
    ],
)
def test_absent_boxes(read, name, content, absent):
    table, _ = read(name, content)
    assert np.flatnonzero(table.absent).tolist() == absent
    assert np.isnan(table.boxes[absent]).all()
    assert not np.isnan(np.delete(table.boxes, absent, axis=0)).any()


def test_an_absent_box_may_be_of_no_image(read):
    table, _ = read("b.json", json.dumps([ann("a"), ann(None, []), ann("a")]))
    assert table.image_ids == ("a",)
    assert table.image_index.tolist() == [0, -1, 0]


@pytest.mark.parametrize(
    ("mode", "box", "note"),
    [
        (0, SAME_AS_XYWH, "bbox read as xyxy (as its bbox_mode says)"),
        ("BoxMode.XYXY_ABS", SAME_AS_XYWH, "bbox read as xyxy (as its bbox_mode says)"),
        ("<BoxMode.XYXY_ABS: 0>", SAME_AS_XYWH, "bbox read as xyxy (as its bbox_mode says)"),
        (1, BOX, "bbox read as xywh (as its bbox_mode says)"),
    ],
)
def test_bbox_mode(read, mode, box, note):
    content = json.dumps([ann(1, bbox_mode=mode), ann(1, bbox_mode=mode)])
    table, notes = read("b.json", content)
    assert (table.boxes.tolist(), notes) == ([box] * 2, (f"b.json: COCO results, {note}",))
    assert read("b.json", content, XYWH)[0].boxes.tolist() == [BOX] * 2


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([ann(1, bbox_mode=4)], "b.json, box 0 bbox: expected array of length 5, got 4"),
        (
            [ann(1, bbox_mode=2)],
            "b.json, box 0 bbox_mode: expected 0 (XYXY_ABS), 1 (XYWH_ABS) or 4 (XYWHA_ABS) of detectron2, got 2",
        ),
        (
            [ann(1, bbox_mode=0), ann(1, bbox_mode=1)],
            "b.json, box 1 bbox_mode: expected xyxy as in the boxes before it, got xywh",
        ),
        ([ann(1), ann(1, bbox_mode=1)], "b.json, box 1 bbox_mode: expected none as in the boxes before it, got xywh"),
        ([ann(1, bbox_mode=0), ann(1)], "b.json, box 1 bbox_mode: expected xyxy as in the boxes before it, got none"),
    ],
)
def test_modes_that_are_refused(read, items, message):
    with pytest.raises(BoxError) as caught:
        read("b.json", json.dumps(items))
    assert caught.value.message == message


def test_bbox_format_is_a_mode_by_another_name(read):
    for name, box in (("XYXY", SAME_AS_XYWH), ("pascal_voc", SAME_AS_XYWH), ("coco", BOX)):
        assert read("b.json", json.dumps([ann(1, bbox_format=name)]))[0].boxes.tolist() == [box]


@pytest.mark.parametrize(
    ("name", "content", "hint"),
    [
        ("b.json", json.dumps([ann(1, [1, 2, 3, 4, 30], bbox_mode=2)]), "leave a score out of it"),
        ("b.json", json.dumps([ann(1, [1, 2, 3, 4, 0.9])]), "Write scores as `score`, beside the bbox."),
        ("b.json", "[[[1, 2, 3, 4, 0.9]], []]", 'write {"image id": [[x1, y1, x2, y2], ...]}'),
        ("b.json", json.dumps({"predictions": [ann(1, [1, 2, 3, 4])]}), "Write the list of 'predictions' to a file"),
        ("b.json", '[{"image_id": 1, "boxes": [[1, 2, 3, 4]], "labels": [1]}]', "i.get('image_id', n): i['boxes']"),
        ("b.json", '{"boxes": [[1, 2, 3, 4]], "labels": [1]}', "{name: json.load(open('b.json'))['boxes']}"),
        ("b.csv", b"PK\3\4" + bytes(26) + b"[Content_Types].xml", "pandas.read_excel"),
        ("b.csv", "# by hand\nx1,y1,x2,y2\n1,2,3,4\n", "Remove the comments"),
        ("b.json", '{"type": "FeatureCollection"}', "Write COCO annotations or results"),
        (
            "b.csv",
            'image_id,bbox\na,"[1, 2, 3, 4]"\n',
            "Split bbox into four columns, named in the first line: x1, y1, x2, y2 or x, y, w, h.",
        ),
        ("b.csv", "x1 y1 x2 y2\n1 2 3 4\n", "Separate the columns by commas, semicolons or tabs."),
        ("b.npy", npy(np.ones((2, 6))), "numpy.save('boxes.npy', array[:, :4])"),
        ("b.json", b"\xfd7zXZ\0", "Unpack it first"),
    ],
)
def test_hints_name_what_the_file_is(read, name, content, hint):
    with pytest.raises((BoxError, FileError)) as caught:
        read(name, content)
    assert hint in caught.value.hint


@pytest.mark.parametrize(("column", "noted"), [("video_id", True), ("Photo", True), ("width", False), ("note", False)])
def test_columns_that_may_name_the_image_are_noted(read, column, noted):
    _, notes = read("b.csv", f"{column},x1,y1,x2,y2\n1,1,2,3,4\n2,1,2,3,4\n")
    assert any(f"but not '{column}'; if it says the image" in note for note in notes) == noted


def test_what_a_file_says_beside_boxes_is_kept(read):
    images = [{"id": 7, "height": 30, "width": 40}, {"id": 3}, {"id": 9}]
    table, _ = read("b.json", coco(ann(3, id=1, area=12.5, category_id=2), ann(7, id=2, score=0.5), images=images))
    assert {name: column(values) for name, values in table.columns.items() if name in ("box_id",)} == {"box_id": [1, 2]}
    assert table.columns["category"].tolist() == ["2", ""]
    np.testing.assert_array_equal(table.columns["area"], [12.5, NAN])
    np.testing.assert_array_equal(table.columns["score"], [NAN, 0.5])
    np.testing.assert_array_equal(table.image_sizes, [[NAN, NAN], [30, 40]])
    assert (table.image_ids, table.listed) == (("3", "7"), ("7", "3", "9"))
    table, _ = read(
        "b.csv",
        "file,width,height,xmin,ymin,xmax,ymax,class,conf,theta\na,40,30,1,2,4,6,cat,0.5,\na,40,30,1,2,4,6,dog,x,90",
    )
    assert table.columns["label"].tolist() == ["cat", "dog"]
    np.testing.assert_array_equal(table.columns["score"], [0.5, NAN])
    np.testing.assert_array_equal(table.columns["angle"], [NAN, 90])
    np.testing.assert_array_equal(table.image_sizes, [[30, 40]])


def test_a_document_may_be_one_endless_line(read, monkeypatch):
    monkeypatch.setattr("roicli.boxfiles.boxfile.LONGEST_LINE", 32)
    content = json.dumps([BOX] * 20)
    assert len(read("b.json", content)[0]) == len(read("b.json", content + "\n")[0]) == 20
    assert len(read("b.json", json.dumps({"a": [BOX] * 20}))[0]) == 20
    with pytest.raises(BoxError, match=r"b\.jsonl, line 2: longer than 16,777,216 characters"):
        read("b.jsonl", f"[1,2,4,6]\n{content}")


@pytest.mark.parametrize("bad", ["x" * 4097, "\u20ac" * 1366, "a\0b"])
@pytest.mark.parametrize("column", ["image_id", "id"])
def test_ids_that_no_file_may_have(read, bad, column):
    for name, content, where in (
        ("b.json", json.dumps([ann(1), ann(1) | {column: bad}]), "box 1"),
        ("b.jsonl", json.dumps(ann(1)) + "\n" + json.dumps(ann(1) | {column: bad}), "line 2"),
        ("b.json", coco(ann(1), ann(1) | {column: bad}), "annotation 1"),
        *([("b.json", json.dumps({"a": [BOX], bad: [BOX]}), "box 1")] if column == "image_id" else []),
        *([("b.csv", f"{column},x1,y1,x2,y2\n1,1,2,3,4\n{bad},1,2,3,4", "line 3")] if "\0" not in bad else []),
    ):
        with pytest.raises(BoxError, match=f"{name}, {where}: an id (longer than 4,096 bytes|with a NUL)"):
            read(name, content)


@pytest.mark.parametrize("name", ["b.csv", "b.json", "b.jsonl", "b.npy"])
def test_a_file_that_changes_while_it_is_read(read, tmp_path, monkeypatch, name):
    content = dict((name, content) for name, content, _ in documents([(1.0, 2.0, 4.0, 6.0)] * 3, "abc"))[name]
    replaced = npy(np.ones((3, 4))) if name == "b.npy" else content
    for rewrite in (
        Path.write_bytes,
        lambda path, new: (path.with_name("new").write_bytes(new), path.with_name("new").replace(path)),
    ):
        build = Builder.build if name != "b.npy" else npyboxes.regions_of

        def while_reading(*arguments, rewrite=rewrite, build=build, **known):
            rewrite(tmp_path / name, replaced if isinstance(replaced, bytes) else replaced.encode())
            return build(*arguments, **known)

        with monkeypatch.context() as patch:
            patch.setattr(*((npyboxes, "regions_of") if name == "b.npy" else (Builder, "build")), while_reading)
            with pytest.raises(ChangedInputError, match=f"{name}: changed while it was read"):
                read(name, content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [], "annotations": [{"image_id": 1, "caption": "a cat"}]}', "no annotation has a bbox"),
        ('{"images": [{"id": 1}]}', "a COCO dataset without annotations"),
        ('[{"image_id": 1, "keypoints": []}]', "its first item has the keys 'image_id', 'keypoints'"),
    ],
)
def test_coco_files_without_boxes(read, content, message):
    with pytest.raises(BoxError, match=message) as caught:
        read("b.json", content)
    assert "use instances_*.json" in caught.value.hint


@pytest.mark.parametrize("name", ["images", "annotations"])
def test_lists_of_a_coco_dataset_that_are_none(read, name):
    with pytest.raises(BoxError, match=f"b.json {name}: expected array, got null") as caught:
        read("b.json", json.dumps({"images": [], "annotations": []} | {name: None}))
    assert caught.value.hint == f"In a COCO dataset, {name} is a list of objects."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "b.csv, line 1: expected a header, got nothing"),
        ("\n", "b.csv, line 1: expected a header, got nothing"),
        ("sep=;\n", "b.csv, line 2: expected a header, got nothing"),
        ("sep=,\nx1;y1;x2;y2\n", "b.csv, line 2: expected the columns of a box, got x1;y1;x2;y2"),
        ("sep=;\nx1;y1;x2;y2\n1;2;x;4", "b.csv, line 3, x2: expected a number, got 'x'"),
        ("1,2,3,4\n", "b.csv, line 1: expected a header, got what looks like a box: 1, 2, 3, 4"),
        ("x1,y1,x2\n", "b.csv, line 1: expected the columns of a box, got x1, y1, x2"),
        ("x1,X1,y1,x2,y2\n", "b.csv, line 1: columns 'x1' and 'X1' are the same"),
        (HEADER + "a,1,2,3,4\nb,1,2,3\n", "b.csv, line 3: expected 5 cells as in the header, got 4"),
        (HEADER + "a,1,5,2,3,4\n", "b.csv, line 2: expected 5 cells as in the header, got 6"),
        (HEADER + "a,1,,3,4\n", "b.csv, line 2, y1: expected a number, got nothing"),
        (HEADER + "a,1,abc,3,4\n", "b.csv, line 2, y1: expected a number, got 'abc'"),
        (HEADER + "a,1,2_0,3,4\n", "b.csv, line 2, y1: expected a number, got '2_0'"),
        (HEADER + " ,1,2,3,4\n", "b.csv, line 2, image_id: expected the id of an image, got nothing"),
        (HEADER + '"a\nb",1,x,3,4\n', "b.csv, line 2, y1: expected a number, got 'x'"),
        (
            HEADER.replace(",", ";") + "a;1,5;2;3;4\n",
            "b.csv, line 2, x1: expected a number, got '1,5'",
        ),
        (HEADER + 'a,1,2,3,4\n"b,1,2,3,4\nc,1,2,3,4\n', "b.csv, line 3: unexpected end of data"),
        (HEADER + '"a\n\nb",1,2,3,4\n\nc,1,2,3\n', "b.csv, line 6: expected 5 cells as in the header, got 4"),
        (HEADER + "a" * 200_000 + ",1,2,3,4\n", "b.csv, line 2: field larger than field limit (131072)"),
        ("batch_index,x1,y1,x2,y2\n0.5,1,2,3,4", "b.csv, line 2: batch index 0.5 is not a whole number >= 0"),
        ("batch_index,x1,y1,x2,y2\nnan,1,2,3,4", "b.csv, line 2: batch index nan is not a whole number >= 0"),
    ],
)
def test_csv_faults(read, content, message):
    with pytest.raises(BoxError) as caught:
        read("b.csv", content)
    assert caught.value.message == message
    assert re.fullmatch(r".*[^.?!]\.", caught.value.hint)


GOOD_NPY = npy(np.ones((2, 4)))


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (npy(np.ones(4)), BoxError, "b.npy: shape (4,) is not (K, 4) or (K, 5)"),
        (npy(np.ones((2, 3))), BoxError, "b.npy: shape (2, 3) is not (K, 4) or (K, 5)"),
        (npy(np.ones((1, 2, 4))), BoxError, "b.npy: shape (1, 2, 4) is not (K, 4) or (K, 5)"),
        (npy(np.ones((2, 4), complex)), BoxError, "b.npy: dtype complex128 is not real numbers"),
        (npy(np.ones((2, 4), bool)), BoxError, "b.npy: dtype bool is not real numbers"),
        (npy(np.array([[{}, 1, 2, 3]])), BoxError, "b.npy: holds pickled objects, which are never loaded"),
        (npy(np.full((1, 5), 0.5)), BoxError, "b.npy, box 0: batch index 0.5 is not a whole number >= 0"),
        (GOOD_NPY[:-1], FileError, "b.npy is truncated: (2, 4) of float64 ends at byte 192, the file at byte 191"),
        (
            GOOD_NPY.replace(b"(2, 4), }" + b" " * 11, b"(9" + b"0" * 11 + b", 4), }"),
            FileError,
            "b.npy is truncated: (900000000000, 4) of float64 ends at byte 28800000000128, the file at byte 192",
        ),
        (GOOD_NPY.replace(b"(2, 4), } ", b"(-2, 4), }"), FileError, "b.npy claims the shape (-2, 4)"),
        (GOOD_NPY[:20], FileError, "b.npy cannot be read: its header is damaged"),
        (
            b"\x80\x04K\x01.",
            FileError,
            "b.npy: not a box file that roicli knows; it is a pickle, which roicli never loads",
        ),
        (b"", FileError, "b.npy cannot be read: EOF: reading magic string, expected 8 bytes got 0"),
    ],
)
def test_npy_faults(read, content, error, message):
    with pytest.raises(error) as caught:
        read("b.npy", content)
    assert caught.value.message == message
    assert re.fullmatch(r".*[^.?!]\.", caught.value.hint)


def test_files_that_cannot_be_read(read, tmp_path):
    with pytest.raises(FileError, match=r"none\.json: No such file or directory"):
        read_regions(tmp_path / "none.json")
    with pytest.raises(FileError, match="a folder"):
        read_regions(tmp_path)
    with pytest.raises(FileError, match=r"b\.txt: not a box file that roicli knows") as caught:
        read("b.txt", "")
    assert ".json, .jsonl, .ndjson, .csv, .tsv, .npy" in caught.value.hint
