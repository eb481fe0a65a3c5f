"""Output to .npz: the features with image ids, boxes, box ids and parameters, each an array of the archive."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from roicli.sinks.npy import check_size, create_npy
from roicli.sinks.partial import partial_path, publish, writing
from roicli.sinks.protocol import Record


class NpzSink:
    """An uncompressed archive. A zip file must be written in order, so the rows wait in an .npy until the end."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> None:
        self._path, self._record = path, record
        self._archive = partial_path(path)
        self.target = create_npy(partial_path(path.with_suffix(".npy")), shape, dtype)

    def commit(self) -> None:
        """Copy the rows into the archive, add the record, move it to its final name."""
        self.target.close()
        check_size(self.target)
        with writing(self._path), zipfile.ZipFile(self._archive, "w", zipfile.ZIP_STORED) as archive:
            with self.target.path.open("rb") as rows, _member(archive, "features") as member:
                shutil.copyfileobj(rows, member, 2**20)
            parameters = np.array(json.dumps(self._record.parameters))
            for name, array in (self._record.columns() | {"parameters": parameters}).items():
                with _member(archive, name) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
        self.target.path.unlink()
        publish(self._archive, self._path)

    def abort(self) -> None:
        """Remove both temporary files."""
        self.target.close()
        self.target.path.unlink(missing_ok=True)
        self._archive.unlink(missing_ok=True)


def _member(archive: zipfile.ZipFile, name: str) -> Any:
    # A fixed date, so that the same job gives the same bytes.
    return archive.open(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), "w", force_zip64=True)
