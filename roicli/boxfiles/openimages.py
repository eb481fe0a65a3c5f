"""Open Images: a CSV with ImageID, XMin, XMax, YMin, YMax, in 0..1 of the image."""

from __future__ import annotations

from dataclasses import replace

from roicli.boxfiles.boxfile import BoxFile
from roicli.boxfiles.collector import check_unit
from roicli.boxfiles.csvboxes import OPEN_IMAGES, columns_of, read_csv
from roicli.boxfiles.registry import Layout
from roicli.regions import BoxFormat, Regions


def _read(file: BoxFile, box_format: BoxFormat | None) -> Regions:
    regions = check_unit(read_csv(file, box_format), "boxes of Open Images")
    note = f"{file.path}: Open Images, boxes read as {regions.box_format} in 0..1 of the image, as by `normalized`"
    return replace(regions, normalized=True, layout="Open Images", notes=(note, *regions.notes))


LAYOUT = Layout(
    "an Open Images CSV",
    lambda file: columns_of(file) >= OPEN_IMAGES,
    _read,
    files="`train-annotations-bbox.csv`",
    holds="Open Images: ImageID, XMin, XMax, YMin, YMax in 0..1 of the image",
)
