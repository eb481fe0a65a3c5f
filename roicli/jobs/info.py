"""Describe any file that roicli reads or writes: feature maps, boxes, outputs. No feature is read but to verify it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from roicli.boxfiles import SUFFIXES, read_regions
from roicli.boxfiles.boxfile import plain_name
from roicli.boxfiles.several import files_of
from roicli.errors import FileError, RoicliError
from roicli.files import file_size, printable
from roicli.jobs.damage import Damage, find_damage
from roicli.jobs.pyramid import Pyramid, in_words, open_maps
from roicli.jobs.readings import Reading
from roicli.jobs.unfinished import SIDE_ENDINGS, Unfinished, look_beside, output_of
from roicli.outputs import parameters_of
from roicli.outputs import suffixes as of_outputs
from roicli.outputs.base import Parameters
from roicli.regions import Regions, find_bad_boxes, from_xyxy
from roicli.sources import FeatureSource
from roicli.sources.inventory import Inventory
from roicli.sources.open import suffixes, take_stock
from roicli.stores.path import StorePath, is_pattern, path_of
from roicli.words import count

_BOXES = tuple(suffix for suffix in SUFFIXES if suffix != ".npy")
# Of more maps than this, so many are looked at, from all over the source.
_LOOKED_AT = 2000
_IDS = 5
# Along an axis, of pooled features.
_MOST_BINS = 32


@dataclass(frozen=True)
class MapsInfo:
    """Feature maps, as `align` would read them."""

    count: int
    ids: tuple[str, ...]  # image ids of the first few
    labelled: bool  # whether the file says them; else maps are counted
    looked_at: int  # how many of them the rest tells of
    kinds: tuple[tuple[tuple[int, ...], str, int], ...]  # (C, H, W), dtype, count; the most frequent first
    channels: tuple[int, ...]  # numbers of channels that occur
    faults: tuple[str, ...]  # of the first few maps that cannot be pooled
    levels: str = ""  # names and strides, if there are several


@dataclass(frozen=True)
class BoxesInfo:
    """Boxes of a file."""

    count: int
    images: int  # images that have any
    per_image: tuple[int, float, int]  # fewest, median and most of an image
    images_by: str  # "image id", "batch index", or "nothing"
    box_format: str
    assumed: tuple[str, ...]  # why, where the file does not say
    extent: tuple[float, float, float, float] | None  # least x1 and y1, greatest x2 and y2 of the finite ones
    unusable: int  # NaN, infinite or beyond 1e9
    inverted: dict[str, int]  # how many end before they begin, by format


@dataclass(frozen=True)
class FileInfo:
    """What a file, a folder or a pattern is."""

    name: str  # as it was given
    files: int
    bytes: int
    parameters: Parameters  # how an output was made; empty for other files
    arrays: Inventory | None = None  # of a single file of arrays
    maps: MapsInfo | None = None  # if it holds what `align` can pool
    not_maps: str = ""  # why it does not
    pooled: str = ""  # what it may hold instead: features of boxes, by its name and shape
    boxes: BoxesInfo | None = None  # if it is a box file
    output: str = ""  # to which it belongs: the record of a part, or the list of boxes that are not pooled
    verified: Damage | None = None  # what its checksums say, if that was asked
    unfinished: Unfinished | None = None  # if an output, or a file beside one, is not complete

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON can hold them."""
        plain = asdict(self)
        if self.arrays is not None:
            plain["arrays"]["kinds"] = [
                alike.kind._asdict() | {"names": alike.names, "count": alike.count, "stored": alike.stored}
                for alike in self.arrays.kinds
            ]
        return plain


def info(name: str, *, verify: bool = False) -> FileInfo:
    """Describe a file, a folder of .npy files, or all files that match a pattern; or an output that is not complete.

    With `verify`, the rows of an output are read, and compared with their checksums.

    Raises FileError: what cannot be read, or is of no kind that roicli knows.
    """
    path = path_of(name)
    name = str(path)
    if (output := output_of(path)) is not None:
        return FileInfo(name, 1, _bytes(_files(path)), {}, unfinished=look_beside(output))
    unfinished = look_beside(path) if path.suffix.lower() in of_outputs() else None
    if unfinished is not None and not unfinished.exists:
        return FileInfo(name, 0, 0, {}, unfinished=unfinished)
    found = _complete(name, path)
    verified = find_damage(path) if verify else None
    return replace(found, unfinished=unfinished if unfinished and unfinished.matters else None, verified=verified)


