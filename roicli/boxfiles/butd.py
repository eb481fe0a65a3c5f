"""Bottom-up attention: boxes of an earlier extraction, beside its features, as TSV or HDF5; xyxy in pixels.

A line of the TSV is image_id, image_w, image_h, num_boxes, boxes, features; or, as LXMERT writes it, img_id, img_h,
img_w, objects_id, objects_conf, attrs_id, attrs_conf, num_boxes, boxes, features. Arrays are base64.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.builder import Builder
from roicli.boxfiles.collector import Collector
from roicli.boxfiles.hdf5tables import read_table, shapes_of
from roicli.boxfiles.registry import Layout
from roicli.errors import BoxError
from roicli.files import Stamp
from roicli.regions import BoxFormat, Regions
from roicli.words import count

# Places of id, height, width, number of boxes, boxes, classes and confidences, by the number of columns.
_COLUMNS: dict[int, tuple[int | None, ...]] = {6: (0, 2, 1, 3, 4, None, None), 10: (0, 1, 2, 7, 8, 3, 4)}
_BYTES = 16  # of a box


def _is_tsv(file: BoxFile) -> bool:
    cells = file.head.partition(b"\n")[0].split(b"\t")
    for _, height, width, number, boxes, *_ in _COLUMNS.values():
        places = (height, width, number, boxes)
        if None in places or max(place or 0 for place in places) >= len(cells):
            continue
        told = [cells[place or 0] for place in places[:3]]
        if all(map(bytes.isdigit, told)) and len(cells[boxes or 0].strip()) == -(-int(told[2]) * _BYTES // 3) * 4:
            return True
    return False


def _read_tsv(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    found = Collector(file, ("category", "score"))
    for line, text in file.lines():
        where = f"{file.path}, line {line}"
        cells = text.strip().split(b"\t")
        if len(cells) not in _COLUMNS:
            raise BoxError(
                f"{where}: expected 6 or 10 columns, got {len(cells)}", "Write the TSV of bottom-up attention."
            )
        name, height, width, number, boxes, classes, scores = (
            None if place is None else cells[place] for place in _COLUMNS[len(cells)]
        )
        assert name is not None
        image = name.decode()
        try:
            many = int(number or 0)
            found.image(image, float(height or 0), float(width or 0))
            arrays = (
                _array(boxes, np.dtype("<f4"), many * 4).reshape(-1, 4),
                _array(classes, np.dtype("<i8"), many),
                _array(scores, np.dtype("<f4"), many),
            )
        except (ValueError, binascii.Error) as error:
            raise BoxError(f"{where}: {error}", "Write the TSV of bottom-up attention.") from error
        for box, category, score in zip(*(array.tolist() for array in arrays), strict=True):
            found.add(image, box, category, score)
    return found.regions("bottom-up attention TSV", BoxFormat.XYXY, box_format)


def _array(text: bytes | None, dtype: np.dtype[np.generic], size: int) -> NDArray[np.generic]:
    """Decode an array; one that the layout lacks is of None."""
    if text is None:
        return np.full(size, None)
    data = binascii.a2b_base64(text)
    if len(data) != size * dtype.itemsize:
        raise ValueError(f"expected {size} numbers of {dtype}, got {len(data):,} bytes")
    return np.frombuffer(data, dtype)


def _is_hdf5(file: BoxFile) -> bool:
    return _are_boxes(shapes_of(file))


def _are_boxes(shapes: dict[str, tuple[int, ...]]) -> bool:
    shape = shapes.get("image_bb", ())
    return len(shape) in (2, 3) and shape[-1] == 4 and (len(shape) == 3 or "pos_boxes" in shapes)


def _read_hdf5(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    """Read `image_bb`: (N, 36, 4), `num_boxes` of them used; or (M, 4) with `pos_boxes`, first and stop of each."""
    shapes = shapes_of(file)
    if not _are_boxes(shapes):
        raise BoxError(f"{file.path}: no dataset image_bb with pos_boxes, or of (N, n, 4)", "Name such a file.")
    boxes = read_table(file, "image_bb", shapes["image_bb"]).astype(np.float64)
    if boxes.ndim == 3:
        number, most = boxes.shape[:2]
        used = np.full(number, most)
        if shapes.get("num_boxes") == (number,):  # the rest are padding
            used = read_table(file, "num_boxes", (number,)).astype(np.int64)
        is_used = np.arange(most) < used[:, None]
        images, boxes = np.nonzero(is_used)[0], boxes[is_used]
    else:
        places = read_table(file, "pos_boxes", shapes["pos_boxes"]).astype(np.int64)
        number = len(places)
        inside = places.ndim == 2 and places.shape[1] == 2 and (places >= 0).all() and (places <= len(boxes)).all()
        if not inside or (places[:, 1] < places[:, 0]).any() or (places[1:, 0] < places[:-1, 1]).any():
            raise BoxError(f"{file.path}: pos_boxes does not fit image_bb", "Extract the file again.")
        images = np.repeat(np.arange(number), places[:, 1] - places[:, 0])
        boxes = boxes[np.concatenate([np.arange(*place) for place in places.tolist()] or [np.zeros(0, int)])]
    ids = _ids_beside(file, number)
    builder = Builder(file.path, "box")
    builder.extend(range(len(boxes)), boxes, [ids[image] for image in images.tolist()])
    form = box_format or BoxFormat.XYXY
    note = f"{file.path}: bottom-up attention HDF5, image_bb read as {form}"
    return builder.build(form, layout="bottom-up attention HDF5", listed=tuple(ids), notes=(note,))


def _ids_beside(file: BoxFile, number: int) -> Sequence[str]:
    """Return the image ids, which lie in a JSON beside the file: {image id: position}."""
    names = [f"{file.stem}_imgid2idx.json", f"{file.stem}.json", f"{file.stem}_ids.json"]
    path = next((path for path in map(file.path.with_name, names) if path.is_file()), None)
    if path is None and len(others := [*file.path.parent.glob("*_imgid2idx.json")]) == 1:
        path = others[0]
    pickled = file.path.with_name(f"{file.stem}_imgid2idx.pkl")
    if path is None:
        hint = f"Write {names[0]} beside it, {{image id: position}}."
        if pickled.is_file():
            hint = (
                f"Write it as JSON: python -c \"import json, pickle; json.dump(pickle.load(open('{pickled}', 'rb')), "
                f"open('{pickled.with_suffix('.json')}', 'w'))\""
            )
        raise BoxError(f"{file.path}: the ids of its {count(number, 'image')} are not in the file", hint)
    file.beside[str(path)] = Stamp.of(path)
    try:
        found = json.loads(path.read_bytes())
        ids = {int(place): str(name) for name, place in found.items()}
        return [ids[place] for place in range(number)]
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise BoxError(f"{path}: expected {{image id: position}} for {count(number, 'image')}", "Check it.") from error


TSV = Layout(
    "a bottom-up attention TSV",
    _is_tsv,
    _read_tsv,
    files="`.tsv`",
    holds="bottom-up attention and LXMERT: the boxes of an earlier extraction (xyxy)",
)
HDF5 = Layout(
    "a bottom-up attention HDF5 file",
    _is_hdf5,
    _read_hdf5,
    files="`train36.hdf5`",
    holds="bottom-up attention: `image_bb` (xyxy), `pos_boxes`; ids in `train36_imgid2idx.json` beside it",
)
