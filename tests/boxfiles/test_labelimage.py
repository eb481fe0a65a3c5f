"""Label images and arrays of masks: their regions, and the masks of these."""

import io
import json

import numpy as np
import pytest
from boxfiles.conformance import LayoutConformance
from PIL import Image

from roicli.boxfiles import read_regions
from roicli.boxfiles.masks import read_masks
from roicli.errors import BoxError, FileError

LABELS = np.zeros((9, 12), np.uint8)
LABELS[2:5, 1:4] = 3
LABELS[1:3, 6:12] = 200
LABELS[8, 0] = 3
BOXES = [[0.0, 2.0, 4.0, 9.0], [6.0, 1.0, 12.0, 3.0]]


def png(array, mode=None):
    file = io.BytesIO()
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(file, "PNG")
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


class LabelConformance(LayoutConformance):
    boxes, images, columns, sizes = BOXES, ["car", "car"], {"box_id": [3, 200]}, [[9.0, 12.0]]

    def test_the_user_decides_what_numbers_mean(self, path):
        with pytest.raises(BoxError, match="no numbers that are xywh"):
            read_regions(path, "xywh")


class TestPng(LabelConformance):
    name, file_name, content = "label-png", "car.png", png(LABELS)


class TestArray(LabelConformance):
    name, file_name, content = "label-npy", "car.npy", npy(LABELS.astype(np.int64))


class TestMasks(LabelConformance):
    name, file_name, content = "label-npy", "car.npy", npy(np.stack([LABELS == 3, LABELS == 200]))
    columns = {}


def test_kinds_of_png(tmp_path):
    large = np.where(LABELS == 200, 70_000, LABELS.astype(np.int64))
    colors = np.stack([large % 256, large // 256 % 256, large // 65536], axis=2).astype(np.uint8)
    for content, second in (
        (png(LABELS, "P"), 200),
        (png(LABELS.astype(np.uint16)), 200),
        (png(colors), 70_000),  # as COCO panoptic writes them
    ):
        (tmp_path / "car.png").write_bytes(content)
        table = read_regions(tmp_path / "car.png")
        assert table.boxes.tolist() == BOXES
        assert table.box_ids.tolist()[-1] == second
        masks = read_masks(table)
        np.testing.assert_array_equal(masks.decode(1, None, (1, 1)), LABELS == 200)


def test_masks_of_a_folder(tmp_path):
    (tmp_path / "a.png").write_bytes(png(LABELS))
    (tmp_path / "b.png").write_bytes(png(LABELS[:, ::-1].copy()))
    table = read_regions(tmp_path)
    assert table.image_ids == ("a", "b")
    masks = read_masks(table)
    np.testing.assert_array_equal(masks.decode(0, (9, 12), (1, 1)), LABELS == 3)
    np.testing.assert_array_equal(masks.take([3]).decode(0, (9, 12), (1, 1)), LABELS[:, ::-1] == 200)
    with pytest.raises(BoxError, match=r"a mask of 9 x 12 pixels .* for an image of 9 x 11"):
        masks.decode(0, (9, 11), (1, 1))


def test_an_empty_mask_among_others(tmp_path):
    np.save(tmp_path / "a.npy", np.stack([LABELS == 3, LABELS == 4]))
    table = read_regions(tmp_path / "a.npy")
    assert table.absent.tolist() == [False, True]


def test_images_that_are_not_labels(tmp_path):
    (tmp_path / "a.png").write_bytes(png(LABELS)[:-30])
    with pytest.raises(FileError, match="damaged PNG"):
        read_regions(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(png(np.zeros((9, 12, 2), np.uint8)))
    with pytest.raises(FileError, match="a PNG of 2 channels"):
        read_regions(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(
        png(np.arange(1000 * 400 * 3, dtype=np.uint32).view(np.uint8)[: 1000 * 400 * 3].reshape(1000, 400, 3))
    )
    with pytest.raises(BoxError, match="labels in an image") as caught:
        read_regions(tmp_path / "c.png")
    assert "photo" in caught.value.hint


def test_boxes_stay_boxes(tmp_path):
    for shape, dtype in (((9, 4), np.int64), ((9, 5), np.int32), ((9, 4), np.float32)):
        np.save(tmp_path / "a.npy", np.ones(shape, dtype))
        assert read_regions(tmp_path / "a.npy").layout == "array of boxes"
    np.save(tmp_path / "a.npy", np.ones((9, 6), np.int64))
    with pytest.raises(BoxError, match="is not"):
        read_regions(tmp_path / "a.npy")


def test_sizes_of_images_that_only_their_masks_say(tmp_path):
    mask = {"size": [9, 12], "counts": [108]}
    (tmp_path / "a.json").write_text(
        json.dumps([{"segmentation": mask, "bbox": [0, 0, 1, 1], "area": 1, "predicted_iou": 1}])
    )
    masks = read_masks(read_regions(tmp_path / "a.json"))
    assert masks.size(0) == (9, 12)
    assert masks.present.tolist() == [True]
