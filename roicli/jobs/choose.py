"""Which boxes of a box file are pooled, and what is made of them: parts, unions, larger ones, whole images."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from roicli.errors import BoxError, UsageError
from roicli.files import Stamp
from roicli.jobs.imageids import some
from roicli.jobs.imagesizes import WHERE_SIZES, Images, ImageSize, original_sizes, sizes_listed, stamps_of
from roicli.jobs.relations import make_pairs
from roicli.regions import BoxFormat, Column, Names, Regions, from_xyxy
from roicli.words import count

Note = Callable[[str], None]
Array = NDArray[np.float64]

# What an index tells, in this order.
_TOLD = ("label", "category", "score", "angle", "subject", "object")
_SIDES = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(px)?")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the user says of which boxes to pool, applied in this order."""

    category: str | None = None  # labels or category ids, separated by commas: only these boxes
    min_score: float | None = None  # only boxes of this score or above
    # Only so many boxes an image, those of the highest scores. They stay in the order of the file.
    top_k: int | None = None
    # Instead of boxes, the boxes around pairs of them: those that a file names, or each pair of an image once
    pairs: str | os.PathLike[str] | None = None
    expand: float | str | None = None  # a factor for width and height about the center; or pixels on each side, "20px"
    square: bool = False  # make the shorter side as long as the longer one, about the center
    clip: bool = False  # cut boxes at the borders of their images
    whole_image: bool = False  # add a box of the whole image for each image that has boxes, after all others

    def __post_init__(self) -> None:
        _ = self.sides

    @property
    def sides(self) -> tuple[float, bool] | None:
        """What `expand` says: a number, and whether it is pixels."""
        if self.expand is None:
            return None
        found = _SIDES.fullmatch(str(self.expand).strip())
        if found is None or not (float(found[1]) > 0 or found[2]):
            raise UsageError(
                f"expand must be a factor or pixels, got {self.expand!r}", "Give `expand=1.2` or `expand=20px`."
            )
        return float(found[1]), bool(found[2])

    def stamps(self) -> dict[str, Stamp]:
        """Return the file that it says to read, if any, and its state."""
        return {} if self.pairs in (None, "all") else stamps_of(self.pairs)

    def parameters(self) -> dict[str, str | int | float | bool]:
        """Return what an output says of it."""
        said = {name: value for name, value in vars(self).items() if value not in (None, False)}
        return {name: value if isinstance(value, bool | int | float) else str(value) for name, value in said.items()}


def choose(
    table: Regions, choice: Choice, image_size: ImageSize | None, note: Note, *, normalized: bool = False
) -> Regions:
    """Take and make the boxes that the user has chosen.

    `image_size`: sizes of images, where the box file does not say them.
    `normalized`: the boxes are in 0..1 of the image.
    Raises UsageError, BoxError: scores, labels, sizes or pairs that are missing.

    Returns
    -------
    Regions
        With `origin`, the box of the file that each is, if they are not all of them.
    """
    if not choice.parameters():
        return table
    sizes = _Sizes(table, image_size, normalized=normalized or table.normalized)
    whole = table
    kept = _wanted(table, choice)
    if len(kept) < len(table):
        note(f"{table.source}: {len(kept):,} of {count(len(table), 'box')} chosen")
        table = replace(table.take(kept), origin=kept)
    if choice.pairs is not None or choice.clip:
        _check_upright(table)
    if choice.pairs is not None:
        table = make_pairs(table, choice.pairs)
        note(f"{table.source}: {count(len(table), 'pair')} of boxes, each pooled as the box around both")
    if choice.sides is not None:
        table = replace(table, boxes=_expanded(table, sizes, *choice.sides))
    if choice.square:
        table = replace(table, boxes=_squared(table, sizes))
    if choice.clip:
        height, width = sizes.unit(table).T
        limits = np.stack([width, height, width, height], axis=1)
        table = replace(table, boxes=np.minimum(np.maximum(table.boxes, 0), limits))
    if choice.whole_image:
        added = _whole_images(whole, sizes)
        note(f"{table.source}: {count(len(added), 'whole image')} added, after all boxes")
        table = _append(table, added)
    return _without_others(table)


