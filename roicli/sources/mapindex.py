"""A file that says where the map of each image lies: its file and its position in it.

GQA's spatial features are such: ``gqa_spatial_{0..15}.h5``, and ``{image id: {"idx": position, "file": number}}``.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from roicli.errors import FeatureError, FileError
from roicli.files import Stamp, file_size, printable, reading
from roicli.protocols import FeatureSource
from roicli.sources.base import unique
from roicli.sources.composed import WrappedSource
from roicli.sources.many import ManySource
from roicli.words import listing

_IDS = ("image_id", "imageid", "img_id", "imgid", "id", "image")
_POSITIONS = ("idx", "index", "position", "pos", "row", "offset")
_FILES = ("file", "file_name", "filename", "path", "shard", "part")
_FORMS = 'Write {"image id": {"idx": 0, "file": 0}, ...}, or a CSV with the columns image_id, file, idx.'


class _Entry(NamedTuple):
    image_id: str
    file: str | None
    position: int


class IndexedSource(WrappedSource):
    """The maps of a source under the image ids that an index gives them; maps that it does not name are left out.

    `source`: the files, as they are.
    `path`: the index: JSON or CSV. Positions count the maps of one file from 0. A file is named in full, by its stem,
    or by the last number in its name.
    """

    def __init__(self, source: FeatureSource, path: Path) -> None:
        super().__init__(source)
        self._path = path
        where = printable(str(path))
        self._stamp, entries = _read(path, where)
        self.ids, self.labelled = unique((entry.image_id for entry in entries), where), True
        parts = source.parts if isinstance(source, ManySource) else (source,)
        numbers = _numbers({entry.file for entry in entries}, parts, where)
        sizes = [len(part.ids) for part in parts]
        starts = [0, *accumulate(sizes)]
        self._places: list[int] = []
        for image_id, file, position in entries:
            number = numbers[file]
            if not 0 <= position < sizes[number]:
                raise FeatureError(
                    f"{where}, image {image_id!r}: position {position}, but {parts[number].name} holds "
                    f"{sizes[number]:,} maps",
                    "Positions count the maps of one file from 0.",
                )
            self._places.append(starts[number] + position)

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that hold the maps, and the index."""
        return (*super().paths, str(self._path))

    @property
    def stamps(self) -> dict[str, Stamp]:
        """State of the files that were opened so far."""
        return {str(self._path): self._stamp, **super().stamps}

    def locate(self, index: int) -> tuple[FeatureSource, int]:
        """Return the part that holds map `index`, and its index there."""
        return self._source, self._places[range(len(self.ids))[index]]


def _read(path: Path, where: str) -> tuple[Stamp, list[_Entry]]:
    file_size(path)
    with reading(where, _FORMS), path.open(encoding="utf-8-sig", newline="") as file:
        stamp = Stamp.of(path)
        if path.suffix.lower() in (".csv", ".tsv"):
            dialect = "excel-tab" if path.suffix.lower() == ".tsv" else "excel"
            rows: Iterable[tuple[Any, Any]] = [(None, row) for row in csv.DictReader(file, dialect=dialect)]
        else:
            found = json.load(file, object_pairs_hook=_pairs)
            if isinstance(found, _Pairs):
                rows = found
            elif isinstance(found, list):
                rows = [(None, item) for item in found]
            else:
                raise FileError(f"{where} is not an index of maps: it is one value", _FORMS)
        return stamp, list(_entries(rows, where))


class _Pairs(list[tuple[str, Any]]):
    """A JSON object, with keys that come twice."""


def _pairs(pairs: list[tuple[str, Any]]) -> _Pairs:
    return _Pairs(pairs)


def _entries(rows: Iterable[tuple[Any, Any]], where: str) -> Iterator[_Entry]:
    for number, (image_id, said) in enumerate(rows):
        place = f"{where}, image {image_id!r}" if image_id is not None else f"{where}, entry {number}"
        named = {str(key).strip().lower(): value for key, value in dict(said).items()} if _is_object(said) else None
        if named is None:
            if image_id is None or type(said) is not int:
                raise FileError(f"{place}: expected an object, got {str(said)[:80]}", _FORMS)
            named = {"idx": said}  # {image id: position}
        if image_id is None:
            image_id = _value(named, _IDS)
        position, file = _value(named, _POSITIONS), _value(named, _FILES)
        if image_id in (None, "") or position is None or not re.fullmatch(r"\s*\d{1,18}(\.0*)?\s*", str(position)):
            raise FileError(f"{place} has no image id and position: {str(named)[:80]}", _FORMS)
        yield _Entry(str(image_id).strip(), None if file is None else str(file).strip(), int(float(position)))


def _is_object(said: Any) -> bool:
    return isinstance(said, _Pairs | Mapping)


def _value(named: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((named[name] for name in names if named.get(name) is not None), None)


def _numbers(files: set[str | None], parts: Iterable[FeatureSource], where: str) -> dict[str | None, int]:
    """Find the part that each file of the index is."""
    by_name: dict[str, list[int]] = {}
    paths = [Path(part.paths[0]) for part in parts]
    for number, path in enumerate(paths):
        digits = re.findall(r"\d+", path.stem)
        names = {str(path), path.name, path.stem}
        for name in names | ({str(int(digits[-1]))} if digits else set()):
            by_name.setdefault(name, []).append(number)
    found: dict[str | None, int] = {}
    for file in files:
        key = None if file is None else str(int(file)) if re.fullmatch(r"\d{1,18}", file) else Path(file).name
        numbers = [0] if file is None and len(paths) == 1 else by_name.get(file or "") or by_name.get(key or "") or []
        if len(numbers) != 1:
            said = "does not say the file of each map" if file is None else f"names the file {file!r}"
            which = f"{len(numbers)} of the files have that name" if numbers else "none of the files is called so"
            shown = listing([path.name for path in paths[:6]])
            raise FeatureError(
                f"{where} {said}, and there are {len(paths)}" if file is None else f"{where} {said}: {which}",
                f"The files are {shown}. A number is the last number of a file's name.",
            )
        found[file] = numbers[0]
    return found
