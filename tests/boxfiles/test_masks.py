"""Masks as files encode them: outlines and run lengths, and the regions that they are of."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roicli.boxfiles import read_regions
from roicli.boxfiles.masks import read_masks
from roicli.boxfiles.outlines import OutlineError, decode_mask
from roicli.errors import BoxError, FileError

SIZE = (8, 10)
TRIANGLE = [1.0, 1.0, 8.0, 1.0, 1.0, 6.0]
MASK = np.zeros(SIZE, bool)
MASK[2:5, 3:7] = True
SQUARE = [3.0, 2.0, 7.0, 2.0, 7.0, 5.0, 3.0, 5.0]


def runs(mask):
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=False)).tolist()
    return np.diff([0, *edges, flat.size]).tolist()


RUNS = {"size": list(SIZE), "counts": runs(MASK)}


def decoded(value, size=SIZE, fill=None):
    return decode_mask(json.dumps(value).encode(), size, (20, 20), fill)


def with_coco(function):
    """Skip where the extra is not installed; with the library's own answer where it is."""
    return pytest.mark.skipif(
        "pycocotools" not in sys.modules and __import__("importlib").util.find_spec("pycocotools") is None,
        reason="needs roicli[masks]",
    )(function)


def test_run_lengths():
    np.testing.assert_array_equal(decoded(RUNS), MASK)
    np.testing.assert_array_equal(decoded(RUNS, None), MASK)  # they say their size themselves
    ended = {"size": list(SIZE), "counts": runs(MASK)[:-1]}
    np.testing.assert_array_equal(decoded(ended), MASK)
    assert not decoded({"size": list(SIZE), "counts": []}).any()


@with_coco
def test_run_lengths_as_a_string():
    from pycocotools import mask as coco

    packed = coco.encode(np.asfortranarray(MASK, np.uint8))
    value = {"size": packed["size"], "counts": packed["counts"].decode()}
    np.testing.assert_array_equal(decoded(value), MASK)


@with_coco
def test_polygons_as_pycocotools_draws_them():
    from pycocotools import mask as coco

    for polygons in ([TRIANGLE], [TRIANGLE, SQUARE]):
        expected = coco.decode(coco.merge(coco.frPyObjects(polygons, *SIZE)))
        np.testing.assert_array_equal(decoded(polygons), expected)
    np.testing.assert_array_equal(decoded([SQUARE]), MASK)
    np.testing.assert_array_equal(decoded(SQUARE), MASK)  # one that is not in a list
    assert decoded([TRIANGLE], None).shape == (20, 20)


def test_polygons_as_pillow_draws_them():
    with_edge = np.zeros(SIZE, bool)
    with_edge[2:6, 3:8] = True
    np.testing.assert_array_equal(decoded([SQUARE], fill="pil"), with_edge)
    np.testing.assert_array_equal(decoded({"points": [[3, 2], [7, 5]], "shape_type": "rectangle"}), with_edge)
    np.testing.assert_array_equal(decoded({"points": [[3, 2], [7, 2], [7, 5], [3, 5]]}), with_edge)


def test_holes():
    ring, hole = [[0, 0], [9, 0], [9, 7], [0, 7], [0, 0]], [[3, 2], [6, 2], [6, 4], [3, 4], [3, 2]]
    expected = np.ones(SIZE, bool)
    expected[2:5, 3:7] = False
    polygon = {"type": "Polygon", "coordinates": [ring, hole]}
    np.testing.assert_array_equal(decoded(polygon, fill="pil"), expected)
    both = {"type": "MultiPolygon", "coordinates": [[ring, hole], [hole]]}
    assert decoded(both, fill="pil").all()


