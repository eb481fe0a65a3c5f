"""Which feature map belongs to which image of a box file.

Ids are compared as strings. Where they differ, leading zeros, the extension of a file and folders that only one side
names are tolerated as long as that is unambiguous: COCO's image 139 is the map "000000000139", and so is
"val2017/000000000139.jpg"; but train/1 is not val/1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from operator import eq
from typing import overload

import numpy as np
from numpy.typing import NDArray

from roicli.errors import BoxError

_SEVERAL = -2
_COUNT = re.compile("0|[1-9][0-9]{0,18}")
_EXTENSION = re.compile(r"(?i)\.(jpe?g|png|bmp|gif|webp|tiff?|ppm|pgm|jp2|heic|npy|npz|h5|hdf5|pt|pth|pkl|mat|bin)$")


class Counted(Sequence[str]):
    """Image ids of maps that have none, "0", "1", ..., without holding them, since a file may claim any number.

    Examples
    --------
    >>> Counted(10**12)[-1]
    '999999999999'
    """

    def __init__(self, count: int) -> None:
        self._range = range(count)

    def __len__(self) -> int:
        return len(self._range)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        return [*map(str, self._range[index])] if isinstance(index, slice) else str(self._range[index])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def near(self, names: Iterable[str]) -> list[int]:
        """Every index whose id is one of `names`, or the last of their `tails`, in order."""
        last = {tails(name)[-1] for name in names}
        return sorted(int(name) for name in last if _COUNT.fullmatch(name) and int(name) in self._range)


def tails(image_id: str) -> list[str]:
    """Every tail of an image id taken as a path, longest first, without a file's extension and its leading zeros.

    Examples
    --------
    >>> [tails(name) for name in ("139", "000000000139.jpg", "val2017/000000000139.JPG", "0", "v1.5")]
    [['139'], ['139'], ['val2017/139', '139'], ['0'], ['v1.5']]
    """
    *folders, name = _EXTENSION.sub("", image_id).replace("\\", "/").split("/")
    parts = [*(folder for folder in folders if folder.strip(".")), name.lstrip("0") or name[-1:]]
    return ["/".join(parts[start:]) for start in range(len(parts))]


def match_images(
    image_ids: Sequence[str], aliases: Sequence[str] | None, map_ids: Sequence[str], *, boxes: str, features: str
) -> NDArray[np.intp]:
    """Find the map of each image; see `find_images`.

    Parameters
    ----------
    image_ids, aliases, map_ids, boxes, features
        As in `find_images`.

    Returns
    -------
    (len(image_ids),) intp
        Index into `map_ids`.

    Raises
    ------
    BoxError
        Images without a map, which the message counts, with examples of both sides; or as `find_images`.
    """
    found = find_images(image_ids, aliases, map_ids, boxes=boxes, features=features)
    missing = [name for name, index in zip(image_ids, found.tolist(), strict=True) if index < 0]
    if missing:
        have = "has" if len(missing) == 1 else "have"
        raise BoxError(
            f"{len(missing)} of {len(image_ids)} images of {boxes} {have} no features in {features}: {some(missing)}",
            f"The features are named {some(map_ids)}; make the ids agree, or leave those images out of the boxes."
            if map_ids
            else "Name features that hold maps.",
        )
    return found


def find_images(
    image_ids: Sequence[str], aliases: Sequence[str] | None, map_ids: Sequence[str], *, boxes: str, features: str
) -> NDArray[np.intp]:
    """Find the map of each image, exactly or by what is tolerated.

    Parameters
    ----------
    image_ids : sequence of str
        Distinct ids of the box file.
    aliases : sequence of str, optional
        The same images' file names; looked at where an id alone finds no map, and to see that both mean the same one.
    map_ids : sequence of str
        Ids of the feature maps, distinct.
    boxes, features : str
        Names of the two inputs, for the message.

    Returns
    -------
    (len(image_ids),) intp
        Index into `map_ids`, -1 where there is no map.

    Raises
    ------
    BoxError
        An image that could be several maps, or is another by its file name than by its id; several that could be one.
    """
    if isinstance(map_ids, Counted):
        near = map_ids.near([*image_ids, *(aliases or ())])
        names = {"boxes": boxes, "features": features}
        found_near = find_images(image_ids, aliases, [str(index) for index in near], **names)
        return np.where(found_near < 0, -1, np.array([*near, -1], dtype=np.intp)[found_near])
    exact = {name: index for index, name in enumerate(map_ids)}
    found = [exact.get(name, -1) for name in image_ids]
    tolerant = None
    for index, (name, alias) in enumerate(zip(image_ids, aliases or image_ids, strict=True)):
        by_id, by_alias = found[index], -1
        if alias != name:
            by_alias = exact.get(alias, exact.get(_EXTENSION.sub("", alias), -1))
        if by_id < 0:
            # Two images that differ only in what is tolerated cannot be told apart without it.
            loose, itself = tolerant = tolerant or (_finder(map_ids), _finder(image_ids))
            by_id = loose(name)
            if by_alias < 0 and alias != name:
                by_alias = loose(alias)
            if by_id >= 0 and itself(name) != index:
                by_id = _SEVERAL
            if by_id == _SEVERAL and by_alias < 0:
                raise _ambiguous(name, image_ids, map_ids, boxes, features)
        if by_id >= 0 and by_alias >= 0 and by_id != by_alias:
            raise BoxError(
                f"image {name!r} of {boxes} is map {map_ids[by_id]!r} of {features} by its id, and "
                f"{map_ids[by_alias]!r} by its file name {alias!r}",
                "If the file names are right, write them as ids; if the ids are, leave the file names out.",
            )
        found[index] = by_id if by_id >= 0 else max(by_alias, -1)
    for index, count in Counter(found).items():
        if count > 1 and index >= 0:
            same = [name for name, other in zip(image_ids, found, strict=True) if other == index]
            raise _same_map(same, map_ids[index], boxes, features)
    return np.array(found, dtype=np.intp)


def _ambiguous(name: str, image_ids: Sequence[str], map_ids: Sequence[str], boxes: str, features: str) -> BoxError:
    """Make the error for an image that could be several maps, or the same as another image."""
    maps, images = ([other for other in ids if tails(other)[-1] == tails(name)[-1]] for ids in (map_ids, image_ids))
    if len(maps) > 1:
        return BoxError(
            f"image {name!r} of {boxes} could be any of the maps {some(maps)} of {features}",
            "Write its id as its features are named.",
        )
    return _same_map(images, maps[0], boxes, features)


def _same_map(images: Sequence[str], name: str, boxes: str, features: str) -> BoxError:
    return BoxError(
        f"images {some(images)} of {boxes} would all be map {name!r} of {features}",
        "Give each image an id of its own, written as the features are named.",
    )


def _finder(names: Sequence[str]) -> Callable[[str], int]:
    """Return a function that finds the one of `names` that a name is a tail of, or has for a tail.

    It gives -1 if there is none, and `_SEVERAL` if there are more.
    """
    whole: dict[str, int] = {}
    parts: dict[str, int] = {}
    for index, name in enumerate(names):
        for form in (forms := tails(name)):
            parts[form] = _SEVERAL if form in parts else index
        whole[forms[0]] = _SEVERAL if forms[0] in whole else index

    def find(name: str) -> int:
        full, *shorter = tails(name)
        found = [index for index in (parts.get(full), *map(whole.get, shorter)) if index is not None]
        return found[0] if len(found) == 1 else _SEVERAL if found else -1

    return find


def some(names: Sequence[str], limit: int = 5) -> str:
    """Return the first few names for a message."""
    shown = ", ".join(repr(name) for name in names[:limit])
    return f"{shown}, ..." if len(names) > limit else shown
