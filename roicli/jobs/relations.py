"""Pairs of boxes, for features of relations: each becomes the box around both."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from roicli.errors import BoxError
from roicli.regions import BoxFormat, Regions
from roicli.stores.path import path_of


def pairs_of(table: Regions) -> NDArray[np.int64] | None:
    """Return the two boxes of the file that each region is around, (K, 2), if `choose` has made pairs."""
    if table.origin is None or not {"subject", "object"} <= {*table.columns}:
        return None
    return np.stack([np.asarray(table.columns[name]) for name in ("subject", "object")], axis=1)


def make_pairs(table: Regions, pairs: str | os.PathLike[str]) -> Regions:
    """Return the boxes around pairs, with the boxes of the file that they are of as columns `subject` and `object`."""
    subject, other = _all_pairs(table) if pairs == "all" else _named_pairs(table, path_of(pairs))
    if table.image_index is not None:
        apart = np.flatnonzero(table.image_index[subject] != table.image_index[other])
        if len(apart):
            both = np.array([subject[apart[0]], other[apart[0]]])
            raise BoxError(f"{pairs}, pair {apart[0]}: two images, {table.where(both)}", "Pair boxes of one image.")
    one, two = table.boxes[subject], table.boxes[other]
    boxes = np.concatenate([np.minimum(one, two)[:, :2], np.maximum(one, two)[:, 2:]], axis=1)
    origin = table.places
    kept = {name: table.columns[name][subject] for name in ("file",) if name in table.columns}
    return replace(
        table.take(subject),
        boxes=boxes,
        given=boxes,
        box_format=BoxFormat.XYXY,
        columns={**kept, "subject": origin[subject], "object": origin[other]},
        rows=np.full(len(boxes), -1),  # the mask of the subject is not that of both
        origin=np.full(len(boxes), -1),
    )


def _all_pairs(table: Regions) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return each pair of boxes of an image once, in the order of the file."""
    image = np.zeros(len(table), np.int64) if table.image_index is None else table.image_index
    order = np.argsort(image, kind="stable")
    ends = np.flatnonzero(np.diff(image[order], append=-2)) + 1
    first, second = [np.zeros(0, np.intp)], [np.zeros(0, np.intp)]
    for start, stop in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True) if len(table) else ():
        one, two = np.triu_indices(stop - start, 1)
        first.append(order[start + one])
        second.append(order[start + two])
    return np.concatenate(first), np.concatenate(second)


def _named_pairs(table: Regions, path: Path) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the pairs that a file names by box id; by position in the file or its image if it has no ids."""
    from roicli.boxfiles.pairs import read_pairs

    pairs = read_pairs(path)
    origin = table.places
    places: dict[object, int] = {}
    if pairs.images is not None:
        if table.image_index is None or table.image_ids is None:
            raise BoxError(f"{pairs.source}: pairs by image, and {table.source} names no images", "Give [[a, b], ...].")
        seen: dict[int, int] = {}
        for row, image in enumerate(table.image_index.tolist()):
            seen[image] = seen.get(image, -1) + 1
            places[table.image_ids[image], str(seen[image])] = row
        keys: list[tuple[object, object]] = [
            ((image, a), (image, b)) for image, (a, b) in zip(pairs.images, pairs.names, strict=True)
        ]
    else:
        ids = origin if table.box_ids is None else table.box_ids
        names = [*map(str, ids.tolist())]
        places = {name: row for row, name in enumerate(names)}
        if len(places) < len(names):
            raise BoxError(f"{table.source}: box ids come twice, and pairs go by them", "Give ids that are distinct.")
        keys = [*pairs.names]
    found = np.array([[places.get(key, -1) for key in both] for both in keys], np.intp).reshape(-1, 2)
    if len(missing := np.flatnonzero((found < 0).any(axis=1))):
        by = "id" if table.box_ids is not None and pairs.images is None else "position"
        named = ", ".join(pairs.names[missing[0]])
        raise BoxError(
            f"{pairs.source}, pair {missing[0]}: {table.source} has not both boxes of {by} {named}",
            "Name boxes that are chosen, by their ids if they have ids.",
        )
    return found[:, 0], found[:, 1]
