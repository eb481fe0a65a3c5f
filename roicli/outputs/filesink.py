"""An output whose rows lie in the file itself from the start: .npy and HDF5."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from roicli.outputs.rowfile import RowFile
from roicli.resume.partial import Partial


class FileSink:
    """A partial file that becomes the output by being moved.

    Parameters
    ----------
    path : Path
        The output.
    create : callable
        Makes the file at the path that it is given, of its full size, and tells where its rows lie.
    overwrite : bool
        Whether an output that exists is replaced.
    left : RowFile, optional
        The rows that an earlier run has left, to go on with.
    """

    def __init__(
        self, path: Path, create: Callable[[Path], RowFile], *, overwrite: bool, left: RowFile | None = None
    ) -> None:
        self._partial = Partial(path, overwrite=overwrite)
        self.moved = self._partial.path
        if left is not None:
            self.target = left
            return
        with self._partial.begun():
            self.target = create(self._partial.path)

    def finish(self) -> None:
        """Check and flush the file."""
        self.target.finish()
        self._partial.flush()

    def publish(self) -> None:
        """Move the file to its final name."""
        self._partial.publish()

    def abort(self, *, keep_rows: bool = False) -> None:
        """Remove the partial file, or leave it for a later run."""
        self.target.close()
        if not keep_rows:
            self._partial.remove()
