"""Files of other tools, which roicli does not read: it names them, and the line that converts them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.jsontext import first_keys
from roicli.boxfiles.textlines import all_lines, are_numbers, first_lines
from roicli.errors import FileError

_DATUMARO = "pip install datumaro; datum convert -i FOLDER -if {} -f coco_instances -o out"


class _Tool(NamedTuple):
    name: str
    recognizes: Callable[[BoxFile], bool]
    conversion: str


def _has(*keys: str) -> Callable[[BoxFile], bool]:
    """Make a test for the keys of a document or of its first item."""
    return lambda file: file.form == "json" and {*keys} <= first_keys(file)


def _is_kitti(file: BoxFile) -> bool:
    """Look for type, truncated, occluded, alpha, four numbers of a box, and seven of 3D."""
    return all_lines(
        first_lines(file) if file.form == "text" else [],
        lambda words: len(words) in (15, 16) and words[0][:1].isalpha() and are_numbers(words[1:]),
    )


_TOOLS = (
    _Tool(
        "CVAT's own XML",
        lambda file: file.form == "xml" and b"<annotations>" in file.head and b"<image " in file.head,
        f"Export it from CVAT as COCO 1.0, or run: {_DATUMARO.format('cvat')}",
    ),
    _Tool(
        "a Label Studio export",
        lambda file: _has("annotations", "data")(file) or _has("completions", "data")(file),
        "Export it as COCO, or run: pip install label-studio-converter; label-studio-converter export -i FILE -c "
        "config.xml -o out -f COCO",
    ),
    _Tool("KITTI labels", _is_kitti, f"Run: {_DATUMARO.format('kitti')}"),
    _Tool(
        "VIA annotations",
        lambda file: _has("_via_img_metadata")(file) or b'"region_attributes"' in file.head,
        "Export them from VIA in COCO format (Annotation, Export Annotations).",
    ),
    _Tool(
        "CreateML annotations",
        lambda file: _has("image", "annotations")(file) and b'"coordinates"' in file.head,
        "Run: python -c \"import json; print(json.dumps({d['image']: [[(c := a['coordinates'])['x'], c['y'], "
        "c['width'], c['height']] for a in d['annotations']] for d in json.load(open('FILE'))}))\" > boxes.json, and "
        "give `box_format=cxcywh`.",
    ),
    _Tool(
        "a Supervisely annotation",
        lambda file: _has("objects", "size")(file) and b'"exterior"' in file.head,
        f"Run: {_DATUMARO.format('supervisely')}",
    ),
    _Tool(
        "BDD100K labels",
        lambda file: _has("name", "labels")(file) and b'"box2d"' in file.head,
        "Run: pip install bdd100k; python -m bdd100k.label.to_coco -m det -i FILE -o boxes.json",
    ),
    _Tool(
        "MegaDetector results",
        _has("images", "detection_categories"),
        "Run: python -c \"import json; print(json.dumps([{'image_id': i['file'], 'bbox': d['bbox'], 'score': "
        "d['conf']} for i in json.load(open('FILE'))['images'] for d in i['detections'] or []]))\" > boxes.json, "
        "and give `normalized`.",
    ),
    _Tool(
        "torchvision detections",
        _has("boxes", "labels"),
        "Run: python -c \"import json; print(json.dumps({'IMAGE': json.load(open('FILE'))['boxes']}))\" > boxes.json",
    ),
)


def check_foreign(file: BoxFile) -> None:
    """Raise FileError if a file is one of another tool that roicli does not read."""
    for tool in _TOOLS:
        if tool.recognizes(file):
            raise FileError(f"{file.path}: {tool.name}, which roicli does not read", tool.conversion)
