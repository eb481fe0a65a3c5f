"""The kernel of BLAS, which decides the last bits of averages: it is fixed by the command line, and recorded."""

from __future__ import annotations

import os
import platform
import re
from functools import cache
from pathlib import Path

_VARIABLE, _KERNEL = "OPENBLAS_CORETYPE", "Haswell"
# A file of one paragraph a core: the first paragraph is enough, and hundreds of cores take milliseconds.
_CPU, _FIRST = Path("/proc/cpuinfo"), 8192


def fix_kernel() -> None:
    """Make OpenBLAS take the same kernel on every x86-64 CPU with AVX2, unless the user has chosen one.

    OpenBLAS reads this when NumPy loads it. By itself it would take another kernel on each kind of CPU, and so give
    other last bits.
    """
    if not os.environ.get(_VARIABLE) and {"avx2", "fma"} <= cpu_flags():
        os.environ[_VARIABLE] = _KERNEL


def cpu_flags() -> set[str]:
    """Return what an x86-64 CPU can execute, in Linux's words; nothing on other machines."""
    try:
        with _CPU.open("rb", buffering=0) as file:
            found = re.search(rb"^flags\s*:(.*)$", file.read(_FIRST), re.MULTILINE)
    except OSError:
        found = None
    return set(found[1].decode().split()) if found else set()


@cache
def blas_kernel() -> str:
    """Name what NumPy multiplies matrices with in this process, such as "OpenBLAS 0.3.31 Haswell"."""
    from threadpoolctl import threadpool_info

    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    # SciPy and others bring a BLAS of their own.
    found.sort(key=lambda library: "numpy" not in library["filepath"])
    if not found:
        return f"unknown, on {platform.machine()}"
    named = {"openblas": "OpenBLAS", "mkl": "MKL", "blis": "BLIS"}.get(found[0]["internal_api"], "BLAS")
    return " ".join(filter(None, (named, found[0]["version"], found[0].get("architecture"))))
