"""Which layouts of box files there are, and which of them a file has.

Nothing heavy is imported before a file is read: the command line lists the layouts in its help.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from roicli.boxfiles.boxfile import BoxFile, Form, opened
from roicli.errors import BoxError, FileError, UsageError
from roicli.files import signature
from roicli.words import listing

if TYPE_CHECKING:
    from roicli.regions import BoxFormat, Regions


@dataclass(frozen=True)
class Layout:
    """One layout of box files.

    Attributes
    ----------
    name : str
        As `boxes_as` takes it: "coco".
    title : str
        In words, with its article: "a COCO dataset".
    form : {"json", "text", "npy", "other"}
        Files of another form are not asked about.
    recognizes : callable
        Tell by a cheap look whether a file has this layout.
    read : callable
        Read the regions of a file that has it.
    suffixes : tuple of str
        Suffixes of files that are read, and refused with the fault named, if no layout recognizes them.
    holds : str
        What a file holds, in Markdown: the guide's table of layouts has this line.
    """

    name: str
    title: str
    form: Form
    recognizes: Callable[[BoxFile], bool]
    read: Callable[[BoxFile, BoxFormat | None], Regions]
    suffixes: tuple[str, ...] = ()
    holds: str = ""


# By name, in the order in which they are asked: a layout, or the form of its files and where it is defined. A module
# is loaded when a file of its form is met; if no layout recognizes the file, the first one of its suffix reads it, and
# says what is missing.
_LAYOUTS: dict[str, Layout | tuple[Form, str]] = {
    "json-list": ("json", "jsonitems:LIST"),
    "json-lines": ("json", "jsonitems:LINES"),
    "json-by-image": ("json", "jsonbyimage:LAYOUT"),
    "coco": ("json", "coco:LAYOUT"),
    "csv": ("text", "csvboxes:LAYOUT"),
    "npy": ("npy", "npyboxes:LAYOUT"),
}

# Suffixes that box files have by custom; the content decides.
SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".npy")

# How to make a box file of what is not one, by the beginning of its description.
_REMEDIES = {
    "gzip": "Unpack it first: `gunzip`.",
    "bzip2": "Unpack it first: `bunzip2`.",
    "xz": "Unpack it first: `unxz`.",
    "Zstandard": "Unpack it first: `unzstd`.",
    "a Git LFS pointer": "Fetch the file itself: git lfs pull.",
    "a web page": "Download the file again: the server sent a page, perhaps to log in.",
    "a zip archive": "Unpack it; of an .npz save one (K, 4) array with numpy.save.",
    "an HDF5 file": "Save its boxes as an array: numpy.save('boxes.npy', file['boxes'][()]).",
    "a Parquet": "Convert it: pandas.read_parquet(...).to_csv('boxes.csv', index=False).",
    "a pickle": "Save the boxes as JSON, as CSV, or with numpy.save as a (K, 4) array.",
}


def register(layout: Layout) -> None:
    """Add a layout of box files, or replace the one of its name."""
    _LAYOUTS[layout.name] = layout


def layout_names() -> list[str]:
    """Return the names that `boxes_as` takes."""
    return [*_LAYOUTS]


def load(name: str) -> Layout:
    """Return the layout of a name."""
    entry = _LAYOUTS[name]
    if isinstance(entry, Layout):
        return entry
    module, _, attribute = entry[1].partition(":")
    layout: Layout = getattr(import_module(f"roicli.boxfiles.{module}"), attribute)
    return layout


def read_regions(path: Path, box_format: BoxFormat | None = None, boxes_as: str | None = None) -> Regions:
    """Read the regions of one file, whatever its layout.

    Parameters
    ----------
    path : Path
        The box file. Its content says which layout it has.
    box_format : BoxFormat, optional
        What the four numbers of a box mean. By default COCO datasets and results are xywh by their specification,
        the columns of a CSV say it by their names, and everything else is taken as xyxy.
    boxes_as : str, optional
        Name of the layout, where the content does not say or says it wrongly; see `layout_names`.

    Returns
    -------
    Regions
        Region i is box i of the file. Values are not judged: NaN, infinite and inverted boxes are left in.

    Raises
    ------
    FileError
        The file cannot be read, or is not of the format that its name says.
    BoxError
        Its content is not boxes.
    ChangedInputError
        It was written to or replaced while it was read.
    """
    with opened(path) as file:
        regions = choose(file, boxes_as).read(file, box_format)
        notes = (*file.notes, *regions.notes, *([] if len(regions) else [f"{path} holds no boxes"]))
    return replace(regions, notes=notes, stamp=file.stamp)


def choose(file: BoxFile, boxes_as: str | None = None) -> Layout:
    """Find the one layout that a file has.

    Raises
    ------
    BoxError
        More than one layout would do, or none.
    UsageError
        The layout `boxes_as` is unknown.
    """
    if boxes_as is not None:
        if boxes_as not in _LAYOUTS:
            raise UsageError(f"boxes_as must be one of {', '.join(_LAYOUTS)}, got {boxes_as!r}")
        return load(boxes_as)
    of_form = [load(name) for name, entry in _LAYOUTS.items() if file.form == _form(entry)]
    found = [layout for layout in of_form if layout.recognizes(file)]
    if len(found) > 1:
        raise BoxError(
            f"{file.path} could be {' or '.join(layout.title for layout in found)}",
            f"Give {' or '.join(f'`boxes_as={layout.name}`' for layout in found)}.",
        )
    if found:
        return found[0]
    suffix, known = file.path.suffix.lower(), signature(file.head) if file.form == "other" else ""
    by_suffix = [layout for layout in (*of_form, *map(load, _LAYOUTS)) if suffix in layout.suffixes]
    if by_suffix and not known:
        return by_suffix[0]
    looks = f"it is {known}" if known else f"{suffix!r} files are read by content, which says nothing"
    remedy = next((remedy for kind, remedy in _REMEDIES.items() if known.startswith(kind)), "")
    raise FileError(
        f"{file.path}: not a box file that roicli knows; {looks}",
        remedy or f"Give boxes as {listing(SUFFIXES, 6)}, or say the layout: `boxes_as={layout_names()[0]}`.",
    )


def _form(entry: Layout | tuple[Form, str]) -> Form:
    return entry.form if isinstance(entry, Layout) else entry[0]