def test_nothing():
    for value in ([], [[]], [[1, 2, 3, 4]]):
        assert not decoded(value).any()


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (3, "expected polygons, run lengths or a geometry as its mask, got int"),
        ({"a": 1}, "got the keys 'a'"),
        ([["a", "b"]], "expected polygons"),
        ([[1, 2, 3]], "not pairs of x and y"),
        ([[1, 2, 3, 1e10]], "beyond 1e9"),
        ({"size": [8], "counts": []}, "the size of a mask as height and width"),
        ({"size": [8, 11], "counts": []}, r"a mask of 8 x 11 pixels \(height x width\) for an image of 8 x 10"),
        ({"size": [8, 10], "counts": [90]}, "run lengths of 90 pixels in a mask of 8 x 10"),
        ({"size": [8, 10], "counts": [-1, 3]}, "run lengths"),
        ({"size": [8, 10], "counts": [1.5]}, "not whole numbers"),
        ({"size": [8, 10], "counts": 5}, "expected polygons"),
        ({"size": [10**6, 10**6], "counts": []}, "larger than any image"),
        ({"type": "Point", "coordinates": [1, 2]}, "type 'Point' has no area"),
        ({"points": [[1, 2], [3, 4]], "shape_type": "line"}, "type 'line' has no area"),
    ],
)
def test_what_is_not_a_mask(value, fault):
    with pytest.raises(OutlineError, match=fault):
        decoded(value)


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(FileError, match="need pycocotools") as caught:
        decoded([SQUARE])
    assert "roicli[masks]" in caught.value.hint
    assert decoded([SQUARE], fill="pil").any()


def annotation(number, **more):
    return {"id": number, "image_id": 1, "bbox": [3, 2, 4, 3], **more}


def written(path, content):
    path.write_text(json.dumps(content))
    return path


def test_annotations_of_coco(tmp_path):
    images = [{"id": 1, "height": 8, "width": 10}]
    annotations = [
        annotation(1, segmentation=RUNS),
        annotation(2),
        annotation(3, segmentation=[]),
        annotation(4, segmentation=[SQUARE]),
    ]
    table = read_regions(written(tmp_path / "a.json", {"images": images, "annotations": annotations}))
    assert table.masks is None
    masks = read_masks(table, "pil")
    assert masks.present.tolist() == [True, False, False, True]
    np.testing.assert_array_equal(masks.decode(0, SIZE, SIZE), MASK)
    assert not masks.decode(1, SIZE, SIZE).any()
    some = read_masks(table.take(np.array([3, 0])), "pil")
    np.testing.assert_array_equal(some.decode(1, SIZE, SIZE), MASK)
    np.testing.assert_array_equal(some.decode(0, SIZE, SIZE), masks.take([3]).decode(0, SIZE, SIZE))
    with pytest.raises(BoxError, match=r"a\.json, annotation 0: a mask of 8 x 10 pixels .* for an image of 9 x 9"):
        masks.decode(0, (9, 9), SIZE)


def test_results_of_coco(tmp_path):
    results = [annotation(1, segmentation=RUNS), annotation(2, segmentation=[SQUARE])]
    for path in (written(tmp_path / "a.json", results), tmp_path / "a.jsonl"):
        if not path.exists():
            path.write_text("\n".join(map(json.dumps, results)))
        masks = read_masks(read_regions(path), "pil")
        np.testing.assert_array_equal(masks.decode(0, None, SIZE), MASK)
        assert masks.present.all()


def test_several_files(tmp_path):
    for number, mask in enumerate((MASK, ~MASK)):
        rle = {"size": list(SIZE), "counts": runs(mask)}
        written(tmp_path / f"{number}.json", [{**annotation(1, segmentation=rle), "image_id": number}])
    masks = read_masks(read_regions(tmp_path))
    np.testing.assert_array_equal(masks.decode(0, None, SIZE), MASK)
    np.testing.assert_array_equal(masks.decode(1, None, SIZE), ~MASK)


def test_files_without_masks(tmp_path):
    for content in ([[1, 2, 3, 4]], [annotation(1)]):
        with pytest.raises(BoxError, match="without masks"):
            read_masks(read_regions(written(tmp_path / "a.json", content)))
    np.save(tmp_path / "a.npy", np.ones((2, 4)))
    with pytest.raises(BoxError, match="without masks"):
        read_masks(read_regions(tmp_path / "a.npy"))
    with pytest.raises(BoxError, match="standard input"):
        read_masks(
            read_regions(tmp_path / "a.npy").__class__(
                boxes=np.ones((1, 4)), given=np.ones((1, 4)), rows=np.zeros(1, int), source=str(Path("-"))
            )
        )


