"""Several files as one source."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from numpy.typing import NDArray

from roicli.errors import FeatureError
from roicli.imageids import Counted
from roicli.sources.files import printable
from roicli.sources.protocol import FeatureSource, MapInfo

_OPEN_FILES = 64  # well under the 256 file descriptors that some systems allow a process


class ManySource:
    """The maps of several sources, one after the other; maps without image ids are counted over all of them."""

    def __init__(self, name: str, parts: Sequence[FeatureSource]) -> None:
        self.name = f"{printable(name)} ({len(parts)} files)"
        self._parts = tuple(parts)
        self._ends = tuple(accumulate(len(part.ids) for part in parts))
        self._in_use: OrderedDict[int, None] = OrderedDict()
        self.labelled = parts[0].labelled
        for part in parts:
            if part.labelled != self.labelled:
                named, counted = (part, parts[0]) if part.labelled else (parts[0], part)
                raise FeatureError(
                    f"{named.name} names its maps by image id, {counted.name} only counts them",
                    "Pool the two kinds of file apart.",
                )
        if self.labelled:
            owner: dict[str, FeatureSource] = {}
            for part in parts:
                for image_id in part.ids:
                    if (first := owner.setdefault(image_id, part)) is not part:
                        raise FeatureError(
                            f"Image id {image_id!r} is both in {first.name} and in {part.name}",
                            "Leave one of the files out, or rename the map.",
                        )
            self.ids: Sequence[str] = tuple(owner)
        else:
            self.ids = Counted(self._ends[-1])

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that hold the maps."""
        return tuple(path for part in self._parts for path in part.paths)

    def _locate(self, index: int) -> tuple[FeatureSource, int]:
        """Find the part and the index in it; the part used longest ago gives up its handle."""
        index = range(len(self.ids))[index]
        number = bisect_right(self._ends, index)
        self._in_use[number] = None
        self._in_use.move_to_end(number)
        if len(self._in_use) > _OPEN_FILES:
            self._parts[self._in_use.popitem(last=False)[0]].close()
        part = self._parts[number]
        return part, index - self._ends[number] + len(part.ids)

    def info(self, index: int) -> MapInfo:
        """Shape and dtype of map `index`."""
        part, inner = self._locate(index)
        return part.info(inner)

    def read(self, index: int) -> NDArray[Any]:
        """Map `index` as (C, H, W)."""
        part, inner = self._locate(index)
        return part.read(inner)

    def close(self) -> None:
        """Release the handles of all parts."""
        for part in self._parts:
            part.close()