class _Sizes:
    """Sizes of images, looked up once they are needed."""

    def __init__(self, table: Regions, image_size: ImageSize | None, *, normalized: bool) -> None:
        self._table, self._image_size, self.normalized = table, image_size, normalized
        self._sizes: Array | None = None

    def pixels(self, table: Regions) -> Array:
        """Return height and width of the image of each region, (K, 2), in pixels; BoxError if they are not known."""
        if self._sizes is None:
            names = self._table.image_ids
            images = Images(names or ("",), self._table.aliases, self._table.source)
            listed = None if names is None else sizes_listed(self._table, np.arange(len(names)))
            self._sizes = original_sizes(images, listed, self._image_size, lambda note: None)
        index = table.image_index
        if index is None or table.image_ids is None:  # one image, or batch indices, which no size is known by
            index = np.zeros(len(table), np.int64)
        sizes: Array = np.append(self._sizes, [[np.nan] * 2], axis=0)[index]
        unknown = np.flatnonzero(np.isnan(sizes).any(axis=1) & (index >= 0))
        if len(unknown):
            ids = table.image_ids or ("",)
            images_of = [ids[number] for number in dict.fromkeys(index[unknown].tolist())]
            raise BoxError(
                f"{table.source}: the sizes of {count(len(images_of), 'image')} are not known: {some(images_of)}",
                WHERE_SIZES,
            )
        return sizes

    def unit(self, table: Regions) -> Array:
        """Return height and width of the image of each region in the unit of its box."""
        return np.ones((len(table), 2)) if self.normalized else self.pixels(table)

    def pixel(self, table: Regions) -> Array:
        """Return the height and width of a pixel in the unit of each box."""
        return 1 / self.pixels(table) if self.normalized else np.ones((len(table), 2))


def said_of(table: Regions) -> dict[str, Column]:
    """Return what an index tells of each region, beside its image, id and box."""
    said = {name: table.columns[name] for name in _TOLD if name in table.columns}
    categories = said.get("category")
    if table.category_names and "label" not in said and categories is not None:
        categories = _as_names(categories)
        names = tuple(table.category_names.get(name, "") for name in categories.names)
        said = {"label": Names(categories.index, names), **said}
    return said


def groups_of(by: str | None, image_ids: Names, said: Mapping[str, Column]) -> Names | None:
    """Return the group of each region; None if groups are not asked for.

    Raises BoxError: groups by category, and no region says its own.
    """
    if by is None:
        return None
    if by == "image":
        return image_ids
    column = said.get("label", said.get("category"))
    if column is None:
        raise BoxError("the boxes have no category and no label to group them by", "Give `group_by=image`.")
    return _as_names(column)


def _as_names(column: Column) -> Names:
    if isinstance(column, Names):
        return column
    numbers, index = np.unique(column, return_inverse=True)
    return Names(index, tuple(map(str, numbers.tolist())))


def _wanted(table: Regions, choice: Choice) -> NDArray[np.intp]:
    """Return the boxes of the file that are taken."""
    wanted = np.ones(len(table), np.bool_)
    if choice.category is not None:
        wanted &= _of_category(table, choice.category)
    if choice.min_score is not None:
        wanted &= _scores(table, "min_score") >= choice.min_score
    rows = np.flatnonzero(wanted)
    if choice.top_k is None:
        return rows
    image = np.zeros(len(rows), np.int64) if table.image_index is None else table.image_index[rows]
    order = np.lexsort((-np.nan_to_num(_scores(table, "top_k")[rows], nan=-np.inf), image))  # ties as in the file
    first = np.flatnonzero(np.diff(image[order], prepend=-2))
    rank = np.arange(len(rows)) - np.repeat(first, np.diff(np.append(first, len(rows))))
    return np.sort(rows[order[rank < choice.top_k]])


def _scores(table: Regions, option: str) -> Array:
    scores = table.columns.get("score")
    if not isinstance(scores, np.ndarray):
        raise UsageError(f"`{option}` needs scores, and {table.source} has none", "Leave it out.")
    return scores


