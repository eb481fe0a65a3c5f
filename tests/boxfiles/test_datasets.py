"""Layouts of datasets and of the tools that people draw boxes with, each to its published schema."""

import base64
import io
import json
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import h5py
import numpy as np
import pytest
from boxfiles.conformance import LayoutConformance

import roicli
from roicli.boxfiles import read_regions
from roicli.errors import RoicliError
from roicli.jobs.info import info
from roicli.regions import BoxFormat

NAN = float("nan")
# Two boxes that every example holds, as xyxy: in image 7 (30 high, 40 wide) and in image 9 (20 high, 10 wide).
BOXES = [[1.0, 2.0, 4.0, 6.0], [0.0, 1.0, 2.5, 3.0]]
XYWH = [[1, 2, 3, 4], [0, 1, 2.5, 2]]
SIZES = [[30.0, 40.0], [20.0, 10.0]]
IMAGE_DATA = json.dumps(
    [{"width": w, "height": h, "image_id": i, "url": ""} for i, (h, w) in zip((7, 9), SIZES, strict=True)]
)


def named(names, numbers):
    return dict(zip(names.split(), numbers, strict=True))


class TestVisualGenomeRegions(LayoutConformance):
    name, file_name, boxes, images = "vg-regions", "region_descriptions.json", BOXES, ["7", "9"]
    columns = {"box_id": [70, 90]}
    content = json.dumps(
        [
            {
                "id": i,
                "regions": [{"region_id": 10 * i, "image_id": i, "phrase": "a", **named("x y width height", box)}],
            }
            for i, box in zip((7, 9), XYWH, strict=True)
        ]
    )


class TestVisualGenomeRegionsOfTheReadme(TestVisualGenomeRegions):
    content = TestVisualGenomeRegions.content.replace('"id": ', '"image_id": ').replace("9, ", "9, ")


class TestVisualGenomeObjects(LayoutConformance):
    name, file_name, boxes, images = "vg-objects", "objects.json", BOXES, ["7", "9"]
    columns = {"box_id": [70, 90], "label": ["tree", "cat"]}
    content = json.dumps(
        [
            {
                "image_id": i,
                "image_url": f"https://x/{i}.jpg",
                "objects": [
                    {"object_id": 10 * i, "names": [label, "x"], "synsets": [], "merged_object_ids": [], **box}
                ],
            }
            for i, label, box in zip((7, 9), ("tree", "cat"), (named("x y w h", box) for box in XYWH), strict=True)
        ]
    )


class TestVisualGenomeAttributes(TestVisualGenomeObjects):
    file_name, content = "attributes.json", TestVisualGenomeObjects.content.replace('"objects"', '"attributes"')


class TestVisualGenomeRelationships(LayoutConformance):
    name, file_name, images = "vg-relationships", "relationships.json", ["7"]
    boxes = [[1.0, 2.0, 12.0, 16.0]]
    columns = {"box_id": [5], "label": ["ON"], "subject": [70], "object": [71]}
    content = json.dumps(
        [
            {
                "image_id": 7,
                "relationships": [
                    {
                        "relationship_id": 5,
                        "predicate": "ON",
                        "synsets": [],
                        "subject": {"object_id": 70, "x": 1, "y": 6, "w": 3, "h": 10, "name": "cat"},
                        "object": {"object_id": 71, "x": 2, "y": 2, "w": 10, "h": 5, "names": ["mat"]},
                    }
                ],
            }
        ]
    )


class TestGqa(LayoutConformance):
    name, file_name, boxes, images, sizes = "gqa", "val_sceneGraphs.json", BOXES, ["7", "9"], SIZES
    columns = {"box_id": [70, 90], "label": ["chair", "chair"]}
    content = json.dumps(
        {
            str(i): {
                **named("height width", size),
                "location": "room",
                "objects": {str(10 * i): {"name": "chair", "attributes": [], "relations": [], **named("x y w h", box)}},
            }
            for i, size, box in zip((7, 9), SIZES, XYWH, strict=True)
        }
    )


