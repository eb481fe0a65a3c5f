"""Which layouts of box files there are, and which of them a file has.

Nothing heavy is imported before a file is read: the command line lists the layouts in its help.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from roicli.errors import BoxError, FileError, UsageError
from roicli.words import listing

if TYPE_CHECKING:
    from roicli.boxfiles.boxfile import BoxFile
    from roicli.boxfiles.layout import Form, Layout
    from roicli.regions import BoxFormat, Regions

# Form of the file, name of the layout, module that reads it. A module is loaded when a file of its form is met; if no
# layout recognizes the file, the first one of its suffix reads it, and says what is missing.
_BUILT_IN: tuple[tuple[Form, str, str], ...] = (
    ("json", "json-list", "jsonlist"),
    ("json", "json-lines", "jsonlines"),
    ("json", "json-by-image", "jsonbyimage"),
    ("json", "coco", "coco"),
    ("text", "csv", "csvboxes"),
    ("npy", "npy", "npyboxes"),
)
_ADDED: dict[str, Layout] = {}

# Suffixes that box files have by custom; the content decides.
SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".npy")


def register(layout: Layout) -> None:
    """Add a layout of box files, or replace the one of its name."""
    _ADDED[layout.name] = layout


def layout_names() -> list[str]:
    """Return the names that `boxes_as` takes."""
    return list(dict.fromkeys([*(name for _, name, _ in _BUILT_IN), *_ADDED]))


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
    from dataclasses import replace

    from roicli.boxfiles.boxfile import opened

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
        if boxes_as not in layout_names():
            raise UsageError(f"boxes_as must be one of {', '.join(layout_names())}, got {boxes_as!r}")
        return _load(boxes_as)
    of_form = [_load(name) for form, name in _forms() if form == file.form]
    found = [layout for layout in of_form if layout.recognizes(file)]
    if len(found) > 1:
        raise BoxError(
            f"{file.path} could be {' or '.join(layout.title for layout in found)}",
            f"Give {' or '.join(f'`boxes_as={layout.name}`' for layout in found)}.",
        )
    if found:
        return found[0]
    suffix = file.path.suffix.lower()
    candidates = [layout for layout in of_form if suffix in layout.suffixes]
    candidates += [_load(name) for form, name in _forms() if form != file.form and suffix in _load(name).suffixes]
    if candidates and not file.signature:
        return candidates[0]
    looks = f"it is {file.signature}" if file.signature else f"{suffix!r} files are read by content, which says nothing"
    raise FileError(
        f"{file.path}: not a box file that roicli knows; {looks}",
        file.remedy or f"Give boxes as {listing(SUFFIXES, 6)}, or say the layout: `boxes_as={layout_names()[0]}`.",
    )


def _forms() -> list[tuple[Form, str]]:
    built_in = [(form, name) for form, name, _ in _BUILT_IN if name not in _ADDED]
    return [*built_in, *((layout.form, layout.name) for layout in _ADDED.values())]


def _load(name: str) -> Layout:
    if name in _ADDED:
        return _ADDED[name]
    module = next(module for _, known, module in _BUILT_IN if known == name)
    layout: Layout = import_module(f"roicli.boxfiles.{module}").LAYOUT
    return layout
