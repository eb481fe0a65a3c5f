"""A layout of box files: how it is called, how it is recognized, how it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from roicli.boxfiles.boxfile import BoxFile
    from roicli.regions import BoxFormat, Regions

Form = Literal["json", "text", "npy", "other"]
"""What the first bytes of a file say it is."""


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
