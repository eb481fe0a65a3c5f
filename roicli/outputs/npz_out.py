"""Output to .npz: the features with image ids, boxes, box ids and parameters, each an array of the archive."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from roicli.outputs.npy_out import create_npy
from roicli.outputs.record import Record
from roicli.outputs.rowfile import RowFile
from roicli.resume.partial import ROWS, Partial, writing


class NpzSink:
    """An uncompressed archive. A zip file must be written in order, so the rows wait in an .npy until the end."""

    def __init__(
        self,
        path: Path,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        record: Record,
        *,
        overwrite: bool,
        left: RowFile | None = None,
    ) -> None:
        self._record = record
        self._archive = Partial(path, overwrite=overwrite)
        self._rows = Partial(path, overwrite=True, ending=ROWS)
        self.moved = self._archive.path
        if left is not None:
            self.target = left
        else:
            with self._rows.begun():
                self.target = create_npy(self._rows.path, path, shape, dtype)
        self.target.read_back = True

    def finish(self) -> None:
        """Copy the rows into the archive, add the record, flush it."""
        self.target.finish()
        self._archive.remove()
        with writing(self._archive.final), zipfile.ZipFile(self._archive.path, "w", zipfile.ZIP_STORED) as archive:
            with self._rows.path.open("rb") as rows, _member(archive, "features") as member:
                shutil.copyfileobj(rows, member, 2**20)
            parameters = np.array(json.dumps(self._record.parameters))
            for name, array in (self._record.columns() | {"parameters": parameters}).items():
                with _member(archive, name) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
        self._archive.flush()

    def publish(self) -> None:
        """Move the archive to its final name; only now the rows are of no use any more."""
        self._archive.publish()
        self._rows.remove()

    def abort(self, *, keep_rows: bool = False) -> None:
        """Remove the archive, and the rows unless they are left for a later run."""
        self.target.close()
        self._archive.remove()
        if not keep_rows:
            self._rows.remove()


def _member(archive: zipfile.ZipFile, name: str) -> Any:
    # A fixed date, so that the same job gives the same bytes.
    return archive.open(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), "w", force_zip64=True)
