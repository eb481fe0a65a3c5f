"""A folder of .npy files named by image id."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from roicli.arrays import open_npy
from roicli.errors import FileError
from roicli.files import natural_key, printable, reading
from roicli.sources.base import MapSource, StoredMap, unique
from roicli.sources.layout import MapLayout

# Names that are looked at for a hint: a folder of a network disk may hold millions.
_LOOKED_AT = 1000


class FolderSource(MapSource):
    """Every .npy file directly in a folder; hidden files are left out, as a glob would.

    Each file holds one map, (C, H, W) or, since networks return batches of one, (1, C, H, W). Opening lists names
    only: a file is looked at when its map is asked for.
    """

    holds = "`.npy` files of one map each, named by image id"

    labelled = True

    def __init__(self, path: Path, layout: MapLayout, dataset: str | None = None) -> None:
        super().__init__(path, layout)
        with reading(self.name):
            names = [p.name for p in path.iterdir() if p.suffix.lower() == ".npy" and not p.name.startswith(".")]
        if not names:
            raise FileError(f"{self.name} is a folder without .npy files", _hint(path))
        self._files = sorted(names, key=natural_key)
        self.ids = unique((printable(Path(name).stem) for name in self._files), self.name)

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that hold the maps."""
        return tuple(str(self.path / name) for name in self._files)

    def _find(self, index: int) -> StoredMap:
        path = self.path / self._files[index]
        array = open_npy(path)
        self._note(path, array.stamp)
        return self._without_batch(StoredMap(str(path), array.shape, array.dtype, array.load))


def _hint(path: Path) -> str:
    """Name the pattern of the maps that are in a folder all the same: of another format, or in folders below."""
    from roicli.sources.open import suffixes  # which loads this module

    below = islice((name for _, _, names in os.walk(path) for name in names), _LOOKED_AT)
    for place, names in (("*", [*islice(path.iterdir(), _LOOKED_AT)]), ("**/*", [*map(Path, below)])):
        for name in names:
            if name.suffix.lower() in suffixes() and not name.name.startswith("."):
                return f"Give a pattern in quotes: '{printable(str(path))}/{place}{name.suffix}'."
    return "Name a folder of .npy files, one a map, or a pattern in quotes such as 'feats/*.h5'."
