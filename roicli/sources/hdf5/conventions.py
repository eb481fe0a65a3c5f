"""What other programs mean by a dataset beyond HDF5: MATLAB, netCDF, plug-in filters. Runs in a child process."""

from __future__ import annotations

from typing import Any

import numpy as np
from h5py import h5a, h5z

from roicli.errors import FeatureError
from roicli.sources.layout import MapLayout
from roicli.sources.values import PACKED, Packing, packing_of

# Groups in which MATLAB keeps what cell arrays and objects refer to.
MATLAB_GROUPS = ("#refs#", "#subsystem#")
_NO_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"

# Numbers of filters that HDF5 itself lacks, by the HDF Group's register.
_FILTERS = {
    307: "bzip2",
    32000: "lzf",
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32013: "zfp",
    32015: "zstd",
    32017: "sz",
    32026: "blosc2",
}


def _has(dataset: Any, name: bytes) -> bool:
    return bool(h5a.exists(dataset.id, name))


def matlab_class(dataset: Any) -> str:
    """Return the class that MATLAB says a dataset has, such as "single" or "cell"; nothing if MATLAB wrote none."""
    value = dataset.attrs["MATLAB_class"] if _has(dataset, b"MATLAB_class") else b""
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def check_axes(dataset: Any, where: str, layout: MapLayout) -> None:
    """Raise FeatureError if a dataset is MATLAB's, whose axes are reversed, and the layout is not of such."""
    if not (kind := matlab_class(dataset)):
        return
    if kind not in ("single", "double", "logical") and "int" not in kind:
        raise FeatureError(f"{where} is a MATLAB array of class {kind}", "Save one numeric array.")
    if layout.name in ("chw", "hwc") or layout.over_time:
        shape, size = dataset.shape, dataset.shape[::-1]
        raise FeatureError(
            f"{where} is a MATLAB array in HDF5, and MATLAB reverses axes: its size is {size} there, "
            f"its shape {shape} in the file",
            "Give `layout=cwh` for sizes (H, W, C) or (H, W, C, N), `layout=whc` for (C, H, W) or (C, H, W, N); "
            "permute others in MATLAB.",
        )


def is_dimension(dataset: Any) -> bool:
    """Tell whether a dataset only stands for a dimension of netCDF, and holds nothing."""
    if not _has(dataset, b"NAME"):
        return False
    name = dataset.attrs["NAME"]
    return bool((name if isinstance(name, bytes) else str(name).encode()).startswith(_NO_VARIABLE))


def packing(dataset: Any, where: str) -> Packing | None:
    """Find the attributes by which values are packed."""
    if not h5a.get_num_attrs(dataset.id):  # most datasets
        return None
    names = [name for name in PACKED if _has(dataset, name.encode())]
    return packing_of({name: np.asarray(dataset.attrs[name]) for name in names}, where, dataset.dtype)


def check_filters(dataset: Any, where: str) -> None:
    """Raise FeatureError if this HDF5 lacks a filter of a dataset, hdf5plugin included where it is installed."""
    created = dataset.id.get_create_plist()
    for number in range(created.get_nfilters()):
        code, _, _, name = created.get_filter(number)
        if h5z.filter_avail(code) or (_load_plugins() and h5z.filter_avail(code)):
            continue
        shown = _FILTERS.get(code) or name.decode("utf-8", "replace") or "unknown"
        raise FeatureError(
            f"{where} is compressed with {shown} (filter {code}), which HDF5 does not have by itself",
            "Install hdf5plugin: pip install 'roicli[hdf5]'. Or repack the file where it can be read: "
            "h5repack -f GZIP=4 IN OUT.",
        )


def _load_plugins() -> bool:
    try:
        import hdf5plugin  # noqa: F401 (it registers its filters)
    except ImportError:
        return False
    return True
