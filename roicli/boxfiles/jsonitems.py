"""JSON values that are one box each: four or five numbers, or an object with an image_id and a bbox (COCO)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import Annotated, Any, TypeVar

import numpy as np
from msgspec import UNSET, DecodeError, Meta, Raw, Struct, UnsetType
from msgspec.json import Decoder
from numpy.typing import NDArray

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.builder import BLOCK, INFINITE, NAN, NEGATIVE_INFINITE, NO_IMAGE, Builder, Name, assumed_xyxy
from roicli.boxfiles.jsontext import MEMBERS, NO_BOX_HINT, check_members, refusal
from roicli.errors import BoxError
from roicli.regions import BoxFormat, Regions

_T = TypeVar("_T")

FourOrFive = Annotated[list[float | None], Meta(min_length=4, max_length=5)]


class Result(Struct, gc=False):
    """A box of a named image: a COCO result, or an annotation of a COCO dataset."""

    image_id: Name | None
    bbox: list[float | None] | UnsetType | None = UNSET
    id: Name | None = None
    score: float | None = None
    category_id: Name | None = None
    area: float | None = None
    bbox_mode: int | str | None = None


RESULT: Decoder[Any] = Decoder(Result)
RESULT_OR_NUMBERS: Decoder[Any] = Decoder(Result | FourOrFive)

# detectron2's BoxMode; it has others, for rotated and relative boxes.
_MODES: dict[int | str, BoxFormat] = {
    **dict.fromkeys((0, "XYXY_ABS", "BoxMode.XYXY_ABS"), BoxFormat.XYXY),
    **dict.fromkeys((1, "XYWH_ABS", "BoxMode.XYWH_ABS"), BoxFormat.XYWH),
}


def numbers_of(file: BoxFile, lists: Sequence[Sequence[float | None]], width: int) -> NDArray[np.float64]:
    """Return lists of `width` numbers as an array; null is NaN."""
    numbers = np.array(lists, dtype=np.float64).reshape(-1, width)
    if file.has_tokens:
        numbers[numbers == NAN] = np.nan
        numbers[numbers == INFINITE] = np.inf
        numbers[numbers == NEGATIVE_INFINITE] = -np.inf
    return numbers


def blocks(items: Iterable[_T]) -> Iterator[list[_T]]:
    """Yield items so many at once as the builder likes."""
    iterator = iter(items)
    while block := list(islice(iterator, BLOCK)):
        yield block


class ItemReader:
    """Boxes that are one JSON value each, and what their fields say together.

    Parameters
    ----------
    file : BoxFile
        The file.
    row_word : str
        What their rows count.
    box_format : BoxFormat, optional
        What the user says.
    """

    def __init__(self, file: BoxFile, row_word: str, box_format: BoxFormat | None) -> None:
        self._file = file
        self._asked = box_format
        self._mode: BoxFormat | None = None
        self._any_bbox = False
        self.builder = Builder(file.path, row_word)

    def read(self, items: Iterable[tuple[int, Raw, bool]], decoder: Decoder[Any]) -> None:
        """Read values with their rows, and whether a key may come twice in them."""
        for block in blocks(items):
            values: list[tuple[int, Result | list[float | None]]] = []
            for row, raw, doubtful in block:
                try:
                    value = decoder.decode(raw)
                except DecodeError as error:
                    raise refusal(error, self.builder.where(row)) from error
                if doubtful and isinstance(value, Result):
                    where = self.builder.where(row)
                    check_members(MEMBERS.decode(raw), where)
                values.append((row, value))
            for (width, named), group in groupby(values, lambda pair: _layout_of(pair[1])):
                rows, alike = zip(*group, strict=True)
                if named:
                    self._add_results(rows, alike)
                else:
                    absent = [index for index, numbers in enumerate(alike) if numbers.count(None) == width]
                    self.builder.extend(rows, numbers_of(self._file, alike, width), absent=absent)

    def _add_results(self, rows: Sequence[int], results: Sequence[Result]) -> None:
        boxes: list[list[float | None]] = []
        absent = []
        for index, result in enumerate(results):
            box = None if result.bbox is UNSET else result.bbox
            self._any_bbox = self._any_bbox or result.bbox is not UNSET
            if not box or box.count(None) == 4:  # [], null, no bbox at all, four times null
                box = [None] * 4
                absent.append(index)
            elif result.image_id is None:
                raise BoxError(
                    f"{self.builder.where(rows[index])} image_id: expected int | float | str, got null",
                    "Name the image of every box.",
                )
            elif len(box) != 4:
                raise BoxError(
                    f"{self.builder.where(rows[index])} bbox: expected array of length 4, got {len(box)}",
                    "Give each bbox four numbers, or null if there is no box.",
                )
            boxes.append(box)
            if result.bbox_mode is not None or self._mode is not None:
                self._see_mode(self.builder.where(rows[index]), result.bbox_mode, len(self.builder) + index == 0)
        self.builder.extend(
            rows,
            numbers_of(self._file, boxes, 4),
            [NO_IMAGE if result.image_id is None else result.image_id for result in results],
            absent,
            box_id=[result.id for result in results],
            score=[result.score for result in results],
            category=[result.category_id for result in results],
            area=[result.area for result in results],
        )

    def _see_mode(self, where: str, mode: int | str | None, first: bool) -> None:
        """Take in a bbox_mode, which must be one for the whole file."""
        if mode is not None and mode not in _MODES:
            raise BoxError(
                f"{where} bbox_mode: expected 0 (XYXY_ABS) or 1 (XYWH_ABS) of detectron2, got {mode!r}",
                "Convert the boxes with detectron2's BoxMode.convert.",
            )
        said = None if mode is None else _MODES[mode]
        if said != self._mode and not first:
            raise BoxError(
                f"{where} bbox_mode: expected {self._mode or 'none'} as in the boxes before it, got {said or 'none'}",
                "Write all boxes of a file in one mode.",
            )
        self._mode = said

    def regions(self, default: BoxFormat, title: str, **known: Any) -> Regions:
        """Return all regions of a layout `title` whose specification says that a bbox is `default`."""
        builder, notes = self.builder, []
        if builder.all_absent and builder.named and not self._any_bbox:
            raise BoxError(f"{builder.source}: no {builder.row_word} has a bbox", NO_BOX_HINT)
        said = (self._mode or default) if builder.named else None
        if len(builder) and self._asked is None:
            why = "as its bbox_mode says" if self._mode else "the COCO specification"
            notes = [
                f"{builder.source}: {title}, bbox read as {said} ({why})" if said else assumed_xyxy(builder.source)
            ]
        elif self._mode not in (None, self._asked):
            notes = [f"{builder.source}: bbox read as {self._asked}, against its bbox_mode {self._mode} (`box_format`)"]
        return builder.build(self._asked or said or BoxFormat.XYXY, layout=title, notes=tuple(notes), **known)


def _layout_of(value: Result | list[float | None]) -> tuple[int, bool]:
    return (4, True) if isinstance(value, Result) else (len(value), False)
