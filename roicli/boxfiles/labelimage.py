"""Label images: a region is the pixels of one label, and its box the box around them; 0 is the background.

A PNG holds gray values or indices of its palette, or colors as COCO panoptic writes them: R + 256 G + 65536 B. An array
(h, w) of whole numbers is the same. An array (K, h, w) of True and False holds K masks.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from msgspec.json import encode
from numpy.typing import NDArray

from roicli.arrays import read_header, read_into
from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.collector import NO_BOX, Collector
from roicli.boxfiles.registry import Layout
from roicli.errors import BoxError, FileError, RoicliError
from roicli.files import COPY_AGAIN, Stamp, reading
from roicli.regions import BoxFormat, Regions
from roicli.stores.file import stamp_of
from roicli.stores.path import path_of

Labels = NDArray[np.integer[Any]]
# Narrower arrays of whole numbers may be boxes with a score and a class.
_NARROWEST = 8
_MOST_LABELS = 100_000


def is_label_array(file: BoxFile) -> bool:
    """Tell whether an .npy holds labels or masks, not boxes."""
    try:
        stored = read_header(file.rewind(), file.path, str(file.path))
    except RoicliError:
        return False
    return _are_labels(stored.shape, stored.dtype) and min(stored.shape[-2:]) >= _NARROWEST


def _are_labels(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Tell whether an array may be labels (h, w), or masks (K, h, w)."""
    return (len(shape) == 2 and dtype.kind in "iub") or (len(shape) == 3 and (dtype.kind == "b" or dtype == np.uint8))


def read_label(path: str, label: int) -> NDArray[np.bool_]:
    """Read the mask of one label, or one of the masks of an array."""
    labels = read_labels(path_of(path))
    mask: NDArray[np.bool_] = labels == label if labels.ndim == 2 else labels[label] != 0
    return mask


def read_labels(path: Path) -> Labels:
    """Read an image of labels."""
    with reading(str(path)):
        return _cached(str(path), Stamp.of(path))


@lru_cache(maxsize=2)  # the regions of a file come one after the other
def _cached(path: str, _: Stamp) -> Labels:
    with path_of(path).open("rb") as stream:
        return _load(stream, path)


def _load(stream: IO[bytes], name: str) -> Labels:
    if stream.read(6) == b"\x93NUMPY":
        stream.seek(0)
        stored = read_header(stream, path_of(name), name)
        if not _are_labels(stored.shape, stored.dtype):
            raise BoxError(f"{name}: {stored.dtype} {stored.shape} is not an image of labels", "Save whole numbers.")
        stored.check_inside(stamp_of(stream).size)
        values = np.empty(stored.shape, stored.dtype, order="F" if stored.fortran else "C")
        read_into(stream, stored.start, values.T if stored.fortran else values)
        return values.view(np.uint8) if values.dtype == np.bool_ else values
    stream.seek(0)
    from PIL import Image

    try:
        with Image.open(stream, formats=["PNG"]) as picture:
            pixels = np.asarray(picture.convert("RGB") if picture.mode in ("RGB", "RGBA") else picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        fault = str(error).partition(" <")[0]  # Pillow names its stream
        raise FileError(f"{name}: damaged PNG: {fault}", COPY_AGAIN) from error
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        return pixels.astype(np.int32) @ np.array([1, 256, 65536], np.int32)
    if pixels.ndim != 2:
        raise FileError(f"{name}: a PNG of {pixels.shape[2]} channels", "Save labels as gray values or a palette.")
    return pixels.view(np.uint8) if pixels.dtype == np.bool_ else pixels


def _masks(file: BoxFile, rows: Iterable[int]) -> Iterator[tuple[int, bytes, bytes]]:
    """Name the label of each region; `_read` has hashed the image."""
    return ((row, label_mask(file.on_disk, row), b"") for row in rows)


def label_mask(path: Path, label: int) -> bytes:
    """Encode the mask of one label of an image, for `decode_mask`."""
    return encode({"label_image": str(path), "label": label})


def _read(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    if box_format not in (None, BoxFormat.XYXY):
        raise BoxError(f"{file.path}: a label image has no numbers that are {box_format}", "Leave `box_format` out.")
    labels = _load(file.rewind(), str(file.on_disk))
    found = Collector(file, ("box_id",), "label" if labels.ndim == 2 else "mask")
    found.image(file.stem, *labels.shape[-2:])
    if labels.ndim == 3:
        for number, mask in enumerate(labels):
            boxes = boxes_around(mask != 0)[1]
            found.add(file.stem, boxes[-1] if boxes and mask.any() else NO_BOX, None, row=number)
    else:
        for label, box in zip(*boxes_around(labels), strict=True):
            if label:
                found.add(file.stem, box, label, row=label)
    content = zlib.crc32(np.ascontiguousarray(labels).data).to_bytes(4)
    return found.regions("label image, the boxes around labels", BoxFormat.XYXY, None, by_file=True, content=content)


def boxes_around(labels: NDArray[Any]) -> tuple[list[int], list[list[int]]]:
    """Return the labels of an image, ascending, and the box around the pixels of each."""
    height, width = labels.shape
    values, first, where = np.unique(labels, return_index=True, return_inverse=True)
    if len(values) > _MOST_LABELS:
        raise BoxError(f"{len(values):,} labels in an image of {height} x {width}", "Is this a photo, not labels?")
    where = where.reshape(height, width)
    last = np.unique(where[::-1], return_index=True)[1]
    left, right = (np.unique(where.T[::step], return_index=True)[1] for step in (1, -1))
    boxes = [left // height, first // width, width - right // height, height - last // width]
    return values.tolist(), np.stack(boxes, axis=1).tolist()


PNG = Layout(
    "a label image",
    lambda file: True,  # nothing else begins like a PNG
    _read,
    (".png",),
    _masks,
    files="a folder of `.png`",
    holds="label images: an image a file; the boxes around the pixels of each label, 0 being the background",
)
NPY = Layout(
    "an array of labels or masks",
    is_label_array,
    _read,
    masks=_masks,
    files="`.npy`, a folder of `.npy`",
    holds="the same as an array (h, w) of whole numbers; or masks (K, h, w)",
)