def _files(path: Path) -> list[str]:
    """Return a file, or all files of a folder."""
    return [str(file) for file in path.rglob("*") if file.is_file()] if path.is_dir() else [str(path)]


def _complete(name: str, path: Path) -> FileInfo:
    if path.is_dir() and path.suffix.lower() in of_outputs() and (parameters := parameters_of(path)):
        sizes = [*path.sizes().values()] if isinstance(path, StorePath) else [*map(_size, _files(path))]
        return FileInfo(name, len(sizes), sum(sizes), parameters, take_stock(path))
    if path.is_dir() or is_pattern(name):
        try:
            source = _open(name)
        except RoicliError:
            with suppress(RoicliError):
                files = files_of(path) or []
                return FileInfo(name, len(files), _bytes([*map(str, files)]), {}, boxes=_boxes(path))
            raise
        return FileInfo(source.name, len(source.paths), _bytes(source.paths), {}, maps=_maps(source))
    suffix, size = plain_name(path).suffix.lower(), file_size(path)
    output = next((name.removesuffix(ending) for ending in SIDE_ENDINGS if path.name.endswith(ending)), "")
    if output.lower().endswith(".npy") and suffix == ".json":
        return FileInfo(name, 1, size, parameters_of(Path(output)), output=output)
    if suffix in _BOXES:
        made = parameters_of(path) if suffix in of_outputs() else {}
        if "group_by" in made:  # it has no boxes
            return FileInfo(name, 1, size, made)
        return FileInfo(name, 1, size, made, boxes=_boxes(path), output=output)
    if suffix not in suffixes():
        known = ", ".join([*suffixes(), *_BOXES])
        raise FileError(f"{printable(name)} is of no kind that is known", f"Name a folder or a file of {known}.")
    arrays = take_stock(path)
    if parameters := parameters_of(path) if suffix in of_outputs() else {}:
        return FileInfo(name, 1, size, parameters, arrays)
    shape = arrays.kinds[0].kind.shape if suffix == ".npy" else ()
    found = FileInfo(name, 1, size, {}, arrays, pooled=_pooled(path.stem, shape))
    try:
        if len(shape) == 2 and shape[1] in (4, 5):
            return replace(found, boxes=_boxes(path))
        return replace(found, maps=_maps(_open(name)))
    except RoicliError as error:  # what cannot be pooled is described all the same
        with suppress(RoicliError):
            return replace(found, boxes=_boxes(path))
        return replace(found, not_maps=error.message)


def _pooled(name: str, shape: tuple[int, ...]) -> str:
    """Say what features of boxes an array may hold: its name says so, and its bins are few; nothing otherwise."""
    if not any(word in name.lower() for word in ("pool", "roi")) or len(shape) not in (2, 4):
        return ""
    bins = f", {shape[2]} x {shape[3]} bins" if shape[2:] else ""
    if shape[2:] and max(shape[2:]) > _MOST_BINS:
        return ""
    return f"by its name and shape, pooled features: {count(shape[0], 'box')}, {count(shape[1], 'channel')}{bins}"


def _bytes(paths: Sequence[str]) -> int:
    return sum(map(_size, paths))


def _size(path: str) -> int:
    return file_size(path_of(path))


def _open(name: str) -> FeatureSource:
    return open_maps(name, Reading(), Pyramid(), lambda note: None)


def _maps(source: FeatureSource) -> MapsInfo:
    number = len(source.ids) * max(1, len(source.levels))
    kinds: Counter[tuple[tuple[int, ...], str]] = Counter()
    faults: list[str] = []
    chosen = np.unique(np.linspace(0, number - 1, min(number, _LOOKED_AT)).astype(int)).tolist()
    for index in chosen:
        try:
            found = source.info(index)
        except RoicliError as error:
            faults.append(error.message)
        else:
            kinds[found.shape, str(found.dtype)] += 1
    source.close()
    return MapsInfo(
        count=number,
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
