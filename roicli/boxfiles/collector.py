"""Boxes met one by one, with what their file says of the images that they are of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.builder import Builder, Name, name_of, restore_infinities
from roicli.errors import BoxError
from roicli.regions import BoxFormat, Regions

_BLOCK = 4096
NO_BOX = (None,) * 4
"""The numbers of a region whose box is absent."""


class Collector:
    """Regions of one file.

    `columns`: names of what else is known of a region, in the order in which `add` takes it.
    `row_word`: what rows count; see `Regions`.
    """

    def __init__(self, file: BoxFile, columns: Sequence[str] = (), row_word: str = "box") -> None:
        self.file = file
        self.builder = Builder(file.path, row_word)
        self._names = columns
        self._pending: list[tuple[Any, ...]] = []
        self._count = 0
        self._sizes: dict[str, tuple[float | None, float | None]] = {}
        self._aliases: dict[str, str] = {}
        self.listed: dict[str, None] = {}

    def where(self, row: int | None = None) -> str:
        """Return where a region stands, by default the next one."""
        return self.builder.where(self._count if row is None else row)

    def image(
        self, image: Name, height: float | None = None, width: float | None = None, file_name: str | None = None
    ) -> None:
        """Take in an image, with regions or without."""
        name = name_of(image)
        self.listed[name] = None
        if height and width:
            self._sizes[name] = height, width
        if file_name:
            self._aliases[name] = file_name

    def add(self, image: Name | None, numbers: Sequence[float | None], *values: Any, row: int | None = None) -> None:
        """Add a region: its image, its numbers as the file has them, and the values of the other columns."""
        self._pending.append((self._count if row is None else row, image, numbers, *values))
        self._count += 1
        if len(self._pending) == _BLOCK:
            self._flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        rows, images, boxes, *values = zip(*self._pending, strict=True)
        self._pending = []
        numbers = np.array(boxes, np.float64)
        if self.file.notes:  # only a file with a NaN or Infinity may have what stands for them
            restore_infinities(numbers)
        self.builder.extend(rows, numbers, images, **dict(zip(self._names, map(list, values), strict=True)))

    def images(self) -> dict[str, Any]:
        """Return what is known of the images, as `Builder.build` takes it."""
        return {"aliases": self._aliases, "sizes": self._sizes, "listed": tuple(self.listed) or None}

    def regions(
        self,
        title: str,
        specified: BoxFormat,
        asked: BoxFormat | None,
        *,
        normalized: bool = False,
        **known: Any,
    ) -> Regions:
        """Return all regions.

        `title`: what was recognized, for the note: "Visual Genome objects".
        `specified`, `asked`: what the numbers mean by the specification, and by the user.
        `normalized`: the numbers are in 0..1 of the image.
        `**known`: more of `Regions`.
        """
        self._flush()
        box_format = asked or specified
        unit = " in 0..1 of the image, as by `normalized`" if normalized else ""
        against = f", against the specification ({specified})" if box_format is not specified else ""
        note = f"{self.file.path}: {title}, boxes read as {box_format}{unit}{against}"
        more: tuple[str, ...] = known.pop("notes", ())
        self.builder.named = True
        return self.builder.build(
            box_format,
            **self.images(),
            layout=title,
            normalized=normalized,
            notes=(*([note] if self._count else []), *more),
            **known,
        )


def check_unit(regions: Regions, title: str) -> Regions:
    """Return regions in 0..1 of the image; BoxError if most of them are not."""
    with np.errstate(invalid="ignore"):
        beyond = np.flatnonzero(np.abs(regions.boxes).max(axis=1, initial=0) > 2)
    if len(beyond):
        raise BoxError(
            f"{regions.source}, {regions.where(beyond)}: expected {title} in 0..1 of the image, got "
            f"{regions.given[beyond[0]].tolist()}",
            "Divide them by the size of the image, or write them in pixels as a CSV.",
        )
    return regions
