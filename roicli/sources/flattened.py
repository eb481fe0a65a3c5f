"""Levels of a pyramid whose tokens follow each other in one sequence, as in Deformable DETR."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.errors import FeatureError, FileError
from roicli.protocols import FeatureSource, Level, MapInfo
from roicli.sources.choose import GRIDS
from roicli.sources.composed import WrappedSource
from roicli.sources.layout import SEQUENCES
from roicli.sources.open import open_source
from roicli.sources.tokens import Grid, Piece, TokenLayout, TokenSource, read_grids


def flattened_levels(
    pattern: str, levels: Sequence[Level], layout: TokenLayout, dataset: str | None, how: Mapping[str, Any]
) -> list[TokenSource] | None:
    """Open the levels of flattened sequences.

    Their grids are their names, such as 100x134, or lie beside the sequences as `spatial_shapes` (levels, 2).

    Raises FileError, FeatureError: what cannot be opened, if the names of the levels are grids.

    Returns
    -------
    list of TokenSource or None
        One a level; None if nothing says that the levels are flattened.
    """
    named = [re.fullmatch(r"(\d{1,6})x(\d{1,6})", level.name) for level in levels]
    grids = [(int(found[1]), int(found[2])) for found in named if found]
    try:
        source = open_source(pattern, dataset=dataset, layout=SEQUENCES, **how)
        if len(grids) < len(levels):
            beside = next((array for name in GRIDS if (array := source.beside(name)) is not None), None)
            grids = [] if beside is None else read_grids(beside)
            if len(grids) != len(levels):
                return None
    except (FeatureError, FileError):
        if len(grids) < len(levels):
            return None
        raise
    shared = _LastRead(source)
    ends = np.cumsum([layout.prefix or 0, *(math.prod(grid) for grid in grids)], dtype=np.int64).tolist()
    return [_FlatLevel(shared, grid, first, ends[-1]) for grid, first in zip(grids, ends, strict=False)]


class _FlatLevel(TokenSource):
    """The tokens of one level, within sequences of several."""

    def __init__(self, source: FeatureSource, grid: Grid, first: int, length: int) -> None:
        self._first, self._length = first, length
        super().__init__(source, TokenLayout(grid, 0))

    def _find_pieces(self) -> list[Piece]:
        assert self.layout.grid is not None
        stop = self._first + math.prod(self.layout.grid)
        return [Piece(number, self._first, stop, self.layout) for number in range(len(self.ids))]

    def _settle(self, index: int) -> tuple[MapInfo, Piece, TokenLayout]:
        info, piece, layout = super()._settle(index)
        if info.shape[2] != self._length:
            raise FeatureError(
                f"{info.where} has {info.shape[2]:,} tokens, the grids of its levels take {self._length:,}",
                "Give the grids and strides by `levels`, such as `levels=100x134:8,50x67:16,25x34:32`; and the "
                "`prefix`, if there is one.",
            )
        return info, piece, layout


class _LastRead(WrappedSource):
    """A source that keeps the sequence that was read last, which several levels share."""

    _held: tuple[int, NDArray[Any]] | None = None

    def read(self, index: int) -> NDArray[Any]:
        """Sequence `index`, read once."""
        if self._held is None or self._held[0] != index:
            self._held = None
            self._held = index, super().read(index)
        return self._held[1]

    def close(self) -> None:
        """Release the handles."""
        self._held = None
        super().close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": None}
