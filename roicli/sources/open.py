"""From a path or a pattern to a source."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from roicli.errors import FeatureError, FileError, UsageError
from roicli.files import CHECK_PATH, HDF5_SUFFIXES, content_of, file_size, natural_key, printable, reading
from roicli.protocols import FeatureSource
from roicli.sources.base import MapSource
from roicli.sources.foreign import refusal
from roicli.sources.inventory import Inventory
from roicli.sources.layout import SEQUENCES, MapLayout, layout_of
from roicli.sources.tokens import TokenLayout, TokenSource
from roicli.stores import path as stores
from roicli.stores.path import forget, is_pattern, is_store, path_of

# Stands for the suffix of a folder.
FOLDER = "/"
# Of a folder or a zip archive; a folder without this suffix has one of these files.
ZARR = ".zarr"
_ZARR_METADATA = ("zarr.json", ".zgroup", ".zarray")

# Suffix -> the module and class that read it. A format is loaded where it is met: a job seldom meets two.
_FORMATS: dict[str, str | type[MapSource]] = {
    ".npy": "roicli.sources.npy:NpySource",
    ".npz": "roicli.sources.npz:NpzSource",
    ".safetensors": "roicli.sources.safetensors:SafetensorsSource",
    **dict.fromkeys((".pt", ".pth"), "roicli.sources.torchfile:TorchSource"),
    **dict.fromkeys((*HDF5_SUFFIXES, ".nc", ".nc4", ".mat"), "roicli.sources.hdf5.source:Hdf5Source"),
    **dict.fromkeys((ZARR, ".zip"), "roicli.sources.zarrstore:ZarrSource"),
    FOLDER: "roicli.sources.folder:FolderSource",
}


def register(suffixes: Sequence[str], source: str | type[MapSource]) -> None:
    """Read files of these suffixes by another class.

    `suffixes`: in lower case, with their dots; `FOLDER` for folders.
    `source`: a subclass of `MapSource`, or "module:class", which is imported when such a file is met.
    """
    _FORMATS.update(dict.fromkeys(suffixes, source))


def suffixes() -> tuple[str, ...]:
    """Suffixes of all files that are read as features."""
    return tuple(suffix for suffix in _FORMATS if suffix != FOLDER)


def format_of(path: Path) -> type[MapSource]:
    """Return the class that reads a file or folder; FileError if there is none, or nothing to read."""
    with reading(printable(str(path)), CHECK_PATH):
        is_folder = path.is_dir()
    if not is_folder:
        file_size(path)  # before any library asks a pipe for its first bytes, and waits
    suffix = path.suffix.lower()
    if is_folder and not (suffix == ZARR or any((path / name).is_file() for name in _ZARR_METADATA)):
        suffix = FOLDER
    found = _FORMATS.get(ZARR if is_folder and suffix != FOLDER else suffix)
    if (found is None or is_folder) and (refused := refusal(path)):
        raise refused
    if found is None:
        known = "" if is_folder else content_of(path)
        ending = f"the extension {printable(path.suffix)!r}" if path.suffix else "no extension"
        raise FileError(
            f"{printable(str(path))} has {ending}, which is not read as features"
            + (f"; it is {known}" if known else ""),
            f"{'Rename it' if known else 'Give a file'}: {', '.join(suffixes())}, or a folder of .npy files.",
        )
    if isinstance(found, str):
        module, _, name = found.partition(":")
        loaded: type[MapSource] = getattr(import_module(module), name)
        return loaded
    return found


def take_stock(path: Path) -> Inventory:
    """List the arrays of a file, grouped by kind.

    Raises FileError: a file that cannot be read.
    """
    with reading(printable(str(path))):
        return format_of(path).take_stock(path)


def open_source(
    pattern: str | Path,
    *,
    dataset: str | None = None,
    layout: str | MapLayout | TokenLayout = "chw",
    map_dtype: str | None = None,
    map_index: str | Path | None = None,
) -> FeatureSource:
    """Open the feature maps in a file, a folder, or all files that match a pattern.

    `pattern`: a file of ``roicli help formats``, a folder of .npy files, or a pattern: ``'feats/*.h5'``. The files that
    match are read as one source in natural order (``map2`` before ``map10``); files of one map each name it. A path
    that exists is taken as it is, whatever characters its name has.
    `dataset`: which dataset of an HDF5 file, or array of an .npz, holds the maps, where several would do: a 4-D
    dataset, one 3-D dataset, or a group of 3-D datasets.
    `layout`: how a map is stored. Whatever it is, `read` and `info` give (C, H, W).
    `map_dtype`: what integers are the bits of: "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2".
    `map_index`: a JSON or CSV file that says in which file, and where in it, the map of each image lies; see
    `IndexedSource`.
    Raises FileError: if nothing matches, or a file is missing, truncated, or not of the format that its extension says.
    FeatureError: if what a file holds cannot be pooled, or several things in it could be. UsageError: if `dataset` is
    given for .npy files, which have none.

    Returns
    -------
    FeatureSource
        Picklable; it opens its files in the process that uses it.
    """
    pattern = str(path_of(pattern)) if pattern else ""
    if is_store(pattern):
        forget()
    layout = TokenLayout() if layout == "tokens" else layout
    source = _open(pattern, dataset, SEQUENCES if isinstance(layout, TokenLayout) else layout_of(layout))
    if map_index is not None:
        from roicli.sources.mapindex import IndexedSource

        source = IndexedSource(source, path_of(map_index))
    if map_dtype is not None:
        from roicli.sources.retyped import RetypedSource

        source = RetypedSource(source, map_dtype)
    return TokenSource(source, layout) if isinstance(layout, TokenLayout) else source


def _open(pattern: str, dataset: str | None, layout: MapLayout) -> FeatureSource:
    if not pattern:  # which Path would take for the current folder
        raise FileError("features: the name is empty", "Name a file, a folder of .npy files, or a pattern in quotes.")
    if not is_pattern(pattern):
        return _open_path(path_of(pattern), dataset, layout)
    found = matches(pattern)
    if not found:
        raise FileError(f"{printable(pattern)}: no file matches it", "Check the folder and the pattern.")
    parts = _open_matches(found, dataset, layout)
    if len(parts) == 1 and (parts[0].labelled or len(parts[0].ids) != 1):
        return parts[0]
    from roicli.sources.many import ManySource

    return ManySource(pattern, parts)


def _open_matches(found: Sequence[str], dataset: str | None, layout: MapLayout) -> list[FeatureSource]:
    """Open the files of a pattern; one that holds no maps ends the job only if a box needs it, where that is known."""
    from roicli.sources.broken import BrokenSource

    parts: list[FeatureSource] = []
    for match in found:
        try:
            parts.append(_open_path(path_of(match), dataset, layout))
        except (FeatureError, FileError) as error:
            parts.append(BrokenSource(path_of(match), error))
    sound = [part for part in parts if not isinstance(part, BrokenSource)]
    names = {part.ids[0] for part in sound if len(part.ids) == 1}
    # im0.json beside im0.npy is passed over.
    parts = [part for part in parts if not (isinstance(part, BrokenSource) and part.ids[0] in names)]
    broken = next((part for part in parts if isinstance(part, BrokenSource)), None)
    if broken and not (sound and all(map(_is_named_by_file, sound))):
        raise broken.error
    return parts


def _is_named_by_file(part: FeatureSource) -> bool:
    """Tell whether a file holds one map under the file's name, so that a box says which file it needs."""
    return len(part.ids) == 1 and (not part.labelled or part.ids[0] == printable(Path(part.paths[0]).stem))


