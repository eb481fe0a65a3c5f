"""Pascal VOC: XML, one file an image, with a `bndbox` for each `object`; ImageNet has the same.

VOC counts pixels from 1 and includes both ends. The numbers are kept as they are, as its tools do.
"""

from __future__ import annotations

from xml.etree import ElementTree

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.collector import NO_BOX, Collector
from roicli.boxfiles.registry import Layout
from roicli.errors import BoxError
from roicli.regions import BoxFormat, Regions

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def _recognizes(file: BoxFile) -> bool:
    return b"<annotation>" in file.head or b"<annotation " in file.head


def _read(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    data = file.data
    if b"<!ENTITY" in data:
        raise BoxError(f"{file.path}: XML with entities, which roicli does not expand", "Write them out.")
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise BoxError(f"{file.path}: malformed XML, {error}", "Write the file again.") from error
    if root.tag != "annotation":
        raise BoxError(f"{file.path}: expected <annotation> as its outermost element, got <{root.tag}>", "See VOC.")
    found = Collector(file, ("label",), "object")
    height, width = (_number(found, root, f"size/{side}") for side in ("height", "width"))
    found.image(file.stem, height, width, root.findtext("filename"))
    for item in root.findall("object"):
        box = item.find("bndbox")
        if box is None and item.find("robndbox") is not None:
            raise BoxError(f"{found.where()}: a rotated box (robndbox)", "Convert it to DOTA's labelTxt.")
        numbers = NO_BOX if box is None else tuple(_number(found, box, name) for name in _CORNERS)
        if box is not None and None in numbers:
            raise BoxError(f"{found.where()}: {_CORNERS[numbers.index(None)]} is missing", "Give all four corners.")
        found.add(file.stem, numbers, item.findtext("name"))
    note = f"{file.path}: pixels counted from 1 are kept as they are"
    return found.regions("Pascal VOC", BoxFormat.XYXY, box_format, by_file=True, notes=(note,) if len(root) else ())


def _number(found: Collector, parent: ElementTree.Element, name: str) -> float | None:
    text = (parent.findtext(name) or "").strip()
    try:
        return float(text.replace("_", "?")) if text else None
    except ValueError:
        raise BoxError(f"{found.where()}: {name} {text[:80]!r} is not a number", "Write a number there.") from None


LAYOUT = Layout(
    "Pascal VOC annotations",
    _recognizes,
    _read,
    files="a folder of `.xml`",
    holds="Pascal VOC and ImageNet: an image a file; `bndbox` with xmin, ymin, xmax, ymax",
)
