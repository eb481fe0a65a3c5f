"""Feature maps in files: `open_source` reads .npy, .npz, HDF5, folders of .npy files, and many files as one."""

from __future__ import annotations

from roicli.protocols import FeatureSource, Level, MapInfo
from roicli.sources.layout import MapLayout
from roicli.sources.open import open_source, register

__all__ = ["FeatureSource", "Level", "MapInfo", "MapLayout", "open_source", "register"]
