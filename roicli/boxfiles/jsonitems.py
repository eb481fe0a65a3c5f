"""JSON values that are one box each, in a list or one a line: four or five numbers, or a COCO result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from operator import attrgetter
from typing import Annotated, Any

import numpy as np
from msgspec import UNSET, DecodeError, Meta, Raw, Struct, UnsetType
from msgspec.json import Decoder

from roicli.boxfiles.boxfile import LINE_SUFFIXES, BoxFile
from roicli.boxfiles.builder import FOUR_NUMBERS, Builder, Name, assumed_xyxy, blocks, restore_infinities
from roicli.boxfiles.jsontext import (
    NO_BOX_HINT,
    RAW,
    check_members,
    has_key,
    is_mask,
    may_repeat,
    opens,
    parse,
    refusal,
    unrecognized,
)
from roicli.boxfiles.registry import Layout
from roicli.errors import BoxError
from roicli.regions import BoxFormat, Regions

_ROTATED = 4
_TURNED = (_ROTATED, "XYWHA_ABS", "BoxMode.XYWHA_ABS", "<BoxMode.XYWHA_ABS: 4>")


class Result(Struct, gc=False):
    """A box of a named image: a COCO result, or an annotation of a COCO dataset.

    A member that is not named here is never decoded: masks would be read from a field `segmentation` of type Raw.
    """

    image_id: Name | None
    bbox: list[float | None] | UnsetType | None = UNSET
    id: Name | None = None
    score: float | None = None
    category_id: Name | None = None
    area: float | None = None
    bbox_mode: int | str | None = None
    bbox_format: Any = None
    angle: Any = None
    theta: Any = None
    rotation: Any = None


RESULT: Decoder[Any] = Decoder(Result)
_RESULT_OR_NUMBERS: Decoder[Any] = Decoder(Result | Annotated[list[float | None], Meta(max_length=5)] | None)

# detectron2's BoxMode; it has others, for relative boxes. The fifth number of a rotated one is its angle.
_MODES: dict[int | str | None, BoxFormat | None] = {
    None: None,
    **dict.fromkeys((0, "XYXY_ABS", "BoxMode.XYXY_ABS", "<BoxMode.XYXY_ABS: 0>"), BoxFormat.XYXY),
    **dict.fromkeys((1, "XYWH_ABS", "BoxMode.XYWH_ABS", "<BoxMode.XYWH_ABS: 1>"), BoxFormat.XYWH),
    **dict.fromkeys(_TURNED, BoxFormat.CXCYWH),
    # As other tools name it, in `bbox_format`.
    **{str(box_format): box_format for box_format in BoxFormat},
    "pascal_voc": BoxFormat.XYXY,
    "coco": BoxFormat.XYWH,
}


class ItemReader:
    """Boxes of a JSON file, and what their fields say together.

    `row_word`: what their rows count.
    """

    def __init__(self, file: BoxFile, row_word: str, box_format: BoxFormat | None) -> None:
        self._file = file
        self._asked = box_format
        self._mode: BoxFormat | None = None
        self._any_bbox = False
        self.builder = Builder(file.path, row_word)

    def check(self, text: bytes, items: Sequence[Raw]) -> None:
        """Raise BoxError if a key comes twice in one of the items of a text."""
        if may_repeat(text, len(items)):
            for row, raw in enumerate(items):
                check_members(raw, self.builder.where(row))

    def read(self, items: Iterable[tuple[int, Raw]], decoder: Decoder[Any] = _RESULT_OR_NUMBERS) -> None:
        """Read values with their rows."""
        for block in blocks(items):
            values: list[Any] = []
            try:
                for _, raw in block:
                    values.append(decoder.decode(raw))
            except DecodeError as error:
                raise refusal(error, self.builder.where(block[len(values)][0])) from error
            if not all(values):
                values = self._filled(values)
            if {*map(type, values)} == {Result}:  # as in most files
                self.add_results([row for row, _ in block], values)
                continue
            rows = iter([row for row, _ in block])
            for kind, group in groupby(values, type):
                for length, alike in groupby(group, len) if kind is list else [(4, group)]:
                    some = [*alike]
                    if length < 4:
                        raise BoxError(
                            f"{self.builder.where(next(rows))}: expected array of length >= 4, got {length}",
                            FOUR_NUMBERS,
                        )
                    add = self.add if kind is list else self.add_results
                    add([*islice(rows, len(some))], some)

    def _filled(self, values: list[Any]) -> list[Any]:
        """Put boxes of null where there is null or nothing, of the kind that the others are."""
        kind = next(filter(None, values), None)
        absent = Result(None) if isinstance(kind, Result) or self.builder.named else [None] * len(kind or range(4))
        return [value or absent for value in values]

    def add(self, rows: Sequence[int], boxes: Sequence[Sequence[float | None]], **more: Any) -> None:
        """Add boxes of as many numbers each; null is NaN."""
        numbers = np.array(boxes, np.float64)
        if self._file.notes:  # only a file that had such a token may have what stands for it
            restore_infinities(numbers)
        self.builder.extend(rows, numbers, **more)

    def add_results(self, rows: Sequence[int], results: Sequence[Result]) -> None:
        """Add a block of boxes of named images."""
        columns = [list(map(attrgetter(name), results)) for name in Result.__struct_fields__]
        images, boxes, ids, scores, categories, areas, modes, formats, *angles = columns
        self._any_bbox = self._any_bbox or any(box is not UNSET for box in boxes)
        said = modes
        if formats.count(None) < len(formats):
            said = [
                (format_.lower() if isinstance(format_, str) else format_) if mode is None else mode
                for mode, format_ in zip(modes, formats, strict=True)
            ]
        if not all(boxes) or None in images or {*map(len, boxes)} != {4} or _turned(said):
            boxes = [
                self._checked(box, image, row, turned=None if mode is None else _turned([mode]))
                for box, image, row, mode in zip(boxes, images, rows, said, strict=True)
            ]
            if any(five := [len(box) == 5 for box in boxes]):
                said = [_ROTATED if turned else mode for mode, turned in zip(said, five, strict=True)]
                angles = [[box[4] if turned else None for box, turned in zip(boxes, five, strict=True)]]
                self._check_angles(rows, angles[0])
                boxes = [box[:4] for box in boxes]
        if self._mode or said.count(None) < len(said):
            for index, mode in enumerate(said):
                self._see_mode(self.builder.where(rows[index]), mode, first=len(self.builder) + index == 0)
        self.add(
            rows,
            boxes,
            images=images,
            box_id=ids,
            score=scores,
            category=categories,
            area=areas,
            angle=_angles(angles),
        )

    def _checked(
        self, box: list[float | None] | UnsetType | None, image: Name | None, row: int, *, turned: bool | None
    ) -> list[float | None]:
        """Return a box, four times null if it is absent; five numbers are those of a turned one."""
        if not box:  # [], null, no bbox at all
            return [None] * 4
        if len(box) != 4 + bool(turned) and not (len(box) == 5 and turned is None):
            raise BoxError(
                f"{self.builder.where(row)} bbox: expected array of length {4 + bool(turned)}, got {len(box)}",
                "Give each bbox four numbers, or null for none; leave a score out of it.",
            )
        if image is None:
            raise BoxError(
                f"{self.builder.where(row)} image_id: expected int | float | str, got null",
                "Name the image of every box.",
            )
        return box

    def _check_angles(self, rows: Sequence[int], angles: Sequence[float | None]) -> None:
        """Refuse scores, which some write where detectron2 has the angle of a rotated box."""
        known = [angle for angle in angles if angle is not None]
        if known and all(0 <= angle <= 1 for angle in known) and any(angle % 1 for angle in known):
            raise BoxError(
                f"{self.builder.where(rows[0])} bbox: the fifth number looks like a score, not like an angle",
                "Write scores as `score`, beside the bbox.",
            )

    def _see_mode(self, where: str, mode: int | str | None, *, first: bool) -> None:
        """Take in a bbox_mode, which must be one for the whole file."""
        if not isinstance(mode, int | str | None) or mode not in _MODES:
            raise BoxError(
                f"{where} bbox_mode: expected 0 (XYXY_ABS), 1 (XYWH_ABS) or 4 (XYWHA_ABS) of detectron2, got {mode!r}",
                "Convert the boxes with detectron2's BoxMode.convert.",
            )
        if _MODES[mode] != self._mode and not first:
            raise BoxError(
                f"{where} bbox_mode: expected {self._mode or 'none'} as in the boxes before it, "
                f"got {_MODES[mode] or 'none'}",
                "Write all boxes of a file in one mode.",
            )
        self._mode = _MODES[mode]

    def regions(self, title: str, specified: BoxFormat | None, **known: Any) -> Regions:
        """Return all regions of a layout `title`, whose specification may say what a bbox is."""
        builder, source, note = self.builder, self.builder.source, ""
        if len(builder) and specified and not self._any_bbox:
            raise BoxError(f"{source}: no {builder.row_word} has a bbox", NO_BOX_HINT)
        said = self._mode or specified
        if len(builder) and self._asked is None:
            why = "as its bbox_mode says" if self._mode else "the COCO specification"
            note = f"{source}: {title}, bbox read as {said} ({why})" if said else assumed_xyxy(source)
        elif self._mode not in (None, self._asked):
            note = f"{source}: bbox read as {self._asked}, against its bbox_mode {self._mode} (`box_format`)"
        notes = (note,) if note else ()
        return builder.build(self._asked or said or BoxFormat.XYXY, layout=title, notes=notes, **known)


def _turned(modes: Sequence[Any]) -> bool:
    """Tell whether one of some modes is that of turned boxes."""
    return any(isinstance(mode, int | str) and mode in _TURNED for mode in filter(None, modes))


def _angles(names: Sequence[Sequence[Any]]) -> list[float | None]:
    """Return the angle of each box, under whichever name; None where there is none, or not a number."""
    for angles in names:
        if angles.count(None) < len(angles):
            return [float(angle) if isinstance(angle, int | float) else None for angle in angles]
    return [*names[0]]


# A result may lack its bbox; among so many at the beginning of a list one has it.
_LOOKED_AT = 100


def _is_list(file: BoxFile) -> bool:
    if file.is_lines or not isinstance(items := file.document, list):
        return False
    boxes = not items or opens(items[0], b"[") or any(has_key(item, "bbox") for item in items[:_LOOKED_AT])
    return boxes and not is_mask(items)


def _read_list(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    items = file.document
    if not isinstance(items, list) or (items and opens(items[0], b"{") and not _is_list(file)):
        raise unrecognized(file)
    reader = ItemReader(file, "box", box_format)
    reader.check(file.data, items)
    reader.read(enumerate(items))
    named = reader.builder.named
    return reader.regions("COCO results" if named else "JSON list", BoxFormat.XYWH if named else None)


def _read_lines(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    """Read line by line: the file may be larger than the memory."""
    reader = ItemReader(file, "line", box_format)

    def items() -> Iterator[tuple[int, Raw]]:
        for number, line in file.lines():
            raw = parse(RAW, line, file, number)
            if may_repeat(line, 1):
                check_members(raw, reader.builder.where(number))
            yield number, raw

    reader.read(items())
    named = reader.builder.named
    return reader.regions("COCO results" if named else "JSON Lines", BoxFormat.XYWH if named else None)


LIST = Layout(
    "a JSON list of boxes or COCO results",
    _is_list,
    _read_list,
    (".json",),
    holds="`[[x1, y1, x2, y2], ...]` for a single map; `[[batch index, x1, y1, x2, y2], ...]`; "
    "or objects with `image_id` and `bbox` (COCO results, xywh)",
)
LINES = Layout(
    "JSON Lines, a box a line",
    lambda file: file.is_lines,
    _read_lines,
    LINE_SUFFIXES,
    holds="one box per line, as in a list: numbers, or an object with `image_id` and `bbox` (xywh)",
)