class TestLvis(LayoutConformance):
    name, file_name, boxes, images, sizes = "coco", "lvis_v1_val.json", BOXES, ["7", "9"], SIZES
    content = json.dumps(
        {
            "images": [
                {"id": i, "coco_url": f"http://x/val2017/{i:012d}.jpg", **named("height width", size)}
                for i, size in zip((7, 9), SIZES, strict=True)
            ],
            "annotations": [
                {"id": i, "image_id": i, "bbox": box, "category_id": 3} for i, box in zip((7, 9), XYWH, strict=True)
            ],
            "categories": [{"id": 3, "name": "cat", "synset": "cat.n.01", "frequency": "c"}],
        }
    )


def test_files_of_lvis_are_named_by_their_urls(tmp_path):
    (tmp_path / "b.json").write_text(TestLvis.content)
    assert read_regions(tmp_path / "b.json").aliases == ("val2017/000000000007.jpg", "val2017/000000000009.jpg")


class TestDetectron2(LayoutConformance):
    name, file_name, boxes, images, sizes = "detectron2", "dicts.json", BOXES, ["7", "9"], SIZES
    columns = {"category": [3, 3]}
    content = json.dumps(
        [
            {
                "file_name": f"val/{i}.jpg",
                "image_id": i,
                **named("height width", size),
                "annotations": [{"bbox": box, "bbox_mode": 0, "category_id": 3, "iscrowd": 0}],
            }
            for i, size, box in zip((7, 9), SIZES, BOXES, strict=True)
        ]
    )


class TestDetectron2Widths(TestDetectron2):
    content = (
        TestDetectron2.content.replace('"bbox_mode": 0', '"bbox_mode": 1')
        .replace("[1.0, 2.0, 4.0, 6.0]", "[1, 2, 3, 4]")
        .replace("[0.0, 1.0, 2.5, 3.0]", "[0, 1, 2.5, 2]")
    )


class TestDetectron2Turned(TestDetectron2):
    columns = {"angle": [30, 0]}
    content = (
        TestDetectron2.content.replace('"bbox_mode": 0', '"bbox_mode": 4')
        .replace("[1.0, 2.0, 4.0, 6.0]", "[2.5, 4, 3, 4, 30]")
        .replace("[0.0, 1.0, 2.5, 3.0]", "[1.25, 2, 2.5, 2, 0]")
    )


class TestDetectron2Predictions(LayoutConformance):
    name, file_name, boxes, images = "detectron2", "instances_predictions.json", BOXES, ["7", "9"]
    columns = {"score": [0.5, 0.5]}
    content = json.dumps(
        [
            {"image_id": i, "instances": [{"image_id": i, "category_id": 1, "bbox": box, "score": 0.5}]}
            for i, box in zip((7, 9), XYWH, strict=True)
        ]
    )


class TestOpenImages(LayoutConformance):
    name, file_name, images, normalized = "open-images", "validation-annotations-bbox.csv", ["00a", "1e5"], True
    boxes = [[0.25, 0.5, 0.75, 1.0], [0, 0.125, 0.5, 0.375]]
    columns = {"label": ["/m/01", "/m/02"], "score": [1, 0.5]}
    content = (
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded\n"
        "00a,xclick,/m/01,1,0.25,0.75,0.5,1.0,0\n1e5,xclick,/m/02,0.5,0,0.5,0.125,0.375,0\n"
    )


class TestVoc(LayoutConformance):
    name, file_name, boxes, images, sizes = "voc", "2007_000027.xml", BOXES, ["2007_000027"] * 2, [[30, 40]]
    columns = {"label": ["person", "dog"]}
    content = (
        "<annotation><folder>VOC2012</folder><filename>2007_000027.jpg</filename>"
        "<size><width>40</width><height>30</height><depth>3</depth></size><segmented>0</segmented>"
        "<object><name>person</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>4</xmax><ymax>6</ymax></bndbox>"
        "<part><name>head</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>2</xmax><ymax>3</ymax></bndbox></part></object>"
        "<object><name>dog</name><bndbox><xmax>2.5</xmax><xmin>0</xmin><ymin>1</ymin><ymax>3</ymax></bndbox></object>"
        "</annotation>"
    )


