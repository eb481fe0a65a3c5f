"""Pairs of boxes, for the regions of relations: JSON, or a CSV with the columns subject and object."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from msgspec.json import Decoder

from roicli.boxfiles.boxfile import opened
from roicli.boxfiles.builder import Name, name_of
from roicli.boxfiles.jsontext import fields, opens
from roicli.errors import BoxError

_HINT = "Give [[a, b], ...], {image id: [[a, b], ...]}, or a CSV with the columns subject and object."
_PAIR = Decoder(tuple[Name, Name])
_PAIRS = Decoder(list[tuple[int, int]])


class Pairs(NamedTuple):
    """Pairs as a file names them."""

    source: str
    images: list[str] | None  # the image of each pair; then boxes are counted within their image, from 0
    names: list[tuple[str, str]]  # The two boxes of each pair


def read_pairs(path: Path) -> Pairs:
    """Read pairs of boxes.

    Raises RoicliError: the file cannot be read, or does not hold pairs.
    """
    with opened(path) as file:
        if file.form == "json":
            document = file.document
            if isinstance(document, list):
                raws = [fields(_PAIR, raw, f"{path}, pair {number}") for number, raw in enumerate(document)]
                return Pairs(str(path), None, [(name_of(a), name_of(b)) for a, b in raws])
            images, names = [], []
            for image, raw in document.items():
                if not opens(raw, b"["):
                    raise BoxError(f"{path}, image {image[:200]!r}: expected a list of pairs", _HINT)
                for a, b in fields(_PAIRS, raw, f"{path}, image {image[:200]!r}"):
                    images.append(image)
                    names.append((str(a), str(b)))
            return Pairs(str(path), images, names)
        if file.form != "text":
            raise BoxError(f"{path}: not pairs of boxes", _HINT)
        with file.text() as text:
            try:
                rows = csv.DictReader(text, skipinitialspace=True, strict=True)
                if not {"subject", "object"} <= {*(rows.fieldnames or ())}:
                    raise BoxError(f"{path}, line 1: no columns subject and object", _HINT)
                found = [(row["subject"] or "", row["object"] or "") for row in rows]
            except csv.Error as error:
                raise BoxError(f"{path}: {error}", "Look for an open quote.") from error
        return Pairs(str(path), None, [(a.strip(), b.strip()) for a, b in found])
