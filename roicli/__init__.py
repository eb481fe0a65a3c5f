"""Regions of CNN feature maps, pooled from files or arrays: RoIAlign with the numbers of torchvision."""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers know it; the typing module takes a thirtieth of a start to load
if TYPE_CHECKING:
    from typing import Any

    from roicli.errors import RoicliError as RoicliError
    from roicli.jobs.api import align as align
    from roicli.jobs.api import check as check
    from roicli.jobs.api import identify as identify
    from roicli.jobs.api import verify as verify
    from roicli.jobs.inputs import open_features as open_features
    from roicli.jobs.inputs import read_regions as read_regions
    from roicli.pooling.adjoint import roi_align_backward as roi_align_backward
    from roicli.pooling.bintrace import BinTrace as BinTrace
    from roicli.pooling.engine import roi_align as roi_align
    from roicli.pooling.engine import roi_pool as roi_pool
    from roicli.pooling.functions import precise_roi_pool as precise_roi_pool
    from roicli.pooling.functions import ps_roi_align as ps_roi_align
    from roicli.pooling.functions import ps_roi_pool as ps_roi_pool
    from roicli.pooling.functions import roi_align_rotated as roi_align_rotated
    from roicli.pooling.maskpool import mask_pool as mask_pool
    from roicli.pooling.multiscale import multiscale_roi_align as multiscale_roi_align
    from roicli.pooling.trace import trace_bin as trace_bin

__version__ = "0.4.0"

# Where each public name lives; loaded at first use, so that `import roicli` costs nothing.
_HOMES = {
    "BinTrace": "pooling.bintrace",
    "RoicliError": "errors",
    "align": "jobs.api",
    "check": "jobs.api",
    "identify": "jobs.api",
    "mask_pool": "pooling.maskpool",
    "multiscale_roi_align": "pooling.multiscale",
    "open_features": "jobs.inputs",
    "open_output": "jobs.api",
    "precise_roi_pool": "pooling.functions",
    "ps_roi_align": "pooling.functions",
    "ps_roi_pool": "pooling.functions",
    "read_regions": "jobs.inputs",
    "roi_align": "pooling.engine",
    "roi_align_backward": "pooling.adjoint",
    "roi_align_rotated": "pooling.functions",
    "roi_pool": "pooling.engine",
    "trace_bin": "pooling.trace",
    "verify": "jobs.api",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    """Load a public name from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"roicli.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
