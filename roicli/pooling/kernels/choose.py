"""The kernels for averages by name: the same arguments, the same numbers up to the last bits, another speed."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple

import numpy as np

from roicli.errors import UsageError
from roicli.pooling.kernels.separable import pool_separable
from roicli.pooling.sampling import FloatArray
from roicli.pooling.weights import AxisWeights

KernelChoice = Literal["auto", "numpy", "numba"]


class KernelName(StrEnum):
    """What contracts maps with axis weights."""

    NUMPY = "numpy"
    NUMBA = "numba"


class Kernel(NamedTuple):
    """A kernel for averages.

    Attributes
    ----------
    contract : callable
        ``contract(feature_map, rows, columns, out)``, as `pool_separable`.
    sparse : float
        In a window of more than so many times the cells that are read, it is faster with weights for those only.
    """

    contract: Callable[[FloatArray, AxisWeights, AxisWeights, FloatArray], None]
    sparse: float


NUMPY_KERNEL = Kernel(pool_separable, sparse=2)


def numba_is_installed() -> bool:
    """Tell without importing it, which takes a third of a second."""
    return find_spec("numba") is not None


def best_kernel(choice: KernelChoice) -> KernelName:
    """Return the kernel that "auto" means, or the one that is asked for.

    Raises
    ------
    UsageError
        There is no such kernel.
    """
    if choice == "auto":
        return KernelName.NUMBA if numba_is_installed() else KernelName.NUMPY
    try:
        return KernelName(choice)
    except ValueError:
        raise UsageError(f"kernel must be 'auto', 'numpy' or 'numba', got {choice!r}") from None


def load_kernel(name: KernelName, dtype: np.dtype[Any]) -> Kernel:
    """Load a kernel, ready to be used on maps of `dtype`; Numba compiles it if it never did on this machine.

    Raises
    ------
    UsageError
        Numba is asked for and not installed.
    """
    if name is KernelName.NUMPY:
        return NUMPY_KERNEL
    try:
        from roicli.pooling.kernels.compiled import compile_for, pool_compiled
    except ImportError as error:
        raise UsageError(
            f"the kernel numba cannot be loaded: {error}",
            "Install numba, or roicli with its extra [fast]; or give `kernel=numpy`.",
        ) from error
    compile_for(dtype)
    return Kernel(pool_compiled, sparse=0)
