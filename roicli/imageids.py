"""Which feature map belongs to which image of a box file.

Ids are compared as strings. Where they differ, leading zeros, folders and a file extension are tolerated as long as
that is unambiguous: COCO's image 139 is the map "000000000139", and so is "val2017/000000000139.jpg".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from roicli.errors import BoxError

_EXTENSION = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}$")


def plain(image_id: str) -> str:
    """Strip an image id of folders, of an extension and of leading zeros.

    Examples
    --------
    >>> [plain(name) for name in ("139", "000000000139.jpg", "val2017/000000000139.jpg", "0", "v1.5")]
    ['139', '139', '139', '0', 'v1.5']
    """
    name = _EXTENSION.sub("", image_id.replace("\\", "/").rsplit("/", 1)[-1])
    return name.lstrip("0") or name[-1:]


def match_images(
    image_ids: Sequence[str], aliases: Sequence[str] | None, map_ids: Sequence[str], *, boxes: str, features: str
) -> NDArray[np.intp]:
    """Find the map of each image.

    Parameters
    ----------
    image_ids : sequence of str
        Distinct ids of the box file.
    aliases : sequence of str, optional
        The same images' file names; looked at where an id alone finds no map.
    map_ids : sequence of str
        Ids of the feature maps, distinct.
    boxes, features : str
        Names of the two inputs, for the message.

    Returns
    -------
    (len(image_ids),) intp
        Index into `map_ids`.

    Raises
    ------
    BoxError
        Images without a map; the message counts them and shows examples of both sides.
    """
    exact = {name: index for index, name in enumerate(map_ids)}
    found = [exact.get(name, -1) for name in image_ids]
    if -1 in found:
        loose = _unambiguous(map_ids)
        # Two images that differ only in what `plain` strips cannot be told apart by it.
        single = _unambiguous(image_ids)
        for names in (image_ids, aliases) if aliases else (image_ids,):
            for index, name in enumerate(names):
                if found[index] < 0:
                    found[index] = exact.get(name, -1)
                if found[index] < 0 and (names is not image_ids or plain(name) in single):
                    found[index] = loose.get(plain(name), -1)
    missing = [name for name, index in zip(image_ids, found, strict=True) if index < 0]
    if missing:
        raise BoxError(
            f"{len(missing)} of {len(image_ids)} images of {boxes} have no features in {features}: {_some(missing)}",
            f"The features are named {_some(map_ids)}; make the ids agree, or leave those images out of the boxes."
            if map_ids
            else f"{features} holds no maps.",
        )
    twice = [index for index, count in Counter(found).items() if count > 1]
    if twice:
        same = [name for name, index in zip(image_ids, found, strict=True) if index == twice[0]]
        raise BoxError(
            f"images {_some(same)} of {boxes} would all be map {map_ids[twice[0]]!r} of {features}",
            "Give each image an id of its own, written as the features are named.",
        )
    return np.array(found, dtype=np.intp)


def _unambiguous(names: Iterable[str]) -> dict[str, int]:
    """Index of each name by its plain form, without those that share it."""
    plains = [plain(name) for name in names]
    counts = Counter(plains)
    return {name: index for index, name in enumerate(plains) if counts[name] == 1}


def _some(names: Sequence[str], limit: int = 5) -> str:
    shown = ", ".join(repr(name) for name in names[:limit])
    return f"{shown}, ..." if len(names) > limit else shown
