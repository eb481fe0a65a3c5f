"""Feature and box files of a whole job, in a folder that does not outlive it."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from roicli.bench.workloads import BINS, Workload
from roicli.errors import OutputError

# Maps that differ; further ones are copies at another place of the file, which no reader can profit from.
_DISTINCT = 4


@dataclass(frozen=True)
class JobSize:
    """How much a job reads and writes.

    Attributes
    ----------
    images : int
        Maps of the file, one an image.
    shape : (int, int, int)
        Of each map: (C, H, W), float32, 16 image pixels a cell.
    boxes : int
        Of each image.
    """

    images: int
    shape: tuple[int, int, int]
    boxes: int

    @property
    def read(self) -> int:
        """Bytes of all maps."""
        return self.images * math.prod(self.shape) * 4

    @property
    def written(self) -> int:
        """Bytes of all pooled blocks."""
        return self.images * self.boxes * self.shape[0] * BINS * BINS * 4

    def of(self, images: int) -> JobSize:
        """Return the same for another number of images."""
        return replace(self, images=images)


@contextmanager
def temporary_folder(needed: int) -> Iterator[Path]:
    """Yield a folder with room for `needed` bytes; it is gone afterwards, however that comes.

    Raises
    ------
    OutputError
        Its disk has no such room.
    """
    place = tempfile.gettempdir()
    free = shutil.disk_usage(place).free
    if free < needed:
        raise OutputError(
            f"the files of the benchmark need {needed / 1e9:.1f} GB, {place} has {free / 1e9:.1f} GB free",
            "Set TMPDIR to a folder of a larger disk, or go without files, by --only engine.",
        )
    with tempfile.TemporaryDirectory(prefix="roicli-bench-") as folder:
        yield Path(folder)


def write_features(path: Path, size: JobSize, compression: str | None = None) -> Path:
    """Write an HDF5 file with one dataset an image, named by its number, and flush it."""
    import h5py

    cells = Workload(size.shape, 0, 16).features()
    with h5py.File(path, "w") as file:
        for image in range(size.images):
            if image < _DISTINCT:
                file.create_dataset(str(image), data=cells, compression=compression)
                cells = cells[::-1].copy() if image % 2 else cells[:, ::-1].copy()
            else:
                file.copy(str(image % _DISTINCT), str(image))
    with path.open("rb") as written:
        os.fsync(written.fileno())  # or the disk is still busy with it while jobs are timed
    return path


def write_boxes(path: Path, size: JobSize) -> Path:
    """Write a JSON file with the boxes of every image."""
    workload = Workload(size.shape, size.boxes, 16)
    path.write_text(json.dumps({str(image): workload.boxes(image).tolist() for image in range(size.images)}))
    return path
