"""Files of other tools, which roicli does not read: it names them, and the line that converts them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.jsontext import first_keys
from roicli.boxfiles.textlines import all_lines, are_numbers, first_lines
from roicli.errors import FileError

# Names that a shell and Python take as they are.
_PLAIN = re.compile(r"[\w./-]+")


class _Tool(NamedTuple):
    name: str
    recognizes: Callable[[BoxFile], bool]
    conversion: str


def _python(first: str, value: str) -> str:
    """Return a line for a shell that writes a value as JSON."""
    return f'python -c "import json; {first}; print(json.dumps({value}))" > converted.json'


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
        "Export it from CVAT as COCO 1.0, or run: "
        + _python(
            "import xml.etree.ElementTree as E",
            "{i.get('name'): [[float(b.get(k)) for k in ('xtl', 'ytl', 'xbr', 'ybr')] for b in i.iter('box')] "
            "for i in E.parse('FILE').iter('image')}",
        ),
    ),
    _Tool(
        "a Label Studio export",
        lambda file: _has("annotations", "data")(file) or _has("completions", "data")(file),
        "Export it as COCO, or run: "
        + _python(
            "sides = {'x': 'width', 'y': 'height', 'width': 'width', 'height': 'height'}",
            "[{'image_id': str([*t['data'].values()][0]).split('/')[-1], "
            "'bbox': [r['value'][k] * r['original_' + side] / 100 for k, side in sides.items()]} "
            "for t in json.load(open('FILE')) for a in t.get('annotations') or t['completions'] "
            "for r in a['result'] if r['type'] == 'rectanglelabels']",
        ),
    ),
    _Tool(
        "KITTI labels",
        _is_kitti,
        'Run: awk \'BEGIN {print "image_id,x1,y1,x2,y2,label"} {n = FILENAME; gsub(/.*\\/|[.]txt$/, "", n); '
        'print n "," $5 "," $6 "," $7 "," $8 "," $1}\' FOLDER/*.txt > boxes.csv',
    ),
    _Tool(
        "VIA annotations",
        lambda file: _has("_via_img_metadata")(file) or b'"region_attributes"' in file.head,
        "Export them from VIA in COCO format (Annotation, Export Annotations).",
    ),
    _Tool(
        "CreateML annotations",
        lambda file: _has("image", "annotations")(file) and b'"coordinates"' in file.head,
        "Run: "
        + _python(
            "keys = ('x', 'y', 'width', 'height')",
            "{d['image']: [[a['coordinates'][k] for k in keys] for a in d['annotations']] "
            "for d in json.load(open('FILE'))}",
        )
        + ", and give `box_format=cxcywh`.",
    ),
    _Tool(
        "a Supervisely annotation",
        lambda file: _has("objects", "size")(file) and b'"exterior"' in file.head,
        "Run: "
        + _python(
            "import pathlib",
            "{p.name[:-5]: [[f(q) for f in (min, max) for q in zip(*o['points']['exterior'])] "
            "for o in json.loads(p.read_text())['objects']] for p in pathlib.Path('FOLDER').glob('*.json')}",
        ),
    ),
    _Tool(
        "BDD100K labels",
        lambda file: _has("name", "labels")(file) and b'"box2d"' in file.head,
        "Run: "
        + _python(
            "keys = ('x1', 'y1', 'x2', 'y2')",
            "{d['name']: [[b['box2d'][k] for k in keys] for b in d['labels'] or [] if 'box2d' in b] "
            "for d in json.load(open('FILE'))}",
        ),
    ),
    _Tool(
        "MegaDetector results",
        _has("images", "detection_categories"),
        "Run: "
        + _python(
            "images = json.load(open('FILE'))['images']",
            "[{'image_id': i['file'], 'bbox': d['bbox'], 'score': d['conf']} for i in images "
            "for d in i.get('detections') or []]",
        )
        + ", and give `normalized`.",
    ),
    _Tool(
        "torchvision detections (boxes, labels) of several images",
        lambda file: _has("boxes", "labels")(file) and isinstance(file.document, list),
        "Run: "
        + _python("items = json.load(open('FILE'))", "{i.get('image_id', n): i['boxes'] for n, i in enumerate(items)}"),
    ),
    _Tool(
        "torchvision detections (boxes, labels) of one image",
        _has("boxes", "labels"),
        "Run: " + _python("name = 'IMAGE'", "{name: json.load(open('FILE'))['boxes']}"),
    ),
)


def check_foreign(file: BoxFile) -> None:
    """Raise FileError if a file is one of another tool that roicli does not read."""
    for tool in _TOOLS:
        if tool.recognizes(file):
            line = tool.conversion.replace("IMAGE", file.stem)
            if file.stamp and _PLAIN.fullmatch(str(file.path)):
                line = line.replace("FILE'", f"{file.path}'").replace("FOLDER", str(file.path.parent))
            raise FileError(f"{file.path}: {tool.name}, which roicli does not read", line)