class TestYolo(LayoutConformance):
    name, file_name, images, normalized = "yolo", "000000000139.txt", ["000000000139"] * 2, True
    boxes = [[0.25, 0.5, 0.75, 1.0], [0, 0.125, 0.5, 0.375]]
    columns = {"category": [0, 56]}
    content = "0 0.5 0.75 0.5 0.5\n56 0.25 0.25 0.5 0.25\n"


class TestYoloPredictions(TestYolo):
    columns = {"category": [0, 56], "score": [0.5, 0.25]}
    content = "0 0.5 0.75 0.5 0.5 0.5\n56 0.25 0.25 0.5 0.25 0.25\n"


class TestYoloTracks(TestYolo):
    columns = {"score": [0.5, 0.25], "box_id": [1, 4]}  # the first is not a triangle, as the second tells
    content = "0 0.5 0.75 0.5 0.5 0.5 1\n56 0.25 0.25 0.5 0.25 0.25 4\n"


class TestYoloOutlines(TestYolo):
    content = "0 0.25 0.5 0.75 0.75 0.5 1.0\n56 0 0.125 0.5 0.25 0.25 0.375 0.125 0.25\n"


class TestYoloTurned(LayoutConformance):
    name, file_name, images, sizes = "yolo-obb", "P1.txt", ["P1"] * 2, [[100, 200]]
    boxes = [[80.0, 45.0, 120.0, 55.0], [80.0, 45.0, 120.0, 55.0]]
    columns = {"category": [1, 2], "angle": [0, 90]}
    options = {"image_size": (100.0, 200.0)}
    content = "1 0.4 0.45 0.6 0.45 0.6 0.55 0.4 0.55\n2 0.475 0.7 0.475 0.3 0.525 0.3 0.525 0.7\n"


@pytest.mark.parametrize(
    "sizes",
    [
        "image_id,height,width\nP1,100,200\n",
        "P1.png 200 100\nP2.png 3 4\n",
        '{"images": [{"id": 1, "file_name": "a/P1.png", "height": 100, "width": 200}], "annotations": []}',
    ],
)
def test_turned_boxes_of_yolo_find_the_size_of_their_image(tmp_path, sizes):
    (tmp_path / "P1.txt").write_text(TestYoloTurned.content)
    (tmp_path / "sizes").write_text(sizes)
    regions = roicli.read_regions(tmp_path / "P1.txt", image_size=tmp_path / "sizes")
    np.testing.assert_allclose(regions.boxes, TestYoloTurned.boxes)
    assert len(regions.stamps) == 2
    (tmp_path / "P1.txt").rename(tmp_path / "P3.txt")
    with pytest.raises(RoicliError, match="the size of image 'P3' is not known"):
        read_regions(tmp_path / "P3.txt", image_size=tmp_path / "sizes")


class TestDota(LayoutConformance):
    name, file_name, images = "dota", "P0003.txt", ["P0003"] * 2
    boxes = [[80.0, 45.0, 120.0, 55.0], [80.0, 45.0, 120.0, 55.0]]
    columns = {"label": ["plane", "large-vehicle"], "angle": [0, 90]}
    content = (
        "imagesource:GoogleEarth\ngsd:0.146343590398\n"
        "80.0 45.0 120.0 45.0 120.0 55.0 80.0 55.0 plane 0\n95 70 95 30 105 30 105 70 large-vehicle 1\n"
    )