def test_outlines_of_yolo_are_in_the_unit_of_the_image(tmp_path):
    (tmp_path / "7.txt").write_text("0 0.3 0.25 0.7 0.25 0.7 0.625 0.3 0.625\n1 0.5 0.5 0.2 0.2\n")
    table = read_regions(tmp_path / "7.txt", boxes_as="yolo")
    masks = read_masks(table, "pil")
    assert masks.present.tolist() == [True, False]
    np.testing.assert_array_equal(masks.decode(0, SIZE, (1, 1)), decoded([SQUARE], fill="pil"))
    assert masks.decode(0, None, (16, 20)).sum() == 7 * 9  # the same outline on a larger canvas, edges included


def test_outlines_of_ultralytics(tmp_path):
    one = {"name": "cat", "class": 0, "confidence": 0.5, "box": {"x1": 3, "y1": 2, "x2": 7, "y2": 5}}
    path = written(tmp_path / "7.json", [one | {"segments": {"x": [3, 7, 7, 3], "y": [2, 2, 5, 5]}}, one])
    masks = read_masks(read_regions(path), "pil")
    assert masks.present.tolist() == [True, False]
    np.testing.assert_array_equal(masks.decode(0, SIZE, SIZE), decoded([SQUARE], fill="pil"))


SEGMENTS = np.where(MASK, 70_000, 3)


def panoptic(folder, in_folder="panoptic_val", segments=SEGMENTS, **changes):
    """JSON and PNG as COCO publishes them: an id is R + 256 G + 65536 B."""
    (folder / in_folder).mkdir(exist_ok=True)
    colors = np.stack([segments % 256, segments // 256 % 256, segments // 65536], axis=2).astype(np.uint8)
    Image.fromarray(colors).save(folder / in_folder / "000000000009.png")
    info = [
        {"id": 70_000, "category_id": 1, "area": 12, "bbox": [3, 2, 4, 3], "iscrowd": 0},
        {"id": 3, "category_id": 92, "area": 68, "bbox": [0, 0, 10, 8], "iscrowd": 0},
    ]
    content = {
        "images": [{"id": 9, "file_name": "000000000009.jpg", "height": 8, "width": 10}],
        "annotations": [{"image_id": 9, "file_name": "000000000009.png", "segments_info": info}],
        "categories": [{"id": 1, "name": "person", "isthing": 1}],
    }
    for segment in info:
        segment |= changes
    return written(folder / "panoptic_val.json", content)


@pytest.mark.parametrize("in_folder", ["panoptic_val", "."])
def test_segments_of_coco_panoptic(tmp_path, in_folder):
    table = read_regions(panoptic(tmp_path, in_folder))
    masks = read_masks(table)
    assert table.boxes.tolist() == [[3, 2, 7, 5], [0, 0, 10, 8]]
    np.testing.assert_array_equal(masks.decode(0, SIZE, SIZE), MASK)
    np.testing.assert_array_equal(masks.decode(1, SIZE, SIZE), ~MASK)
    bare = read_regions(panoptic(tmp_path, in_folder, bbox=None))
    assert bare.boxes.tolist() == table.boxes.tolist()
    (tmp_path / in_folder / "000000000009.png").unlink()
    assert np.isnan(read_regions(tmp_path / "panoptic_val.json").boxes).all()
    with pytest.raises(FileError, match=r"PNG of the segments of image 9 is not there: .*panoptic_val"):
        read_masks(table)
    path = tmp_path / "panoptic_val.json"
    path.write_text(path.read_text().replace('"file_name": "000000000009.png", ', ""))
    with pytest.raises(FileError, match="image 9 does not name its PNG"):
        read_masks(table)


def test_a_checksum_tells_masks_apart_not_where_they_lie(tmp_path):
    def checksum(path, rows=slice(None)):
        return read_masks(read_regions(path).take(np.arange(2)[rows])).checksum

    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    same = {checksum(panoptic(tmp_path / name), rows) for name, rows in (("here", [0]), ("there", [1]))}
    assert len({*same, checksum(panoptic(tmp_path / "here", segments=SEGMENTS[::-1]))}) == 2
    both = [annotation(1, segmentation=RUNS), annotation(2, segmentation=[SQUARE])]
    same = {checksum(written(tmp_path / "a.json", both), rows) for rows in ([0], [1], slice(None))}
    assert len({*same, checksum(written(tmp_path / "a.json", both[::-1]))}) == 2
