"""HDF5 with datasets an image: the boxes of an earlier extraction, xyxy in pixels, beside its features.

Meshed-Memory Transformers have `{image id}_boxes` at the root, VL-T5 a group an image with `boxes`, `img_h`, `img_w`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from roicli import child
from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.collector import Collector
from roicli.boxfiles.hdf5tables import holds_numbers
from roicli.boxfiles.registry import Layout
from roicli.child import Answer
from roicli.errors import BoxError
from roicli.regions import BoxFormat, Regions

# What the name of a dataset ends in, behind the image id.
_AT_ROOT, _IN_GROUP = "_boxes", "/boxes"
_SIDES = ("img_h", "img_w")
# So many objects of a file are looked at to tell whether it is one of these.
_LOOKED_AT = 1000


def _is(ending: str, file: BoxFile) -> bool:
    return bool(child.ask(f"{__name__}:look", file.on_disk, ending).value)


def _read(ending: str, file: BoxFile, box_format: BoxFormat | None) -> Regions:
    answer = child.ask(f"{__name__}:gather", file.on_disk, ending, memory=2 * file.size)
    found, boxes = Collector(file), answer.data
    if boxes is None or not answer.value:
        raise BoxError(f"{file.path}: no dataset *{ending} of (n, 4) numbers", "Check that this is the file.")
    place = 0
    for image, number, height, width in answer.value:
        found.image(image, height, width)
        for box in boxes[place : place + number].tolist():
            found.add(image, box)
        place += number
    return found.regions("boxes in HDF5 an image", BoxFormat.XYXY, box_format)


def look(path: str, ending: str) -> Answer:
    """Tell whether one of the first datasets holds boxes; in the child."""
    import h5py

    left = iter(range(_LOOKED_AT))

    def found(name: str, item: Any) -> bool | None:
        if name.endswith(ending) and _is_boxes(item):
            return True
        return None if next(left, None) is not None else False

    with h5py.File(path, "r") as file:
        return Answer(bool(file.visititems(found)))


def gather(path: str, ending: str) -> Answer:
    """Read the boxes of all images, and the sizes of those that tell; in the child."""
    import h5py

    images, boxes = [], [np.zeros((0, 4))]
    with h5py.File(path, "r") as file:
        names: list[str] = []
        file.visit(names.append)  # follows no link, be it to another file
        inside = {*names}
        for name in names:
            if name.endswith(ending) and _is_boxes(file[name]):
                boxes.append(file[name][()].astype(np.float64))
                image = name.removesuffix(ending)
                sides = [f"{image}/{side}" for side in _SIDES if ending == _IN_GROUP]
                size = [float(file[side][()]) for side in sides if side in inside]
                images.append((image, len(boxes[-1]), *(size if len(size) == 2 else (None, None))))
    return Answer(images, np.concatenate(boxes))


def _is_boxes(item: Any) -> bool:
    return holds_numbers(item) and len(item.shape) == 2 and item.shape[1] == 4


M2 = Layout(
    "an HDF5 file with boxes for each image",
    partial(_is, _AT_ROOT),
    partial(_read, _AT_ROOT),
    files="`coco_detections.hdf5`",
    holds="Meshed-Memory Transformers: `<image id>_boxes` (xyxy) for each image",
)
VLT5 = Layout(
    "an HDF5 file with a group for each image",
    partial(_is, _IN_GROUP),
    partial(_read, _IN_GROUP),
    files="`train2014_obj36.h5`",
    holds="VL-T5: a group an image, with `boxes` (xyxy), `img_h`, `img_w`",
)
