"""What an .npy that is part of a job cannot say itself: which part, of which job, with which rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from roicli.outputs.record import Record
from roicli.resume.partial import Partial, led_to, writing


def shard_file(output: Path) -> Path:
    """Name of the file beside an .npy."""
    output = led_to(output)
    return output.with_name(f"{output.name}.shard.json")


class ShardFile:
    """A JSON object of the parameters, and the rows of the whole output as runs ``[first, stop]``."""

    def __init__(self, output: Path, record: Record, *, overwrite: bool) -> None:
        assert record.output_rows is not None
        rows = record.output_rows
        edges = np.flatnonzero(np.diff(rows, prepend=-2, append=-2) != 1)
        runs = np.stack([rows[edges[:-1]], rows[edges[1:] - 1] + 1], axis=1).tolist() if len(rows) else []
        self.path = shard_file(output)
        self._partial = Partial(self.path, overwrite=overwrite)
        with self._partial.begun(), writing(self.path):
            self._partial.path.write_text(json.dumps({"parameters": record.parameters, "output_rows": runs}))
        self._partial.flush()

    def publish(self) -> None:
        """Move the file to its final name."""
        self._partial.publish()

    def abort(self) -> None:
        """Remove the temporary file."""
        self._partial.remove()
