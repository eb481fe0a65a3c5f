"""Box files in, `Regions` out.

One file a layout family; each ends in a `Layout`, which recognizes its files by content and reads them. A new layout is
one file and its line in `registry`.
"""

from roicli.boxfiles.registry import SUFFIXES, Layout, layout_names, read_regions, register

__all__ = ["SUFFIXES", "Layout", "layout_names", "read_regions", "register"]
