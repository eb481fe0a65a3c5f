"""Sequences of ViT tokens as maps: which tokens are prefix tokens, and the grid that the others make."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.errors import FeatureError
from roicli.protocols import FeatureSource, MapInfo
from roicli.sources.base import StoredMap
from roicli.sources.choose import GRIDS, ID_NAMES, LENGTHS, MASKS, sibling_ids
from roicli.sources.composed import WrappedSource
from roicli.sources.counted import Counted
from roicli.words import count, listing

TokenOrder = Literal["raster", "merge-2x2"]
Grid = tuple[int, int]

# A class token, a distillation token, four registers. No sequence is square after two of these numbers, since the
# squares from 3 x 3 on are farther apart.
_PREFIXES = range(6)
_SMALLEST_SIDE = 3
# Grids that a message offers are not longer than this.
_LONGEST = 4


@dataclass(frozen=True)
class TokenLayout:
    """How a sequence of tokens (L, D) makes a map (D, H, W).

    Examples
    --------
    >>> tokens = TokenLayout().resolve(1374, "feats.npy")
    >>> tokens.grid, tokens.prefix
    ((37, 37), 5)
    >>> tokens.as_chw(np.zeros((1374, 384), np.float16)).shape
    (384, 37, 37)
    """

    grid: Grid | None = None  # height and width in patches; by default the square that the sequence allows
    # Tokens before the first patch: class token, registers. By default what the grid leaves, at most 5.
    prefix: int | None = None
    # Patches line by line, or in blocks of 2 x 2, as Qwen-VL orders them before it merges these
    order: TokenOrder | None = None

    name = "tokens"

    def resolve(self, length: int, where: str) -> TokenLayout:
        """Settle grid and prefix for a sequence, or raise FeatureError that says which would do."""
        grid, prefix = self.grid, self.prefix
        if grid is None:
            known = _PREFIXES if prefix is None else [prefix]
            squares = [(found, math.isqrt(length - found)) for found in known if found < length]
            fitting = [pair for pair in squares if pair[1] ** 2 == length - pair[0]]
            if prefix is None:
                fitting = [pair for pair in fitting if pair[1] >= _SMALLEST_SIDE]
            if not fitting:
                raise _no_grid(length, prefix, where)
            prefix, side = fitting[0]
            grid = side, side
        elif prefix is None:
            prefix = length - math.prod(grid)
        height, width = grid
        if prefix + height * width != length or not (0 <= prefix <= max(_PREFIXES) or prefix == self.prefix):
            given = "" if self.prefix is None else f"{count(self.prefix, 'prefix token')} and "
            raise FeatureError(
                f"{where} has {length:,} tokens, {given}a grid of {height} x {width} takes "
                f"{(self.prefix or 0) + height * width:,}",
                _offer(length, self.prefix),
            )
        if self.order == "merge-2x2" and (height % 2 or width % 2):
            raise FeatureError(
                f"{where} has a grid of {height} x {width}, which blocks of 2 x 2 do not fill",
                "Give another `grid`, or `token_order=raster`.",
            )
        return replace(self, grid=grid, prefix=prefix)

    def shape(self, channels: int) -> tuple[int, int, int]:
        """Return (C, H, W) of a map, once grid and prefix are settled."""
        assert self.grid is not None
        return channels, *self.grid

    def as_chw(self, tokens: NDArray[Any]) -> NDArray[Any]:
        """Return a sequence as a map: a view for the raster order, whose channels are last in memory."""
        assert self.grid is not None
        assert self.prefix is not None
        height, width = self.grid
        patches = tokens[self.prefix : self.prefix + height * width]
        if self.order == "merge-2x2":
            blocks = patches.reshape(height // 2, width // 2, 2, 2, -1)
            patches = blocks.transpose(0, 2, 1, 3, 4)
        return patches.reshape(height, width, -1).transpose(2, 0, 1)

    def __str__(self) -> str:
        """Say it in words, once it is settled."""
        height, width = self.grid or (0, 0)
        order = " in blocks of 2 x 2" if self.order == "merge-2x2" else ""
        before = f"{count(self.prefix, 'prefix token')} and " if self.prefix else ""
        return f"{before}a grid of {height} x {width}{order}"


def grids_of(length: int, prefix: int | None = None) -> list[tuple[int, Grid]]:
    """List prefix and grid of all grids that a sequence allows, squarest first."""
    found = []
    for before in _PREFIXES if prefix is None else [prefix]:
        cells = length - before
        for height in range(_SMALLEST_SIDE, math.isqrt(max(cells, 0)) + 1):
            width, rest = divmod(cells, height)
            if not rest and width <= _LONGEST * height:
                found.append((before, (height, width)))
                if height != width:
                    found.append((before, (width, height)))
    return sorted(found, key=lambda pair: (max(pair[1]) / min(pair[1]), pair[0]))


def _offer(length: int, prefix: int | None) -> str:
    found = grids_of(length)
    if prefix is not None:  # a square is likely after another number of prefix tokens
        found = [*(pair for pair in found[:1] if pair[1][0] == pair[1][1]), *grids_of(length, prefix)] or found
    offers = [f"`prefix={before}` with `grid={height}x{width}`" for before, (height, width) in found]
    if not offers:
        return "Give `prefix` and `grid`; height x width and the prefix tokens must make the length."
    return f"Give what the model has: {listing(offers, limit=6)}."


def _no_grid(length: int, prefix: int | None, where: str) -> FeatureError:
    after = "0 to 5 prefix tokens" if prefix is None else count(prefix, "prefix token")
    return FeatureError(f"{where} has {length:,} tokens, which after {after} are not a square", _offer(length, prefix))


class Piece(NamedTuple):
    """The tokens of one image: their sequence, where they lie in it, and their grid if a file says it."""

    sequence: int
    start: int
    stop: int
    layout: TokenLayout


class TokenSource(WrappedSource):
    """A source of sequences as a source of maps.

    Arrays beside the sequences are honored: a grid an image (`grid_thw`, `spatial_shapes`), with sequences of one
    image each or with all images packed into one sequence; lengths, or a mask, where sequences are padded.
    """

    def __init__(self, source: FeatureSource, layout: TokenLayout) -> None:
        super().__init__(source)
        self.layout = layout
        self.grids: Mapping[int, Grid] = {}
        self.has_grids = False
        self._pieces: list[Piece] | None = None
        self._held: tuple[int, NDArray[Any]] | None = None
        if len(source):
            self._pieces = self._find_pieces()
            self._check_stack()

    def locate(self, index: int) -> tuple[FeatureSource, int]:
        """Return the source and the sequence that holds map `index`."""
        return self._source, index if self._pieces is None else self._pieces[index].sequence

    def info(self, index: int) -> MapInfo:
        """Shape and dtype of map `index`."""
        info, _, layout = self._settle(index)
        return info._replace(shape=layout.shape(info.shape[0]))

    def read(self, index: int) -> NDArray[Any]:
        """Map `index` as (C, H, W): a view of its tokens, but for `merge-2x2`."""
        _, piece, layout = self._settle(index)
        return layout.as_chw(self.sequence(piece.sequence)[piece.start : piece.stop])

    def reading(self, index: int) -> tuple[int, TokenLayout]:
        """Return the length of the sequence of map `index`, and how it is taken."""
        _, piece, layout = self._settle(index)
        return piece.stop - piece.start, layout

    def tokens(self, index: int) -> NDArray[Any]:
        """All tokens of map `index`, (L, D)."""
        _, piece, _ = self._settle(index)
        return self.sequence(piece.sequence)[piece.start : piece.stop]

    def sequence(self, index: int) -> NDArray[Any]:
        """Sequence `index` as it is stored, (L, D). The last is kept where several images share it."""
        if self._held is not None and self._held[0] == index:
            return self._held[1]
        tokens = self._source.read(index)[:, 0, :].T
        self._held = (index, tokens) if self._is_packed else None
        return tokens

    @property
    def _is_packed(self) -> bool:
        return self._pieces is not None and len(self._pieces) > len(self._source)

    def _settle(self, index: int) -> tuple[MapInfo, Piece, TokenLayout]:
        index = range(len(self.ids))[index]
        if self._pieces is not None:
            piece = self._pieces[index]
            info = self._source.info(piece.sequence)
        else:
            info = self._source.info(index)
            piece = Piece(index, 0, info.shape[2], self.layout)
        layout = piece.layout
        if index in self.grids and layout.grid is None:
            layout = replace(layout, grid=self.grids[index])
        where = f"{info.where}, image {self.ids[index]}" if self._is_packed else info.where
        return info, piece, layout.resolve(piece.stop - piece.start, where)

    def _beside(self, names: Sequence[str]) -> StoredMap | None:
        """Return the first array of these names that lies beside the sequences."""
        for name in names:
            if (array := self._source.beside(name)) is not None:
                return array
        return None

    def _find_pieces(self) -> list[Piece] | None:
        sequences = len(self._source)
        length = self._source.info(0).shape[2]
        beside = self._beside(GRIDS) if self.layout.grid is None else None
        spans = self._find_spans(sequences)
        if beside is None:
            return None if spans is None else [Piece(n, *span, self.layout) for n, span in enumerate(spans)]
        grids, self.has_grids = read_grids(beside), True
        prefix = self.layout.prefix or 0
        if _are_levels(grids) and sum(math.prod(grid) for grid in grids) == length:
            raise FeatureError(
                f"{beside.where} has {count(len(grids), 'grid')}, each half as large as the last: levels of one image, "
                "flattened into one sequence",
                "Give the strides of the levels by `levels`, such as `levels=0:8,1:16,2:32,3:64`.",
            )
        if sequences == 1 and spans is None:
            return self._unpack(beside, grids, length)
        if len(grids) != sequences:
            raise FeatureError(
                f"{beside.where} has {count(len(grids), 'grid')}, {self.name} has {count(sequences, 'sequence')}",
                "Write a grid an image, or give `grid`.",
            )
        pieces = []
        for number, grid in enumerate(grids):
            start, stop = (0, prefix + math.prod(grid)) if spans is None else spans[number]
            if stop > length:
                raise FeatureError(
                    f"{beside.where}: the grid {grid[0]} x {grid[1]} of image {self.ids[number]} takes {stop:,} "
                    f"tokens, its sequence has {length:,}",
                    "Give `prefix`, or correct the grids.",
                )
            pieces.append(Piece(number, start, stop, self._with(grid, beside)))
        return pieces

    def _with(self, grid: Grid, beside: StoredMap, *, merged: bool = False) -> TokenLayout:
        """Take a grid that lies beside the tokens; Qwen-VL, which names its grids so, has blocks until it merges."""
        order = self.layout.order or (
            "merge-2x2" if "grid_thw" in beside.where.rpartition(" ")[2] and not merged else None
        )
        return replace(self.layout, grid=grid, order=order)

    def _unpack(self, beside: StoredMap, grids: list[Grid], length: int) -> list[Piece]:
        """Cut one sequence into those of its images."""
        prefix = self.layout.prefix or 0
        merged = [(height // 2, width // 2) for height, width in grids]
        for found, is_merged in ((grids, False), (merged, True)):
            ends = np.cumsum([prefix + height * width for height, width in found], dtype=np.int64).tolist()
            if ends and ends[-1] == length:
                self._name_pieces(beside, len(grids))
                return [
                    Piece(0, start, stop, self._with(grid, beside, merged=is_merged))
                    for start, stop, grid in zip([0, *ends], ends, found, strict=False)
                ]
        whole = sum(prefix + height * width for height, width in grids)
        raise FeatureError(
            f"{self.name} has {length:,} tokens, the grids of {beside.where} take {whole:,}, or {whole // 4:,} after "
            "a merge of 2 x 2",
            "Give `prefix`, or write the grids of these images.",
        )

    def _name_pieces(self, beside: StoredMap, number: int) -> None:
        if number == 1:
            return
        ids = sibling_ids(ID_NAMES, number, self._source.beside)
        self.labelled = ids is not None
        self.ids = Counted(number) if ids is None else ids

    def _find_spans(self, sequences: int) -> list[tuple[int, int]] | None:
        """Return start and stop of the tokens that padding leaves, or None where nothing says so."""
        if (mask := self._beside(MASKS)) is not None:
            length = self._source.info(0).shape[2]
            if mask.shape == (sequences, length):
                kept = mask.load().astype(bool)
                starts, sizes = kept.argmax(axis=1), kept.sum(axis=1)
                stops = length - kept[:, ::-1].argmax(axis=1)
                if not (kept.any(axis=1) & (stops - starts == sizes)).all():
                    raise FeatureError(
                        f"{mask.where} has rows without tokens, or with gaps between them",
                        "Write masks of one run of tokens an image.",
                    )
                return list(zip(starts.tolist(), stops.tolist(), strict=True))
        if (lengths := self._beside(LENGTHS)) is not None and lengths.shape == (sequences,):
            values = [int(value) for value in lengths.load().tolist()]
            for number, value in enumerate(values):
                if not 0 < value <= self._source.info(number).shape[2]:
                    raise FeatureError(
                        f"{lengths.where} says {value:,} tokens of image {self.ids[number]}, its sequence has "
                        f"{self._source.info(number).shape[2]:,}",
                        "Correct the lengths.",
                    )
            return [(0, value) for value in values]
        return None

    def _check_stack(self) -> None:
        """Refuse (S, S, D) without ids: S sequences, or one map whose channels are last."""
        if self.labelled or self._pieces is not None or self.layout.grid is not None or len(self.ids) == 1:
            return
        channels, _, length = self._source.info(0).shape
        if length == len(self.ids):
            raise FeatureError(
                f"{self.name} has shape ({length}, {length}, {channels}), which is {length} sequences of {length} "
                f"tokens, or one map of {length} x {length} cells with the channels last",
                "Give `layout=hwc` for the map, or the `grid` of the tokens.",
            )

    def close(self) -> None:
        """Release the handles; the next `info` or `read` opens them again."""
        self._held = None
        super().close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": None}


def _are_levels(grids: Sequence[Grid]) -> bool:
    """Tell whether grids are those of a pyramid: each has half the sides of the last, rounded either way."""
    sides = zip(
        [side for grid in grids[:-1] for side in grid], [side for grid in grids[1:] for side in grid], strict=True
    )
    return len(grids) > 2 and all(first // 2 <= second <= (first + 1) // 2 for first, second in sides)


def read_grids(beside: StoredMap) -> list[Grid]:
    """Read height and width an image, (N, 2), or frames, height and width, (N, 3)."""
    if len(beside.shape) != 2 or beside.shape[1] not in (2, 3):
        raise FeatureError(
            f"{beside.where} has shape {beside.shape}, where grids are (N, 2) or (N, 3)", "Write a grid an image."
        )
    rows = [[int(value) for value in row] for row in beside.load().tolist()]
    for row in rows:
        if min(row) < 1 or (len(row) == 3 and row[0] != 1):
            raise FeatureError(
                f"{beside.where} has the grid {row}, where one frame and positive sides are expected",
                "Pool the frames of videos one by one.",
            )
    return [(row[-2], row[-1]) for row in rows]
