"""What a benchmark ran on."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_info

from roicli import __version__
from roicli.bench.peers import PEERS


def describe_machine() -> dict[str, Any]:
    """Return system, CPU model, cores and bytes of memory."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def describe_versions() -> dict[str, str]:
    """Return versions of all that computes: ours, Python, NumPy and its BLAS, h5py, Numba, and the peers."""
    libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
    blas = [f"{library['internal_api']} {library['version']}" for library in libraries]
    found = {"roicli": __version__, "Python": platform.python_version(), "BLAS": ", ".join(blas) or "unknown"}
    for package in ("numpy", "h5py", "numba", *PEERS):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"
