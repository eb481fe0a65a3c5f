"""Boxes: the table that every box file becomes, and the formats its four numbers may come in.

A box is four numbers in image pixels. Inside roicli it is always xyxy: (x1, y1) the upper left and (x2, y2) the lower
right corner, x first. Nothing here reads files; see `boxfiles`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class BoxFormat(StrEnum):
    """What the four numbers of a box mean."""

    XYXY = "xyxy"
    XYWH = "xywh"
    CXCYWH = "cxcywh"


def to_xyxy(boxes: NDArray[np.float64], box_format: BoxFormat) -> NDArray[np.float64]:
    """Corners of boxes given in any `BoxFormat`.

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


@dataclass(frozen=True)
class BoxTable:
    """The boxes of one file, in the order of the file; row i of the output is box i of this table.

    Attributes
    ----------
    boxes : (K, 4) float64
        xyxy, in image pixels (or 0..1 of the image, if the user says `--normalized`).
    image_index : (K,) int64 or None
        Which image each box belongs to: an index into `image_ids`, or, where `image_ids` is None, the batch index,
        that is the position of the map in the feature source. None if the file names no image at all.
    image_ids : tuple of str, or None
        The distinct image ids of the file, in order of first appearance.
    aliases : tuple of str, or None
        A second name for each of `image_ids`: the file name that a COCO dataset gives its image.
    rows : (K,) int64
        Where each box stands in its file, as an error message should say it: see `row_word`.
    row_word : str
        What `rows` counts: "line" (from 1) for CSV and JSON Lines, "box" (from 0) for lists and arrays,
        "annotation" (from 0) for COCO.
    box_ids : (K,) int64 or str, or None
        The file's own id of each box (COCO annotation ids).
    source : str
        Name of the file, for messages.
    box_format : BoxFormat
        What the four numbers of the file were taken as.
    """

    boxes: NDArray[np.float64]
    image_index: NDArray[np.int64] | None
    image_ids: tuple[str, ...] | None
    rows: NDArray[np.int64]
    source: str
    row_word: str = "box"
    aliases: tuple[str, ...] | None = None
    box_ids: NDArray[np.generic] | None = None
    box_format: BoxFormat = BoxFormat.XYXY

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, index: NDArray[np.intp]) -> BoxTable:
        """Return the table of the boxes at `index`, in that order; the image ids stay as they are."""
        return replace(
            self,
            boxes=self.boxes[index],
            image_index=None if self.image_index is None else self.image_index[index],
            rows=self.rows[index],
            box_ids=None if self.box_ids is None else self.box_ids[index],
        )

    def where(self, index: NDArray[np.intp], limit: int = 5) -> str:
        """Return the rows at `index` in words for a message, the first `limit` of them: ``"lines 2, 7 and 9 more"``."""
        shown = ", ".join(str(row) for row in self.rows[index[:limit]])
        more = f" and {len(index) - limit} more" if len(index) > limit else ""
        plural = "" if len(index) == 1 else "es" if self.row_word.endswith("x") else "s"
        return f"{self.row_word}{plural} {shown}{more}"


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
    usable = (np.abs(boxes) <= 1e9).all(axis=1)
    inverted = (boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1])
    return np.flatnonzero(~usable), np.flatnonzero(usable & inverted)
