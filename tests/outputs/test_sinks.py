"""Outputs: one conformance class, which every format passes."""

import csv
import errno
import json
import os
import pickle
import time
from abc import ABC, abstractmethod

import h5py
import numpy as np
import pytest

from roicli.errors import OutputError
from roicli.outputs import rowfile, writeback
from roicli.outputs.index import IndexFile
from roicli.outputs.record import Record
from roicli.outputs.sinks import check_output, open_sink

RNG = np.random.default_rng(0)


def record(count, box_ids=None):
    return Record(
        image_ids=np.array([f"bild-ä{n % 2}" for n in range(count)], dtype=np.str_),
        boxes=np.arange(4.0 * count).reshape(count, 4) / 3,
        rows=np.arange(count) + 2,
        box_ids=box_ids,
        parameters={"roicli_version": "1", "spatial_scale": 0.0625, "aligned": True, "sampling_ratio": -1},
    )


def commit(sink):
    sink.finish()
    sink.publish()


class SinkContract(ABC):
    """What every sink does, whatever its format."""

    suffix: str

    @abstractmethod
    def read(self, path):
        """Read an output back: its features, and all else."""

    def make(self, folder, shape, dtype=np.float32, **more):
        return open_sink(folder / f"out{self.suffix}", shape, np.dtype(dtype), record(shape[0], **more), overwrite=True)

    @pytest.mark.parametrize("shape", [(9, 3, 2, 5), (9, 3)])
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_rows_in_any_order(self, tmp_path, shape, dtype):
        expected = RNG.standard_normal(shape).astype(dtype)
        sink = self.make(tmp_path, shape, dtype)
        for rows in ([7], [0, 1, 2], [3, 5, 6], [4, 8]):
            # As in a worker: the target travels by pickle, and is opened where it is used.
            pickle.loads(pickle.dumps(sink.target)).write(np.array(rows), expected[rows])
        assert not (tmp_path / f"out{self.suffix}").exists()
        commit(sink)
        features, _ = self.read(tmp_path / f"out{self.suffix}")
        assert features.dtype == dtype
        np.testing.assert_array_equal(features, expected)
        assert len(list(tmp_path.iterdir())) == 1

    @pytest.mark.parametrize("shape", [(0, 3, 2, 5), (0, 3)])
    def test_no_rows(self, tmp_path, shape):
        commit(self.make(tmp_path, shape))
        features, _ = self.read(tmp_path / f"out{self.suffix}")
        assert features.shape == shape

    def test_unwritten_rows_are_zero(self, tmp_path):
        commit(self.make(tmp_path, (500, 64)))
        assert not self.read(tmp_path / f"out{self.suffix}")[0].any()

    def test_abort_leaves_what_was_there(self, tmp_path):
        (tmp_path / f"out{self.suffix}").write_text("before")
        sink = self.make(tmp_path, (4, 3))
        sink.target.write(np.array([0]), np.ones((1, 3), np.float32))
        sink.abort()
        assert [path.name for path in tmp_path.iterdir()] == [f"out{self.suffix}"]
        assert (tmp_path / f"out{self.suffix}").read_text() == "before"

    def test_what_another_job_wrote_meanwhile_is_kept(self, tmp_path):
        path = tmp_path / f"out{self.suffix}"
        sink = open_sink(path, (4, 3), np.dtype(np.float32), record(4), overwrite=False)
        sink.finish()
        path.write_text("the other's")
        with pytest.raises(OutputError, match="exists"):
            sink.publish()
        sink.abort()
        assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [(path.name, "the other's")]

    def test_a_link_is_followed_and_a_mode_kept(self, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        real = tmp_path / "elsewhere" / "real"
        real.touch(mode=0o640)
        (tmp_path / f"out{self.suffix}").symlink_to(real)
        commit(self.make(tmp_path, (4, 3)))
        assert (tmp_path / f"out{self.suffix}").is_symlink()
        assert real.stat().st_mode & 0o777 == 0o640
        assert self.read(tmp_path / f"out{self.suffix}")[0].shape == (4, 3)

    def test_the_same_rows_give_the_same_bytes(self, tmp_path):
        for name in ("a", "b"):
            time.sleep(1.01 * (name == "b"))  # HDF5 would write down the second
            (tmp_path / name).mkdir()
            sink = self.make(tmp_path / name, (4, 3))
            sink.target.write(np.arange(4), np.ones((4, 3), np.float32))
            commit(sink)
        first, second = (next((tmp_path / name).iterdir()).read_bytes() for name in ("a", "b"))
        assert first == second

    def test_a_full_disk_is_known_before(self, tmp_path):
        with pytest.raises(OutputError, match=r"out\.\w+ needs [12],\d+,\d+ GiB, its disk has"):
            self.make(tmp_path, (1, 2**40, 2**8))
        assert list(tmp_path.iterdir()) == []

    def test_a_disk_that_fills_up(self, tmp_path, monkeypatch):
        sink = self.make(tmp_path, (4, 3))

        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(rowfile.os, "pwrite", full)
        with pytest.raises(OutputError, match=r"out\.\w+: cannot write: No space left on device"):
            sink.target.write(np.array([0]), np.ones((1, 3), np.float32))
        sink.abort()
        assert list(tmp_path.iterdir()) == []

    def test_a_shrunken_file_is_not_published(self, tmp_path):
        sink = self.make(tmp_path, (4, 3))
        with sink.target.path.open("r+b") as file:
            file.truncate(sink.target.end - 1)
        with pytest.raises(OutputError, match=r"out\.\w+: \d+ bytes are on the disk, \d+ were written"):
            commit(sink)
        sink.abort()
        assert list(tmp_path.iterdir()) == []


class RecordContract(SinkContract):
    """What formats do that hold more than one array."""

    @pytest.mark.parametrize("box_ids", [None, np.array([5, 6, 7]), np.array(["x", "yy", "ä"])])
    def test_record(self, tmp_path, box_ids):
        commit(self.make(tmp_path, (3, 2), box_ids=box_ids))
        _, (columns, parameters) = self.read(tmp_path / f"out{self.suffix}")
        expected = record(3, box_ids)
        assert parameters == expected.parameters
        assert columns.keys() == expected.columns().keys()
        for name, array in expected.columns().items():
            assert columns[name].tolist() == array.tolist()


class TestNpy(SinkContract):
    suffix = ".npy"

    def read(self, path):
        return np.load(path), None


class TestNpz(RecordContract):
    suffix = ".npz"

    def read(self, path):
        with np.load(path) as archive:
            arrays = dict(archive)
        parameters = json.loads(str(arrays.pop("parameters")))
        return arrays.pop("features"), (arrays, parameters)


class TestHdf5(RecordContract):
    suffix = ".h5"

    def read(self, path):
        with h5py.File(path) as file:
            arrays = {name: file[name].asstr()[()] if file[name].dtype == object else file[name][()] for name in file}
            parameters = {name: value.item() if hasattr(value, "item") else value for name, value in file.attrs.items()}
        return arrays.pop("features"), (arrays, parameters)


def test_more_rows_than_memory(tmp_path):
    """40 GB of rows are laid out at once, and only what is written takes space."""
    sink = open_sink(tmp_path / "out.h5", (200_000, 1024, 7, 7), np.dtype(np.float32), record(200_000), overwrite=False)
    sink.target.write(np.array([199_999]), np.ones((1, 1024, 7, 7), np.float32))
    assert sink.target.path.stat().st_size > 40e9
    assert sink.target.path.stat().st_blocks * 512 < 60e6
    sink.target.close()
    with h5py.File(sink.target.path) as file:
        assert file["features"][199_999].min() == 1
    sink.abort()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.txt", "out.txt: no format is known by '.txt'"),
        ("out", "out: no format is known by ''"),
        ("no/out.npy", "the folder .*no does not exist"),
        ("folder.npy", "folder.npy is a folder"),
        (f"{'x' * 245}.npy", "cannot write: File name too long\nGive it a shorter name"),
    ],
)
def test_refused_names(tmp_path, name, message):
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(OutputError, match=message):
        check_output(tmp_path / name)


