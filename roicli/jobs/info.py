"""Describe any file that roicli reads or writes: feature maps, boxes, outputs. No feature is read."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from roicli.boxfiles import SUFFIXES, read_regions
from roicli.errors import FileError, RoicliError
from roicli.files import HDF5_SUFFIXES, file_size, printable, reading
from roicli.jobs.pyramid import Pyramid, in_words, open_maps
from roicli.jobs.sidefiles import SideInfo, describe_index, describe_part, describe_skipped, part_of
from roicli.jobs.unfinished import Unfinished, look_beside, output_of
from roicli.outputs import find_format
from roicli.outputs.base import REMEDY, Parameters
from roicli.regions import Regions, find_bad_boxes, from_xyxy
from roicli.sources import FeatureSource
from roicli.sources.inventory import Inventory, take_stock
from roicli.sources.open import suffixes

_ARRAYS = (".npy", ".npz", *HDF5_SUFFIXES)
_BOXES = tuple(suffix for suffix in SUFFIXES if suffix != ".npy")
# Of more maps than this, so many are looked at, from all over the source.
_LOOKED_AT = 2000
_IDS = 5


@dataclass(frozen=True)
class MapsInfo:
    """Feature maps, as `align` would read them.

    Attributes
    ----------
    count : int
        How many.
    ids : tuple of str
        Image ids of the first few.
    labelled : bool
        Whether the file says them; else maps are counted.
    looked_at : int
        How many of them the rest tells of.
    kinds : tuple of (shape, dtype, count)
        Shapes are (C, H, W); the most frequent first.
    channels : tuple of int
        Numbers of channels that occur.
    faults : tuple of str
        What is wrong with maps that cannot be pooled, the first few.
    levels : str
        Levels of a pyramid and their strides, "p2:4,p3:8"; empty for other features.
    """

    count: int
    ids: tuple[str, ...]
    labelled: bool
    looked_at: int
    kinds: tuple[tuple[tuple[int, ...], str, int], ...]
    channels: tuple[int, ...]
    faults: tuple[str, ...]
    levels: str = ""


@dataclass(frozen=True)
class BoxesInfo:
    """Boxes of a file.

    Attributes
    ----------
    count, images : int
        Boxes, and images that have any.
    per_image : (int, float, int)
        Fewest, median and most boxes of an image.
    images_by : str
        What says which image a box belongs to: "image id", "batch index", or "nothing".
    box_format : str
        What the four numbers were taken as.
    assumed : tuple of str
        Why, where the file does not say.
    extent : (float, float, float, float) or None
        Least x1 and y1, greatest x2 and y2; None if no box is finite.
    unusable : int
        Boxes that are NaN, infinite or beyond 1e9.
    inverted : dict of str to int
        How many boxes would end before they begin, by what the four numbers are taken as.
    """

    count: int
    images: int
    per_image: tuple[int, float, int]
    images_by: str
    box_format: str
    assumed: tuple[str, ...]
    extent: tuple[float, float, float, float] | None
    unusable: int
    inverted: dict[str, int]


@dataclass(frozen=True)
class FileInfo:
    """What a file, a folder or a pattern is.

    Attributes
    ----------
    name : str
        As it was given.
    files, bytes : int
        How many files, and what they take.
    parameters : dict
        How an output was made; empty for other files.
    arrays : Inventory or None
        Of a single file of arrays.
    maps : MapsInfo or None
        If it holds what `align` can pool.
    not_maps : str
        Why it does not.
    boxes : BoxesInfo or None
        If it is a box file.
    side : SideInfo or None
        If it belongs to an output.
    unfinished : Unfinished or None
        If it is an output that is not complete, or what a run has laid beside one.
    """

    name: str
    files: int
    bytes: int
    parameters: Parameters
    arrays: Inventory | None = None
    maps: MapsInfo | None = None
    not_maps: str = ""
    boxes: BoxesInfo | None = None
    side: SideInfo | None = None
    unfinished: Unfinished | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON can hold them."""
        plain = asdict(self)
        if self.arrays is not None:
            plain["arrays"]["kinds"] = [
                alike.kind._asdict() | {"names": alike.names, "count": alike.count, "stored": alike.stored}
                for alike in self.arrays.kinds
            ]
        return plain


def info(name: str) -> FileInfo:
    """Describe a file, a folder of .npy files, or all files that match a pattern; or an output that is not complete.

    Raises
    ------
    FileError
        What cannot be read, or is of no kind that roicli knows.
    """
    path = Path(name)
    if (output := output_of(path)) is not None:
        return FileInfo(name, 1, file_size(path), {}, unfinished=look_beside(output))
    unfinished = look_beside(path) if path.suffix.lower() in _ARRAYS else None
    if unfinished is not None and not unfinished.exists:
        return FileInfo(name, 0, 0, {}, unfinished=unfinished)
    return replace(_complete(name, path), unfinished=unfinished if unfinished and unfinished.matters else None)


