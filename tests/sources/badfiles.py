"""How tests of sources write files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from roicli.sources import open_source

MAP = np.arange(30, dtype="f4").reshape(2, 3, 5)
STACK = np.stack([MAP, MAP + 30])


def read_everything(path: Path | str, dataset: str | None = None) -> list[np.ndarray]:
    source = open_source(path, dataset=dataset)
    for i in range(len(source.ids)):
        source.info(i)
    return [np.array(source.read(i)) for i in range(len(source.ids))]


def save(array: object) -> Callable[[Path], None]:
    return lambda path: np.save(path, np.asarray(array))


def write(content: bytes) -> Callable[[Path], None]:
    return lambda path: (path.write_bytes(content), None)[1]


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def hdf5(**datasets: object) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with h5py.File(path, "w") as file:
            for name, value in datasets.items():
                file[name] = value

    return make


def npz(**arrays: object) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **arrays)


def short_npy(path: Path) -> None:
    np.save(path, MAP)
    cut(path, path.stat().st_size - 1)


def linked_hdf5(path: Path) -> None:
    hdf5(features=STACK)(path.with_name("other.h5"))
    with h5py.File(path, "w") as file:
        file["features"] = h5py.ExternalLink("other.h5", "features")
        file["gone"] = h5py.SoftLink("/nowhere")
