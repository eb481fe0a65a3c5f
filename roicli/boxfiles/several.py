"""Several box files as one: the files of a folder or of a pattern, and their regions joined."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from roicli.boxfiles.boxfile import STDIN, SUFFIXES, plain_name
from roicli.errors import BoxError, FileError
from roicli.files import natural_key
from roicli.regions import BoxFormat, Column, Names, Regions
from roicli.stores.path import is_pattern, is_store, matches, path_of
from roicli.words import listing

# Regions of so many files are joined at once: those of a file take 2 kB beside their numbers.
_AT_ONCE = 1000
# What lies beside annotations and holds none: names of classes, of images.
_OTHERS = {"classes.txt", "obj.names", "labels.txt", "readme.txt"}
_SUFFIXES = {*SUFFIXES, ".npz"}


def files_of(path: Path) -> list[Path] | None:
    """Return the box files of a folder or a pattern, in natural order; None for the name of one file."""
    pattern = path != STDIN and is_pattern(str(path))
    if path == STDIN or not (pattern or path.is_dir()):
        return None
    if pattern:
        names = matches(str(path)) if is_store(path) else glob.glob(str(path), recursive=True)  # noqa: PTH207
        found = [file for file in map(path_of, names) if is_store(path) or file.is_file()]
        if not found:
            raise FileError(f"{path}: no file matches", "Check the pattern and the folder.")
    else:
        found = [file for file in path.iterdir() if _is_box_file(file)]
        if not found:
            inside = [f"{child.name}/" for child in islice(filter(Path.is_dir, path.iterdir()), 4)]
            raise FileError(
                f"{path}: a folder without box files" + (f", but with {listing(inside)}" if inside else ""),
                "Name the folder that holds them, or a quoted pattern.",
            )
        if len(suffixes := {plain_name(file).suffix.lower() for file in found}) > 1:
            raise FileError(
                f"{path}: box files of several kinds, {listing(sorted(suffixes))}",
                f"Name one kind by a quoted pattern: '{path}/*{min(suffixes)}'.",
            )
    return sorted(found, key=lambda file: natural_key(str(file)))


def _is_box_file(path: Path) -> bool:
    name = path.name.lower()
    return (
        plain_name(path).suffix.lower() in _SUFFIXES
        and not name.startswith(".")
        and name not in _OTHERS
        and path.is_file()
    )


def join(path: Path, parts: Iterable[Regions]) -> Regions:
    """Join the regions of several files, one after another.

    Files that name no images are of one image each, by their names.
    """
    iterator = iter(parts)
    joined = [_join(path, block) for block in iter(lambda: list(islice(iterator, _AT_ONCE)), [])]
    return joined[0] if len(joined) == 1 else _join(path, joined)


def _join(path: Path, parts: Sequence[Regions]) -> Regions:
    parts = [_with_images(part) for part in parts]
    full = [part for part in parts if len(part)] or parts[:1]
    first, formats = full[0], {part.box_format for part in full}
    if {part.normalized for part in full} == {True, False}:
        odd = next(part for part in full if part.normalized != first.normalized)
        raise BoxError(
            f"{odd.source}: boxes in {'0..1' if odd.normalized else 'pixels'}, unlike {first.source}",
            "Name files of one unit.",
        )
    ids: dict[str, int] = {}
    aliases: dict[str, str] = {}
    sizes: dict[str, list[float]] = {}
    index = []
    for part in parts:
        names = part.image_ids or ()
        number = np.array([ids.setdefault(name, len(ids)) for name in names] + [-1], np.int64)
        index.append(number[part.image_index])
        aliases |= zip(names, part.aliases or (), strict=False)
        if part.image_sizes is not None:
            sizes |= zip(names, part.image_sizes.tolist(), strict=True)
    boxes = np.concatenate([part.boxes for part in parts])
    columns = dict.fromkeys(name for part in parts for name in part.columns)
    one = len(formats) == 1
    return replace(
        first,
        boxes=boxes,
        given=np.concatenate([part.given for part in parts]) if one else boxes,
        box_format=first.box_format if one else BoxFormat.XYXY,
        rows=np.concatenate([part.rows for part in parts]),
        source=str(path),
        image_index=np.concatenate(index),
        image_ids=tuple(ids),
        aliases=tuple(aliases.get(name, name) for name in ids) if aliases else None,
        image_sizes=np.array([sizes.get(name, [np.nan] * 2) for name in ids]).reshape(-1, 2) if sizes else None,
        listed=tuple(dict.fromkeys(name for part in parts for name in part.listed or ())) or None,
        columns={name: join_column(name, parts) for name in columns},
        category_names={key: name for part in parts for key, name in part.category_names.items()},
        by_file=all(part.by_file for part in parts),
        outlined=any(part.outlined for part in parts),
        content=b"".join(part.content for part in parts),
        notes=tuple(dict.fromkeys(note.replace(part.source, str(path)) for part in parts for note in part.notes)),
        stamps={name: stamp for part in parts for name, stamp in part.stamps.items()},
    )


def _with_images(part: Regions) -> Regions:
    """Give the regions of a file their file, and their image if it names none."""
    if "file" not in part.columns:
        file = Names(np.zeros(len(part), np.int64), (part.source,))
        part = replace(part, columns={**part.columns, "file": file})
    if part.image_ids is not None:
        return part
    if part.image_index is not None:
        raise BoxError(
            f"{part.source}: batch indices, where each file is of one image", "Leave the batch index out, or join them."
        )
    image = plain_name(Path(part.source)).stem
    return replace(part, image_ids=(image,), image_index=np.zeros(len(part), np.int64), by_file=True)


def join_column(name: str, parts: Sequence[Regions]) -> Column:
    """Join a column that some parts may lack: numbers have NaN there, names nothing."""
    columns = [part.columns.get(name) for part in parts]
    arrays = [column for column in columns if isinstance(column, np.ndarray)]
    if all(column is not None for column in columns) and len(arrays) == len(columns):
        return np.concatenate(arrays)
    if any(column.dtype.kind == "f" for column in arrays):
        return np.concatenate(
            [
                np.full(len(part), np.nan) if column is None else column
                for part, column in zip(parts, columns, strict=True)
            ]
        )
    numbers: dict[str, int] = {}
    index = []
    for part, column in zip(parts, columns, strict=True):
        if isinstance(column, Names):
            own = [numbers.setdefault(text, len(numbers)) for text in column.names]
            index.append(np.array(own, np.int64)[column.index])
        else:
            texts = [""] * len(part) if column is None else map(str, column.tolist())
            index.append(np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.int64))
    return Names(np.concatenate(index), tuple(numbers))
