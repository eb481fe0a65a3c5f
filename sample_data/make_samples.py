"""Make the files of this folder anew: `python make_samples.py`. They are small, and the same on every machine.

tutorial.npy, tutorial.json   the 7 x 7 map and the RoI of a well-known walk through torchvision's RoIAlign,
                              https://towardsdatascience.com/roialign-explained-d30f6843da3a
feats.h5                      features of three images, one dataset (8, H, W) each, at stride 16
boxes.json                    the objects of these images, a COCO dataset
masks.json                    three of these objects as ellipses, a COCO dataset with run lengths
tokens.npz, tokens.json       a class token, 4 registers and 12 x 12 patches of 14 pixels, and two boxes

The features are made up: no network and no image was used. Ids, sizes and boxes follow COCO val2017,
https://cocodataset.org, whose annotations are under CC BY 4.0; all else is under roicli's licence.
"""

import json
from pathlib import Path

import h5py
import numpy as np

HERE = Path(__file__).parent
STRIDE = 16
CHANNELS = 8
# COCO's way: an id, a size in pixels (height, width), and boxes x, y, w, h.
IMAGES = {
    139: ((426, 640), [[236.98, 142.51, 24.7, 69.5], [7.03, 167.76, 149.32, 94.87], [557.21, 209.19, 81.35, 78.73]]),
    285: ((640, 586), [[0.0, 45.95, 586.0, 594.05]]),
    632: ((483, 640), [[0.0, 269.12, 375.7, 213.46], [526.53, 321.6, 85.2, 120.13], [307.4, 12.2, 48.9, 70.04]]),
}


def tutorial() -> None:
    """Write the map and the RoI of the walk-through."""
    feature_map = np.zeros((1, 7, 7), np.float32)
    feature_map[0, 0] = [0.5663671, 0.2577112, 0.20066682, 0.0127351, 0.07388048, 0.38410962, 0.2822853]
    feature_map[0, 1, [0, -1]] = 0.3358975, 0.07561569
    feature_map[0, 2, [0, -1]] = 0.23596162, 0.04612046
    feature_map[0, 5, 5], feature_map[0, 6, 5] = 0.18630868, 0.00289604
    np.save(HERE / "tutorial.npy", feature_map)
    box = [2.2821481227874756, 0.3001725673675537, 4.599632263183594, 5.58889102935791]
    (HERE / "tutorial.json").write_text(json.dumps([box]) + "\n")


def feature_map(size: tuple[int, int], boxes: list[list[float]], rng: np.random.Generator) -> np.ndarray:
    """Make a map that answers where the objects are, each channel to another direction across them."""
    height, width = -(-size[0] // STRIDE), -(-size[1] // STRIDE)
    y, x = (np.mgrid[:height, :width] + 0.5) * STRIDE
    maps = 0.05 * rng.standard_normal((CHANNELS, height, width))
    for left, top, box_width, box_height in boxes:
        across, down = (x - left - box_width / 2) / box_width, (y - top - box_height / 2) / box_height
        for channel in range(CHANNELS):
            angle = np.pi * channel / CHANNELS
            wave = np.cos(2 * np.pi * (across * np.cos(angle) + down * np.sin(angle)))
            maps[channel] += wave * np.exp(-4 * (across**2 + down**2))
    return np.maximum(maps, 0).astype(np.float32)


def tokens() -> None:
    """Write the tokens of an image of 168 x 168 pixels, as DINOv2 with registers returns them."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:12, :12].reshape(2, -1, 1)
    angle = np.pi * np.arange(CHANNELS) / CHANNELS
    patches = np.cos((x * np.cos(angle) + y * np.sin(angle)) / 2)
    prefix = 3 * rng.standard_normal((5, CHANNELS))
    np.savez(HERE / "tokens.npz", tokens=np.concatenate([prefix, patches]).astype(np.float16))
    (HERE / "tokens.json").write_text("[[14, 28, 98, 84], [70, 56, 154, 161]]\n")


def coco() -> None:
    """Write the maps and the boxes of three images."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    with h5py.File(HERE / "feats.h5", "w") as file:
        for image_id, (size, boxes) in IMAGES.items():
            file[f"{image_id:012d}"] = feature_map(size, boxes, rng)
            name = f"{image_id:012d}.jpg"
            images.append({"id": image_id, "file_name": name, "height": size[0], "width": size[1]})
            for box in boxes:
                annotations.append({"id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "bbox": box})
    dataset = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}
    (HERE / "boxes.json").write_text(json.dumps(dataset, indent=1) + "\n")
    masked = [dict(annotations[row], segmentation=ellipse(annotations[row], images)) for row in (0, 5, 6)]
    (HERE / "masks.json").write_text(json.dumps(dataset | {"annotations": masked}) + "\n")


def ellipse(annotation: dict, images: list[dict]) -> dict:
    """Return the ellipse within a box as run lengths, column by column."""
    height, width = next((one["height"], one["width"]) for one in images if one["id"] == annotation["image_id"])
    left, top, across, down = annotation["bbox"]
    y, x = np.mgrid[:height, :width] + 0.5
    inside = ((x - left) / across - 0.5) ** 2 + ((y - top) / down - 0.5) ** 2 <= 0.25
    edges = np.flatnonzero(np.diff(inside.ravel(order="F"), prepend=False))
    return {"size": [height, width], "counts": np.diff(edges, prepend=0, append=height * width).tolist()}


if __name__ == "__main__":
    tutorial()
    tokens()
    coco()
