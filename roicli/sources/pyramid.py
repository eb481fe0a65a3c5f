"""Feature pyramids: several levels an image, as one source of images x levels maps."""

from __future__ import annotations

import glob
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.errors import FeatureError, FileError, UsageError
from roicli.files import printable
from roicli.protocols import FeatureSource, Level
from roicli.sources.composed import ComposedSource
from roicli.sources.counted import Counted
from roicli.sources.open import format_of, matches, open_source, take_stock
from roicli.sources.tokens import TokenLayout
from roicli.stores.path import is_pattern, path_of, replaced
from roicli.words import listing

# Stands for the name of a level in a path.
PLACEHOLDER = "{level}"
# What networks call their levels; the digit n says the stride 2 ** n.
_NAMES = re.compile(r"(?:^|[^0-9A-Za-z])((p|c|res|stride)_?([0-9]))$", re.IGNORECASE)
# RoI heads use these; p6 and p7 of the same network are for proposals.
_FINEST_P, _COARSEST_P = 2, 5


class PyramidSource(ComposedSource):
    """The maps of several levels: map ``image * len(levels) + level``. `ids` are those of the images.

    `levels`: name and stride of each.
    `parts`: the maps of each level; all have the same images, in any order.
    """

    def __init__(self, levels: Sequence[Level], parts: Sequence[FeatureSource]) -> None:
        self.levels = tuple(levels)
        super().__init__(*parts)
        self.ids, self.labelled = _ids_of(levels, parts)
        self._order: list[NDArray[np.intp] | None] = [None] * len(parts)
        first = parts[0]
        for number, part in enumerate(parts):
            if self.labelled and len(first.ids) > 1 and tuple(part.ids) != tuple(first.ids):
                place = {name: index for index, name in enumerate(part.ids)}
                self._order[number] = np.array([place[name] for name in first.ids], np.intp)

    def __len__(self) -> int:
        return len(self.ids) * len(self.levels)

    def locate(self, index: int) -> tuple[FeatureSource, int]:
        """Return the part that holds map `index`, and its index there."""
        image, level = divmod(index, len(self.levels))
        order = self._order[level]
        return self.parts[level], image if order is None else int(order[image])

    def only(self, name: str) -> PyramidSource:
        """Return the pyramid of one of the levels.

        Raises UsageError: the level does not exist.
        """
        for level, part in zip(self.levels, self.parts, strict=True):
            if level.name == name:
                return PyramidSource([level], [part])
        names = listing([level.name for level in self.levels])
        raise UsageError(f"level {name!r} is not one of {names}", "Give one of them.")

    def _position(self, image_id: str) -> int:
        raise FeatureError(f"{self.name} has several maps of each image", "Read one by its number.")


def open_pyramid(pattern: str, levels: Sequence[Level], *, dataset: str | None = None, **how: Any) -> PyramidSource:
    """Open the levels of a pyramid, wherever they lie.

    `pattern`: as in `open_source`. With "{level}" in it, it names the files of each level. Otherwise a level is a
    subfolder, a file of the folder or pattern that is named by it, or a dataset: at the root, or in a group an image.
    `levels`: name and stride of each.
    `dataset`: the group that holds all this, in a file of datasets.
    `**how`: layout and the like: see `open_source`.
    Raises FileError, FeatureError: a level that is not there or cannot be read, levels of other images than the first.
    UsageError: names that come twice, or strides that are not positive numbers.
    """
    names = [level.name for level in levels]
    if not names or len(set(names)) < len(names):
        raise UsageError(f"levels must have names of their own, got {listing(names)}", "Name each level once.")
    for level in levels:
        if not 0 < level.stride < math.inf:
            raise UsageError(
                f"the stride of level {level.name} must be positive, got {level.stride:g}", "Give `levels`."
            )
    pattern = os.fspath(pattern)
    if isinstance(how.get("layout"), TokenLayout):
        from roicli.sources.flattened import flattened_levels

        rest = {name: value for name, value in how.items() if name != "layout"}
        if (parts := flattened_levels(pattern, levels, how["layout"], dataset, rest)) is not None:
            return PyramidSource(levels, parts)
    return PyramidSource(levels, [_open_level(pattern, name, names, dataset, how) for name in names])


def find_levels(pattern: str, *, dataset: str | None = None, **how: Any) -> PyramidSource | None:
    """Open a pyramid whose levels say so: by names such as p2, c4 or res5, and by sizes that fit their strides.

    Returns
    -------
    PyramidSource or None
        None if there is any doubt.
    """
    try:
        levels = _named_levels(_outline(os.fspath(pattern), dataset))
        source = open_pyramid(pattern, levels, dataset=dataset, **how) if len(levels) > 1 else None
    except (FeatureError, FileError):
        return None
    if source is None or not len(source):
        return None
    try:
        return None if size_fault(source, 0) else source
    except (FeatureError, FileError):
        return None


def has_digits(pattern: str, dataset: str | None = None) -> bool:
    """Tell whether arrays are named 0, 1, 2, 3 side by side, as torchvision names levels."""
    try:
        names = {name.rpartition("/")[2] for name in _outline(os.fspath(pattern), dataset)}
    except (FeatureError, FileError):
        return False
    return names >= {"0", "1", "2", "3"}


