"""Regions of images: what every box file becomes, and the formats that four numbers may come in.

Inside roicli a box is always xyxy in image pixels: (x1, y1) the upper left and (x2, y2) the lower right corner, x
before y. Nothing here reads files; `boxfiles` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from roicli.files import Stamp
from roicli.protocols import Masks
from roicli.words import count, listing


class BoxFormat(StrEnum):
    """What the four numbers of a box mean."""

    XYXY = "xyxy"
    XYWH = "xywh"
    CXCYWH = "cxcywh"


MaskFill = Literal["coco", "pil"]
AngleUnit = Literal["deg-ccw", "deg-cw", "rad-ccw", "rad-cw"]
"""How outlines become masks: as pycocotools draws them, or as Pillow does."""


def to_xyxy(boxes: NDArray[np.float64], box_format: BoxFormat) -> NDArray[np.float64]:
    """Return the corners of boxes given in any `BoxFormat`.

    Parameters
    ----------
    boxes : (K, 4) float64
        In the units of the caller (image pixels, or 0..1).
    box_format : BoxFormat
        What the columns of `boxes` mean.

    Returns
    -------
    (K, 4) float64
        x1, y1, x2, y2; the sums are made in float64, before any rounding to the dtype of the features.

    Examples
    --------
    >>> to_xyxy(np.array([[10.0, 20.0, 30.0, 40.0]]), BoxFormat.XYWH).tolist()
    [[10.0, 20.0, 40.0, 60.0]]
    >>> to_xyxy(np.array([[10.0, 20.0, 4.0, 8.0]]), BoxFormat.CXCYWH).tolist()
    [[8.0, 16.0, 12.0, 24.0]]
    """
    if box_format is BoxFormat.XYXY:
        return boxes
    position, size = boxes[:, :2], boxes[:, 2:]
    start = position if box_format is BoxFormat.XYWH else position - size / 2
    return np.concatenate([start, start + size], axis=1)


def from_xyxy(boxes: NDArray[np.float64], box_format: BoxFormat) -> NDArray[np.float64]:
    """Undo `to_xyxy`, to what rounding allows.

    Examples
    --------
    >>> from_xyxy(np.array([[8.0, 16.0, 12.0, 24.0]]), BoxFormat.CXCYWH).tolist()
    [[10.0, 20.0, 4.0, 8.0]]
    """
    if box_format is BoxFormat.XYXY:
        return boxes
    start, size = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    return np.concatenate([start if box_format is BoxFormat.XYWH else start + size / 2, size], axis=1)


class Names:
    """A column of text: an index into distinct names.

    A long name takes its length once, however many rows there are. An array of fixed-width strings would take the
    longest name times the rows.

    Parameters
    ----------
    index : (K,) int64
        The name of each row.
    names : sequence of str
        The distinct names.

    Examples
    --------
    >>> column = Names(np.array([1, 0, 1]), ("a", "b"))
    >>> column.tolist(), column[np.array([0, 2])].tolist(), len(column)
    (['b', 'a', 'b'], ['b', 'b'], 3)
    """

    def __init__(self, index: NDArray[np.integer], names: Sequence[str]) -> None:
        self.index = index
        self.names = names

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: slice | NDArray[Any]) -> Names:
        return Names(self.index[rows], self.names)

    def tolist(self) -> list[str]:
        """Return the name of each row."""
        return [self.names[number] for number in self.index.tolist()]

    def tobytes(self) -> bytes:
        """Return bytes that differ if any name does, for checksums."""
        return b"\0".join(name.encode("utf-8", "surrogatepass") for name in self.tolist())


Column = NDArray[Any] | Names
"""One value a region: numbers, or text."""


@dataclass(frozen=True, kw_only=True)
class Regions:
    """The regions of one file, in the order of the file; row i of the output is region i.

    Attributes
    ----------
    boxes : (K, 4) float64
        xyxy, in image pixels (or in 0..1 of the image, if the user says so).
    given : (K, 4) float64
        The four numbers as the file has them.
    box_format : BoxFormat
        What the numbers of `given` mean.
    rows : (K,) int64
        Where each region stands in its file, as a message says it: see `row_word`. -1 for one that is made of others.
    source : str
        Name of the file, for messages.
    row_word : str
        What `rows` counts: "line" (from 1) for CSV and JSON Lines, "box" (from 0) for lists and arrays,
        "annotation" (from 0) for COCO.
    image_index : (K,) int64 or None
        The image of each region: an index into `image_ids`. If `image_ids` is None it is the batch index, the
        position of the map in the feature source. None if the file does not name images. An absent box may be of no
        image, -1.
    image_ids : tuple of str, or None
        The distinct image ids of the file, in order of first appearance.
    aliases : tuple of str, or None
        A second name for each of `image_ids`: the file name that a COCO dataset gives its image.
    image_sizes : (len(image_ids), 2) float64, or None
        Height and width of each image in pixels, NaN where the file does not say.
    listed : tuple of str, or None
        The ids of all images that a COCO dataset lists, with boxes or without, in its order.
    columns : mapping of str to (K,) column
        What else the file says of each region: "box_id", "score", "label", "category"; and "file", if several files
        were read. "angle" is in degrees, counter-clockwise as the image is seen: the region is its box turned by so
        much about its center, and `boxes` is the box before it is turned. A file in another convention is converted
        by its reader.
    category_names : mapping of str to str
        Names of the values of the column "category".
    normalized : bool
        The boxes are in 0..1 of the image, by the specification of the layout.
    by_file : bool
        The image ids are names of box files, one an image.
    origin : (K,) int64, optional
        Which box of the file each region is, from 0, if they are not all of them; -1 for one that is made.
    outlined : bool
        The file holds masks, be they read or not.
    masks : Masks, optional
        The mask of each region, if they were asked for.
    layout, boxes_as : str
        The layout that was recognized, in words: "COCO dataset"; and as `boxes_as` takes it.
    notes : tuple of str
        One sentence for everything that was assumed rather than read.
    stamps : mapping of str to Stamp
        The files that were read, and their state before that. A pipe has none.
    content : bytes
        A hash of all numbers of the file, where its reader has made one.
    """

    boxes: NDArray[np.float64]
    given: NDArray[np.float64]
    rows: NDArray[np.int64]
    source: str
    row_word: str = "box"
    box_format: BoxFormat = BoxFormat.XYXY
    image_index: NDArray[np.int64] | None = None
    image_ids: tuple[str, ...] | None = None
    aliases: tuple[str, ...] | None = None
    image_sizes: NDArray[np.float64] | None = None
    listed: tuple[str, ...] | None = None
    columns: Mapping[str, Column] = field(default_factory=dict)
    category_names: Mapping[str, str] = field(default_factory=dict)
    normalized: bool = False
    by_file: bool = False
    origin: NDArray[np.int64] | None = None
    outlined: bool = False
    masks: Masks | None = None
    layout: str = ""
    boxes_as: str = ""
    notes: tuple[str, ...] = ()
    stamps: Mapping[str, Stamp] = field(default_factory=dict)
    content: bytes = b""

    def __post_init__(self) -> None:
        columns = {"rows": self.rows, "image_index": self.image_index, "origin": self.origin, **self.columns}
        for name, column in columns.items():
            if column is not None and len(column) != len(self.boxes):
                raise ValueError(f"{name} has {len(column)} values for {len(self.boxes)} boxes")
        if not self.boxes.shape == self.given.shape == (len(self.boxes), 4):
            raise ValueError(f"boxes and given must be (K, 4), got {self.boxes.shape} and {self.given.shape}")

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def box_ids(self) -> Column | None:
        """The file's own id of each region, such as a COCO annotation id."""
        return self.columns.get("box_id")

    @property
    def absent(self) -> NDArray[np.bool_]:
        """Which regions have no box in the file: null, an empty list, empty cells, four times NaN."""
        absent: NDArray[np.bool_] = np.logical_and.reduce(np.isnan(self.given), axis=1)
        return absent

    def take(self, index: NDArray[np.intp]) -> Regions:
        """Return the regions at `index`, in that order; the image ids stay as they are."""
        boxes = self.boxes[index]
        return replace(
            self,
            boxes=boxes,
            given=boxes if self.given is self.boxes else self.given[index],
            rows=self.rows[index],
            image_index=None if self.image_index is None else self.image_index[index],
            columns={name: column[index] for name, column in self.columns.items()},
            origin=None if self.origin is None else self.origin[index],
            masks=None if self.masks is None else self.masks.take(index),
        )

    @property
    def places(self) -> NDArray[np.int64]:
        """Which box of the file each region is, from 0; -1 for one that is made."""
        return np.arange(len(self)) if self.origin is None else self.origin

    def where(self, index: NDArray[np.intp], limit: int = 5) -> str:
        """Return the rows at `index` in words, the first `limit` of them: ``"lines 2, 7 and 9 more"``."""
        if len(index) and self.rows[index].max() < 0:
            return f"{count(len(index), 'box')} made of others"
        files = self.columns.get("file")
        if isinstance(files, Names) and len(index):
            more = f" and {len(index) - 1:,} more" if len(index) > 1 else ""
            return f"{self.row_word} {self.rows[index[0]]} of {files.names[files.index[index[0]]]}{more}"
        plural = "" if len(index) == 1 else "es" if self.row_word.endswith("x") else "s"
        shown = listing(self.rows[index[:limit]].tolist())
        more = f" and {len(index) - limit:,} more" if len(index) > limit else ""
        return f"{self.row_word}{plural} {shown}{more}"