def test_index(tmp_path):
    IndexFile(tmp_path / "rows.csv", record(2, np.array([5, 6])), overwrite=False).publish()
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert lines[1] == {
        "row": "1", "image_id": "bild-ä1", "box_id": "6", "box_file_row": "3",
        "x1": repr(4 / 3), "y1": repr(5 / 3), "x2": "2.0", "y2": repr(7 / 3),
    }  # fmt: skip
    with pytest.raises(OutputError, match="the index is a CSV file"):
        IndexFile.check(tmp_path / "rows.txt", overwrite=False)
    with pytest.raises(OutputError, match="exists"):
        IndexFile.check(tmp_path / "rows.csv", overwrite=False)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no advice on files")
@pytest.mark.parametrize(("name", "twice"), [("out.npy", [0, 1]), ("out.h5", [0, 1]), ("out.npz", [])])
def test_rows_on_the_disk_leave_memory_unless_they_are_read_back(tmp_path, monkeypatch, name, twice):
    shape, asked = (3, 2, 1, 1), []
    monkeypatch.setattr(writeback, "_BYTES", 8)
    monkeypatch.setattr(writeback, "_PIECE_BYTES", 1)
    sink = open_sink(tmp_path / name, shape, np.dtype(np.float32), record(3), overwrite=False)
    monkeypatch.setattr(os, "posix_fadvise", lambda _, place, *__: asked.append(place))
    for row in range(3):
        sink.target.write(np.array([row]), np.full((1, *shape[1:]), row, np.float32))
    places = [sink.target.offset + row * sink.target.row_bytes for row in range(3)]
    assert sorted(asked) == sorted(places + [places[row] for row in twice])
    sink.abort()


