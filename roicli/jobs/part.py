"""One part of a job: its rows, and what it says of itself so that the parts can be joined."""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.jobs.match import Inputs
from roicli.jobs.prepare import PoolJob, Prepared
from roicli.jobs.shards import Shard, parts_of

# Where the inputs lie may differ from part to part: nodes of a cluster have disks of their own.
NAMES = ("features", "boxes_file", "preprocess", "image_size")


class Part(NamedTuple):
    """A part of a job.

    Attributes
    ----------
    shard : Shard
        Which of how many.
    rows : (k,) int64
        Rows of the whole output that it holds, ascending.
    total : int
        Rows of the whole output.
    job : str
        Digest of everything that the numbers of the whole depend on, save the values of the features.
    """

    shard: Shard
    rows: NDArray[np.int64]
    total: int
    job: str

    def parameters(self) -> dict[str, str | int | float | bool]:
        """Return what its output says of it, beside the parameters of the job."""
        return {"shard": str(self.shard), "shard_total_rows": self.total, "shard_job": self.job}


def take_part(job: PoolJob, shard: Shard, inputs: Inputs, whole: Prepared) -> tuple[Prepared, Part]:
    """Reduce a job to one part of it.

    Parameters
    ----------
    job : PoolJob
        The job.
    shard : Shard
        Which part.
    inputs : Inputs
        All boxes of the box file.
    whole : Prepared
        The whole job, checked: what one part refuses, all do.
    """
    table = inputs.table
    image = np.zeros(len(table), np.int64) if table.image_index is None else table.image_index
    selection, rows = whole.selection.only(parts_of(image, shard.count) == shard.index)
    prepared = whole._replace(
        selection=selection,
        sizes=whole.sizes[rows],
        located=whole.located.take(rows),
        outside=whole.outside[rows],
        levels=tuple(level.take(rows) for level in whole.levels),
    )
    return prepared, Part(shard, rows.astype(np.int64), len(whole.placement), _digest(job, whole))


def _digest(job: PoolJob, whole: Prepared) -> str:
    import hashlib  # whose library a job in one piece need not load

    table, ids, levels = whole.inputs.table, whole.inputs.source.ids, whole.inputs.source.levels
    used, map_of_box = np.unique(whole.placement.map_index, return_inverse=True)
    said = {
        "parameters": {name: value for name, value in job.parameters(levels).items() if name not in NAMES},
        "scale": whole.located.scale,
        "dtype": str(whole.dtype),
        "maps": [
            (ids[index // max(1, len(levels))], whole.infos[index].shape, str(whole.infos[index].dtype))
            if index >= 0
            else "no features"
            for index in used.tolist()
        ],
    }
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for column, kind in ((map_of_box, "<i8"), (table.rows, "<i8"), (whole.selection.zeroed, "<i8")):
        digest.update(column.astype(kind).tobytes())
    for numbers in (table.boxes, whole.placement.boxes):
        digest.update(numbers.astype("<f8").tobytes())
    if table.box_ids is not None:
        digest.update(table.box_ids.tobytes())
    return digest.hexdigest()