def batch_index_may_be_last(regions: Regions) -> bool:
    """Tell whether the first four of five numbers form boxes: the last is an index, a score or a label then."""
    if regions.image_ids is not None or regions.image_index is None or not len(regions):
        return False
    x2, y2 = regions.given[:, 1], regions.given[:, 2]
    return bool((x2 > regions.image_index).all() and (y2 > regions.given[:, 0]).all())


def find_bad_boxes(boxes: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find boxes that nobody means.

    Parameters
    ----------
    boxes : (K, 4) float64
        xyxy.

    Returns
    -------
    unusable : (n,) intp
        Rows with a number that is NaN, infinite or beyond 1e9: no grid of samples can be laid over them.
    inverted : (m,) intp
        Other rows with x2 < x1 or y2 < y1. Boxes of no extent are not among them.

    Examples
    --------
    >>> unusable, inverted = find_bad_boxes(np.array([[0, 0, 1, np.nan], [0, 0, 0, 0], [5, 0, 1, 1]]))
    >>> unusable.tolist(), inverted.tolist()
    ([0], [2])
    """
    usable = np.ones(len(boxes), np.bool_)
    for column in boxes.T:  # a copy of all would take another 32 bytes a box
        usable &= np.abs(column) <= 1e9
    inverted = (boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1])
    return np.flatnonzero(~usable), np.flatnonzero(usable & inverted)