def _complete(name: str, path: Path) -> FileInfo:
    if path.is_dir() or (not os.path.lexists(name) and glob.has_magic(name)):
        source = _open(name)
        return FileInfo(source.name, len(source.paths), _bytes(source.paths), {}, maps=_maps(source))
    suffix, size = path.suffix.lower(), file_size(path)
    if (output := part_of(path)) is not None:
        return FileInfo(name, 1, size, _parameters(output), side=describe_part(output))
    if (skipped := describe_skipped(path)) is not None:
        return FileInfo(name, 1, size, {}, side=skipped)
    if suffix in _BOXES:
        boxes = _boxes(path)
        return FileInfo(name, 1, size, {}, boxes=boxes, side=describe_index(path, boxes.count))
    if suffix not in suffixes():
        known = ", ".join([*suffixes(), *_BOXES])
        raise FileError(f"{printable(name)} is of no kind that is known", f"Name a folder or a file of {known}.")
    arrays = take_stock(path)
    if parameters := _parameters(path) if suffix in _ARRAYS else {}:
        return FileInfo(name, 1, size, parameters, arrays)
    shape = arrays.kinds[0].kind.shape if suffix == ".npy" else ()
    try:
        if len(shape) == 2 and shape[1] in (4, 5):
            return FileInfo(name, 1, size, {}, arrays, boxes=_boxes(path))
        return FileInfo(name, 1, size, {}, arrays, maps=_maps(_open(name)))
    except RoicliError as error:  # what cannot be pooled is described all the same
        return FileInfo(name, 1, size, {}, arrays, not_maps=error.message)


def _parameters(path: Path) -> Parameters:
    """Read how an output was made; empty if the file is not one, or does not say."""
    with reading(printable(str(path)), REMEDY):
        return find_format(path).parameters(path)


def _bytes(paths: Sequence[str]) -> int:
    return sum(file_size(Path(path)) for path in paths)


def _open(name: str) -> FeatureSource:
    return open_maps(name, Pyramid(), lambda note: None)


def _maps(source: FeatureSource) -> MapsInfo:
    count = len(source.ids) * max(1, len(source.levels))
    kinds: Counter[tuple[tuple[int, ...], str]] = Counter()
    faults: list[str] = []
    chosen = np.unique(np.linspace(0, count - 1, min(count, _LOOKED_AT)).astype(int)).tolist()
    for index in chosen:
        try:
            found = source.info(index)
        except RoicliError as error:
            faults.append(error.message)
        else:
            kinds[found.shape, str(found.dtype)] += 1
    source.close()
    return MapsInfo(
        count=count,
        ids=tuple(source.ids[:_IDS]),
        labelled=source.labelled,
        looked_at=len(chosen),
        kinds=tuple((shape, dtype, number) for (shape, dtype), number in kinds.most_common()),
        channels=tuple(sorted({shape[0] for shape, _ in kinds})),
        faults=tuple(faults[:_IDS]),
        levels=in_words(source.levels),
    )


def _boxes(path: Path) -> BoxesInfo:
    table = read_regions(path)
    unusable, _ = find_bad_boxes(table.boxes)
    boxes = np.delete(table.boxes, unusable, axis=0)
    x1, y1, x2, y2 = (*boxes.min(axis=0)[:2].tolist(), *boxes.max(axis=0)[2:].tolist()) if len(boxes) else [0.0] * 4
    per_image = _per_image(table)
    a, b, c, d = from_xyxy(boxes, table.box_format).T
    return BoxesInfo(
        count=len(table),
        images=len(per_image),
        per_image=(min(per_image), float(np.median(per_image)), max(per_image)) if per_image else (0, 0.0, 0),
        images_by="nothing" if table.image_index is None else "image id" if table.image_ids else "batch index",
        box_format=str(table.box_format),
        assumed=table.notes,
        extent=(x1, y1, x2, y2) if len(boxes) else None,
        unusable=len(unusable),
        inverted={"xyxy": int(((c < a) | (d < b)).sum()), "xywh": int(((c < 0) | (d < 0)).sum())},
    )


def _per_image(table: Regions) -> list[int]:
    if table.image_index is None:
        return [len(table)] if len(table) else []
    numbers: list[int] = np.unique(table.image_index, return_counts=True)[1].tolist()
    return numbers
