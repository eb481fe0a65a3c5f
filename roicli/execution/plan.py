"""Plan a job: which rows are pooled together, in which order, by how many workers, within which memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from enum import StrEnum
from itertools import pairwise
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.errors import UsageError
from roicli.words import size

# Memory of one process beside maps and rows: the interpreter, NumPy, h5py, weights.
_BASE_BYTES = 90 * 2**20
# Memory of one box: its numbers, and what is computed from them.
_BOX_BYTES = 200
# Memory of a batch by default: rows that are pooled and written at once.
_BATCH_BYTES = 16 * 2**20
# A job that moves fewer bytes is serial: to start workers takes longer than they save.
_SMALL_BYTES = 64 * 2**20
# To open a map, however small, takes as long as to move so many bytes.
_MAP_BYTES = 2**19
# Threads share maps larger than this, of which each process would hold one.
_LARGE_MAP_BYTES = 128 * 2**20
# Where workers share each map, each gets so many tasks: none waits long for the last one.
_TASKS_A_WORKER = 4
# Bytes that a task moves: enough to outweigh its hand-over, few enough to share the work evenly and to stop soon.
_TASK_BYTES = 32 * 2**20
# Beyond so many passes over shared storage, reading takes most of the time; fewer are worth it to keep workers busy.
MOST_PASSES = 4
# A job whose blocks take more is large: a compiled kernel saves more time than its compiler takes to load.
_LARGE_BYTES = 4 * 2**30


class Unit(NamedTuple):
    """Rows that are pooled and written together: ``plan.order[first:stop]``.

    They belong to one map, or to several: then these are the last rows of the first map, and all rows of the others.
    """

    first: int
    stop: int


Task = tuple[Unit, ...]


class Strategy(StrEnum):
    """Who works off the tasks."""

    SERIAL = "serial"  # a small job
    THREADS = "threads"  # a few large maps, which they share
    PROCESSES = "processes"  # all other jobs: they do not wait for each other's Python


class Costs(NamedTuple):
    """Bytes that maps and rows cost."""

    maps: Mapping[int, int]  # memory that each map takes, by its index: as stored, and its channels-last copy
    row: int  # memory that one output row takes until it is written
    work: int  # size of one row's pooled block before `reduce`: a measure of its time
    shared: Mapping[int, tuple[Hashable, int]] = MappingProxyType({})  # storage that maps share, and their bytes in it
    room: int = 2**26  # memory for maps that share storage, of all workers together, without a limit
    unit: int = 0  # memory that each worker needs for rows that it must write together


class Plan(NamedTuple):
    """The whole job: maps in file order, boxes ascending within each."""

    order: NDArray[np.intp]  # (K',) output rows, grouped by map; rows of map index -1 are left out
    tasks: tuple[Task, ...]  # in the order in which the files are best read
    strategy: Strategy
    workers: int
    passes: int = 1  # most tasks that read the same storage


def make_plan(
    map_index: NDArray[np.intp],
    costs: Costs,
    *,
    workers: int,
    batch_size: int | None = None,
    max_memory: int | None = None,
    done: Sequence[tuple[int, int]] = (),
    unit_rows: int | None = None,
) -> Plan:
    """Plan a job of as many output rows as `map_index` has, -1 for those that are not pooled.

    `workers`, `batch_size`: the most workers, and the most rows that are pooled before they are written.
    `max_memory`: bytes that all processes together may take. First batches are reduced to fit, then workers; UsageError
    if one worker with one row at a time does not.
    `done`: positions in the order of the plan that an earlier run has done.
    `unit_rows`: rows of the output, counted from row 0, that one task must write; a map is read for each unit that
    needs it.
    """
    order = np.argsort(_in_storage(map_index, costs), kind="stable")
    order = order[np.count_nonzero(map_index < 0) :]
    if unit_rows:
        order = order[np.argsort(order // unit_rows, kind="stable")]
    left = np.ones(len(order), dtype=bool)
    for first, stop in done:
        left[first:stop] = False
    rows = int(left.sum())
    base = _BASE_BYTES + len(map_index) * _BOX_BYTES + costs.unit
    batch = batch_size or max(1, _BATCH_BYTES // (costs.row + _BOX_BYTES))
    workers, share = _share(rows, costs, workers)
    strategy = _strategy(rows, costs, workers)
    workers = 1 if strategy is Strategy.SERIAL else workers
    room = costs.room // workers
    if max_memory is not None:
        workers, batch, room = _fit(costs, strategy, workers, batch, max_memory, base)
        strategy = strategy if workers > 1 else Strategy.SERIAL
    split = workers > 1 and _are_few(costs.maps, workers) and not costs.shared
    if split:
        batch = min(batch, max(1, -(-rows // (_TASKS_A_WORKER * workers))))
    edges = (np.flatnonzero(np.diff(order // unit_rows)) + 1).tolist() if unit_rows else []
    maps, passes = map_index[order], 1
    tasks: list[Task] = []
    for first, stop in pairwise([0, *edges, len(order)]):
        cut, most = _tasks(left, maps, (first, stop), costs, batch, min(room, share), split=split)
        tasks += [tuple(unit for task in cut for unit in task)] if unit_rows and cut else cut
        passes = max(passes, most)
    return Plan(order, tuple(tasks), strategy, min(workers, max(len(tasks), 1)), passes)


def is_scattered(map_index: NDArray[np.intp], unit_rows: int) -> bool:
    """Return whether units would read maps so often that rows are better pooled map by map, and moved then."""
    rows = np.flatnonzero(map_index >= 0)
    units = rows // unit_rows
    maps = np.unique(map_index[rows], return_inverse=True)[1]
    reads = len(np.unique(units * len(rows) + maps))
    return reads > 2 * len(np.unique(maps)) + len(np.unique(units))


def _in_storage(map_index: NDArray[np.intp], costs: Costs) -> NDArray[np.intp]:
    """Give maps the numbers in which files are best read: those that share storage follow one another."""
    if not costs.shared:
        return map_index
    used = sorted(costs.maps)
    firsts: dict[Hashable, int] = {}
    along = sorted(used, key=lambda index: firsts.setdefault(costs.shared.get(index, (index, 0))[0], index))
    rank = np.empty(len(used), np.intp)
    rank[np.searchsorted(used, along)] = np.arange(len(used))
    return np.where(map_index < 0, -1, rank[np.searchsorted(used, map_index).clip(max=len(used) - 1)])


def is_large(block_bytes: int) -> bool:
    """Return whether to pool so many bytes of blocks takes longer than to load a compiler."""
    return block_bytes >= _LARGE_BYTES


def _are_few(maps: Mapping[int, int], workers: int) -> bool:
    """Return whether workers must share each map to be busy to the end."""
    return len(maps) < 2 * workers


def _strategy(rows: int, costs: Costs, workers: int) -> Strategy:
    moved = sum(costs.maps.values()) + len(costs.maps) * _MAP_BYTES + rows * costs.work
    if workers == 1 or moved < _SMALL_BYTES:
        return Strategy.SERIAL
    large = max(costs.maps.values(), default=0) > _LARGE_MAP_BYTES
    return Strategy.THREADS if large and _are_few(costs.maps, workers) else Strategy.PROCESSES


def _share(rows: int, costs: Costs, workers: int) -> tuple[int, int]:
    """Return how many workers maps that share storage keep busy, and how many bytes of such maps one task takes.

    To read them twice, for two workers, pays only where their boxes take far longer than they do.
    """
    runs: Counter[Hashable] = Counter()
    for key, nbytes in costs.shared.values():
        runs[key] += nbytes
    if not runs:
        return workers, 0
    pieces = max(1, min(rows * costs.work // (2 * runs.total()), MOST_PASSES, -(-workers // len(runs))))
    if len(costs.shared) == len(costs.maps):
        workers = min(workers, len(runs) * pieces)
    # No task is left with the last few maps, for which it would read all.
    return workers, max(runs.values()) // pieces + max(nbytes for _, nbytes in costs.shared.values())


def _fit(
    costs: Costs, strategy: Strategy, workers: int, batch: int, max_memory: int, base: int
) -> tuple[int, int, int]:
    """Find the most workers, and the largest batch up to `batch`, whose memory stays below `max_memory`.

    What each worker has left then is returned too.
    """
    largest = max(costs.maps.values(), default=0)
    for number in range(workers, 0, -1):
        # Threads share a map, and hold the next one while the last of them leave the one before.
        maps = min(2, len(costs.maps)) if strategy is Strategy.THREADS and number > 1 else number
        processes = 1 + number if strategy is Strategy.PROCESSES and number > 1 else 1
        left = max_memory - processes * base - maps * largest
        if left >= number * costs.row:
            batch = min(batch, max(1, left // max(number * costs.row, 1)))
            return number, batch, left // number - batch * costs.row
    needed = base + largest + costs.row
    raise UsageError(
        f"`max_memory` is too small (one worker needs {size(needed)}, got {size(max_memory)})",
        f"Give `max_memory={-(-needed // 2**20)}MiB` or more.",
    )


def _tasks(
    left: NDArray[np.bool_],
    map_index: NDArray[np.intp],
    part: tuple[int, int],
    costs: Costs,
    batch: int,
    room: int,
    *,
    split: bool,
) -> tuple[list[Task], int]:
    """Cut what is left of a part of the order, grouped by map, into units of at most `batch` rows, joined to tasks.

    A map whose rows all fit into the unit before joins it. If workers share each map (`split`), each unit is a task.
    Maps that share storage stay in one task as far as there is `room` for them; counts the tasks that read the same.
    """
    # A run ends where its map ends, and where an earlier job has done the next rows.
    mine, maps = left[slice(*part)], map_index[slice(*part)]
    edges = np.flatnonzero((mine[1:] != mine[:-1]) | (maps[1:] != maps[:-1])) + 1 + part[0]
    tasks: list[Task] = []
    task: list[Unit] = []
    moved = held = 0
    keys: set[Hashable] = set()
    passes: Counter[Hashable] = Counter()
    for start, end in pairwise([part[0], *edges.tolist(), part[1]]):
        if not left[start:end].any():
            continue
        index = int(map_index[start])
        key, nbytes = costs.shared.get(index, (None, 0))
        if task and keys and ((moved >= _TASK_BYTES and key not in keys) or held + nbytes > room):
            tasks.append(tuple(task))
            passes.update(keys)
            task, moved, held, keys = [], 0, 0, set()
        if key is not None:
            keys.add(key)
            held += nbytes
        moved += costs.maps[index] + _MAP_BYTES
        joins = task and task[-1].stop == start and end - task[-1].first <= batch
        firsts = [task.pop().first] if joins else range(start, end, batch)
        for first in firsts:
            stop = min(first + batch, end)
            task.append(Unit(first, stop))
            moved += (stop - max(first, start)) * costs.work
            if split or (moved >= _TASK_BYTES and not keys):
                tasks.append(tuple(task))
                task, moved = [], 0
    passes.update(keys)
    return [*tasks, tuple(task)] if task else tasks, max(passes.values(), default=1)
