"""Which of the arrays of a file are feature maps, and which name them: the rules that .npz and HDF5 share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from roicli.errors import FeatureError
from roicli.files import printable, reading
from roicli.sources.base import LONGEST_ID, StoredMap, too_long, unique
from roicli.sources.layout import MapLayout

LISTED = 20

# Names of arrays of image ids beside a 4-D array, compared without case, the first that fits wins. The sure ones have
# to fit; the others may be something else.
_SURE_NAMES = ("image_ids", "image_id", "imageids", "imageid", "img_ids", "img_id")
ID_NAMES = (
    *(*_SURE_NAMES, "ids", "id"),
    *("image_names", "image_name", "img_names", "img_name", "filenames", "filename", "file_names", "file_name"),
    *("image_paths", "image_path", "img_paths", "paths"),
    *("images", "names", "name", "keys", "key"),
)

# Names of arrays beside sequences of tokens, which are not sequences: a grid an image, masks and lengths of padding.
GRIDS = ("grid_thw", "image_grid_thw", "spatial_shapes", "grid_hw")
MASKS = ("attention_mask", "pixel_attention_mask", "mask")
LENGTHS = ("lengths", "seq_lengths", "num_tokens")
_BESIDE = {*GRIDS, *MASKS, *LENGTHS, "boxes"}


class Choice(NamedTuple):
    """Something that `dataset` may name: a 4-D array, or a group of 3-D ones."""

    path: str  # its name in the file
    maps: tuple[str, ...] | None  # names of the 3-D arrays of the group; None for a 4-D array
    summary: str  # what a listing says of it
    ids: tuple[str, ...] | None = None  # image ids of the maps, where these are not their names


def listing(rows: Sequence[str]) -> str:
    """Indent rows for a message, the first `LISTED` of them."""
    shown = [f"  {row}" for row in rows[:LISTED]]
    return "\n".join([*shown, "  ..."] if len(rows) > LISTED else shown)


def choose(where: str, choices: Sequence[Choice], others: Sequence[str], layout: MapLayout) -> Choice:
    """Return the only choice; with several or none, raise FeatureError that lists what is there."""
    if len(choices) == 1:
        return choices[0]
    if choices:
        rows = listing([f"{choice.path}  {choice.summary}" for choice in choices])
        alike = {choice.maps for choice in choices if choice.maps}
        each = f", or one of each group, such as `dataset=*/{next(iter(alike))[0]}`" if len(alike) == 1 else ""
        raise FeatureError(
            f"{where} holds more than one thing to pool:\n{rows}", f"Name one of them by `dataset`{each}."
        )
    found = f"it holds:\n{listing(others)}" if others else "it is empty"
    raise FeatureError(
        f"{where} holds no feature maps: no numeric array of axes (N, {layout.axes}) or ({layout.axes}); {found}",
        "Write the maps as float16, float32, float64 or integers of that shape"
        + (", or give `layout=tokens` if these are tokens (L, D)." if layout.rank == 3 else "."),
    )


def is_beside(name: str, layout: MapLayout) -> bool:
    """Tell whether the array of this name lies beside sequences, and is not one, though it has two axes."""
    return layout.name == "ld" and name in _BESIDE


def are_maps(shapes: Sequence[tuple[int, ...]]) -> bool:
    """Tell whether 4-D arrays that lie side by side are one map each, in batches of one, rather than stacks of maps."""
    return len(shapes) > 1 and all(shape[0] == 1 for shape in shapes)


def sibling_ids(names: Iterable[str], count: int, look: Callable[[str], StoredMap | None]) -> tuple[str, ...] | None:
    """Find the image ids of a 4-D array beside it.

    `names`: what there is beside it.
    `count`: how many maps it holds.
    `look`: gives the array of a name, or None if it is not an array. Strings have a dtype of kind "S" or "U".
    Raises FeatureError: if an array that can only be one of image ids does not fit, or an id comes twice.

    Returns
    -------
    (count,) tuple of str or None
        None if nothing there names the maps.
    """
    by_lower = {name.lower(): name for name in names}
    for name in (wanted for wanted in ID_NAMES if wanted in by_lower):
        if (array := look(by_lower[name])) is None:
            continue
        if (ids := _ids_of(array, count)) is not None:
            return unique(ids, array.where)
        if array.dtype.hasobject and array.shape == (count,):
            raise FeatureError(
                f"{array.where}: expected ids, got Python objects; roicli never loads pickle",
                "Save the ids as text, for example with numpy.array(ids, dtype=str).",
            )
        if name in _SURE_NAMES:
            kind = "strings" if array.dtype.kind in "SU" else f"dtype {array.dtype}"
            raise FeatureError(
                f"{array.where}: expected ({count},) integers or strings for {count} maps, got {array.shape} of {kind}",
                "Write one id a map there, or rename it if it holds something else.",
            )
    return None


def _ids_of(array: StoredMap, count: int) -> list[str] | None:
    """Values of an array as image ids, or None if it cannot be one of them."""
    if array.shape not in ((count,), (count, 1)) or array.dtype.kind not in "iuSUf":
        return None
    if array.dtype.itemsize > LONGEST_ID:
        raise too_long(array.where, array.dtype.itemsize)
    # Floats are ids that have been through a table; NaN and infinity have no remainder of 0.
    with reading(array.where), np.errstate(invalid="ignore"):
        values = array.load().reshape(-1)
        if array.dtype.kind == "f":
            return [str(int(value)) for value in values] if np.all(values % 1 == 0) else None
        return [
            v.decode("utf-8", "backslashreplace") if isinstance(v, bytes) else printable(str(v))
            for v in values.tolist()
        ]
