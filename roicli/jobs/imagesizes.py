"""Sizes of the original images: from the box file, or from what `image_size` names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from roicli.errors import FileError, UsageError
from roicli.files import Stamp
from roicli.jobs.imageids import match_images
from roicli.regions import Regions
from roicli.stores.path import path_of

if TYPE_CHECKING:
    from roicli.boxfiles.imagetable import ImageTable

ImageSize = str | os.PathLike[str] | int | tuple[int, int]
"""A file, or one size for all images: height and width."""

WHERE_SIZES = (
    "Give `image_size=FILE`: a COCO JSON, Visual Genome's image_data.json, or a CSV with image_id, height, width; or "
    "one size for all, `image_size=480x640`."
)


def one_size(image_size: ImageSize) -> tuple[float, float] | None:
    """Return height and width if `image_size` is one size; None if it names a file.

    Examples
    --------
    >>> one_size("480x640"), one_size((480, 640)), one_size("sizes.csv")
    ((480.0, 640.0), (480.0, 640.0), None)
    """
    if isinstance(image_size, int):
        image_size = (image_size, image_size)
    if isinstance(image_size, tuple):
        height, width = image_size
    else:
        found = re.fullmatch(r"(\d{1,6})(?:x(\d{1,6}))?", os.fspath(image_size).strip())
        if found is None:
            return None
        height, width = int(found[1]), int(found[2] or found[1])
    if not (height > 0 and width > 0):
        raise UsageError(
            f"image size {height} x {width} is not positive", "Give height and width: `image_size=480x640`."
        )
    return float(height), float(width)


def file_or_size(image_size: ImageSize | None) -> Path | tuple[float, float] | None:
    """Return what `image_size` names: a file, or height and width."""
    if image_size is None:
        return None
    return one_size(image_size) or path_of(image_size)  # type: ignore[arg-type]


def stamps_of(*paths: str | os.PathLike[str]) -> dict[str, Stamp]:
    """Return the state of files that the user names; FileError if one is not there."""
    try:
        return {os.fspath(path): Stamp.of(path_of(path)) for path in paths}
    except OSError as error:
        raise FileError(f"{error.filename}: {error.strerror}", "Check the name and its permissions.") from error


class Images:
    """The images that have boxes: how files name them.

    `names`: their ids in the box file, or those of their maps.
    `aliases`: their file names.
    `source`: the box file.
    """

    def __init__(self, names: Sequence[str], aliases: Sequence[str] | None, source: str) -> None:
        self.names, self.aliases, self.source = names, aliases, source

    def __len__(self) -> int:
        return len(self.names)

    def find(self, table: ImageTable) -> NDArray[np.intp]:
        """Return the line of a table for each image, -1 where there is none."""
        find = partial(match_images, boxes=self.source, features=table.source, all_images=False)
        found = find(self.names, self.aliases, table.ids)
        if table.file_names is not None and (found < 0).any():
            missing = np.flatnonzero(found < 0)
            some, others = (
                [names[index] for index in missing.tolist()] if names else None for names in (self.names, self.aliases)
            )
            found[missing] = find(some or (), others, table.file_names)
        return found


def original_sizes(
    images: Images, listed: NDArray[np.float64] | None, image_size: ImageSize | None, note: Callable[[str], None]
) -> NDArray[np.float64]:
    """Return height and width of each image, (n, 2), NaN where nothing says them.

    `listed` (n, 2): what the box file says; `image_size` counts for more.
    """
    sizes = np.full((len(images), 2), np.nan) if listed is None else listed.copy()
    if image_size is None:
        return sizes
    if (same := one_size(image_size)) is not None:
        sizes[:] = same
        return sizes
    from roicli.boxfiles.imagetable import read_image_table  # with msgspec and csv, which few jobs need

    table = read_image_table(path_of(image_size))  # type: ignore[arg-type]
    for text in table.notes:
        note(text)
    known = table.sizes()
    if known is None:
        raise UsageError(f"{table.source}: no height and width", "Give the columns image_id, height, width.")
    line = images.find(table)
    sizes[line >= 0] = known[line[line >= 0]]
    return sizes


def sizes_listed(table: Regions, number: NDArray[np.intp]) -> NDArray[np.float64] | None:
    """Return what a box file says of the sizes of its images `number`; None if its numbers are those of boxes.

    A CSV may have the width and the height of each box beside its corners.
    """
    if table.image_sizes is None or not len(number):
        return None
    sizes: NDArray[np.float64] = table.image_sizes[number]
    if table.layout.startswith("CSV") and _are_of_boxes(table, number, sizes):
        return None
    return np.where((sizes > 0).all(axis=1, keepdims=True), sizes, np.nan)


def _are_of_boxes(table: Regions, number: NDArray[np.intp], sizes: NDArray[np.float64]) -> bool:
    assert table.image_sizes is not None
    assert table.image_index is not None
    first = np.full(len(table.image_sizes), -1)
    first[table.image_index[::-1]] = np.arange(len(table))[::-1]
    boxes = table.boxes[first[number]]
    return bool((np.abs(boxes[:, [3, 2]] - boxes[:, [1, 0]] - sizes) <= 1).all())
