"""The masks of regions, read in a pass of their own: a job that does not pool masks never holds them.

Masks are kept as their file encodes them, JSON text of a few hundred bytes, and decoded one at a time.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from copy import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.json import Decoder
from numpy.typing import NDArray

from roicli.boxfiles.boxfile import BoxFile, opened
from roicli.boxfiles.jsontext import fields, has_key, opens
from roicli.boxfiles.outlines import Mask, OutlineError, Size, decode_mask, said_size
from roicli.boxfiles.registry import load
from roicli.errors import BoxError
from roicli.regions import MaskFill, Names, Regions


class EncodedMasks:
    """Masks of K regions, as their files encode them; see `roicli.protocols.Masks`.

    `texts`: all of them, one after the other.
    `ends` (K, 2): where each begins and ends there.
    `rows` (K,): where each region stands in its file.
    `source`, `word`: the file, and what rows count, for messages.
    `checksum`: see `roicli.protocols.Masks`.
    """

    def __init__(
        self,
        texts: bytearray,
        ends: NDArray[np.int64],
        rows: NDArray[np.int64],
        source: str,
        word: str,
        fill: MaskFill | None,
        checksum: int,
    ) -> None:
        self._texts, self._ends, self._rows = texts, ends, rows
        self._source, self._word, self._fill = source, word, fill
        self.checksum = checksum

    def __len__(self) -> int:
        return len(self._ends)

    def take(self, rows: Any) -> EncodedMasks:
        """Return the masks at `rows`, an index or a slice, in that order."""
        taken = copy(self)
        taken._ends, taken._rows = self._ends[rows], self._rows[rows]
        return taken

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which regions have a mask in the file, be it an empty one."""
        return self._ends[:, 1] > self._ends[:, 0]

    def size(self, row: int) -> Size | None:
        """Return height and width of a mask that says them."""
        first, end = self._ends[row].tolist()
        return said_size(self._texts[first:end]) if end > first else None

    def decode(self, row: int, size: Size | None, canvas: Size) -> Mask:
        """Decode the mask of one region; BoxError if that cannot be done."""
        first, end = self._ends[row].tolist()
        if first == end:
            return np.zeros(size or canvas, np.bool_)
        try:
            return decode_mask(self._texts[first:end], size, canvas, self._fill)
        except OutlineError as error:
            fault, hint = error.args
            raise BoxError(f"{self._source}, {self._word} {self._rows[row]}: {fault}", hint) from error


def read_masks(table: Regions, fill: MaskFill | None = None) -> EncodedMasks:
    """Read the masks of regions from their files.

    `table`: all regions of the files, or some of them.
    `fill`: how outlines become pixels; see `decode_mask`.
    Raises BoxError: the layout of a file has no masks.
    """
    files = table.columns.get("file")
    names, number = (
        (files.names, files.index) if isinstance(files, Names) else ((table.source,), np.zeros(len(table), np.intp))
    )
    order = np.argsort(number, kind="stable")
    splits = np.searchsorted(number[order], np.arange(len(names) + 1))
    texts, ends, checksum = bytearray(), np.zeros((len(table), 2), np.int64), 0
    for name, (first, stop) in zip(names, pairwise(splits.tolist()), strict=True):
        here = order[first:stop]
        wanted = dict(zip(table.rows[here].tolist(), here.tolist(), strict=True))
        for row, text, said in _masks(Path(name), table, wanted):
            checksum = zlib.crc32(said, checksum)
            region = wanted.get(row)
            if region is not None and text:
                ends[region] = len(texts), len(texts) + len(text)
                texts += text
    return EncodedMasks(texts, ends, table.rows, table.source, table.row_word, fill, checksum)


def _masks(path: Path, table: Regions, rows: Iterable[int]) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield what `Layout.masks` does; a row without a mask has no text."""
    if path == Path("-"):
        raise BoxError("-: masks are read a second time, and standard input cannot be", "Give the name of a file.")
    masks = load(table.boxes_as).masks
    with opened(path) as file:
        if masks is not None:
            yield from masks(file, rows)
            return
        if file.form != "json":
            raise _none(file, table)
        found = 0
        for row, raw in _of_json(file, table):
            text = b"" if raw is UNSET else bytes(raw)
            found += raw is not UNSET
            yield row, b"" if text in (b"null", b"[]") else text, text
        if not found:
            raise _none(file, table)


def _none(file: BoxFile, table: Regions) -> BoxError:
    return BoxError(
        f"{file.path}: a {table.layout or 'box file'} without masks",
        "Give COCO annotations or results with a segmentation, or see which files have masks: roicli help masks.",
    )


class _Outlined(Struct):
    segmentation: Raw | UnsetType = UNSET
    geometry: Raw | UnsetType = UNSET
    points: Raw | UnsetType = UNSET


class _Holder(Struct):
    """An image of detectron2's lists."""

    annotations: list[Raw] | UnsetType = UNSET
    instances: list[Raw] | UnsetType = UNSET


_ITEMS = Decoder(list[Raw])
_OUTLINED = Decoder(_Outlined)
_HOLDER = Decoder(_Holder)


def _of_json(file: BoxFile, table: Regions) -> Iterator[tuple[int, Raw | UnsetType]]:
    """Yield the rows of a JSON file, as its reader numbers them, and their masks."""
    if file.is_lines:
        for number, line in file.lines():
            yield number, _mask(Raw(line))
        return
    document = file.document
    if isinstance(document, dict):
        name = next((name for name in ("annotations", "features", "shapes") if name in document), None)
        items = [] if name is None else fields(_ITEMS, document[name], f"{file.path} {name}")
    elif document and any(has_key(document[0], name) for name in ("annotations", "instances")):
        items = [one for raw in document for one in _held(raw)]
    else:
        items = document
    for row, raw in enumerate(items):
        yield row, _mask(raw)


def _mask(raw: Raw) -> Raw | UnsetType:
    if not opens(raw, b"{"):
        return UNSET
    outlined = _OUTLINED.decode(raw)
    if outlined.points is not UNSET:
        return raw  # a LabelMe shape, which says its type beside the points
    return outlined.segmentation if outlined.segmentation is not UNSET else outlined.geometry


def _held(raw: Raw) -> list[Raw]:
    holder = _HOLDER.decode(raw)
    found = holder.annotations if holder.instances is UNSET else holder.instances
    return [] if found is UNSET else found
