"""From a path or a pattern to a source."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import get_args

from roicli.errors import FileError, UsageError
from roicli.files import CHECK_PATH, file_size, natural_key, reading
from roicli.sources.base import Layout
from roicli.sources.protocol import FeatureSource

HDF5_SUFFIXES = (".h5", ".hdf5", ".he5", ".hdf")


def open_source(pattern: str | Path, *, dataset: str | None = None, layout: Layout = "chw") -> FeatureSource:
    """Open the feature maps in a file, a folder, or all files that match a pattern.

    Parameters
    ----------
    pattern : str or Path
        A .npy, .npz or HDF5 file, a folder of .npy files, or a glob pattern such as ``'feats/*.h5'``, whose matches
        are read as one source in natural order (``map2`` before ``map10``); files of one map each name it. A path that
        exists is taken as it is, whatever characters its name has.
    dataset : str, optional
        Which dataset of an HDF5 file, or array of an .npz, holds the maps, where several would do: a 4-D dataset, one
        3-D dataset, or a group of 3-D datasets.
    layout : {"chw", "hwc"}
        How a map is stored. Whatever it is, `read` and `info` give (C, H, W).

    Returns
    -------
    FeatureSource
        Picklable; it opens its files in the process that uses it.

    Raises
    ------
    FileError
        If nothing matches, or a file is missing, truncated, or not of the format that its extension says.
    FeatureError
        If what a file holds cannot be pooled, or several things in it could be.
    UsageError
        If `dataset` is given for .npy files, which have none.
    """
    if layout not in get_args(Layout):
        raise UsageError(f"Unknown layout {layout!r}", "Use 'chw' or 'hwc'.")
    pattern = os.fspath(pattern)
    if not pattern:  # which Path would take for the current folder
        raise FileError("features: the name is empty", "Name a file, a folder of .npy files, or a pattern in quotes.")
    if os.path.lexists(pattern) or not glob.has_magic(pattern):
        return _open_path(Path(pattern), dataset, layout)
    matches = sorted(_matches(pattern), key=natural_key)
    if not matches:
        raise FileError(f"no file matches {pattern}", "Check the folder and the pattern.")
    parts = [_open_path(Path(match), dataset, layout) for match in matches]
    if len(parts) == 1 and (parts[0].labelled or len(parts[0].ids) != 1):
        return parts[0]
    from roicli.sources.many import ManySource

    return ManySource(pattern, parts)


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


def _open_path(path: Path, dataset: str | None, layout: Layout) -> FeatureSource:
    suffix = path.suffix.lower()
    with reading(str(path), CHECK_PATH):
        is_folder = path.is_dir()
    if dataset is not None and (is_folder or suffix == ".npy"):
        raise UsageError(f"{path} has no datasets to choose from", "Leave --dataset out.")
    # Each format is loaded where it is met: a job seldom meets two.
    if is_folder:
        from roicli.sources.folder import FolderSource

        return FolderSource(path, layout)
    file_size(path)  # before any library asks a pipe for its first bytes, and waits
    if suffix == ".npy":
        from roicli.sources.npy import NpySource

        return NpySource(path, layout)
    if suffix == ".npz":
        from roicli.sources.npz import NpzSource

        return NpzSource(path, layout, dataset)
    if suffix in HDF5_SUFFIXES:
        from roicli.sources.hdf5.source import Hdf5Source

        return Hdf5Source(path, layout, dataset)
    raise FileError(
        f"{path} has an extension that is not read as features",
        f"Give a file of .npy, .npz, {', '.join(HDF5_SUFFIXES)}, or a folder of .npy files.",
    )
