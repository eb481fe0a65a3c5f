"""How tests of box files write them."""

import csv
import io
import json

import numpy as np
from hypothesis import strategies as st

from roicli.regions import BoxFormat

XYXY, XYWH, CXCYWH = BoxFormat
BOX, SAME_AS_XYWH = [1.0, 2.0, 4.0, 6.0], [1.0, 2.0, 3.0, 4.0]
NAN = float("nan")


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def coco(*annotations, images=()):
    return json.dumps({"info": {}, "images": list(images), "annotations": list(annotations), "categories": []})


def ann(image_id, bbox=SAME_AS_XYWH, **more):
    return {"image_id": image_id, "segmentation": [[1, 2, 3]], "iscrowd": 0, "bbox": bbox, **more}


def column(values):
    return None if values is None else list(values)


HEADER = "image_id,x1,y1,x2,y2\n"


numbers = st.floats(allow_nan=False, allow_infinity=False)


def as_csv(boxes, names, delimiter):
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter)
    writer.writerows(
        [["image", "x1", "y1", "x2", "y2"], *([name, *box] for name, box in zip(names, boxes, strict=True))]
    )
    return file.getvalue()


def documents(boxes, names):
    """Return the same boxes in every format that can hold them, as (file name, content, whether images are named)."""
    results = [{"image_id": name, "bbox": box} for name, box in zip(names, boxes, strict=True)]
    return [
        ("b.json", json.dumps(boxes), False),
        ("b.json", json.dumps([[index, *box] for index, box in enumerate(boxes)]), False),
        ("b.json", json.dumps(results), True),
        ("b.json", json.dumps({"images": [], "annotations": results}, indent=1), True),
        ("b.jsonl", "\n".join(json.dumps(result, ensure_ascii=False) for result in results), True),
        *(("b.csv", as_csv(boxes, names, delimiter), True) for delimiter in ",;\t"),
        ("b.npy", npy(np.array(boxes)), False),
        ("b.npy", npy(np.asfortranarray(boxes, ">f8")), False),
    ]
