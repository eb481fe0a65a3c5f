"""A JSON list of boxes: four or five numbers each, or objects with an image_id and a bbox (COCO results)."""

from __future__ import annotations

from itertools import count, repeat

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.jsonitems import RESULT_OR_NUMBERS, ItemReader
from roicli.boxfiles.jsontext import has_key, is_list, is_object, may_repeat, unrecognized
from roicli.boxfiles.layout import Layout
from roicli.regions import BoxFormat, Regions

# A result may lack its bbox; among so many at the beginning of a list one has it.
_LOOKED_AT = 100


def _recognizes(file: BoxFile) -> bool:
    if file.is_lines or not file.document.is_array:
        return False
    items = file.document.items
    return not items or is_list(items[0]) or any(has_key(item, "bbox") for item in items[:_LOOKED_AT])


def _read(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    document = file.document
    if not document.is_array or (document.items and is_object(document.items[0]) and not _recognizes(file)):
        raise unrecognized(file)
    doubtful = may_repeat(document.data, len(document.items))
    reader = ItemReader(file, "box", box_format)
    reader.read(zip(count(), document.items, repeat(doubtful)), RESULT_OR_NUMBERS)
    return reader.regions(BoxFormat.XYWH, "COCO results" if reader.builder.named else "JSON list")


LAYOUT = Layout(
    "json-list",
    "a JSON list of boxes or COCO results",
    "json",
    _recognizes,
    _read,
    (".json",),
    holds="`[[x1, y1, x2, y2], ...]` for a single map; `[[batch index, x1, y1, x2, y2], ...]`; "
    "or objects with `image_id` and `bbox` (COCO results, xywh)",
)
