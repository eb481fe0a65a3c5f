"""A worker that threads share: each map is read once, and is not written to while another thread reads it."""

import threading

import numpy as np

import roicli
from roicli.execution.plan import Unit
from roicli.execution.worker import Pooler
from roicli.pooling.kernels.choose import Kernel
from roicli.pooling.kernels.separable import pool_separable
from roicli.pooling.placement import place
from roicli.sources import MapInfo
from roicli.spec import PoolSpec

SPEC = PoolSpec((3, 2), aligned=True)


class Maps:
    """Features in memory."""

    def __init__(self, maps):
        self.maps, self.read_count, self.expected = maps, 0, []

    def expect(self, indices):
        self.expected.append(list(indices))

    def read(self, index):
        self.read_count += 1
        return self.maps[index]


class Rows:
    """An output in memory."""

    dtype = np.dtype(np.float32)

    def __init__(self, rows, channels):
        self.row_shape = (channels, 3, 2)
        self.rows = np.zeros((rows, *self.row_shape), np.float32)

    def write(self, rows, block):
        self.rows[rows] = block

    def commit(self):
        """Nothing is kept."""


def make_pooler(maps, map_index, boxes, kernel):
    source, target = Maps(maps), Rows(len(boxes), len(maps[0]))
    infos = {
        index: MapInfo(feature_map.shape, feature_map.dtype, f"map {index}") for index, feature_map in enumerate(maps)
    }
    placement = place(np.array(map_index), np.array(boxes, np.float64))
    return Pooler(source, infos, placement, np.arange(len(boxes)), SPEC, target, kernel), source, target


def test_a_map_is_not_written_to_while_another_thread_reads_it():
    """The first thread is about to read its map when the second one reads the next map."""
    maps = np.random.default_rng(0).standard_normal((2, 4, 9, 7)).astype(np.float32)
    boxes = [[1, 1, 6, 8], [0, 2, 5, 7]]
    first_reads, second_is_done = threading.Event(), threading.Event()

    def contract(feature_map, rows, columns, out):
        if not first_reads.is_set():
            first_reads.set()
            assert second_is_done.wait(10)
        pool_separable(feature_map, rows, columns, out)

    pooler, _, target = make_pooler(maps, [0, 1], boxes, Kernel(contract, sparse=2))
    first = threading.Thread(target=pooler.pool, args=[(Unit(0, 1),)])
    first.start()
    assert first_reads.wait(10)
    pooler.pool((Unit(1, 2),))
    second_is_done.set()
    first.join(10)
    rois = np.insert(np.array(boxes), 0, [0, 1], axis=1)
    expected = roicli.roi_align(maps, rois, (3, 2), aligned=True, kernel="numpy")
    np.testing.assert_array_equal(target.rows, expected)


def test_a_map_of_a_file_is_not_written_to():
    """A channels-last map is read where it lies; the next one is not laid out in its place."""
    given = np.random.default_rng(0).standard_normal((2, 4, 9, 7)).astype(np.float32)
    lies_channels_last = np.ascontiguousarray(given[0].transpose(1, 2, 0)).transpose(2, 0, 1)
    before = lies_channels_last.copy()
    boxes = [[1, 1, 6, 8], [0, 2, 5, 7]]
    pooler, source, target = make_pooler(
        [lies_channels_last, given[1]], [0, 1], boxes, Kernel(pool_separable, sparse=2)
    )
    pooler.pool((Unit(0, 2),))
    np.testing.assert_array_equal(lies_channels_last, before)
    assert source.read_count == 2
    rois = np.insert(np.array(boxes), 0, [0, 1], axis=1)
    expected = roicli.roi_align(given, rois, (3, 2), aligned=True, kernel="numpy")
    np.testing.assert_array_equal(target.rows, expected)
