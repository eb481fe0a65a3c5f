"""Rows to files and back: one class a format, both ways, and the registry that finds it by a file's suffix."""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name

from roicli.errors import OutputError
from roicli.files import HDF5_SUFFIXES
from roicli.newfiles import check_name
from roicli.outputs.base import OutputFormat
from roicli.words import listing

__all__ = ["check_output", "find_format", "register", "suffixes"]

# Suffix -> the class of the format, or where it is: its module is loaded when the first file of it is met.
_FORMATS: dict[str, OutputFormat | str] = {
    ".npy": "roicli.outputs.npy:Npy",
    ".npz": "roicli.outputs.npz:Npz",
    **dict.fromkeys(HDF5_SUFFIXES, "roicli.outputs.hdf5:Hdf5"),
}


def register(output_format: OutputFormat) -> None:
    """Add a format: its suffixes lead to it from now on."""
    _FORMATS.update(dict.fromkeys(output_format.suffixes, output_format))


def suffixes() -> tuple[str, ...]:
    """Return all suffixes that an output may have."""
    return tuple(_FORMATS)


def find_format(path: Path) -> OutputFormat:
    """Return the format that the suffix of a file names; OutputError if there is none."""
    suffix = path.suffix.lower()
    found = _FORMATS.get(suffix)
    if found is None:
        raise OutputError(
            f"{path}: {suffix!r} is not the suffix of an output format",
            f"Name a file that ends in {listing(suffixes(), len(_FORMATS))}.",
        )
    if isinstance(found, str):
        found = resolve_name(found)()
        assert isinstance(found, OutputFormat)
        _FORMATS.update(dict.fromkeys(found.suffixes, found))
    return found


def check_output(path: Path) -> None:
    """Refuse an output that cannot be written, before anything is computed; OutputError says why."""
    find_format(path)
    check_name(path, overwrite=True)
