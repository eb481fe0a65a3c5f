"""Which layouts of box files there are, and which of them a file has.

Nothing heavy is imported before a file is read: the command line lists the layouts in its help.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from roicli.boxfiles.boxfile import SUFFIXES as SUFFIXES
from roicli.boxfiles.boxfile import BoxFile, Form, opened
from roicli.errors import BoxError, FileError, UsageError
from roicli.files import CONVERSIONS, signature
from roicli.words import count, listing

if TYPE_CHECKING:
    from roicli.regions import BoxFormat, Regions


class Layout(NamedTuple):
    """One layout of box files.

    Attributes
    ----------
    title : str
        In words, with its article: "a COCO dataset".
    recognizes : callable
        Tell by a cheap look whether a file has this layout.
    read : callable
        Read the regions of a file that has it.
    suffixes : tuple of str
        Suffixes of files that are read, and refused with the fault named, if no layout recognizes them.
    masks : callable, optional
        Yield the masks of a file of which some rows are wanted: the row, the mask as `decode_mask` takes it, and what
        of it tells the masks of two files apart. By default JSON objects hold them, and what is not JSON has none.
    files : str
        Which files have it, in Markdown, where the suffixes do not say.
    holds : str
        What a file holds, in Markdown: the guide's table of layouts has this line.
    name : str
        As `boxes_as` takes it: "coco". Of layouts of the table below, this and the form stand there.
    form : str
        See `Form`; files of another form are not asked about.
    """

    title: str
    recognizes: Callable[[BoxFile], bool]
    read: Callable[[BoxFile, BoxFormat | None], Regions]
    suffixes: tuple[str, ...] = ()
    masks: Callable[[BoxFile, Iterable[int]], Iterator[tuple[int, bytes, bytes]]] | None = None
    files: str = ""
    holds: str = ""
    name: str = ""
    form: Form = "text"


# By name, in the order in which they are asked: a layout, or the form of its files, where it is defined, and keys. A
# module is loaded when a file of its form is met that has one of these keys at its first level, or in its first item.
# If no layout recognizes the file, the first one of its suffix reads it, and says what is missing.
_LAYOUTS: dict[str, Layout | tuple[str, ...]] = {
    "json-list": ("json", "jsonitems:LIST"),
    "json-lines": ("json", "jsonitems:LINES"),
    "json-by-image": ("json", "jsonbyimage:LAYOUT"),
    "coco": ("json", "coco:LAYOUT", "images", "annotations"),
    "csv": ("text", "csvboxes:LAYOUT"),
    "npy": ("npy", "npyboxes:LAYOUT"),
    "npy-rotated": ("npy", "npyboxes:ROTATED"),
    "vg-regions": ("json", "visualgenome:REGIONS", "regions"),
    "vg-objects": ("json", "visualgenome:OBJECTS", "objects", "attributes"),
    "vg-relationships": ("json", "visualgenome:RELATIONSHIPS", "relationships"),
    "gqa": ("json", "gqa:LAYOUT"),
    "detectron2": ("json", "detectron:LAYOUT", "annotations", "instances"),
    "open-images": ("text", "openimages:LAYOUT"),
    "voc": ("xml", "voc:LAYOUT"),
    "yolo": ("text", "yolo:DETECTION"),
    "yolo-obb": ("text", "yolo:ORIENTED"),
    "dota": ("text", "dota:LAYOUT"),
    "vinvl": ("text", "vinvl:LAYOUT"),
    "vg-sgg": ("hdf5", "sgg:LAYOUT"),
    "coco-panoptic": ("json", "panoptic:LAYOUT", "annotations"),
    "sam": ("json", "sam:LAYOUT", "image", "predicted_iou", "stability_score"),
    "ultralytics": ("json", "ultralytics:LAYOUT", "box"),
    "labelme": ("json", "drawn:LABELME", "shapes"),
    "geojson": ("json", "drawn:GEOJSON", "features", "geometry"),
    "mot": ("text", "tracks:MOT"),
    "ava": ("text", "tracks:AVA"),
    "butd-tsv": ("text", "butd:TSV"),
    "butd-h5": ("hdf5", "butd:HDF5"),
    "m2-h5": ("hdf5", "imagesets:M2"),
    "vlt5-h5": ("hdf5", "imagesets:VLT5"),
    "npz": ("npz", "npzboxes:LAYOUT"),
    "parquet": ("parquet", "parquet:LAYOUT"),
    "label-png": ("png", "labelimage:PNG"),
    "label-npy": ("npy", "labelimage:NPY"),
}

# How to make a box file of what is not one, by the beginning of its description.
_KINDS = {"npz": "a zip archive", "hdf5": "an HDF5 file", "parquet": "a Parquet file", "xml": "XML"}
_REMEDIES = {
    "a zip archive": "Unpack it; of an .npz save one (K, 4) array with numpy.save.",
    "an HDF5 file": "Save its boxes as an array: numpy.save('boxes.npy', file['boxes'][()]).",
    "a Parquet": "Convert it: pandas.read_parquet(...).to_csv('boxes.csv', index=False).",
    "an Excel": "Save it as CSV: pandas.read_excel(...).to_csv('converted.csv', index=False).",
    "a pickle": "Save the boxes as JSON, as CSV, or with numpy.save as a (K, 4) array.",
}
# Bytes of annotations that are looked at for masks.
_BEGINNING = 1 << 16
# So many files of a folder are looked at before its layout is known.
_LOOKED_AT = 100


def register(layout: Layout) -> None:
    """Add a layout of box files, or replace the one of its name."""
    _LAYOUTS[layout.name] = layout


def layout_names() -> list[str]:
    """Return the names that `boxes_as` takes."""
    return [*_LAYOUTS]


def load(name: str) -> Layout:
    """Return the layout of a name; UsageError if there is none."""
    if name not in _LAYOUTS:
        raise UsageError(f"boxes_as must be one of {', '.join(_LAYOUTS)}, got {name!r}")
    entry = _LAYOUTS[name]
    if isinstance(entry, Layout):
        return entry
    module, _, attribute = entry[1].partition(":")
    layout: Any = getattr(import_module(f"roicli.boxfiles.{module}"), attribute)
    return layout._replace(name=name, form=entry[0])  # type: ignore[no-any-return]


def read_regions(
    path: Path,
    box_format: BoxFormat | None = None,
    boxes_as: str | None = None,
    image_size: Path | tuple[float, float] | None = None,
    *,
    mapped: bool = False,
) -> Regions:
    """Read the regions of one file, or of several of one layout.

    `path`: the box file, whose content says which layout it has; a folder or a pattern of such files; "-" for standard
    input.
    `box_format`: what the four numbers of a box mean. By default the layout says it: COCO datasets and results are xywh
    by their specification, the columns of a CSV say it by their names, and plain numbers are taken as xyxy.
    `boxes_as`: name of the layout, where the content does not say or says it wrongly; see `layout_names`.
    `image_size`: sizes of images, for layouts that need them to be read: a file, or one height and width.
    `mapped`: leave a large array in its file, as a memory map: the caller takes what it needs, and soon. For a long
    file of text that is a table beside it, which the first one to come writes; see `kept`.
    Raises FileError: the file cannot be read, or is not of the format that its name says. BoxError: its content is not
    boxes. ChangedInputError: it was written to or replaced while it was read.

    Returns
    -------
    Regions
        Region i is box i of the file; files follow one another in natural order. Values are not judged: NaN, infinite
        and inverted boxes are left in.
    """
    from roicli.boxfiles.kept import read_kept
    from roicli.boxfiles.several import files_of, join  # with NumPy

    files = files_of(path)
    if files is None:
        read = partial(_read, path, box_format, image_size, lambda file: choose(file, boxes_as), mapped=mapped)
        regions = read_kept(path, (box_format, boxes_as, image_size), read) if mapped else read()
    else:
        layout = _common(path, files) if boxes_as is None else load(boxes_as)
        regions = join(path, (_read(file, box_format, image_size, lambda _: layout) for file in files))
    return regions if len(regions) else replace(regions, notes=(*regions.notes, f"{path} holds no boxes"))


def _read(
    path: Path,
    box_format: BoxFormat | None,
    image_size: Path | tuple[float, float] | None,
    layout_of: Callable[[BoxFile], Layout],
    *,
    mapped: bool = False,
) -> Regions:
    """Read one file."""
    with opened(path, image_size) as file:
        file.mapped = mapped
        layout = layout_of(file)
        regions = layout.read(file, box_format)
        stamps = {str(path): file.stamp} if file.stamp else {}
        outlined = file.form == "json" and _has_masks(file)
    notes = (*file.notes, *regions.notes)
    return replace(regions, notes=notes, stamps=stamps | file.beside, outlined=outlined, boxes_as=layout.name)


def _has_masks(file: BoxFile) -> bool:
    """Tell by the first annotations of a JSON file whether they have masks, which nobody reads here."""
    beginning: object = file.head
    if not file.is_lines and file.document:
        document = file.document
        beginning = document[0] if isinstance(document, list) else document.get("annotations", b"")
    return b'"segmentation"' in bytes(memoryview(beginning)[:_BEGINNING])  # type: ignore[arg-type]


def choose(file: BoxFile, boxes_as: str | None = None) -> Layout:
    """Find the one layout that a file has.

    Raises BoxError: more than one layout would do, or none. UsageError: the layout `boxes_as` is unknown.
    """
    return load(boxes_as) if boxes_as is not None else _only(file.path, _candidates(file))


def _candidates(file: BoxFile) -> list[Layout]:
    """Return the layouts that a file may have; FileError if there are none."""
    of_form = [load(name) for name, entry in _LAYOUTS.items() if _may_be(file, entry)]
    if found := [layout for layout in of_form if layout.recognizes(file)]:
        return found
    from roicli.boxfiles.foreign import check_foreign  # few files need it

    check_foreign(file)
    suffix, known = file.suffix, signature(file.head) if file.form == "other" else _KINDS.get(file.form, "")
    if file.form == "npz" and b"[Content_Types].xml" in file.head:
        known = "an Excel workbook, or another file of Office"
    by_suffix = [layout for layout in (*of_form, *map(load, _LAYOUTS)) if suffix in layout.suffixes]
    if by_suffix and not known:
        return by_suffix[:1]
    looks = f"it is {known}" if known else f"{suffix!r} files are read by content, which says nothing"
    remedy = next((remedy for kind, remedy in _REMEDIES.items() if known.startswith(kind)), CONVERSIONS.get(known))
    raise FileError(
        f"{file.path}: not a box file that roicli knows; {looks}",
        remedy or f"Give boxes as {listing(SUFFIXES, 9)}, or say the layout: `boxes_as={layout_names()[0]}`.",
    )


def _only(path: Path, found: list[Layout]) -> Layout:
    if len(found) > 1:
        raise BoxError(
            f"{path} could be {' or '.join(layout.title for layout in found)}",
            f"Give {' or '.join(f'`boxes_as={layout.name}`' for layout in found)}.",
        )
    return found[0]


def _common(path: Path, files: list[Path]) -> Layout:
    """Find the one layout that several files have; some of them are looked at, and reading says it of the others."""
    found: list[Layout] | None = None
    for name in files[:_LOOKED_AT]:
        with opened(name) as file:
            if not file.head.strip():
                continue
            these = _candidates(file)
        found = these if found is None else [layout for layout in found if layout in these]
        if not found:
            raise BoxError(
                f"{name}: {these[0].title}, unlike the files before it in {path}", "Name files of one layout."
            )
    if found is None:
        raise BoxError(f"{path}: {count(len(files), 'file')} without content", "Check that this is the right folder.")
    return _only(path, found)


def _may_be(file: BoxFile, entry: Layout | tuple[str, ...]) -> bool:
    """Tell whether a file is of the form of a layout and, of JSON, has one of its keys."""
    if isinstance(entry, Layout):
        return file.form == entry.form
    form, _, *keys = entry
    if not keys or file.form != form:
        return file.form == form
    from roicli.boxfiles.jsontext import first_keys

    return not first_keys(file).isdisjoint(keys)
