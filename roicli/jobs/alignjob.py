"""All that `roicli align` is told: what is pooled, as in any job that pools, and what is written of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roicli.errors import UsageError
from roicli.execution.engines import LOCAL
from roicli.jobs.options import PathLike, grouped, take_spec
from roicli.jobs.prepare import PoolJob
from roicli.jobs.shards import Shard, read_shard
from roicli.outputs import find_format
from roicli.outputs.base import OutputFormat, Parameters
from roicli.outputs.grouped import Grouped
from roicli.pooling.team import usable_cores
from roicli.protocols import Level
from roicli.stores.path import path_of

if TYPE_CHECKING:
    from concurrent.futures import Executor


@dataclass(frozen=True, kw_only=True)
class AlignJob(PoolJob):
    """All that `roicli align` was told."""

    output: Path  # ends in .npy, .npz, .h5 or .hdf5
    index: Path | None = None  # a CSV that says whose features each row is
    sidecar: bool = False  # write beside an .npy how it was made; other formats hold it
    report: Path | None = None  # a JSON file that tells of the run when it is done
    # The layout of another project's loader, one of `outputs.LAYOUTS`. A part of a job is a plain file, whose layout
    # merge makes.
    output_layout: str | None = None
    spatial: int | None = None  # numbers of the spatial vectors that such a layout holds
    # Write one row a group of boxes, their mean. A part of a job has rows of boxes, whose means merge makes.
    group_by: str | None = None
    shard: Shard | None = None  # the part of the job that is done; all of it by default
    overwrite: bool = False
    resume: bool = False  # go on with what an earlier run of the same job has left, if anything, be it all
    executor: Executor | str = LOCAL  # what runs the job; see `engines.opened`
    workers: int = 1  # the most that may work at once
    # See `make_plan`
    batch_size: int | None = None
    max_memory: int | None = None

    def __post_init__(self) -> None:
        if self.spatial is not None and self.output_layout is None:
            raise UsageError("spatial vectors are part of a layout", "Give `output_layout` too.")
        is_made_by_merge = self.shard is not None and (self.group_by is not None or self.output_layout is not None)
        if is_made_by_merge and self.output.suffix.lower() == ".npy":
            raise UsageError(
                f"{self.output}: merge makes layouts and means over groups of what parts record, .npy nothing",
                "Name an .npz or .h5.",
            )
        zeros = "zero" in (self.bad_boxes, self.missing_features)
        if self.group_by is not None and (self.output_layout is not None or zeros):
            raise UsageError(
                "means over groups have no layout of boxes, and no boxes that count as zeros",
                "Leave `output_layout` out, and skip boxes that cannot be pooled.",
            )

    def parameters(self, levels: Sequence[Level] = ()) -> Parameters:
        """Return what an output says of how it was made, from maps of so many levels."""
        made = super().parameters(levels)
        if self.output_layout is not None:
            made |= {"output_layout": self.output_layout, "spatial": self.spatial or 0}
        return made if self.group_by is None else made | {"group_by": self.group_by}

    @property
    def format(self) -> OutputFormat:
        """Return what writes the output of this job."""
        found = find_format(self.output, self.output_layout if self.shard is None else None)
        return found if self.group_by is None or self.shard is not None else Grouped(found)


def align_job(features: PathLike, boxes: PathLike, output: PathLike, **options: Any) -> AlignJob:
    """Turn the parameters of `align` into a job."""
    spec, settings = take_spec(options), grouped(options)
    shard, workers = (settings.pop(name, None) for name in ("shard", "workers"))
    named = {name: path_of(settings.pop(name)) for name in ("index", "report") if settings.get(name) is not None}
    return AlignJob(
        *(str(path_of(features)), path_of(boxes), spec),
        output=path_of(output),
        shard=None if shard is None else read_shard(shard, os.environ),
        workers=workers or usable_cores(),
        **settings | named,
    )


def check_job(features: PathLike, boxes: PathLike, **options: Any) -> PoolJob:
    """Turn the parameters of `check` into a job."""
    return PoolJob(str(path_of(features)), path_of(boxes), take_spec(options), **grouped(options))
