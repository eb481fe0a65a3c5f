"""The Zarr format; it needs the package zarr, which reads it back."""

import errno
import json
import pickle
import sys

import numpy as np
import pytest
from driving import content, run
from outputs.conformance import OutputConformance, make_record

import roicli
from roicli.errors import FileError, OutputError, UsageError
from roicli.newfiles import NewFolder, remove_tree
from roicli.outputs import zarr as zarr_output
from roicli.outputs.base import read_output
from roicli.outputs.zarr import ScatteredZarr, Zarr

zarr = pytest.importorskip("zarr")


class TestScattered(OutputConformance):
    """Rows in any order."""

    format, suffix = ScatteredZarr(), ".zarr"

    def features(self, path):
        return zarr.open_group(path, mode="r")["features"][...]

    def record(self, path):
        group = zarr.open_group(path, mode="r")
        arrays = {name: group[name][...] for name in group}
        del arrays["features"]
        return arrays, group.attrs["parameters"]


@pytest.fixture
def small(monkeypatch):
    """Chunks of two rows and shards of four, of three float32 each."""
    monkeypatch.setattr(zarr_output, "_CHUNK_BYTES", 24)
    monkeypatch.setattr(zarr_output, "_SHARD_BYTES", 48)


VALUES = np.arange(33, dtype=np.float32).reshape(11, 3)


def begin(folder):
    """Begin an output whose shards workers write."""
    file, record = NewFolder(folder / "out.zarr", overwrite=True), make_record(len(VALUES))
    return file, Zarr().create(file.path, file.name, VALUES.shape, VALUES.dtype, record)


def finish(target):
    Zarr().finish(target, make_record(len(VALUES)))
    target.close()


def test_shards_written_by_several_workers(tmp_path, small):
    file, target = begin(tmp_path)
    path = file.path
    for rows in ([0, 3, 1, 2], [8, 9, 10, 4, 5, 6, 7]):
        worker = pickle.loads(pickle.dumps(target))
        for part in (sorted(rows[:2]), sorted(rows[2:])):
            worker.write(np.array(part), VALUES[part])
        assert not list(path.glob(f"features/c.{rows[0] // 4}.*"))
        worker.commit()
    target.check(np.arange(11))
    assert not zarr.open_group(path, mode="r").attrs["complete"]
    with pytest.raises(FileError, match="is not complete"):
        read_output(Zarr(), path)
    finish(target)
    group = zarr.open_group(path, mode="r")
    assert group.attrs["complete"]
    assert (group["features"].shards, group["features"].chunks) == ((4, 3), (2, 3))
    np.testing.assert_array_equal(group["features"][...], VALUES)
    (tmp_path / "other").mkdir()
    assert content(path) == content(TestScattered().write(tmp_path / "other", VALUES))


def test_a_lost_shard_is_no_row_of_zeros(tmp_path, small):
    file, target = begin(tmp_path)
    target.write(np.arange(11), VALUES)
    target.commit()
    target.check(np.arange(11))
    whole = content(file.path)
    for number in (1, 2):  # a worker was killed, and the task is done again
        shard = target.file(number)
        shard.write_bytes(shard.read_bytes()[:-1])
        with pytest.raises(OutputError, match=f"out.zarr: features/c.{number}.0 is not as it was written"):
            target.check(np.arange(11))
        rows = np.arange(11)[target.span(number)]
        target.write(rows, VALUES[rows])
        target.commit()
        assert content(file.path) == whole
    target.file(2).unlink()
    with pytest.raises(OutputError, match=r"features/c\.2\.0 is not as it was written"):
        target.check(np.array([0, 10]))
    finish(target)  # what no task has is zeros
    assert zarr.open_group(file.path, mode="r")["features"][7:].any(axis=1).tolist() == [True, False, False, False]
    target.file(1).unlink()
    with pytest.raises(FileError, match=r"features/c\.1\.0 cannot be read: No such file"):
        list(Zarr().blocks(file.path, read_output(Zarr(), file.path)))


@pytest.mark.parametrize(("place", "rows"), [(3, "8, 9"), (-3, "8, 9, 10")])
def test_a_flipped_bit_is_found(tmp_path, small, place, rows):
    path = TestScattered().write(tmp_path, VALUES)
    data = bytearray((shard := path / "features" / "c.2.0").read_bytes())
    data[place] ^= 1
    shard.write_bytes(data)
    with pytest.raises(FileError, match=f"rows {rows} do not fit their checksums"):
        list(Zarr().blocks(path, read_output(Zarr(), path)))


@pytest.mark.parametrize("key", ["boxes/c.0.0", "image_ids/c.0", "boxes/zarr.json", "features/zarr.json", "zarr.json"])
def test_a_changed_frame_is_not_resumed(tmp_path, key):
    file, _ = begin(tmp_path)
    (file.path / key).write_bytes((file.path / key).read_bytes().replace(b"0", b"1") + b" ")
    with pytest.raises(OutputError, match="one of them was changed"):
        Zarr().resume(file.path, file.name, VALUES.shape, VALUES.dtype, make_record(11))


def test_what_killed_workers_leave_is_removed(tmp_path):
    file, target = begin(tmp_path)
    (file.path / "features" / "c.0.0123456789abcdef.partial").write_bytes(b"half a shard")
    finish(target)
    assert not list(file.path.rglob("*.partial"))