def _of_category(table: Regions, category: str) -> NDArray[np.bool_]:
    """Tell which boxes have one of some labels or category ids."""
    found = np.zeros(len(table), np.bool_)
    known: dict[str, None] = {}
    split = {name.strip() for name in category.split(",")}
    columns = [table.columns[name] for name in ("label", "category") if name in table.columns]
    for column in map(_as_names, columns):
        texts = column.names
        names = [table.category_names.get(text, text) for text in texts]
        known |= dict.fromkeys(filter(None, names))
        wanted = {category} if category in {*names, *texts} else split
        fits = [not wanted.isdisjoint(both) for both in zip(texts, names, strict=True)]
        found |= np.array(fits, np.bool_)[column.index]
    if not columns or (len(table) and not found.any()):
        said = f"has {some([*known])}" if known else "has no labels"
        raise BoxError(f"{table.source}: no box of category {category!r}; it {said}", "Name one of these, or its id.")
    return found


def _expanded(table: Regions, sizes: _Sizes, number: float, pixels: bool) -> Array:
    start, stop = table.boxes[:, :2], table.boxes[:, 2:]
    margin = sizes.pixel(table)[:, ::-1] * number if pixels else (stop - start) * ((number - 1) / 2)
    return np.concatenate([start - margin, stop + margin], axis=1)


def _squared(table: Regions, sizes: _Sizes) -> Array:
    start, stop = table.boxes[:, :2], table.boxes[:, 2:]
    pixel = sizes.pixel(table)[:, ::-1]
    side = (stop - start) / pixel
    margin = (np.maximum(side.max(axis=1, initial=-np.inf)[:, None], side) - side) / 2 * pixel
    return np.concatenate([start - margin, stop + margin], axis=1)


def _check_upright(table: Regions) -> None:
    """Refuse turned boxes, of which no upright box is made here."""
    angles = table.columns.get("angle")
    if isinstance(angles, np.ndarray) and len(turned := np.flatnonzero(np.nan_to_num(angles))):
        raise BoxError(
            f"{table.source}, {table.where(turned)}: `pairs` and `clip` are for upright boxes, got the angle "
            f"{angles[turned[0]]:g}",
            "Give the upright box around each.",
        )


def _whole_images(table: Regions, sizes: _Sizes) -> Regions:
    """Return a box of each image that has boxes."""
    index = np.zeros(len(table), np.int64) if table.image_index is None else table.image_index
    images, first = np.unique(index, return_index=True)
    first = first[images >= 0]
    added = replace(table.take(first), rows=np.full(len(first), -1), origin=np.full(len(first), -1))
    height, width = sizes.unit(added).T
    boxes = np.stack([height * 0, height * 0, width, height], axis=1)
    columns = {name: column for name, column in added.columns.items() if name == "file"}
    if "angle" in added.columns:
        columns["angle"] = np.zeros(len(added))
    return replace(added, boxes=boxes, given=boxes, box_format=BoxFormat.XYXY, columns=columns)


def _append(table: Regions, added: Regions) -> Regions:
    from roicli.boxfiles.several import join_column

    both = (table, added)
    given = table.given, from_xyxy(added.boxes, table.box_format)
    named = table.image_index is not None and added.image_index is not None
    return replace(
        table,
        boxes=np.concatenate([part.boxes for part in both]),
        given=np.concatenate(given),
        rows=np.concatenate([part.rows for part in both]),
        image_index=np.concatenate([part.image_index for part in both]) if named else None,
        columns={name: join_column(name, both) for name in table.columns},
        origin=np.concatenate([part.places for part in both]),
    )


def _without_others(table: Regions) -> Regions:
    """Leave out images that have no boxes any more: they need no features."""
    if table.image_ids is None or table.image_index is None:
        return table
    used = np.unique(table.image_index[table.image_index >= 0])
    number = np.full(len(table.image_ids) + 1, -1)
    number[used] = np.arange(len(used))
    names, aliases = (
        None if of_all is None else tuple(of_all[place] for place in used.tolist())
        for of_all in (table.image_ids, table.aliases)
    )
    return replace(
        table,
        image_index=number[table.image_index],
        image_ids=names,
        aliases=aliases,
        image_sizes=None if table.image_sizes is None else table.image_sizes[used],
    )