def size_fault(source: FeatureSource, image: int) -> str:
    """Say which level of an image has not the size that follows from the first and their strides; or nothing."""
    first, count = source.info(image * len(source.levels)), len(source.levels)
    for number, level in enumerate(source.levels):
        info = source.info(image * count + number)
        for own, finest in zip(info.shape[1:], first.shape[1:], strict=True):
            # Both may be rounded up or down, and padded to a multiple of the coarsest stride.
            expected = finest * source.levels[0].stride / level.stride
            if abs(own - expected) > 1 + source.levels[0].stride / level.stride:
                sizes = " x ".join(map(str, info.shape[1:]))
                shape = " x ".join(f"{side * source.levels[0].stride / level.stride:g}" for side in first.shape[1:])
                return (
                    f"{info.where}: level {level.name} of stride {level.stride:g} has {sizes} cells, expected {shape}"
                )
    return ""


def stride_of(name: str) -> float | None:
    """Return the stride that the name of a level says: 4 for p2, c2 or res2; None if it says none.

    Examples
    --------
    >>> stride_of("p3"), stride_of("feats_res5"), stride_of("0")
    (8.0, 32.0, None)
    """
    found = _NAMES.search(name)
    return None if found is None else 2.0 ** int(found[3])


def _ids_of(levels: Sequence[Level], parts: Sequence[FeatureSource]) -> tuple[Sequence[str], bool]:
    """Return the image ids; the only map of a file may be named by its level, which says nothing of its image."""
    first = parts[0]
    if all(len(part.ids) == 1 and _is_of(part.ids[0], level.name) for part, level in zip(parts, levels, strict=True)):
        if len({part.paths for part in parts}) == 1:  # the levels of one image
            return (printable(Path(first.paths[0]).stem),), True
        return Counted(1), False
    for part, level in zip(parts, levels, strict=True):
        if len(part.ids) != len(first.ids) or part.labelled != first.labelled:
            other = f"{len(part.ids):,} where that has {len(first.ids):,}"
        elif lost := {*first.ids} - {*part.ids}:
            other = f"{min(lost)!r} is missing"
        else:
            continue
        raise FeatureError(
            f"level {level.name} ({part.name}) has other images than level {levels[0].name}: {other}",
            "Write every level of every image, under the same ids.",
        )
    return first.ids, first.labelled


def _open_level(
    pattern: str, name: str, names: Sequence[str], dataset: str | None, how: Mapping[str, Any]
) -> FeatureSource:
    """Open the maps of one level; see `open_pyramid`."""
    if PLACEHOLDER in pattern:
        return open_source(replaced(pattern, PLACEHOLDER, name), dataset=dataset, **how)
    if _is_folder(path_of(pattern)):
        inside = sorted(path for path in path_of(pattern).iterdir() if name in (path.name, path.stem))
        if inside:
            return open_source(inside[0], **how)
        return open_source(f"{glob.escape(pattern)}/*/{glob.escape(name)}.*", **how)
    if is_pattern(pattern):
        found = matches(pattern)
        own = [path for path in found if _is_of(path, name)]
        if len(own) == 1 and all(any(_is_of(path, other) for other in names) for path in found):
            return open_source(own[0], dataset=dataset, **how)
        if any(path.endswith(".npy") for path in found):
            raise FileError(
                f"{printable(pattern)}: expected one file of level {name}, got {len(own)} of {len(found)} files",
                f"Give the place of the name, such as 'feats_{PLACEHOLDER}.npy', or the names of the `levels`.",
            )
    prefix = f"{dataset.strip('/')}/" if dataset and dataset.strip("/") else ""
    try:
        return open_source(pattern, dataset=f"{prefix}{name}", **how)
    except FeatureError:
        try:
            return open_source(pattern, dataset=f"{prefix}*/{name}", **how)
        except FeatureError:
            pass
        raise


def _is_folder(path: Path) -> bool:
    """Tell whether a path is a folder of files; a Zarr store holds arrays."""
    return path.is_dir() and not format_of(path).has_datasets


def _is_of(path: str, name: str) -> bool:
    """Tell whether a file is named by a level: p2.h5, feats_p2.npz."""
    return re.search(rf"(?:^|[^0-9A-Za-z]){re.escape(name)}$", Path(path).stem) is not None


def _outline(pattern: str, dataset: str | None) -> list[str]:
    """Name what lies in a file, a folder, or the first file that matches a pattern: where levels may be."""
    path = path_of(pattern)
    if _is_folder(path):
        entries = sorted(path.iterdir())
        inner = next((entry for entry in entries if entry.is_dir()), None)
        return [entry.stem for entry in [*entries, *(sorted(inner.iterdir()) if inner else [])]]
    if is_pattern(pattern):
        found = matches(pattern)
        return [*(Path(name).stem for name in found), *(_outline(found[0], dataset) if found else [])]
    if not format_of(path).has_datasets:
        return []
    above = f"{dataset.strip('/')}/" if dataset and dataset.strip("/") else ""
    names = [name.lstrip("/") for alike in take_stock(path).kinds for name in alike.names]
    return [name.removeprefix(above) for name in names if name.startswith(above)]


def _named_levels(names: Sequence[str]) -> list[Level]:
    """Return the levels among names, if they are of one kind, and without a gap."""
    parts = [part for name in names for part in name.strip("/").split("/")]
    found = {match[1]: match for part in parts if (match := _NAMES.search(part))}
    kinds = {match[2] for match in found.values()}
    numbers = sorted((int(match[3]), name) for name, match in found.items())
    if kinds <= {"p", "P"} and numbers and numbers[0][0] == _FINEST_P:
        numbers = [(number, name) for number, name in numbers if number <= _COARSEST_P]
    if len(kinds) != 1 or [number for number, _ in numbers] != [*range(numbers[0][0], numbers[0][0] + len(numbers))]:
        return []
    return [Level(name, 2.0**number) for number, name in numbers]