class TestVinvl(LayoutConformance):
    name, file_name, boxes, images, sizes = "vinvl", "train.label.tsv", BOXES, ["COCO_val2014_42", "b"], SIZES
    columns = {"label": ["Dog", "Cat"], "score": [0.5, NAN]}
    beside = {"train.hw.tsv": 'COCO_val2014_42\t[{"height": 30, "width": 40}]\nb\t[{"height": 20, "width": 10}]\n'}
    content = (
        'COCO_val2014_42\t[{"rect": [1.0, 2.0, 4.0, 6.0], "class": "Dog", "conf": 0.5}]\n'
        'b\t[{"class": "Cat", "rect": [0, 1, 2.5, 3]}]\n'
    )


class TestVinvlPredictions(LayoutConformance):
    name, file_name, boxes, images = "vinvl", "predictions.tsv", BOXES, ["a", "b"]
    columns = {"label": ["Dog", "Cat"], "box_id": [0, 4]}
    content = (
        'a\t{"objects": [{"rect": [1, 2, 4, 6], "bbox_id": 0, "class": "Dog", "conf": 0.5}], "relations": []}\n'
        'b\t{"objects": [{"rect": [0, 1, 2.5, 3], "bbox_id": 4, "class": "Cat", "feature": "AAA="}]}\n'
    )


class TestPanoptic(LayoutConformance):
    name, file_name, boxes, images, sizes = "coco-panoptic", "panoptic_val2017.json", BOXES, ["7", "9"], SIZES
    columns = {"box_id": [700, 900], "category": [3, 3], "area": [12, 5]}
    content = json.dumps(
        {
            "images": [
                {"id": i, "file_name": f"{i:012d}.jpg", **named("height width", size)}
                for i, size in zip((7, 9), SIZES, strict=True)
            ],
            "annotations": [
                {
                    "segments_info": [{"id": 100 * i, "category_id": 3, "iscrowd": 0, "bbox": box, "area": area}],
                    "file_name": f"{i:012d}.png",
                    "image_id": i,
                }
                for i, box, area in zip((7, 9), XYWH, (12, 5), strict=True)
            ],
            "categories": [{"id": 3, "name": "cat", "isthing": 1, "supercategory": "animal"}],
        }
    )


MASKS = [
    {
        "segmentation": {"size": [30, 40], "counts": "abc0"},
        "area": 12,
        "bbox": box,
        "predicted_iou": 0.5,
        "point_coords": [[1, 2]],
        "stability_score": 0.9,
        "crop_box": [0, 0, 40, 30],
    }
    for box in XYWH
]


class TestSam(LayoutConformance):
    name, file_name, boxes, images = "sam", "a1.json", BOXES, ["a1", "a1"]
    columns = {"score": [0.5, 0.5], "area": [12, 12]}
    content = json.dumps(MASKS)


class TestSa1b(LayoutConformance):
    name, file_name, boxes, images, sizes = "sam", "sa_7.json", BOXES, ["7", "7"], SIZES[:1]
    columns = {"box_id": [5, 5], "score": [0.5, 0.5]}
    content = json.dumps(
        {
            "image": {"image_id": 7, "width": 40, "height": 30, "file_name": "sa_7.jpg"},
            "annotations": [mask | {"id": 5} for mask in MASKS],
        }
    )


class TestUltralytics(LayoutConformance):
    name, file_name, boxes, images = "ultralytics", "bus.json", BOXES, ["bus", "bus"]
    columns = {"label": ["bus", "person"], "category": [5, 0], "score": [0.5, 0.25]}
    content = json.dumps(
        [
            {"name": label, "class": number, "confidence": score, "box": named("x1 y1 x2 y2", box)}
            for label, number, score, box in zip(("bus", "person"), (5, 0), (0.5, 0.25), BOXES, strict=True)
        ],
        indent=2,
    )


