"""Several files as one source."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from roicli.errors import FeatureError
from roicli.files import printable
from roicli.protocols import FeatureSource
from roicli.sources.composed import ComposedSource
from roicli.sources.counted import Counted
from roicli.words import count

_OPEN_FILES = 64  # well under the 256 file descriptors that some systems allow a process


class ManySource(ComposedSource):
    """The maps of several sources, one after the other.

    Files of one map each name it, unless their maps have image ids of their own: networks return batches of one, and
    who writes one file an image gives the dataset in it always the same name. Of other files, maps without image ids
    are counted over all.
    """

    def __init__(self, name: str, parts: Sequence[FeatureSource]) -> None:
        self._name = f"{printable(name)} ({count(len(parts), 'file')})"
        super().__init__(*parts)
        self._ends = tuple(accumulate(len(part.ids) for part in parts))
        self._in_use: OrderedDict[int, None] = OrderedDict()
        named = _named_by_file(parts)
        self.labelled = named is not None or parts[0].labelled
        if named is None:
            _check_alike(parts)
        self.ids: Sequence[str] = Counted(self._ends[-1])
        if self.labelled:
            self.ids = _distinct(parts, named or [part.ids for part in parts])

    @property
    def name(self) -> str:
        """The pattern, for messages."""
        return self._name

    def locate(self, index: int) -> tuple[FeatureSource, int]:
        """Find the part and the index in it; the part used longest ago gives up its handle."""
        index = range(len(self.ids))[index]
        number = bisect_right(self._ends, index)
        self._in_use[number] = None
        self._in_use.move_to_end(number)
        if len(self._in_use) > _OPEN_FILES:
            self.parts[self._in_use.popitem(last=False)[0]].close()
        part = self.parts[number]
        return part, index - self._ends[number] + len(part.ids)


def _named_by_file(parts: Sequence[FeatureSource]) -> list[tuple[str]] | None:
    """Ids of the only maps of files, made of their names; None where maps have ids of their own, or a file has more."""
    if any(len(part.ids) != 1 for part in parts):
        return None
    own = [part.ids[0] for part in parts if part.labelled]
    if len(own) == len(parts) and (len(own) == 1 or len(set(own)) > 1):
        return None
    files = [Path(part.paths[0]) for part in parts]
    if len(parts) > 1 and len({file.stem for file in files}) == 1:  # 139/p2.npy: the folder is named by the image
        return [(printable(file.parent.name),) for file in files]
    return [(printable(file.stem),) for file in files]


def _check_alike(parts: Sequence[FeatureSource]) -> None:
    for part in parts:
        if part.labelled != parts[0].labelled:
            named, counted = (part, parts[0]) if part.labelled else (parts[0], part)
            raise FeatureError(
                f"{named.name} names its maps by image id, {counted.name} only counts them",
                "Pool the two kinds of file apart.",
            )


def _distinct(parts: Sequence[FeatureSource], ids: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the ids of all parts, or raise FeatureError if two of them share one."""
    owner: dict[str, FeatureSource] = {}
    for part, its_ids in zip(parts, ids, strict=True):
        for image_id in its_ids:
            if (first := owner.setdefault(image_id, part)) is not part:
                raise FeatureError(
                    f"Image id {image_id!r} is both in {first.name} and in {part.name}",
                    "Leave one of the files out, or rename the map.",
                )
    return tuple(owner)
