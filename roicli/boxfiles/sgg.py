"""VG-SGG (scene graph generation): an HDF5 file with the boxes of all images, after the order of image_data.json.

Boxes are center and size, of the image scaled until its longer side is 1024 (or 512) pixels; they are brought back to
pixels of the image. Four damaged images of image_data.json have no boxes, as the scripts of this layout know.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.builder import Builder
from roicli.boxfiles.hdf5tables import read_table, shapes_of
from roicli.boxfiles.imagetable import read_image_table
from roicli.boxfiles.registry import Layout
from roicli.errors import BoxError
from roicli.files import Stamp
from roicli.regions import BoxFormat, Regions
from roicli.words import count

_FIRST, _LAST = "img_to_first_box", "img_to_last_box"
_DAMAGED = {"1592", "1722", "4616", "4617"}
_HINT = "Give Visual Genome's image_data.json: `image_size=image_data.json`."


def _recognizes(file: BoxFile) -> bool:
    shapes = shapes_of(file)
    return {_FIRST, _LAST} <= {*shapes} and bool({"boxes_1024", "boxes_512"} & {*shapes})


def _read(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    shapes = shapes_of(file)
    name, side = ("boxes_1024", 1024) if "boxes_1024" in shapes else ("boxes_512", 512)
    for needed in (name, _FIRST, _LAST):
        if needed not in shapes:
            raise BoxError(f"{file.path}: no dataset {needed!r}", "Name a file of VG-SGG.")
    boxes = read_table(file, name, shapes[name]).astype(np.float64)
    first, last = (read_table(file, which, shapes[which]).astype(np.int64).reshape(-1) for which in (_FIRST, _LAST))
    if boxes.ndim != 2 or boxes.shape[1] != 4 or len(first) != len(last) or max(last, default=-1) >= len(boxes):
        raise BoxError(f"{file.path}: {name}, {_FIRST} and {_LAST} do not fit together", "Download the file again.")
    ids, sizes = _images(file, len(first))
    image = np.full(len(boxes), -1, np.int64)
    for number in np.flatnonzero(first >= 0).tolist():
        image[first[number] : last[number] + 1] = number
    rows = np.flatnonzero(image >= 0)  # boxes of no image are not regions
    image = image[rows]
    given = boxes[rows]
    scale = sizes.max(axis=1)[image, None] / side
    builder = Builder(file.path, "box")
    labels = read_table(file, "labels", shapes["labels"]).reshape(-1) if "labels" in shapes else np.zeros(0)
    kept = {"category": labels[rows].tolist()} if len(labels) == len(boxes) else {}
    builder.extend(rows.tolist(), given * scale, [ids[number] for number in image.tolist()], **kept)
    note = f"{file.path}: VG-SGG, {name} read as {box_format or BoxFormat.CXCYWH} of images {side} pixels long"
    return builder.build(
        box_format or BoxFormat.CXCYWH,
        sizes=dict(zip(ids, map(tuple, sizes.tolist()), strict=True)),
        listed=tuple(ids),
        layout="VG-SGG",
        notes=(note,),
    )


def _images(file: BoxFile, number: int) -> tuple[list[str], NDArray[np.float64]]:
    """Return ids and sizes of the images, in the order of the file."""
    path = file.image_size if isinstance(file.image_size, Path) else file.path.with_name("image_data.json")
    if not path.is_file():
        raise BoxError(f"{file.path}: ids and sizes of its {count(number, 'image')} are not in the file", _HINT)
    file.beside[str(path)] = Stamp.of(path)
    table = read_image_table(path)
    sizes = table.sizes()
    if sizes is None or np.isnan(sizes).any():
        raise BoxError(f"{path}: height and width of images are missing", _HINT)
    ids = [*table.ids]
    if len(ids) > number:
        kept = [place for place, name in enumerate(ids) if name not in _DAMAGED]
        ids, sizes = [ids[place] for place in kept], sizes[kept]
    if len(ids) != number:
        raise BoxError(f"{path} lists {count(len(ids), 'image')}, {file.path} has {number:,}", _HINT)
    return ids, sizes


LAYOUT = Layout(
    "a VG-SGG file",
    _recognizes,
    _read,
    files="`VG-SGG.h5`",
    holds="VG-SGG: `boxes_1024`, `img_to_first_box`; needs `image_data.json` beside it, or as sizes of images",
)
