"""The kernels for averages by name: the same arguments, the same numbers up to the last bits, another speed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from roicli.errors import UsageError
from roicli.pooling.kernels.separable import pool_separable
from roicli.pooling.sampling import FloatArray
from roicli.pooling.weights import AxisWeights

KernelChoice = Literal["auto", "numpy", "numba"]


class Kernel(NamedTuple):
    """A kernel for averages."""

    contract: Callable[[FloatArray, AxisWeights, AxisWeights, FloatArray], None]  # see `pool_separable`
    # In a window of more than so many times the cells that are read, it is faster with weights for those only.
    sparse: float


NUMPY_KERNEL = Kernel(pool_separable, sparse=2)


def numba_is_installed() -> bool:
    """Tell without importing it, which takes a third of a second."""
    return find_spec("numba") is not None


def load_kernel(choice: KernelChoice, dtype: np.dtype[Any]) -> Kernel:
    """Load a kernel for maps of `dtype`; "auto" takes Numba where it is installed, which may compile for seconds.

    Raises
    ------
    UsageError
        The kernel is unknown, or Numba cannot be loaded.
    """
    if choice not in get_args(KernelChoice):
        raise UsageError(f"kernel must be 'auto', 'numpy' or 'numba', got {choice!r}")
    if choice == "numpy" or (choice == "auto" and not numba_is_installed()):
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
