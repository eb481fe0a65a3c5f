"""Rows to files and back: one class a format, both ways, and the registry that finds it by a file's suffix.

Layouts that the loaders of other projects read are formats too, found by their names.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from roicli.errors import OutputError, UsageError
from roicli.files import HDF5_SUFFIXES, printable, reading
from roicli.newfiles import check_name
from roicli.outputs.base import REMEDY, OutputFormat, Parameters
from roicli.stores.path import is_store
from roicli.words import listing

__all__ = ["LAYOUTS", "check_output", "find_format", "find_stored", "parameters_of", "register", "suffixes"]

# Suffix -> the class of the format, or where it is: its module is loaded when the first file of it is met.
_FORMATS: dict[str, OutputFormat | str] = {
    ".npy": "roicli.outputs.npy:Npy",
    ".npz": "roicli.outputs.npz:Npz",
    **dict.fromkeys(HDF5_SUFFIXES, "roicli.outputs.hdf5:Hdf5"),
    ".safetensors": "roicli.outputs.safetensors:Safetensors",
    ".zarr": "roicli.outputs.zarr:Zarr",
    ".parquet": "roicli.outputs.parquet:Parquet",
}

# And of what is written to stores.
_IN_STORES = "roicli.outputs.zarrinstore:ZarrInStore"

# Name -> the class of a layout.
LAYOUTS: dict[str, str] = {
    "butd-h5-adaptive": "roicli.outputs.butd:ButdAdaptive",
    "butd-h5-fixed": "roicli.outputs.butd:ButdFixed",
    "butd-tsv": "roicli.outputs.assembled:ButdTsv",
    "per-image-npz": "roicli.outputs.assembled:ImageNpz",
    "m2-h5": "roicli.outputs.perimage:M2",
    "vlt5-h5": "roicli.outputs.perimage:VLT5",
}


def register(output_format: OutputFormat) -> None:
    """Add a format: its suffixes lead to it from now on."""
    _FORMATS.update(dict.fromkeys(output_format.suffixes, output_format))


def suffixes() -> tuple[str, ...]:
    """Return all suffixes that an output may have."""
    return tuple(_FORMATS)


def find_format(path: Path, layout: str | None = None) -> OutputFormat:
    """Return the format that the suffix of a file names, or the layout; OutputError if they do not fit."""
    suffix = path.suffix.lower()
    if suffix == ".zarr" and layout is None and is_store(path):
        return _load(_IN_STORES)
    if layout is not None:
        if layout not in LAYOUTS:
            raise UsageError(
                f"{layout!r} is not a layout of outputs", f"Give one of {listing(list(LAYOUTS), len(LAYOUTS))}."
            )
        made = _load(LAYOUTS[layout])
        if suffix not in made.suffixes:
            raise OutputError(
                f"{path}: {layout} is not written to {suffix or 'a name without suffix'}",
                f"Name a file that ends in {made.suffixes[0]}." if made.suffixes[0] else "Name a folder.",
            )
        return made
    found = _FORMATS.get(suffix)
    if found is None:
        raise OutputError(
            f"{path}: {suffix!r} is not the suffix of an output format" if suffix else f"{path}: a name without suffix",
            f"Name a file that ends in {listing(suffixes(), len(_FORMATS))}.",
        )
    if isinstance(found, str):
        found = _load(found)
        _FORMATS.update(dict.fromkeys(found.suffixes, found))
    return found


def find_stored(path: Path) -> OutputFormat:
    """Return the format or layout of an output that is there; OutputError if there is none of its suffix."""
    suffix = path.suffix.lower()
    of_suffix = [name for name in LAYOUTS if suffix in _load(LAYOUTS[name]).suffixes]
    if suffix not in _FORMATS and of_suffix:
        return _load(LAYOUTS[of_suffix[0]])
    found = find_format(path)
    if of_suffix:
        said = found.parameters(path)
        if "shard" not in said and said.get("output_layout") in of_suffix:  # a part is plain, whatever becomes of all
            return _load(LAYOUTS[str(said["output_layout"])])
    return found


def check_output(path: Path, output_format: OutputFormat) -> None:
    """Refuse an output that cannot be written, before anything is computed; OutputError says why."""
    check_name(path, overwrite=True, is_folder=output_format.folder)


def parameters_of(path: Path) -> Parameters:
    """Read how an output was made; empty if the file is not one, or does not say; in stores only .zarr does."""
    if is_store(path) and path.suffix.lower() != ".zarr":
        return {}
    with reading(printable(str(path)), REMEDY):
        return find_format(path).parameters(path)


def _load(where: str) -> OutputFormat:
    module, _, name = where.partition(":")
    found = getattr(import_module(module), name)()
    assert isinstance(found, OutputFormat)
    return found
