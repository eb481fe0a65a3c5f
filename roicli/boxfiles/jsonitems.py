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
from roicli.boxfiles.builder import BLOCK, NO_IMAGE, Builder, Name, assumed_xyxy, restore_tokens
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
    angle: Any = None
    theta: Any = None
    rotation: Any = None


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
        restore_tokens(numbers)
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
            rows: list[int] = []
            values: list[Any] = []
            try:
                for row, raw, doubtful in block:
                    value = decoder.decode(raw)
                    if doubtful and isinstance(value, Result):
                        check_members(MEMBERS.decode(raw), self.builder.where(row))
                    rows.append(row)
                    values.append(value)
            except DecodeError as error:
                raise refusal(error, self.builder.where(row)) from error
            if {*map(type, values)} == {Result}:
                self._add_results(rows, values)
                continue
            for (width, named), group in groupby(zip(rows, values, strict=True), lambda pair: _layout_of(pair[1])):
                some_rows, alike = zip(*group, strict=True)
                if named:
                    self._add_results(some_rows, alike)
                else:
                    self._add(some_rows, numbers_of(self._file, alike, width), alike)

    def _add(
        self, rows: Sequence[int], numbers: NDArray[np.float64], boxes: Sequence[Sequence[float | None]], **more: Any
    ) -> None:
        """Add boxes; those of which every number is null are absent."""
        unknown = np.flatnonzero(np.isnan(numbers).all(axis=1)).tolist()
        absent = [index for index in unknown if boxes[index].count(None) == len(boxes[index])]
        self.builder.extend(rows, numbers, absent=absent, **more)

    def _add_results(self, rows: Sequence[int], results: Sequence[Result]) -> None:
        boxes: list[Any] = [result.bbox for result in results]
        self._any_bbox = self._any_bbox or any(box is not UNSET for box in boxes)
        images: list[Any] = [result.image_id for result in results]
        if None in boxes or None in images or UNSET in boxes or {*map(len, boxes)} != {4}:
            for index, box in enumerate(boxes):
                if not box or box is UNSET:  # [], null, no bbox at all
                    boxes[index] = [None] * 4
                    images[index] = NO_IMAGE if images[index] is None else images[index]
                elif len(box) != 4:
                    raise BoxError(
                        f"{self.builder.where(rows[index])} bbox: expected array of length 4, got {len(box)}",
                        "Give each bbox four numbers, or null for none.",
                    )
                elif images[index] is None:
                    raise BoxError(
                        f"{self.builder.where(rows[index])} image_id: expected int | float | str, got null",
                        "Name the image of every box.",
                    )
        modes = [result.bbox_mode for result in results]
        if self._mode is not None or modes.count(None) < len(modes):
            for index, mode in enumerate(modes):
                self._see_mode(self.builder.where(rows[index]), mode, len(self.builder) + index == 0)
        self._add(
            rows,
            numbers_of(self._file, boxes, 4),
            boxes,
            images=images,
            box_id=[result.id for result in results],
            score=[result.score for result in results],
            category=[result.category_id for result in results],
            area=[result.area for result in results],
            angle=_angles(results),
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


def _angles(results: Sequence[Result]) -> list[float | None]:
    """Return the angle of each box, under whichever name; None where there is none, or not a number."""
    for name in ("angle", "theta", "rotation"):
        angles = [getattr(result, name) for result in results]
        if angles.count(None) < len(angles):
            return [float(angle) if isinstance(angle, int | float) else None for angle in angles]
    return [None] * len(results)


def _layout_of(value: Result | list[float | None]) -> tuple[int, bool]:
    return (4, True) if isinstance(value, Result) else (len(value), False)
