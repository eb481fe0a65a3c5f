"""Layouts that are made when all rows are pooled: until then the rows lie in a hidden file of their own."""

from __future__ import annotations

import base64
import os
import zipfile
from abc import abstractmethod
from collections.abc import Generator, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.arrays import StoredArray
from roicli.errors import OutputError
from roicli.files import natural_key, printable, reading
from roicli.newfiles import ASSEMBLED, NewFile, NewFolder, writing
from roicli.outputs.base import REMEDY, Layout, OutputFormat, Parameters, Record, Stored, encode, not_ours
from roicli.outputs.byimage import ByGroup, vectors
from roicli.outputs.npy import npy_header, rows_alone
from roicli.outputs.npz import member
from roicli.outputs.rowfile import RowFile
from roicli.regions import Column, Names


class Image(NamedTuple):
    """What is written of one image."""

    name: str  # the image id
    height: int  # in pixels
    width: int
    boxes: NDArray[np.float32]  # (n, 4): xyxy in pixels
    features: NDArray[Any]  # (n, D) or (n, C, PH, PW): one row a box


class Assembled(OutputFormat):
    """A layout that is written from rows that lie in another file."""

    assembled, plain = True, False

    def layout(self, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> Layout:
        """See `OutputFormat`: the rows alone; refuse images without size."""
        if record.image_sizes is None or np.isnan(record.image_sizes).any():
            raise OutputError(
                "this layout holds the size of each image, and not all are known", "Give `image_size=FILE`."
            )
        return rows_alone(shape, dtype)

    @abstractmethod
    def assemble(self, target: RowFile, record: Record, name: Path, *, overwrite: bool) -> NewFile:
        """See `OutputFormat`."""

    @abstractmethod
    def images_in(self, path: Path, *, boxes: bool) -> Iterator[Image]:
        """Yield the images of a file, with their boxes or with their features."""

    def read(self, path: Path) -> Stored:
        """See `OutputFormat`; rows come image after image."""
        names, counts, boxes, sizes = [], [], [np.zeros((0, 4), np.float32)], []
        for image in self.images_in(path, boxes=True):
            names.append(image.name)
            counts.append(len(image.boxes))
            boxes.append(image.boxes)
            sizes.append((image.height, image.width))
        first = next((image.features for image in self.images_in(path, boxes=False)), None)
        if first is None:
            raise not_ours(str(path))
        features = StoredArray(path, 0, (sum(counts), *first.shape[1:]), first.dtype)
        columns: dict[str, Column] = {
            "image_ids": Names(np.repeat(np.arange(len(names)), counts), tuple(names)),
            "boxes": np.concatenate(boxes).astype(np.float64),
            "image_sizes": np.repeat(np.array(sizes, np.float32), counts, axis=0),
        }
        return Stored(features, columns, {})

    def raw_blocks(self, path: Path, stored: Stored) -> Generator[NDArray[Any], None, None]:
        """Yield the features, image by image."""
        with reading(printable(str(path)), REMEDY):
            for image in self.images_in(path, boxes=False):
                if image.features.shape[1:] != stored.features.shape[1:]:
                    raise not_ours(f"{path}, image {image.name}")
                yield image.features

    def parameters(self, path: Path) -> Parameters:
        """Return nothing: the layout has no place for them."""
        return {}


def images(target: RowFile, record: Record) -> Iterator[Image]:
    """Yield what is written of each image, in the order in which images come first."""
    rows = ByGroup.of(record.image_ids)
    sizes = record.image_sizes
    assert sizes is not None
    for image, mine in zip(rows.groups.tolist(), np.split(rows.order, rows.starts[1:]), strict=True):
        if len(mine):
            height, width = np.rint(sizes[mine[0]]).astype(int).tolist()
            block = target.read(mine).reshape(vectors((len(mine), *target.row_shape)))
            boxes = record.boxes[mine].astype(np.float32)
            yield Image(encode(record.image_ids.names[image]).decode(), height, width, boxes, block)


class ButdTsv(Assembled):
    """Lines of base64, as peteanderson80/bottom-up-attention, tools/generate_tsv.py, writes them."""

    suffixes = (".tsv",)
    holds = "`image_id`, `image_w`, `image_h`, `num_boxes`, and `boxes`, `features` in base64; no header"

    def assemble(self, target: RowFile, record: Record, name: Path, *, overwrite: bool) -> NewFile:
        """See `OutputFormat`."""

        def lines() -> Iterator[bytes]:
            for image in images(target, record):
                if any(character in image.name for character in "\t\r\n"):
                    raise OutputError(f"a TSV cannot hold the image id {image.name!r}", "Rename it in the box file.")
                begin = f"{image.name}\t{image.width}\t{image.height}\t{len(image.boxes)}\t".encode()
                features = base64.b64encode(image.features.astype(np.float32).tobytes())
                yield begin + base64.b64encode(image.boxes.tobytes()) + b"\t" + features + b"\n"

        made = NewFile(name, overwrite=overwrite, ending=ASSEMBLED)
        made.write(lines())
        return made

    def images_in(self, path: Path, *, boxes: bool) -> Iterator[Image]:
        """See `Assembled`."""
        with path.open("rb") as file:
            for line in file:
                name, width, height, number, *arrays = line.rstrip(b"\n").split(b"\t")
                many = int(number)
                decoded = np.frombuffer(base64.b64decode(arrays[not boxes], validate=True), "<f4").reshape(many, -1)
                none = np.zeros((0, 4), np.float32)
                of = (decoded, none) if boxes else (none, decoded)
                yield Image(name.decode(), int(height), int(width), *of)


class ImageNpz(Assembled):
    """A folder of one file an image, as airsplay/py-bottom-up-attention and the loaders of VQA-Maskrcnn write them."""

    suffixes = ("",)
    folder = True
    holds = "`<image id>.npz` an image: `x` (n, D), `bbox` (n, 4), `num_bbox`, `image_h`, `image_w`"

    def assemble(self, target: RowFile, record: Record, name: Path, *, overwrite: bool) -> NewFile:
        """See `OutputFormat`; all files are flushed before the folder gets its name."""
        made = NewFolder(name, overwrite=overwrite, ending=ASSEMBLED)
        with writing(name):
            made.remove()
            made.path.mkdir()
            for image in images(target, record):
                path = made.path / self._name(image.name)
                path.parent.mkdir(parents=True, exist_ok=True)
                arrays: dict[str, NDArray[Any]] = {
                    "x": image.features,
                    "bbox": image.boxes,
                    "num_bbox": np.array(len(image.boxes)),
                    "image_h": np.array(image.height),
                    "image_w": np.array(image.width),
                }
                with zipfile.ZipFile(path, "x") as archive:
                    for key, array in arrays.items():
                        with archive.open(member(key), "w") as stream:
                            stream.write(npy_header(array.shape, array.dtype))
                            stream.write(array.tobytes())
            os.sync()
        return made

    def images_in(self, path: Path, *, boxes: bool) -> Iterator[Image]:
        """See `Assembled`; files come in natural order."""
        for file in sorted(path.rglob("*.npz"), key=lambda file: natural_key(str(file))):
            with np.load(file, allow_pickle=False) as arrays:
                none = np.zeros((0, 4), np.float32)
                of = (arrays["bbox"], none) if boxes else (none, arrays["x"])
                name = str(file.relative_to(path).with_suffix(""))
                yield Image(name, int(arrays["image_h"]), int(arrays["image_w"]), *of)

    def _name(self, image_id: str) -> str:
        """Return the name of an image's file, within the folder."""
        inside = PurePosixPath(image_id)
        if inside.is_absolute() or ".." in inside.parts or not inside.name or "\0" in image_id:
            raise OutputError(f"no file can be named by the image id {image_id!r}", "Rename it in the box file.")
        return f"{image_id}.npz"