def matches(pattern: str) -> list[str]:
    """Return the files that match a pattern, in natural order; brackets may be those of a folder's name."""
    if is_store(pattern):
        return stores.matches(pattern)
    found = _matches(pattern)
    folders = pattern.split("/")[:-1]
    while not found and folders:
        folder = "/".join(folders)
        if glob.has_magic(folder) and os.path.isdir(folder):  # noqa: PTH112
            found = _matches(glob.escape(folder) + pattern.removeprefix(folder))
        folders.pop()
    return sorted(found, key=natural_key)


def _matches(pattern: str) -> list[str]:
    """Files that match; ``**`` goes into no folder behind a link, or links to a folder above would go on for ever."""
    before, deep, after = pattern.partition("**/")
    if not deep or before[-1:] not in ("", "/"):
        return glob.glob(pattern)  # noqa: PTH207 (Path.glob takes hidden files)
    found = []
    for start in glob.glob(before) if before else [""]:  # noqa: PTH207
        for folder, inner, _ in os.walk(start or "."):
            inner[:] = [name for name in inner if not name.startswith(".")]
            found += _matches(os.path.join(glob.escape(folder if start else os.path.relpath(folder)), after))  # noqa: PTH118
    return found


def _open_path(path: Path, dataset: str | None, layout: MapLayout) -> FeatureSource:
    format_ = format_of(path)
    if dataset is not None and not format_.has_datasets:
        raise UsageError(f"{path} has no datasets to choose from", "Leave `dataset` out.")
    return format_(path, layout, dataset)
