"""The operators by name. A module is loaded when its operator is asked for."""

from __future__ import annotations

from importlib import import_module

from roicli.errors import UsageError

TYPE_CHECKING = False  # the command line lists names without loading NumPy
if TYPE_CHECKING:
    from roicli.pooling.operators.base import Operator

# Each module holds its operator as OPERATOR.
_MODULES = {
    "roi_align": "roicli.pooling.operators.roi_align",
    "roi_align_rotated": "roicli.pooling.operators.roi_align_rotated",
    "roi_pool": "roicli.pooling.operators.roi_pool",
    "ps_roi_align": "roicli.pooling.operators.ps_roi_align",
    "ps_roi_pool": "roicli.pooling.operators.ps_roi_pool",
    "precise_roi_pool": "roicli.pooling.operators.precise_roi_pool",
    "window_mean": "roicli.pooling.operators.window_mean",
    "cell": "roicli.pooling.operators.cell",
    "mask_mean": "roicli.pooling.operators.mask_mean",
    "mask_in_box": "roicli.pooling.operators.mask_in_box",
}
_registered: dict[str, Operator] = {}


def register(operator: Operator) -> None:
    """Make an operator known by its name, to Python and to the command line; it replaces one of the same name."""
    _registered[operator.name] = operator


def names() -> tuple[str, ...]:
    """Return the names of all operators."""
    return tuple(dict.fromkeys([*_MODULES, *_registered]))


def find(name: str) -> Operator:
    """Return an operator by its name.

    Raises
    ------
    UsageError
        The operator is unknown.

    Examples
    --------
    >>> find("roi_pool").title
    'RoIPool'
    """
    if name not in _registered:
        if name not in _MODULES:
            raise UsageError(f"op must be one of {', '.join(names())}, got {name!r}")
        register(import_module(_MODULES[name]).OPERATOR)
    return _registered[name]
