"""Sources that are made of other sources: several files as one, the levels of a pyramid, maps read another way."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from roicli.files import Stamp
from roicli.protocols import FeatureSource, MapInfo, Shared, StoredMap
from roicli.sources.base import Maps


class ComposedSource(Maps):
    """The maps of other sources, `parts`; a subclass says where map `index` lies, and what is made of it."""

    def __init__(self, *parts: FeatureSource) -> None:
        self.parts = parts

    @property
    def name(self) -> str:
        """The files, for messages."""
        names = [*dict.fromkeys(part.name for part in self.parts)]
        return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that hold the maps."""
        return tuple(dict.fromkeys(path for part in self.parts for path in part.paths))

    @property
    def stamps(self) -> dict[str, Stamp]:
        """State of the files that were opened so far; FileError if one part saw another state than the one before."""
        found: dict[str, Stamp] = {}
        for part in self.parts:
            for path, stamp in part.stamps.items():
                found.setdefault(path, stamp).check(path, stamp)
        return found

    @abstractmethod
    def locate(self, index: int) -> tuple[FeatureSource, int]:
        """Return the part that holds map `index`, and its index there."""

    def info(self, index: int) -> MapInfo:
        """Shape and dtype of map `index`."""
        part, inner = self.locate(index)
        return part.info(inner)

    def read(self, index: int) -> NDArray[Any]:
        """Map `index` as (C, H, W)."""
        part, inner = self.locate(index)
        return part.read(inner)

    def shared(self, index: int) -> Shared | None:
        """Return the storage that map `index` shares with others."""
        part, inner = self.locate(index)
        shared = part.shared(inner)
        return shared and shared._replace(key=(id(part), *shared.key))

    def expect(self, indices: Sequence[int]) -> None:
        """Hold these maps, as far as they share storage, from when one of them is read."""
        wanted: dict[int, tuple[FeatureSource, set[int]]] = {}
        for index in indices:
            part, inner = self.locate(index)
            wanted.setdefault(id(part), (part, set()))[1].add(inner)
        for part, inside in wanted.values():
            part.expect(sorted(inside))

    def beside(self, name: str) -> StoredMap | None:
        """Return an array beside the maps; None if there are several parts: one says nothing of the others."""
        return self.parts[0].beside(name) if len(self.parts) == 1 else None

    def close(self) -> None:
        """Release the handles of all parts."""
        for part in self.parts:
            part.close()


class WrappedSource(ComposedSource):
    """The maps of one source, read another way."""

    def __init__(self, source: FeatureSource) -> None:
        super().__init__(source)
        self._source = source
        self.ids, self.labelled = source.ids, source.labelled

    def locate(self, index: int) -> tuple[FeatureSource, int]:
        """Return the source and the index."""
        return self.parts[0], range(len(self.ids))[index]
