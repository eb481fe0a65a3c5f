"""One part of a job: its rows, and what it says of itself so that the parts can be joined."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.jobs.locate import settle_grids
from roicli.jobs.masks import with_masks
from roicli.jobs.match import Inputs
from roicli.jobs.prepare import PoolJob, Prepared
from roicli.jobs.select import Selection, select
from roicli.jobs.shards import Shard, parts_of
from roicli.sources import MapInfo
from roicli.stores.path import path_of

# Boxes that are hashed at once: all together would take twice their memory.
_AT_ONCE = 2**16
# Where the inputs lie may differ from part to part: nodes of a cluster have disks of their own.
NAMES = ("features", "boxes_file", "preprocess", "image_size")


class Part(NamedTuple):
    """A part of a job."""

    shard: Shard  # which of how many
    rows: NDArray[np.int64]  # (k,): rows of the whole output that it holds, ascending
    total: int  # rows of the whole output
    job: str  # digest of everything that the numbers of the whole depend on, save the values of the features

    def parameters(self) -> dict[str, str | int | float | bool]:
        """Return what its output says of it, beside the parameters of the job."""
        return {"shard": str(self.shard), "shard_total_rows": self.total, "shard_job": self.job}


class Taken(NamedTuple):
    """The boxes of one part, taken before they are judged: a part reads and checks what it pools."""

    shard: Shard
    inputs: Inputs
    boxes: NDArray[np.intp]  # (k,): which boxes of the box file those are
    # (K,): the boxes of the box file that have a row in the whole output; None if all have
    kept: NDArray[np.intp] | None
    total: int  # rows of the whole output
    job: str

    def part(self, prepared: Prepared) -> tuple[Prepared, Part]:
        """Say by the rows of the whole what was prepared of the part."""
        selection, part = self.of_whole(prepared.selection)
        return prepared._replace(selection=selection), part

    def of_whole(self, mine: Selection) -> tuple[Selection, Part]:
        """Say by the rows of the whole what was selected of the part."""
        boxes = self.boxes
        skipped = mine.skipped._replace(rows=boxes[mine.skipped.rows])
        mine = mine._replace(kept=boxes[mine.kept], listed=boxes[mine.listed], skipped=skipped)
        rows = mine.kept if self.kept is None else np.searchsorted(self.kept, mine.kept)
        masks = mine.inputs.table.masks
        job = self.job if masks is None else f"{self.job}-{masks.checksum:08x}"
        return mine, Part(self.shard, rows.astype(np.int64), self.total, job)


def take_part(job: PoolJob, shard: Shard, inputs: Inputs, infos: dict[int, MapInfo] | None = None) -> Taken:
    """Reduce the inputs of a job to one part of it.

    `inputs`: all boxes of the box file.
    `infos`: of the maps that have boxes; by default their source is asked.
    """
    table = inputs.table
    image = np.zeros(len(table), np.int64) if table.image_index is None else table.image_index
    mine = np.flatnonzero(parts_of(image, shard.count) == shard.index)
    kept = None
    if "skip" in (job.bad_boxes, job.missing_features):  # then the rows of a part depend on the boxes of all
        judged = with_masks(inputs, job.reading.mask_fill, lambda note: None, job.spec)
        kept = select(judged, job.spec, job.bad_boxes, job.missing_features, lambda note: None).kept
    if infos is None:
        settle_grids(job.geometry, inputs, job.reading.patch, lambda note: None)
        infos = inputs.infos()
        inputs.source.close()
    part = inputs.take(mine)._replace(dtypes=frozenset(info.dtype for info in infos.values()))
    total = len(table) if kept is None else len(kept)
    return Taken(shard, part, mine, kept, total, _digest(job, inputs, infos))


def _digest(job: PoolJob, inputs: Inputs, infos: dict[int, MapInfo]) -> str:
    import hashlib  # whose library a job in one piece need not load

    table, ids, levels = inputs.table, inputs.source.ids, inputs.source.levels
    said: dict[str, Any] = {name: value for name, value in job.parameters(levels).items() if name not in NAMES}
    for name in ("preprocess", "image_size"):
        if (path := str(getattr(job.geometry, name))) not in inputs.beside:
            said[name] = path  # a file counts by its content, wherever it lies
    digest = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode())
    for path in sorted(inputs.beside):
        digest.update(path_of(path).read_bytes())
    for index, info in infos.items():
        digest.update(f"{ids[index // max(1, len(levels))]} {info.shape} {info.dtype.str}\n".encode("utf-8", "replace"))
    columns: list[tuple[NDArray[Any], str]] = [(inputs.map_index, "<i8")]
    if table.content:
        digest.update(table.content)
    else:
        columns += [(table.rows, "<i8"), (table.boxes, "<f8")]
    if isinstance(table.box_ids, np.ndarray):
        columns.append((table.box_ids, table.box_ids.dtype.str))
    elif table.box_ids is not None:
        digest.update(table.box_ids.tobytes())
    for column, kind in columns:
        for first in range(0, len(column), _AT_ONCE):
            digest.update(column[first : first + _AT_ONCE].astype(kind).tobytes())
    return digest.hexdigest()
