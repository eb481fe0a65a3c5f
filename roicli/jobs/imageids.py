"""Which feature map belongs to which image of a box file.

Ids are compared as strings. Where they differ, these are tolerated as long as that is unambiguous:

- leading zeros: COCO's image 139 is the map "000000000139"
- the extension of a file, and folders that only one side names: "val2017/000000000139.jpg" is 139, but train/1 is not
  val/1
- the name of a COCO file: "COCO_val2014_000000000139" is 139
- a number that a table made a fraction: "139.0" is 139
- blanks and NULs around a name of fixed width, and the two Unicode forms (NFC, NFD) of one name
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from roicli.errors import BoxError
from roicli.sources.counted import Counted
from roicli.words import count

Match = Literal["id", "file-name"]
"""What decides about the map of an image that has an id and a file name."""

_SEVERAL = -2
# Tails of a path that are compared, besides the whole: each takes memory and time.
_LEVELS = 8
_EXTENSION = re.compile(r"(?i)\.(jpe?g|png|bmp|gif|webp|tiff?|ppm|pgm|jp2|heic|npy|npz|h5|hdf5|pt|pth|pkl|mat|bin)$")
_COCO_NAME = re.compile(r"(COCO_(?:train|val|test)\d{4})_(\d+)")
_FRACTION = re.compile(r"(\d+)\.0+")
# What spreadsheets make of ids: 1.39E+11 of 139000000000, 1,139 of 1139, '139, and 01-Mar of 3-1.
_EXCEL = re.compile(r"\d(\.\d+)?[eE]\+?\d+|\d{1,3}(,\d{3})+|'\d+|\d\d?-[A-Z][a-z]{2}")


def tails(image_id: str) -> Iterator[str]:
    """Yield an id in the form that is compared, then its tails as a path, longest first, at most `_LEVELS`.

    Examples
    --------
    >>> [list(tails(name)) for name in ("139", "000000000139.jpg", "val2017/000000000139.JPG", "0", "v1.5")]
    [['139'], ['139'], ['val2017/139', '139'], ['0'], ['v1.5']]
    >>> list(tails("COCO_val2014_000000000139.jpg")), list(tails("139.0  "))
    (['COCO_val2014/139', '139'], ['139'])
    """
    if image_id.isdecimal() and image_id.isascii():  # as most are: a fifth of the time
        yield image_id.lstrip("0") or "0"
        return
    name = image_id.strip(" \t\0")
    if not name.isascii():
        name = normalize("NFC", name)
    *folders, name = _EXTENSION.sub("", name).replace("\\", "/").split("/")
    parts = [folder for folder in folders if folder.strip(".")]
    if (coco := _COCO_NAME.fullmatch(name)) is not None:
        parts.append(coco[1])
        name = coco[2]
    elif (fraction := _FRACTION.fullmatch(name)) is not None:
        name = fraction[1]
    parts.append(name.lstrip("0") or name[-1:])
    yield "/".join(parts)
    for start in range(max(1, len(parts) - _LEVELS), len(parts)):
        yield "/".join(parts[start:])


def match_images(
    image_ids: Sequence[str],
    aliases: Sequence[str] | None,
    map_ids: Sequence[str],
    *,
    boxes: str,
    features: str,
    match: Match | None = None,
    note: Callable[[str], None] | None = None,
    all_images: bool = True,
) -> NDArray[np.intp]:
    """Find the map of each image, exactly or by what is tolerated.

    `image_ids`: distinct ids of the box file.
    `aliases`: the same images' file names. They find maps that an id alone does not find; an exact file name counts for
    more than an id that matches by tolerance.
    `map_ids`: ids of the feature maps, distinct.
    `boxes`, `features`: names of the two inputs, for the message.
    `match`: what decides; by default both must mean the same map.
    `note`: is told of file names that count for more than ids.
    `all_images`: whether every image must have a map.
    Raises BoxError: an image that could be several maps, or is another by its file name than by its id; several that
    could be one; images without a map, which the message counts, with examples of both sides.

    Returns
    -------
    (len(image_ids),) intp
        Index into `map_ids`, -1 for none.
    """
    sides = _Sides(boxes, features, image_ids, aliases, map_ids)
    if match == "file-name" and aliases is not None:
        sides = sides._replace(image_ids=aliases, aliases=None)
    elif match == "id":
        sides = sides._replace(aliases=None)
    found = sides.find(note)
    missing = [name for name, index in zip(image_ids, found.tolist(), strict=True) if index < 0] if all_images else []
    if missing:
        hint = f"The features are named {some(map_ids)}; make the ids agree, or leave those images out of the boxes."
        if any(map(_EXCEL.fullmatch, missing)):
            hint = (
                f"Excel has rounded such ids, or taken them for numbers or dates: format their column as text. {hint}"
            )
        raise BoxError(
            f"{boxes}: no features in {features} for {len(missing):,} of {count(len(image_ids), 'image')}: "
            f"{some(missing)}",
            hint if map_ids else "Name features that hold maps.",
        )
    return found


class _Sides(NamedTuple):
    """The two sides that are matched, and how messages call them."""

    boxes: str
    features: str
    image_ids: Sequence[str]
    aliases: Sequence[str] | None
    map_ids: Sequence[str]

    def find(self, note: Callable[[str], None] | None) -> NDArray[np.intp]:
        """See `match_images`."""
        image_ids, aliases, map_ids = self.image_ids, self.aliases, self.map_ids
        if isinstance(map_ids, Counted):
            near = _near(map_ids, [*image_ids, *(aliases or ())])
            places = self._replace(map_ids=[str(index) for index in near]).find(None)
            return np.array([*near, -1], dtype=np.intp)[places]
        exact = {name: index for index, name in enumerate(map_ids)}
        by_id = [exact.get(name, -1) for name in image_ids]
        by_alias = [-1] * len(image_ids)
        if aliases is not None:
            by_alias = [
                -1 if alias == name else exact.get(alias, exact.get(_EXTENSION.sub("", alias), -1))
                for name, alias in zip(image_ids, aliases, strict=True)
            ]
        for number, (one, other) in enumerate(zip(by_id, by_alias, strict=True)):
            if one >= 0 <= other != one:
                raise self._contradiction(number, one, other)
        if aliases is not None and note is not None:
            self._note_overruled(by_id, by_alias, aliases, note)
        both = enumerate(zip(by_id, by_alias, strict=True))
        if rest := [number for number, (one, other) in both if one < 0 and other < 0]:
            self._tolerate(rest, by_id, by_alias)
        found = [one if one >= 0 else other for one, other in zip(by_id, by_alias, strict=True)]
        for index, times in Counter(found).items():
            if times > 1 and index >= 0:
                same = [name for name, other in zip(image_ids, found, strict=True) if other == index]
                raise self._same_map(same, map_ids[index])
        return np.array(found, dtype=np.intp)

    def _note_overruled(
        self, by_id: list[int], by_alias: list[int], aliases: Sequence[str], note: Callable[[str], None]
    ) -> None:
        """Say which images have an exact file name that is not the map that their id matches by tolerance."""
        image_ids, map_ids = self.image_ids, self.map_ids
        differ = [
            number
            for number, (one, other) in enumerate(zip(by_id, by_alias, strict=True))
            if one < 0 <= other and [*tails(image_ids[number])][-1] != [*tails(aliases[number])][-1]
        ]
        loose = _find_tails([image_ids[number] for number in differ], map_ids) if differ else []
        over = [(number, index) for number, index in zip(differ, loose, strict=True) if 0 <= index != by_alias[number]]
        if over:
            number, index = over[0]
            note(
                f"file names count for more than ids of {count(len(over), 'image')}: image {image_ids[number]!r} is "
                f"map {map_ids[by_alias[number]]!r}, not {map_ids[index]!r} (`match=id` takes the ids)"
            )

    def _tolerate(self, rest: list[int], by_id: list[int], by_alias: list[int]) -> None:
        """Find the maps of the images `rest`, which match exactly neither by id nor by file name."""
        image_ids, aliases, map_ids = self.image_ids, self.aliases, self.map_ids
        ids = [image_ids[number] for number in rest]
        # Two images that differ only in what is tolerated cannot be told apart without it.
        itself = _find_tails(ids, image_ids)
        loose = [index if index < 0 or own == number else _SEVERAL
                 for number, index, own in zip(rest, _find_tails(ids, map_ids), itself, strict=True)]  # fmt: skip
        others = [-1] * len(rest) if aliases is None else _find_tails([aliases[number] for number in rest], map_ids)
        for number, one, other in zip(rest, loose, others, strict=True):
            if aliases is not None and aliases[number] == image_ids[number]:
                other = -1
            if one == _SEVERAL and other < 0:
                raise self._ambiguous(image_ids[number])
            if one >= 0 <= other != one:
                raise self._contradiction(number, one, other)
            by_id[number], by_alias[number] = max(one, -1), max(other, -1)

    def _contradiction(self, number: int, by_id: int, by_alias: int) -> BoxError:
        alias = "" if self.aliases is None else self.aliases[number]
        return BoxError(
            f"{self.boxes}, image {self.image_ids[number]!r}: it is map {self.map_ids[by_id]!r} of {self.features} by "
            f"its id, and {self.map_ids[by_alias]!r} by its file name {alias!r}",
            "Give `match=file-name` if the file names are right, `match=id` if the ids are.",
        )

    def _ambiguous(self, name: str) -> BoxError:
        """Make the error for an image that could be several maps, or the same as another image."""
        *_, last = tails(name)
        maps, images = (
            [other for other in ids if [*tails(other)][-1] == last] for ids in (self.map_ids, self.image_ids)
        )
        if len(maps) > 1:
            return BoxError(
                f"{self.boxes}, image {name!r}: it could be any of the maps {some(maps)} of {self.features}",
                "Write its id as its features are named.",
            )
        return self._same_map(images, maps[0])

    def _same_map(self, images: Sequence[str], name: str) -> BoxError:
        return BoxError(
            f"{self.boxes}, images {some(images)}: they would all be map {name!r} of {self.features}",
            "Give each image an id of its own, written as the features are named.",
        )


def _find_tails(wanted: Sequence[str], names: Sequence[str]) -> list[int]:
    """Find the one of `names` that each of `wanted` is a tail of, or has for a tail; -1 if none, `_SEVERAL` if more.

    Only whole names are kept: the tails of a million paths would take a gigabyte.
    """
    longer = {next(tails(name)): -1 for name in wanted}
    whole: dict[str, int] = {}
    for index, name in enumerate(names):
        for level, form in enumerate(tails(name)):
            if not level:
                whole[form] = _SEVERAL if form in whole else index
            if form in longer:
                longer[form] = index if longer[form] == -1 else _SEVERAL
    result = []
    for name in wanted:
        full, *shorter = tails(name)
        found = [index for index in (longer[full], *(whole.get(tail, -1) for tail in shorter)) if index != -1]
        result.append(found[0] if len(found) == 1 else _SEVERAL if found else -1)
    return result


def _near(map_ids: Counted, names: Sequence[str]) -> list[int]:
    """Return the positions, in order, that some name or its last tail is."""
    found = {map_ids.find(tail) for name in names for *_, tail in [tails(name)]}
    return sorted(found - {-1})


def some(names: Sequence[str]) -> str:
    """Return the first few names for a message."""
    shown = ", ".join(repr(name) for name in names[:5])
    return f"{shown}, ..." if len(names) > 5 else shown
