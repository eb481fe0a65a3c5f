"""Which of the arrays of a file are feature maps, and which name them: the rules that .npz and HDF5 share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from roicli.errors import FeatureError

LISTED = 20

# Names of arrays of image ids beside a 4-D array, compared without case, the first that fits wins.
ID_NAMES = (
    *("image_ids", "image_id", "imageids", "imageid", "img_ids", "img_id", "ids", "id"),
    *("image_names", "image_name", "filenames", "filename", "file_names", "file_name"),
    *("images", "names", "name", "keys", "key"),
)


@dataclass(frozen=True)
class Choice:
    """Something that `--dataset` may name: a 4-D array, or a group of 3-D ones.

    Attributes
    ----------
    path : str
        Its name in the file.
    maps : tuple of str or None
        Names of the 3-D arrays of the group; None for a 4-D array.
    summary : str
        What a listing says of it.
    """

    path: str
    maps: tuple[str, ...] | None
    summary: str


def listing(rows: Sequence[str]) -> str:
    """Indent rows for a message, the first `LISTED` of them."""
    shown = [f"  {row}" for row in rows[:LISTED]]
    return "\n".join([*shown, "  ..."] if len(rows) > LISTED else shown)


def choose(where: str, choices: Sequence[Choice], others: Sequence[str]) -> Choice:
    """Return the only choice; with several or none, raise FeatureError that lists what is there."""
    if len(choices) == 1:
        return choices[0]
    if choices:
        rows = listing([f"{choice.path}  {choice.summary}" for choice in choices])
        raise FeatureError(f"{where} holds more than one thing to pool:\n{rows}", "Name one of them with --dataset.")
    found = f"It holds:\n{listing(others)}" if others else "It is empty."
    raise FeatureError(
        f"{where} holds no feature maps: no numeric array of 4 axes (N, C, H, W), none of 3 (C, H, W). {found}",
        "Write the maps as float16, float32, float64 or integers of that shape.",
    )


def id_arrays(names: Iterable[str]) -> Iterator[str]:
    """Yield those of `names` that may hold image ids, best first."""
    by_lower = {name.lower(): name for name in names}
    return (by_lower[wanted] for wanted in ID_NAMES if wanted in by_lower)


def as_ids(values: NDArray[Any]) -> list[str]:
    """Image ids as strings; bytes are taken for UTF-8."""
    return [v.decode("utf-8", "backslashreplace") if isinstance(v, bytes) else str(v) for v in values.tolist()]