class TestUltralyticsTurned(LayoutConformance):
    name, file_name, images = "ultralytics", "P1.json", ["P1"]
    boxes = [[80.0, 45.0, 120.0, 55.0]]
    columns = {"angle": [90]}
    content = json.dumps(
        [
            {
                "name": "plane",
                "class": 1,
                "confidence": 0.5,
                "box": named("x1 y1 x2 y2 x3 y3 x4 y4", (95, 70, 95, 30, 105, 30, 105, 70)),
            }
        ]
    )


class TestLabelMe(LayoutConformance):
    name, file_name, images, sizes = "labelme", "a1.json", ["a1"] * 3, SIZES[:1]
    boxes = [*BOXES, [2.0, 5.0, 8.0, 11.0]]
    columns = {"label": ["cat", "dog", "ball"], "box_id": ["", "4", ""]}
    content = json.dumps(
        {
            "version": "5.4.1",
            "flags": {},
            "shapes": [
                {"label": "cat", "points": [[4, 2], [1, 6]], "group_id": None, "shape_type": "rectangle"},
                {"label": "dog", "points": [[0, 2], [2.5, 1], [1, 3]], "group_id": 4, "shape_type": "polygon"},
                {"label": "ball", "points": [[5, 8], [5, 11]], "group_id": None, "shape_type": "circle"},
            ],
            "imagePath": "..\\\\images\\\\a1.jpg",
            "imageData": None,
            "imageHeight": 30,
            "imageWidth": 40,
        }
    )


FEATURES = [
    {
        "type": "Feature",
        "id": "u-1",
        "geometry": {"type": "Polygon", "coordinates": [[[1, 2], [4, 2], [4, 6], [1, 6], [1, 2]]]},
        "properties": {"objectType": "annotation", "classification": {"name": "Tumor", "color": [1, 2, 3]}},
    },
    {
        "type": "Feature",
        "id": "u-2",
        "geometry": {"type": "MultiPolygon", "coordinates": [[[[0, 1], [1, 1], [0, 2]]], [[[2, 2], [2.5, 3], [2, 3]]]]},
        "properties": {"label": "cell"},
    },
]


class TestGeoJson(LayoutConformance):
    name, file_name, boxes, images = "geojson", "slide.geojson", BOXES, ["slide", "slide"]
    columns = {"box_id": ["u-1", "u-2"], "label": ["Tumor", "cell"]}
    content = json.dumps({"type": "FeatureCollection", "features": FEATURES})


class TestGeoJsonList(TestGeoJson):
    content = json.dumps(FEATURES, indent=1)


class TestMot(LayoutConformance):
    name, file_name, boxes, images = "mot", "det.txt", BOXES, ["1", "12"]
    columns = {"score": [0.5, -1.5]}
    content = "1,-1,1,2,3,4,0.5,-1,-1,-1\n12,-1,0,1,2.5,2,-1.5,-1,-1,-1\n"


class TestMotTruth(LayoutConformance):
    name, file_name, boxes, images = "mot", "gt.txt", BOXES, ["1", "12"]
    columns = {"box_id": [2, 3], "score": [1, 0], "category": ["1", "7"]}
    content = "1,2,1,2,3,4,1,1,0.8\n12,3,0,1,2.5,2,0,7,1\n"


def test_tracks_without_a_number(tmp_path):
    (tmp_path / "det.txt").write_text("1,nan,1,2,3,4,0.5,-1,-1,-1\n12,inf,0,1,2.5,2,-1.5,-1,-1,-1\n")
    regions = read_regions(tmp_path / "det.txt", boxes_as="mot")
    assert (regions.boxes.tolist(), regions.box_ids) == (BOXES, None)


class TestAva(LayoutConformance):
    name, file_name, normalized = "ava", "ava_val_v2.2.csv", True
    images = ["-5KQ66BBWC4,0902", "1j20qq1JyX4,0903"]
    boxes = [[0.25, 0.5, 0.75, 1.0], [0, 0.125, 0.5, 0.375]]
    columns = {"category": ["80", "9"], "box_id": [1, 0]}
    content = "-5KQ66BBWC4,0902,0.25,0.5,0.75,1.0,80,1\n1j20qq1JyX4,0903,0,0.125,0.5,0.375,9,0\n"