def test_nothing_is_kept_in_mind_for_a_system_that_takes_no_advice(monkeypatch):
    monkeypatch.setattr(writeback, "_CAN_TELL", False)
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    written = writeback.Writeback()
    for first in range(0, 10 * writeback._BYTES, writeback._BYTES):
        written.add(first, first + writeback._BYTES // 2)
        written.tell(0, keep=False)
    assert written._fresh == []


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no advice on files")
def test_the_system_is_told_of_all_that_threads_write(monkeypatch):
    asked, size = [], writeback._PIECE_BYTES
    monkeypatch.setattr(writeback, "_BYTES", 1)
    written = writeback.Writeback()

    def advise(_, first, *__):
        asked.append(first)
        if first == 0:  # another thread writes meanwhile
            written.add(2 * size, 3 * size)

    monkeypatch.setattr(os, "posix_fadvise", advise)
    written.add(0, size)
    written.tell(0, keep=True)
    written.add(4 * size, 5 * size)
    written.tell(0, keep=True)
    assert asked == [0, 2 * size, 4 * size]


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no advice on files")
def test_the_system_is_told_of_much_at_once(monkeypatch):
    asked = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _, first, length, __: asked.append((first, first + length)))
    kib, written = 1024, writeback.Writeback()
    for first in (0, 100, 200, 500, 300):  # of which 0 to 400 lie side by side, but come in two pieces
        written.add(first * kib, (first + 100) * kib)
        written.tell(0, keep=False)
    assert asked == [(0, 300 * kib)]
    written.add(400 * kib, 401 * kib)
    written.add(900 * kib, 901 * kib)  # too short a piece by itself
    written.add(402 * kib, 500 * kib)
    written.tell(0, keep=False)
    assert asked[1:] == [(0, 300 * kib), (500 * kib, 600 * kib), (300 * kib, 401 * kib), (402 * kib, 500 * kib)]
