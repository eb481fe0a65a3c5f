"""What tests of commands share."""

import json

import h5py
import numpy as np
import pytest


@pytest.fixture
def many(tmp_path):
    """Five images of different sizes in one HDF5 file, and their boxes out of order in a COCO file."""
    rng = np.random.default_rng(11)
    annotations, maps = [], {}
    with h5py.File(tmp_path / "feats.h5", "w") as file:
        for n in range(5):
            maps[str(7 + n)] = rng.standard_normal((6, 9 + n, 17 - n)).astype(np.float32)
            file[f"maps/{7 + n:04d}"] = maps[str(7 + n)]
    for n in range(40):
        x, y, w, h = rng.uniform(0, 150, 4).round(2).tolist()
        annotations.append({"id": 1000 - n, "image_id": int(rng.integers(7, 12)), "bbox": [x, y, w, h], "iscrowd": 0})
    images = [{"id": 7 + n, "file_name": f"{7 + n:04d}.jpg"} for n in range(5)]
    (tmp_path / "boxes.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    boxes = np.array([a["bbox"] for a in annotations])
    boxes[:, 2:] += boxes[:, :2]
    return tmp_path, maps, [str(a["image_id"]) for a in annotations], boxes