class TestAvaDetections(TestAva):
    columns = {"score": [0.995, 0.9]}
    content = "-5KQ66BBWC4,0902,0.25,0.5,0.75,1.0,,0.995\n1j20qq1JyX4,0903,0,0.125,0.5,0.375,,0.9\n"


def packed(values, dtype):
    return base64.b64encode(np.array(values, dtype).tobytes()).decode()


class TestBottomUpTsv(LayoutConformance):
    name, file_name, boxes, images, sizes = "butd-tsv", "val_36.tsv", BOXES, ["7", "9"], SIZES
    content = "".join(
        f"{i}\t{int(w)}\t{int(h)}\t1\t{packed(box, '<f4')}\t{packed([1, 2, 3], '<f4')}\n"
        for i, (h, w), box in zip((7, 9), SIZES, BOXES, strict=True)
    )


class TestLxmertTsv(LayoutConformance):
    name, file_name, boxes, images, sizes = "butd-tsv", "train2014_obj36.tsv", BOXES, ["C_7", "C_9"], SIZES
    columns = {"category": [5, 5], "score": [0.5, 0.5]}
    content = "".join(
        "\t".join(
            [
                f"C_{i}\t{int(h)}\t{int(w)}\t{packed([5], '<i8')}\t{packed([0.5], '<f4')}",
                f"{packed([6], '<i8')}\t{packed([0.5], '<f4')}\t1\t{packed(box, '<f4')}\t{packed([1, 2], '<f4')}\n",
            ]
        )
        for i, (h, w), box in zip((7, 9), SIZES, BOXES, strict=True)
    )


def made(write):
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


class TestNpzOfAnImage(LayoutConformance):
    name, file_name, boxes, images, sizes = "npz", "000000000139.npz", BOXES, ["000000000139"] * 2, SIZES[:1]
    content = made(
        lambda stream: np.savez(
            stream, x=np.ones((3, 8)), bbox=np.array([*BOXES, [0] * 4], "f4"), num_bbox=2, image_h=30, image_w=40
        )
    )


def hdf5(arrays):
    def write(stream):
        with h5py.File(stream, "w") as file:
            for name, array in arrays.items():
                file[name] = array

    return made(write)


class TestBottomUpHdf5(LayoutConformance):
    name, file_name, boxes, images = "butd-h5", "train2.hdf5", BOXES * 2, ["7", "7", "9", "9"]
    beside = {"train2_imgid2idx.json": '{"9": 1, "7": 0}', "boxes.json": '{"7": 0, "9": 1}'}
    content = hdf5({"image_bb": np.array([BOXES, BOXES], "f4"), "image_features": np.ones((2, 2, 8), "f4")})

    def test_is_read(self, path, tmp_path):
        (tmp_path / "boxes.json").unlink()
        self.beside = {"train2_imgid2idx.json": ""}
        super().test_is_read(path)


class TestBottomUpHdf5Adaptive(TestBottomUpHdf5):
    images, boxes = ["7", "9", "9"], [*BOXES[:1], *BOXES]
    content = hdf5({"image_bb": np.array([*BOXES[:1], *BOXES], "f4"), "pos_boxes": np.array([[0, 1], [1, 3]], "i4")})


class TestBottomUpHdf5Padded(TestBottomUpHdf5):
    images, boxes = ["7", "9", "9"], [*BOXES[:1], *BOXES]
    content = hdf5({"image_bb": np.array([BOXES, BOXES], "f4"), "num_boxes": np.array([1, 2], "i4")})


class TestM2(LayoutConformance):
    name, file_name, boxes, images = "m2-h5", "coco_detections.hdf5", BOXES, ["7", "9"]
    content = hdf5({f"{image}_boxes": np.array([box], "f4") for image, box in zip((7, 9), BOXES, strict=True)})


