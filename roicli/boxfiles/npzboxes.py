"""An .npz an image, as bottom-up attention writes it: `bbox`, `num_bbox`, `image_h`, `image_w` beside its features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.collector import Collector
from roicli.boxfiles.registry import Layout
from roicli.errors import BoxError
from roicli.files import check_ratio, reading
from roicli.regions import BoxFormat, Regions

_BBOX = "bbox"
_HINT = "Give it bbox, (n, 4), and num_bbox, image_h and image_w."


def _arrays(file: BoxFile) -> dict[str, NDArray[np.generic]]:
    """Read the arrays that are used; nothing of the features beside them."""
    import zipfile

    with reading(str(file.path)), zipfile.ZipFile(file.rewind()) as archive:
        inside = {name.removesuffix(".npy"): name for name in archive.namelist()}
        found = {}
        for name in (_BBOX, "num_bbox", "image_h", "image_w"):
            if name in inside:
                size = archive.getinfo(inside[name]).file_size
                check_ratio(f"{file.path}, {name}", size, size, lambda: file.size)
                with archive.open(inside[name]) as stream:
                    found[name] = np.lib.format.read_array(stream, allow_pickle=False)
        return found


def _recognizes(file: BoxFile) -> bool:
    import zipfile

    try:
        with zipfile.ZipFile(file.rewind()) as archive:
            return f"{_BBOX}.npy" in archive.namelist()
    except zipfile.BadZipFile:
        return False


def _read(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    arrays = _arrays(file)
    boxes = arrays.get(_BBOX)
    if boxes is None or boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "iuf":
        what = "no array bbox" if boxes is None else f"bbox is {boxes.dtype} {boxes.shape}, expected numbers (n, 4)"
        raise BoxError(f"{file.path}: {what}", _HINT)
    number, height, width = (
        arrays[name].reshape(-1)[0] if name in arrays and arrays[name].size == 1 else None
        for name in ("num_bbox", "image_h", "image_w")
    )
    found = Collector(file)
    if height is not None and width is not None:
        found.image(file.stem, float(height), float(width))
    for box in boxes[: None if number is None else int(number)].astype(np.float64).tolist():  # the rest are padding
        found.add(file.stem, box)
    return found.regions("boxes in an .npz an image", BoxFormat.XYXY, box_format, by_file=True)


LAYOUT = Layout(
    "an .npz of boxes",
    _recognizes,
    _read,
    files="a folder of `.npz`",
    holds="an image a file: `bbox` (xyxy), `num_bbox`, `image_h`, `image_w`",
)
