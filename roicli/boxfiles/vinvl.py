"""VinVL and scene_graph_benchmark: a TSV of an image key and JSON; each object has `rect`, x1, y1, x2, y2 in pixels."""

from __future__ import annotations

from msgspec import DecodeError, Struct, field
from msgspec.json import Decoder

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.builder import Name
from roicli.boxfiles.collector import NO_BOX, Collector
from roicli.boxfiles.imagetable import read_image_table
from roicli.boxfiles.jsontext import refusal
from roicli.boxfiles.registry import Layout
from roicli.errors import BoxError
from roicli.files import Stamp
from roicli.regions import BoxFormat, Regions


class _Object(Struct, gc=False):
    rect: tuple[float | None, float | None, float | None, float | None] | None = None
    bbox_id: Name | None = None
    conf: float | None = None
    label: str | None = field(default=None, name="class")


class _Objects(Struct, gc=False):
    objects: list[_Object]


_LINE = Decoder(list[_Object] | _Objects)


def _recognizes(file: BoxFile) -> bool:
    key, tab, rest = file.head.partition(b"\t")
    return bool(tab) and b"\n" not in key and rest.lstrip()[:1] in (b"[", b"{") and b'"rect"' in file.head


def _read(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    found = Collector(file, ("box_id", "score", "label"))
    sizes = _sizes_beside(file)
    for line, text in file.lines():
        key, tab, value = text.strip().partition(b"\t")
        if not tab:
            raise BoxError(f"{file.path}, line {line}: expected a key, a tab and JSON", "Write the TSV of VinVL.")
        name = key.decode().strip()
        found.image(name, *sizes.get(name, (None, None)))
        try:
            decoded = _LINE.decode(value.partition(b"\t")[0])
        except DecodeError as error:
            raise refusal(error, f"{file.path}, line {line}") from error
        for one in decoded.objects if isinstance(decoded, _Objects) else decoded:
            found.add(name, one.rect or NO_BOX, one.bbox_id, one.conf, one.label)
    return found.regions("VinVL TSV", BoxFormat.XYXY, box_format)


def _sizes_beside(file: BoxFile) -> dict[str, list[float]]:
    """Read the sizes of images from train.hw.tsv beside train.label.tsv, if it is there."""
    beside = file.path.with_name(file.path.name.replace(".label.", ".hw."))
    if beside.name == file.path.name or not beside.is_file():
        return {}
    file.beside[str(beside)] = Stamp.of(beside)
    table = read_image_table(beside)
    sizes = table.sizes()
    return {} if sizes is None else dict(zip(table.ids, sizes.tolist(), strict=True))


LAYOUT = Layout(
    "a VinVL TSV",
    _recognizes,
    _read,
    files="`train.label.tsv`, `predictions.tsv`",
    holds="VinVL: image key, tab, JSON with `rect` (xyxy); sizes from `train.hw.tsv` beside it",
)
