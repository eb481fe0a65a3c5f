"""What `identify` answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from roicli.jobs.solved import Footprint


@dataclass(frozen=True)
class Answer:
    """One set of settings, and the difference that it leaves.

    Attributes
    ----------
    convention : tuple of str
        Libraries that compute so.
    settings : str
        The operator and its settings in words.
    boxes : str
        What was done to the boxes or maps, if it is not what the options say.
    same : tuple of str
        What computes the same of any box, in words.
    options : dict
        What to pass to `align`.
    largest, spread : float
        The largest difference, and in units of the spread of the values.
    failing : tuple of int
        The first RoIs that differ.
    """

    convention: tuple[str, ...]
    settings: str
    boxes: str
    options: dict[str, Any]
    largest: float
    spread: float
    failing: tuple[int, ...] = ()
    same: tuple[str, ...] = ()


@dataclass(frozen=True)
class Identified:
    """What made the numbers.

    Attributes
    ----------
    reference : str
        The file.
    fits : bool
        Whether an answer leaves no more than rounding.
    reading : str
        What its axes are.
    rounding : str
        Of its values: "float32", "float16".
    answers : tuple of Answer
        All that fit, the simplest first; if none fits, the nearest.
    checked : int
        How many RoIs were compared.
    telling : str
        A box that tells answers apart, and by how much.
    noise : float
        What all answers leave, root mean square in units of the spread, if it is more than rounding.
    footprint : Footprint, optional
        If none fits: what the RoI that differs most really read, if it can be solved for.
    notes, warnings : tuple of str
        What was assumed.
    """

    reference: str
    fits: bool
    reading: str
    rounding: str
    answers: tuple[Answer, ...]
    checked: int
    telling: str
    noise: float
    footprint: Footprint | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON can hold them."""
        return asdict(self)