class TestVlt5(LayoutConformance):
    name, file_name, boxes, images, sizes = "vlt5-h5", "train2014_obj36.h5", BOXES, ["val/7", "val/9"], SIZES
    content = hdf5(
        {
            f"val/{image}/{name}": value
            for image, box, (h, w) in zip((7, 9), BOXES, SIZES, strict=True)
            for name, value in (("boxes", np.array([box], "f4")), ("img_h", h), ("img_w", w))
        }
    )


class TestVgSgg(LayoutConformance):
    """Boxes of an image of 512 x 256 pixels, and of one of 2048 x 1024."""

    name, file_name, images, sizes = "vg-sgg", "VG-SGG.h5", ["7", "7", "9"], [[256, 512], [1024, 2048]]
    boxes = [[9.0, 18.0, 11.0, 22.0], [0.0, 0.0, 5.0, 5.0], [36.0, 72.0, 44.0, 88.0]]
    columns = {"category": [3, 4, 5]}
    beside = {
        "image_data.json": json.dumps(
            [
                *({"image_id": n, "width": 9, "height": 9} for n in (1592, 1722, 4616, 4617, 1)),
                {"image_id": 7, "width": 512, "height": 256},
                {"image_id": 9, "width": 2048, "height": 1024},
            ]
        )
    }
    content = hdf5(
        {
            "boxes_1024": np.array([[20, 40, 4, 8], [5, 5, 10, 10], [20, 40, 4, 8]], "i4"),
            "boxes_512": np.array([[10, 20, 2, 4], [2, 2, 5, 5], [10, 20, 2, 4]], "i4"),
            "img_to_first_box": np.array([-1, 0, 2], "i4"),
            "img_to_last_box": np.array([-1, 1, 2], "i4"),
            "labels": np.array([[3], [4], [5]], "i8"),
        }
    )

    def test_the_user_decides_what_numbers_mean(self):
        """It is said by the specification, and nothing else is written in such files."""


class TestParquet(LayoutConformance):
    name, file_name, boxes, images, sizes = "parquet", "b.parquet", BOXES, ["a", "b"], SIZES
    columns = {"score": [0.5, NAN], "label": ["cat", "dog"]}

    @pytest.fixture(autouse=True)
    def write_beside(self):
        parquet = pytest.importorskip("pyarrow.parquet")
        table = pytest.importorskip("pyarrow").table(
            {
                "image_id": ["a", "b"],
                **{name: [box[n] for box in BOXES] for n, name in enumerate(["x1", "y1", "x2", "y2"])},
                "height": [30, 20],
                "width": [40, 10],
                "score": [0.5, None],
                "class": ["cat", "dog"],
                "points": [[1, 2], [3]],
            }
        )
        type(self).content = made(lambda stream: parquet.write_table(table, stream))


def test_parquet_without_its_library(tmp_path, monkeypatch):
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(RoicliError, match=r"b\.parquet is a Parquet file, and pyarrow is missing") as caught:
        read_regions(tmp_path / "b.parquet")
    assert caught.value.hint == "Run: pip install 'roicli[parquet]'."


