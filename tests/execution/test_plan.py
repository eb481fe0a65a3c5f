"""The plan: which units there are, in which order, who works them off, and within which memory."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from roicli.errors import UsageError
from roicli.execution.plan import Costs, Strategy, make_plan

MIB = 2**20


def costs(maps, map_bytes=MIB, row=1000, work=1000):
    return Costs(dict.fromkeys(maps, map_bytes), row, work)


@given(
    map_index=st.lists(st.integers(-1, 6), max_size=60),
    batch_size=st.none() | st.integers(1, 9),
    workers=st.integers(1, 5),
    map_bytes=st.sampled_from([1, 5 * MIB, 90 * MIB]),
    done=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), max_size=4),
)
@example(map_index=[0] * 9, batch_size=None, workers=1, map_bytes=1, done=[(3, 2)])  # in the middle of a map
@example(map_index=[0] * 7 + [1] * 2 + [2] * 3, batch_size=5, workers=1, map_bytes=1, done=[])  # the end of a map
def test_every_row_is_pooled_once(map_index, batch_size, workers, map_bytes, done):
    map_index = np.array(map_index, dtype=np.intp)
    used = set(map_index[map_index >= 0].tolist())
    done = [(first, first + count) for first, count in done]
    plan = make_plan(map_index, costs(used, map_bytes), workers=workers, batch_size=batch_size, done=done)
    units = [unit for task in plan.tasks for unit in task]
    pooled = [row for unit in units for row in plan.order[unit.first : unit.stop].tolist()]
    before = {row for first, stop in done for row in plan.order[first:stop].tolist()}
    assert sorted(pooled) == sorted(set(np.flatnonzero(map_index >= 0).tolist()) - before)
    for unit in units:
        rows = plan.order[unit.first : unit.stop]
        maps = map_index[rows]
        assert 1 <= len(rows) <= (batch_size or 10**9)
        assert (np.diff(maps) >= 0).all(), "maps in file order"
        assert ((np.diff(rows) > 0) | (np.diff(maps) > 0)).all(), "ascending rows of one map are written side by side"
        whole = [row for row in np.flatnonzero(np.isin(map_index, maps[maps > maps[0]])).tolist() if row not in before]
        assert set(whole) <= set(rows.tolist()), "of all maps but the first, all rows"
        last = plan.order[map_index[plan.order] == maps[0]][-1]
        assert not whole or last in rows or last in before, "of the first, the last ones"
    assert [unit.first for unit in units] == sorted(unit.first for unit in units)
    assert 1 <= plan.workers <= workers


@pytest.mark.parametrize(
    ("maps", "map_bytes", "workers", "expected"),
    [
        (1, MIB, 8, Strategy.SERIAL),  # a small job does not pay for a pool
        (64, 14 * MIB, 1, Strategy.SERIAL),
        (64, 14 * MIB, 2, Strategy.PROCESSES),
        (1, 100 * MIB, 2, Strategy.PROCESSES),
        (3, 100 * MIB, 2, Strategy.PROCESSES),
        (1, 200 * MIB, 2, Strategy.THREADS),  # one huge map is shared
        (3, 200 * MIB, 2, Strategy.THREADS),
        (4, 200 * MIB, 2, Strategy.PROCESSES),  # each holds its own in any case
    ],
)
def test_strategy(maps, map_bytes, workers, expected):
    plan = make_plan(np.arange(maps), costs(range(maps), map_bytes), workers=workers)
    assert plan.strategy == expected


@pytest.mark.parametrize("map_bytes", [100 * MIB, 200 * MIB])
def test_few_maps_are_cut_finely(map_bytes):
    """So that no worker waits long for the last."""
    plan = make_plan(np.zeros(1000, np.intp), costs([0], map_bytes), workers=2)
    assert [unit.stop - unit.first for (unit,) in plan.tasks] == [125] * 8


def test_no_rows():
    plan = make_plan(np.empty(0, np.intp), costs([]), workers=4)
    assert plan.tasks == ()
    assert plan.workers == 1


def test_tasks_move_some_bytes_each():
    plan = make_plan(np.arange(100), costs(range(100), 10 * MIB), workers=2)
    assert {sum(unit.stop - unit.first for unit in task) for task in plan.tasks} == {4}


def test_threads_hold_two_maps_and_one_worker_one():
    two = np.repeat(np.arange(2), 100)
    price = costs(range(2), 200 * MIB, row=MIB)
    plan = make_plan(two, price, workers=4, max_memory=499 * MIB)  # 90 MiB of process, 400 of maps, 4 x 2 rows
    assert (plan.strategy, plan.workers) == (Strategy.THREADS, 4)
    assert max(unit.stop - unit.first for task in plan.tasks for unit in task) == 2
    assert make_plan(two, price, workers=4, max_memory=494 * MIB).workers == 3
    alone = make_plan(two, price, workers=4, max_memory=292 * MIB)
    assert (alone.strategy, alone.workers) == (Strategy.SERIAL, 1)
    with pytest.raises(UsageError, match="needs 291 MiB, got 291 MiB"):
        make_plan(two, price, workers=4, max_memory=291 * MIB)


def test_less_memory_means_smaller_batches_then_fewer_workers():
    many = np.repeat(np.arange(8), 100)
    price = costs(range(8), 50 * MIB, row=MIB)
    plan = make_plan(many, price, workers=4, max_memory=2000 * MIB)
    assert (plan.strategy, plan.workers) == (Strategy.PROCESSES, 4)
    tight = make_plan(many, price, workers=4, max_memory=660 * MIB)
    assert tight.workers == 4
    assert max(unit.stop - unit.first for task in tight.tasks for unit in task) == 2
    tighter = make_plan(many, price, workers=4, max_memory=400 * MIB)
    assert tighter.workers == 2
    assert make_plan(many, price, workers=4, max_memory=150 * MIB).strategy == Strategy.SERIAL
    with pytest.raises(UsageError) as caught:
        make_plan(many, price, workers=4, max_memory=100 * MIB)
    assert caught.value.message == "`max_memory` is too small (one worker needs 141 MiB, got 100 MiB)"
    assert caught.value.hint == "Give `max_memory=142MiB` or more."


def tasks_of(plan, map_index):
    spans = ([row for unit in task for row in plan.order[unit.first : unit.stop]] for task in plan.tasks)
    return [sorted(set(map_index[rows].tolist())) for rows in spans]


def test_maps_that_share_storage_stay_together():
    maps = np.repeat(np.arange(12), 2)
    shared = {index: (index // 4, 10 * MIB) for index in range(8)}
    with_room = make_plan(maps, costs(range(12), 20 * MIB)._replace(shared=shared, room=200 * MIB), workers=2)
    assert tasks_of(with_room, maps) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [10, 11]]
    assert with_room.passes == 1
    without = make_plan(maps, costs(range(12), 20 * MIB)._replace(shared=shared, room=50 * MIB), workers=2)
    assert tasks_of(without, maps)[:4] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert without.passes == 2
    limited = make_plan(
        maps, costs(range(12), 20 * MIB)._replace(shared=shared, room=0), workers=1, max_memory=180 * MIB
    )
    assert tasks_of(limited, maps)[0] == [0, 1, 2, 3], "a limit says how much there is"


@pytest.mark.parametrize(
    ("work", "workers", "sizes"),
    [
        (0, 2, [7, 6, 5]),  # each task would read all for itself
        (100 * MIB, 2, [7, 6, 5]),  # one run is left when the other two are done
        (100 * MIB, 6, [4, 3, 4, 2, 4, 1]),  # where pooling takes longer than reading twice
        (500 * MIB, 64, [2, 2, 2, 1, 2, 2, 2, 2, 2, 1]),  # no more than four times
    ],
)
def test_maps_that_share_storage_are_shared_out_only_for_much_work(work, workers, sizes):
    shared = {index: (int(index >= 7) + int(index >= 13), 20 * MIB) for index in range(18)}
    spent = costs(range(18), 20 * MIB, work=work)._replace(shared=shared, room=2**40)
    plan = make_plan(np.arange(18), spent, workers=workers)
    assert [len(maps) for maps in tasks_of(plan, np.arange(18))] == sizes
    assert plan.workers == min(workers, len(sizes))
    assert plan.passes <= 4


def test_one_run_of_maps_keeps_one_worker_busy():
    shared = {index: (0, 20 * MIB) for index in range(9)}
    spent = costs(range(9), 20 * MIB)._replace(shared=shared, room=2**40)
    plan = make_plan(np.arange(9), spent, workers=8)
    assert (plan.workers, plan.strategy, plan.passes) == (1, Strategy.SERIAL, 1)
    beside = make_plan(np.arange(12), spent._replace(maps=dict.fromkeys(range(12), 20 * MIB)), workers=2)
    assert (beside.workers, beside.passes) == (2, 1)  # other maps may be read meanwhile


def test_maps_are_pooled_in_the_order_of_storage():
    maps = np.array([0, 1, 2, 3, -1, 4, 4])
    shared = {0: ("a", 1), 1: ("b", 1), 2: ("a", 1), 4: ("b", 1)}
    plan = make_plan(maps, costs(range(5))._replace(shared=shared), workers=1)
    assert plan.order.tolist() == [0, 2, 1, 5, 6, 3]