def test_a_full_disk(tmp_path, monkeypatch):
    """At any file: one message."""
    put, allowed, left = zarr.storage.LocalStore.set, 0, 0

    async def full(*arguments):
        nonlocal left
        if left == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        left -= 1
        await put(*arguments)

    monkeypatch.setattr(zarr.storage.LocalStore, "set", full)
    # Each in a folder of its own: what zarr had begun beside the write that failed ends after the next attempt begins.
    while message := _attempt(tmp_path / str(allowed)):
        assert message.startswith(f"{tmp_path}/{allowed}/out.zarr: cannot write: No space left")
        allowed += 1
        left = allowed
    assert allowed >= 10  # descriptions of 5, 3 columns, a shard, the group again


def _attempt(folder):
    """Write an output; return what fails."""
    folder.mkdir()
    try:
        _, target = begin(folder)
        target.write(np.arange(11), VALUES)
        target.commit()
        finish(target)
    except OutputError as error:
        return str(error)
    finally:
        remove_tree(folder / ".out.zarr.partial")
    return ""


@pytest.mark.parametrize("made", [Zarr(), ScatteredZarr()])
def test_without_its_library(tmp_path, monkeypatch, made):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(UsageError, match="outputs to Zarr need the package zarr") as caught:
        made.create(tmp_path / "rows", tmp_path / "out.zarr", (1, 2), np.dtype(np.float32), make_record(1))
    assert caught.value.hint == "Install it: pip install 'roicli[zarr]'."
    assert list(tmp_path.iterdir()) == []


ALIGN = ("align", "f.npy", "b.npy", "--size", "1", "-q")


@pytest.fixture
def folder(tmp_path, small):
    """A stack of maps of three channels, and boxes in the order of their maps or not."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "f.npy", rng.standard_normal((8, 3, 6, 6)).astype(np.float32))
    image, corner = np.repeat(np.arange(8), 3)[:, None], rng.uniform(0, 3, (24, 2))
    boxes = np.concatenate([image, corner, corner + 2], axis=1)
    np.save(tmp_path / "b.npy", boxes)
    np.save(tmp_path / "mixed.npy", np.tile(boxes, (6, 1)))
    return tmp_path


def test_a_job(folder, monkeypatch):
    """Whatever the workers, the batches, the parts and the order of maps: the same rows, and the same bytes."""
    monkeypatch.setattr("roicli.execution.plan._SMALL_BYTES", 0)
    run(folder, *ALIGN, "-o", "plain.npy")
    for more in ("--workers 1 --resume", "--workers 2 --batch-size 1"):
        run(folder, *ALIGN, "-o", "whole.zarr", *more.split(), "--overwrite")
        group = zarr.open_group(folder / "whole.zarr", mode="r")
        np.testing.assert_array_equal(group["features"][...], np.load(folder / "plain.npy"))
    whole = content(folder / "whole.zarr")
    assert len([key for key in whole if key.startswith("features/c.")]) == 6
    for part in (1, 2, 3):
        run(folder, *ALIGN, "-o", f"part-{part}.zarr", "--shard", f"{part}/3")
    assert json.loads(run(folder, "missing", "part-*.zarr", "--json").stdout)["missing"] == []
    run(folder, "merge", "merged.zarr", "part-*.zarr", "-q")
    assert content(folder / "merged.zarr") == whole
    with roicli.open_output(folder / "s.zarr", folder / "b.npy", size=1) as job:
        for image in reversed(job.missing()):
            job.add(image, np.load(folder / "f.npy")[int(image)])
    assert {key: value for key, value in content(folder / "s.zarr").items() if "features" in key} == {
        key: value for key, value in whole.items() if "features" in key
    }
    assert "whole.zarr, 14 files" in run(folder, "info", "whole.zarr").stdout
    assert run(folder, "verify", "whole.zarr", "f.npy", "b.npy", "-q").returncode == 0


def test_boxes_in_another_order_than_maps(folder):
    """Maps are read once: rows are moved into shards at the end."""
    job = ("align", "f.npy", "mixed.npy", "--size", "1", "-q")
    run(folder, *job, "-o", "plain.npy")
    for more in ("", "--resume"):
        run(folder, *job, "-o", "out.zarr", "--overwrite", *more.split())
        group = zarr.open_group(folder / "out.zarr", mode="r")
        np.testing.assert_array_equal(group["features"][...], np.load(folder / "plain.npy"))
    assert not [path for path in folder.glob(".*") if not path.name.endswith(".journal")]


def test_shards_in_which_nothing_is_pooled(folder):
    """Their rows are zeros, as in any output."""
    boxes = np.load(folder / "b.npy")
    boxes[8:13, 1] = np.nan
    np.save(folder / "bad.npy", boxes)
    run(folder, "align", "f.npy", "bad.npy", "--size", "1", "-q", "-o", "out.zarr", "--bad-boxes", "zero")
    group = zarr.open_group(folder / "out.zarr", mode="r")
    assert not group["features"][8:13].any()
    assert (folder / "out.zarr" / "features" / "c.2.0.0.0").exists()
    assert run(folder, "verify", "out.zarr", "f.npy", "bad.npy", "-q", "--bad-boxes", "zero").returncode == 0
