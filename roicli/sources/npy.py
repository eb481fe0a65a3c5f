"""A .npy file: one map (C, H, W), whose image id is the file's stem, or N maps (N, C, H, W), counted from 0."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from roicli.arrays import open_npy
from roicli.files import printable
from roicli.protocols import Shared
from roicli.sources.base import MapSource, StoredMap, check_map
from roicli.sources.counted import Counted
from roicli.sources.inventory import Inventory, Kind, group
from roicli.sources.layout import MapLayout


class NpySource(MapSource):
    """One .npy file."""

    holds = "one map (C, H, W), named by the file; or N maps (N, C, H, W)"

    def __init__(self, path: Path, layout: MapLayout, dataset: str | None = None) -> None:
        super().__init__(path, layout)
        self._array = open_npy(path)
        self._note(path, self._array.stamp)
        shape = self._array.shape
        self.labelled = not layout.is_stack(shape)
        self.ids = (printable(path.stem),) if self.labelled else Counted(shape[0])
        if self.ids:
            check_map(self.name, shape if self.labelled else shape[1:], self._array.dtype, layout)

    @classmethod
    def take_stock(cls, path: Path) -> Inventory:
        """Describe the array."""
        array = open_npy(path)
        kind = Kind(array.shape, str(array.dtype), "Fortran order" if array.fortran else "contiguous")
        return group([(path.stem, kind, array.nbytes)])

    def _find(self, index: int) -> StoredMap:
        array = self._array
        if self.labelled:
            return StoredMap(self.name, array.shape, array.dtype, array.load)
        where = f"{self.path}, map {index}"
        if not array.fortran:
            one = array.item(index)
            return StoredMap(where, one.shape, one.dtype, one.load, span=one.span)
        nbytes = array.nbytes // array.shape[0]
        load = partial(self._with_others, index, nbytes, lambda items: array.load(items=items))
        return StoredMap(where, array.shape[1:], array.dtype, load)

    def shared(self, index: int) -> Shared | None:
        """Return the array, if it is a stack in Fortran order, whose maps lie scattered over all of it."""
        if self.labelled or not self._array.fortran:
            return None
        return Shared((0,), f"numpy.save('new.npy', numpy.ascontiguousarray(numpy.load('{self.name}')))")
