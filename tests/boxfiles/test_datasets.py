"""Layouts of datasets and of the tools that people draw boxes with, each to its published schema."""

import json

from boxfiles.conformance import LayoutConformance

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
    columns = {"score": [0.5, 0.25], "box_id": [3, 4]}
    content = "0 0.5 0.75 0.5 0.5 0.5 3\n56 0.25 0.25 0.5 0.25 0.25 4\n"


class TestYoloOutlines(TestYolo):
    content = "0 0.25 0.5 0.75 0.75 0.5 1.0\n56 0 0.125 0.5 0.25 0.25 0.375 0.125 0.25\n"


class TestYoloTurned(LayoutConformance):
    name, file_name, images, sizes = "yolo-obb", "P1.txt", ["P1"] * 2, [[100, 200]]
    boxes = [[80.0, 45.0, 120.0, 55.0], [80.0, 45.0, 120.0, 55.0]]
    columns = {"category": [1, 2], "angle": [0, 90]}
    options = {"image_size": (100.0, 200.0)}
    content = "1 0.4 0.45 0.6 0.45 0.6 0.55 0.4 0.55\n2 0.475 0.7 0.475 0.3 0.525 0.3 0.525 0.7\n"


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
