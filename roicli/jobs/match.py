"""Features and boxes found, opened, checked and matched: what every job that pools begins with."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.boxfiles import read_regions
from roicli.errors import BoxError, FeatureError
from roicli.execution.executors import apart
from roicli.files import Stamp
from roicli.jobs.choose import Choice, choose
from roicli.jobs.geometry import Geometry
from roicli.jobs.imageids import Match, match_images, some
from roicli.jobs.imagesizes import file_or_size
from roicli.jobs.pyramid import Pyramid, check_levels, open_maps
from roicli.jobs.readings import Layout, Reading, check_readings
from roicli.regions import Regions, batch_index_may_be_last
from roicli.sources import FeatureSource, MapInfo
from roicli.sources.layout import layout_of
from roicli.sources.retyped import are_bits
from roicli.words import count, size

# Bytes of text that take about a second to parse.
_SLOW = 2**24


class Inputs(NamedTuple):
    """Boxes, and the map of each."""

    source: FeatureSource
    table: Regions
    # (K,): the map of each box, or its image in a pyramid; -1 for images without features, where they are allowed
    map_index: NDArray[np.intp]
    layout: Layout = "chw"  # how the maps were said to be stored
    # Other files that are read (sizes of images, what was done to them), and their state before that
    beside: Mapping[str, Stamp] = MappingProxyType({})
    apart: bool = False  # whether the levels of a pyramid may differ in their channels
    # Of the maps of the whole job, if this is a part of it: they decide the dtype of the output
    dtypes: frozenset[np.dtype[Any]] | None = None

    def maps_used(self) -> list[int]:
        """Name the maps (images of a pyramid) that have boxes, ascending."""
        return distinct_maps(self.map_index)

    def infos(self) -> dict[int, MapInfo]:
        """Look up shape and dtype of every map that has boxes; of the first map if there are none.

        Raises FeatureError: a map that cannot be pooled, or one with another number of channels than the others.
        """
        images = self.maps_used() or list(range(len(self.source.ids)))[:1]
        count = max(1, len(self.source.levels))
        used = [image * count + level for image in images for level in range(count)]
        infos = {index: self.source.info(index) for index in used}
        if not infos:
            raise FeatureError(f"{self.source.name} holds no feature maps", "Name the file that holds them.")
        check_levels(self.source, images if count > 1 else ())
        for index, info in infos.items():
            first = infos[used[index % count if self.apart else 0]]
            if info.shape[0] != first.shape[0]:
                raise FeatureError(
                    f"{info.where}: expected {first.shape[0]} channels as in {first.where}, got {info.shape[0]}",
                    f"All maps of one job need the same channels; {self._layout_hint(infos)}",
                )
        return infos

    def _layout_hint(self, infos: dict[int, MapInfo]) -> str:
        """Say what the other layout would make of maps that differ in their channels."""
        if self.layout == "tokens":
            return "perhaps one of them is of another model."
        layout = layout_of(self.layout)
        other = layout.other.name
        channels = {layout.other_shape(info.shape)[0] for info in infos.values()}
        if len(channels) == 1:
            return f"stored the other way they have {channels.pop()}: give `layout={other}`."
        return f"perhaps one of them is stored the other way (`layout={other}`)."

    def take(self, rows: NDArray[np.intp]) -> Inputs:
        """Return the same with some of the boxes only."""
        return self._replace(table=self.table.take(rows), map_index=self.map_index[rows])


def bind(
    features: str,
    boxes: Path,
    reading: Reading,
    pyramid: Pyramid,
    note: Callable[[str], None],
    *,
    geometry: Geometry | None = None,
    choice: Choice | None = None,
    all_images: bool = True,
    mapped: bool = False,
) -> Inputs:
    """Open the features, read the boxes, and find the map of each box.

    `features`: file, folder or pattern.
    `boxes`: the box file.
    `reading`, `pyramid`: what the user says of them. Without a layout, an array that may be tokens is refused.
    `geometry`: what is said of images, for boxes that cannot be read or made without their sizes.
    `choice`: which boxes are taken, and what is made of them.
    `all_images`: whether every image of the box file must have features.
    Raises RoicliError: a file that cannot be read, boxes of images without features.
    """
    source = open_maps(features, reading, pyramid, note)
    if boxes.suffix.lower() != ".npy" and (length := _length(boxes)) > _SLOW:
        note(f"reading the boxes of {boxes}, {size(length)}")
    geometry = geometry or Geometry()
    image_size = geometry.image_size
    sizes = file_or_size(image_size)
    table = read_regions(boxes, reading.box_format, reading.boxes_as, sizes, mapped=mapped)
    for text in table.notes:
        note(text)
    if choice is not None:
        table = choose(table, choice, image_size, note, normalized=geometry.normalized)
    # Before ids are matched: sequences in one array would count as one map.
    if reading.layout is None and reading.time is None and len(source):
        check_readings(source, 0, note)
    found = _map_index(source, table, note, reading.match, all_images=all_images)
    return Inputs(source, table, found, reading.layout or "chw", apart=pyramid.levels_combine == "concat")


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # its reader says what is wrong
        return 0


def distinct_maps(map_index: NDArray[np.intp]) -> list[int]:
    """Return the maps that regions have, ascending, in memory that grows with the regions alone."""
    found = map_index[map_index >= 0]
    if len(found) and found.max() > len(found):
        return sorted(set(found.tolist()))
    # np.unique would load numpy.ma, a thirtieth of a short job.
    used: list[int] = np.flatnonzero(np.bincount(found)).tolist()
    return used


def check_bits(inputs: Inputs, note: Callable[[str], None]) -> None:
    """Refuse integers that are the bits of bfloat16, and say that others are pooled as integers.

    The grids of tokens must be known.
    """
    if not (used := inputs.maps_used()):
        return
    source, index = inputs.source, used[0]
    info = source.info(index)
    if info.note:
        note(f"{info.where}: {info.note}")
    if info.dtype.kind not in "iu" or info.dtype.itemsize != 2:
        return
    if apart(lambda: are_bits(source.read(index)), info):
        raise FeatureError(
            f"{info.where}: expected numbers, got {info.dtype} whose values are those of the bits of bfloat16",
            "Give `map_dtype=bfloat16`; if they are integers after all, convert them by .astype('float32').",
        )
    note(f"{info.where} is {info.dtype}, pooled as integers; if they are bits, give `map_dtype=bfloat16` or float16")


def _map_index(
    source: FeatureSource, table: Regions, note: Callable[[str], None], match: Match | None, *, all_images: bool
) -> NDArray[np.intp]:
    maps = len(source.ids)
    if table.image_index is None:
        if maps != 1 and len(table):
            raise BoxError(
                f"{table.source}: expected boxes that name their image, for the {maps} maps of {source.name}",
                "Give each box its image: a batch index as first number, an image_id, or an object of image ids.",
            )
        return np.zeros(len(table), dtype=np.intp)
    if _is_only_map(source, table):
        note(f"{table.source} names no image: its boxes are taken for those of the only map, {source.ids[0]!r}")
        return np.where(table.image_index < 0, -1, 0)
    if table.image_ids is not None:
        map_ids, aliases = source.ids, table.aliases
        if not source.labelled and len(table):
            if (listed := _listed_order(source, table)) is not None:
                map_ids, aliases = listed, None
                note(
                    f"the maps of {source.name} have no ids: their positions are those in the list of images of "
                    f"{table.source}, map 0 is image {listed[0]!r}"
                )
            else:
                note(f"the maps of {source.name} have no ids: image ids of {table.source} are positions from 0")
        names = {"boxes": table.source, "features": source.name}
        try:
            found = match_images(
                table.image_ids, aliases, map_ids, **names, match=match, note=note, all_images=all_images
            )
        except BoxError as error:
            if pattern := _dataset_pattern(source, table.image_ids):
                raise BoxError(error.message, f"Give `dataset='{pattern}'`, whose * is the image id.") from None
            raise
        if len(table) and (found < 0).all() and (table.image_index >= 0).any():
            raise BoxError(
                f"{table.source}: none of its {count(len(found), 'image')} has features in {source.name}: "
                f"{some(table.image_ids)}",
                f"The features are named {some(map_ids)}; make the ids agree."
                if map_ids
                else "Name features that hold maps.",
            )
        return np.append(found, -1)[table.image_index]  # an absent box may be of no image
    outside = np.flatnonzero((table.image_index < 0) | (table.image_index >= maps))
    if len(outside):
        outside = outside[~table.absent[outside]]  # which may be of no image
    if len(outside):
        hint = f"Give whole numbers from 0 to {maps - 1}." if maps else "Name the file that holds the maps."
        if maps and batch_index_may_be_last(table):
            first = "The first of five numbers is the batch index: put it there, if it is last."
            hint = f"{first} Leave scores out. {hint}"
        raise BoxError(
            f"{table.source}, {table.where(outside)}: expected the batch index of one of the {maps} maps of "
            f"{source.name}, got {table.image_index[outside[0]]}",
            hint,
        )
    if source.labelled and maps > 1:
        note(f"batch indices of {table.source} count the maps of {source.name} from 0, which is {source.ids[0]!r}")
    return table.image_index.astype(np.intp, copy=False)


def _is_only_map(source: FeatureSource, table: Regions) -> bool:
    """Tell whether neither side names an image but by the name of its one file, and these names differ."""
    if not table.by_file or table.image_ids is None or len(table.image_ids) != 1 or len(source.ids) != 1:
        return False
    if source.labelled and source.ids[0] != Path(*source.paths[:1]).stem:
        return False
    ids = table.image_ids, table.aliases, source.ids
    return bool(match_images(*ids, boxes=table.source, features=source.name, all_images=False)[0] < 0)


def _listed_order(source: FeatureSource, table: Regions) -> tuple[str, ...] | None:
    """Return the ids of maps that have none, if the box file lists as many images under ids that are not positions.

    Raises BoxError: the images are not listed in the order of their ids: the maps may be in either order.
    """
    listed = table.listed
    if listed is None or len(listed) != len(source.ids) or {*listed} == {*map(str, range(len(listed)))}:
        return None
    if all(map(str.isdecimal, listed)) and sorted(listed, key=int) == [*listed]:
        return listed
    raise BoxError(
        f"{table.source}: expected its {len(listed):,} images in the order of their ids, since the maps of "
        f"{source.name} have none, got {some(listed)}",
        "Save the ids with the features, as image_ids in an .npz or HDF5 file.",
    )


def judge_ids(inputs: Inputs) -> str:
    """Return a warning if the ids of images may be positions from 1, or nothing."""
    source, table = inputs.source, inputs.table
    ids = table.listed or table.image_ids or ()
    if source.labelled or len(source.ids) < 2 or "0" in ids or "1" not in ids:
        return ""
    if _listed_order(source, table) is not None:
        return ""
    return (
        f"{table.source}: no image has the id 0, and the maps of {source.name} are counted from 0; if the ids count "
        "from 1, each box gets the map after its own: subtract 1, or store the maps under their ids"
    )


def _dataset_pattern(source: FeatureSource, image_ids: Sequence[str]) -> str:
    """Return the pattern of the paths of datasets in which the ids of images are a part, or nothing."""
    _, inside, path = source.info(0).where.partition(", dataset ") if len(source) else ("", "", "")
    for image in image_ids if inside else ():
        pattern = re.sub(rf"(?<![0-9A-Za-z]){re.escape(image)}(?![0-9A-Za-z])", "*", path.strip("/"), count=1)
        if pattern not in ("*", path.strip("/")):
            return pattern
    return ""