KITTI = "Car 0.00 0 -1.58 1 2 4 6 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59\n"
CVAT = "<annotations><image id='0' name='a.jpg'><box xtl='1' ytl='2' xbr='4' ybr='6'/></image></annotations>"
RECTANGLE = {
    "type": "rectanglelabels",
    "original_width": 200,
    "original_height": 50,
    "value": {"x": 0.5, "y": 4, "width": 1.5, "height": 8},
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a line need not close its file
@pytest.mark.parametrize(
    ("name", "content", "tool", "options"),
    [
        ("a.xml", CVAT, "CVAT", {}),
        ("a.json", [{"id": 1, "annotations": [{"result": [RECTANGLE]}], "data": {"image": "/b/a.jpg"}}], "Label", {}),
        ("a.txt", KITTI, "KITTI", {}),
        ("a.json", [{"image": "a.jpg", "annotations": [{"coordinates": {"x": 2.5, "y": 4, "width": 3, "height": 4}}]}],
         "CreateML", {"box_format": "cxcywh"}),
        ("a.json", {"size": {}, "objects": [{"points": {"exterior": [[4, 6], [1, 2]]}}]}, "Supervisely", {}),
        ("a.json", [{"name": "a.jpg", "labels": [{"box2d": {"x1": 1, "y1": 2, "x2": 4, "y2": 6}}, {}]},
                    {"name": "b.jpg", "labels": None}], "BDD100K", {}),
        ("a.json", {"images": [{"file": "a.jpg", "detections": [{"bbox": [1, 2, 3, 4], "conf": 0.5}]},
                               {"file": "b.jpg"}], "detection_categories": {}}, "MegaDetector", {"normalized": True}),
        ("a.json", {"boxes": [[1, 2, 4, 6]], "labels": [1]}, "torchvision", {}),
        ("boxes.json", [{"image_id": "a", "boxes": [[1, 2, 4, 6]], "labels": [1]}], "torchvision", {}),
    ],
)  # fmt: skip
def test_other_tools_are_named_with_the_line_that_converts_them(tmp_path, monkeypatch, name, content, tool, options):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(RoicliError, match=f"{tool}.*, which roicli does not read") as caught:
        read_regions(Path(name))
    line, python, made = re.search(r"((python|awk).*) > (\w+[.]\w+)", caught.value.hint).groups()
    assert made != name, "the shell would empty it before it is read"
    if python == "python":
        with redirect_stdout(io.StringIO()) as printed:
            exec(line.split('"', 1)[1].rstrip('"'), {})  # what the shell would give to Python
        (tmp_path / made).write_text(printed.getvalue())
    else:
        (tmp_path / made).write_bytes(subprocess.run(line, shell=True, check=True, capture_output=True).stdout)
    for option, value in options.items():
        assert f"and give `{option}={value}`" in caught.value.hint or f"and give `{option}`" in caught.value.hint
    regions = read_regions(Path(made), BoxFormat(options["box_format"]) if "box_format" in options else None)
    assert regions.boxes.tolist() == [[1, 2, 4, 6]]
    assert regions.image_ids[0].startswith("a")


@pytest.mark.parametrize(
    "content", [{"_via_img_metadata": {}}, {"a.jpg12": {"filename": "a.jpg", "regions": [{"region_attributes": {}}]}}]
)
def test_annotations_of_via_are_named(tmp_path, content):
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(RoicliError, match="VIA annotations, which roicli does not read") as caught:
        read_regions(tmp_path / "a.json")
    assert "COCO" in caught.value.hint


def test_info_tells_of_boxes_in_arrays(tmp_path):
    for case in (TestVgSgg, TestNpzOfAnImage):
        path = tmp_path / case.file_name
        path.write_bytes(case.content)
        for name, content in case.beside.items():
            (tmp_path / name).write_text(content)
        assert info(str(path)).boxes.count == len(case.boxes)


def test_arrays_of_rotated_boxes_are_named_by_the_user(tmp_path):
    """Five numbers may begin with a batch index, and six end in a score and a class."""
    rows = np.array([[2.5, 4, 3, 4, 30], [1.25, 2, 2.5, 2, -45]])
    for array, index in ((rows, None), (np.insert(rows, 0, [1, 0], axis=1), [1, 0])):
        np.save(tmp_path / "b.npy", array)
        regions = read_regions(tmp_path / "b.npy", boxes_as="npy-rotated")
        assert regions.boxes.tolist() == BOXES
        assert regions.columns["angle"].tolist() == [30, -45]
        assert (None if regions.image_index is None else regions.image_index.tolist()) == index
        with pytest.raises(RoicliError) as caught:
            read_regions(tmp_path / "b.npy")
        assert "`boxes_as=npy-rotated`" in caught.value.hint
