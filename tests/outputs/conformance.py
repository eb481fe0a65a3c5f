"""What every format of outputs must do: one class, which the tests of each format subclass."""

import errno
import os
import pickle
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from driving import content

from roicli.errors import OutputError, RoicliError
from roicli.jobs.damage import Damage, damage_of
from roicli.newfiles import NewFile
from roicli.outputs.base import Record, read_output
from roicli.regions import Names

RNG = np.random.default_rng(0)
PARAMETERS = {"roicli_version": "1", "spatial_scale": 0.0625, "aligned": True, "sampling_ratio": -1, "op": "ä"}


def make_record(count, box_ids=None, output_rows=None):
    return Record(
        image_ids=Names(np.arange(count) % 2, ("bild-ä0", "bild-ä1", "never used, and long")),
        boxes=np.arange(4.0 * count).reshape(count, 4) / 3,
        rows=np.arange(count) + 2,
        box_ids=box_ids,
        parameters=PARAMETERS,
        output_rows=output_rows,
    )


class OutputConformance(ABC):
    """What every format does. A subclass names it, and reads a file back by other means than roicli's."""

    format = None
    suffix: str

    @abstractmethod
    def features(self, path):
        """Read the features of a complete output."""

    def record(self, path):
        """Read its columns and parameters, if the format keeps them."""
        raise NotImplementedError

    def order(self, count):
        """The order in which rows lie in the file."""
        return np.arange(count)

    def kept(self, record):
        """The columns that a file keeps."""
        return record.columns()

    def begin(self, folder, shape, dtype=np.float32, record=None, overwrite=True):
        """Begin an output; return its file and where its rows go."""
        output = folder / f"out{self.suffix}"
        file = NewFile(output, overwrite=overwrite)
        self.begun = record or make_record(shape[0])
        return file, self.format.create(file.path, output, shape, np.dtype(dtype), self.begun)

    def complete(self, file, target, record=None):
        record = record or self.begun
        target.check(np.arange(0))
        self.format.finish(target, record)
        target.flush()
        made = self.format.assemble(target, record, file.name, overwrite=file._overwrite)
        target.close()
        try:
            (made or file).publish()
        finally:
            (made or file).remove()
        file.remove()

    def write(self, folder, values, record=None):
        """Write an output at once; return its name."""
        file, target = self.begin(folder, values.shape, values.dtype, record)
        target.write(np.arange(len(values)), values)
        self.complete(file, target, record)
        return file.final

    def test_the_suffix_is_its_own(self):
        assert self.suffix in self.format.suffixes

    @pytest.mark.parametrize("shape", [(9, 3, 2, 5), (9, 3)])
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_rows_in_any_order(self, tmp_path, shape, dtype):
        expected = RNG.standard_normal(shape).astype(dtype)
        file, target = self.begin(tmp_path, shape, dtype)
        for rows in ([7], [0, 1, 2], [3, 5, 6], [4, 8]):
            # As in a worker: the target travels by pickle, and is opened where it is used.
            worker = pickle.loads(pickle.dumps(target))
            worker.write(np.array(rows), expected[rows])
            worker.close()
        assert not file.final.exists()
        self.complete(file, target)
        features = self.features(file.final)
        assert features.dtype == dtype
        np.testing.assert_array_equal(features, expected)
        assert len(list(tmp_path.iterdir())) == 1

    @pytest.mark.parametrize("shape", [(0, 3, 2, 5), (0, 3)])
    def test_no_rows(self, tmp_path, shape):
        assert self.features(self.write(tmp_path, np.zeros(shape, np.float32))).shape == shape

    def test_unwritten_rows_are_zero(self, tmp_path):
        file, target = self.begin(tmp_path, (500, 64))
        self.complete(file, target)
        assert not self.features(file.final).any()

    def test_it_is_read_back(self, tmp_path):
        values = RNG.standard_normal((5, 3, 2)).astype(np.float32)
        record = make_record(5, np.array([5, 6, 7, 8, 9]), np.arange(5) * 2)
        path = self.write(tmp_path, values, record)
        stored = read_output(self.format, path)
        np.testing.assert_array_equal(np.concatenate(list(self.format.blocks(path, stored))), values[self.order(5)])
        np.testing.assert_array_equal(self.format.values(path, stored), values[self.order(5)])
        if self.format.keeps_record:
            assert stored.parameters == self.format.parameters(path) == PARAMETERS
            expected = self.kept(record)
            assert stored.columns.keys() == expected.keys()
            for name, column in expected.items():
                assert stored.columns[name].tolist() == column.tolist()

    def test_a_flipped_bit_is_found(self, tmp_path):
        """Whatever bit of a file it is, unless nothing that is read depends on it."""
        values = RNG.standard_normal((6, 5)).astype(np.float32)
        values[2] = 0
        path = self.write(tmp_path, values, make_record(6, Names(np.arange(6) % 2, ("x", "yy"))))
        stored = read_output(self.format, path)
        if stored.sums is None:
            pytest.skip("it has no checksums of ours")
        data, first = path.read_bytes(), stored.features.start
        flips = [
            (int(place), 1 << int(bit))
            for place, bit in zip(RNG.choice(len(data), 40), RNG.integers(0, 8, 40), strict=True)
        ]
        for place, bit in [(first, 1), (first + 45, 128), (first + values.nbytes - 1, 64), *flips]:
            path.write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
            row = (place - first) // values[0].nbytes
            if 0 <= row < len(values):
                assert damage_of(self.format, path) == Damage(6, ((row, row),))
                continue
            with suppress(RoicliError):
                assert damage_of(self.format, path).damaged or self.same(stored, values, path), (place, bit)

    def same(self, stored, values, path):
        found = read_output(self.format, path)
        np.testing.assert_array_equal(np.concatenate(list(self.format.blocks(path, found))), values[self.order(6)])
        assert found.parameters == stored.parameters
        assert {name: list(column.tolist()) for name, column in found.columns.items()} == {
            name: list(column.tolist()) for name, column in stored.columns.items()
        }
        return True

    @pytest.mark.parametrize(
        "box_ids", [None, np.array([5, 6, 7]), Names(np.array([1, 0, 2]), ("yy", "x", "ä" * 300)), "nul"]
    )
    def test_the_record(self, tmp_path, box_ids):
        if not self.format.keeps_record:
            pytest.skip("this format has no record")
        if isinstance(box_ids, str):
            box_ids = Names(np.array([1, 0, 1]), ("x\0y", "x"))
        record = make_record(3, box_ids)
        columns, parameters = self.record(self.write(tmp_path, np.ones((3, 2), np.float32), record))
        assert parameters == PARAMETERS
        assert columns.keys() == record.columns().keys()
        for name, column in record.columns().items():
            assert columns[name].tolist() == column.tolist()

    def test_the_same_rows_give_the_same_bytes(self, tmp_path):
        paths = []
        for name in ("a", "b"):
            time.sleep(1.01 * (name == "b" and self.suffix == ".h5"))  # HDF5 would write down the second
            (tmp_path / name).mkdir()
            paths.append(self.write(tmp_path / name, np.ones((4, 3), np.float32)))
        assert content(paths[0]) == content(paths[1])

    @pytest.mark.parametrize("finished", [False, True])
    def test_it_is_resumed(self, tmp_path, finished):
        """Even after it was completed and not published."""
        values = RNG.standard_normal((6, 3)).astype(np.float32)
        (tmp_path / "whole").mkdir()
        expected = content(self.write(tmp_path / "whole", values))
        file, target = self.begin(tmp_path, values.shape)
        target.write(np.arange(4), values[:4])
        if finished:
            self.format.finish(target, make_record(6))
        target.close()
        target = self.format.resume(file.path, file.name, values.shape, np.dtype(np.float32), make_record(6))
        target.write(np.array([4, 5]), values[4:])
        self.complete(file, target)
        assert content(file.final) == expected

    @pytest.mark.parametrize("place", [0, 20])
    def test_a_changed_file_is_not_resumed(self, tmp_path, place):
        file, target = self.begin(tmp_path, (6, 3))
        os.pwrite(target.open(), b"?", place)
        target.close()
        with pytest.raises(OutputError, match="one of them was changed"):
            self.format.resume(file.path, file.name, (6, 3), np.dtype(np.float32), make_record(6))

    def test_what_another_job_wrote_meanwhile_is_kept(self, tmp_path):
        file, target = self.begin(tmp_path, (4, 3), overwrite=False)
        other = file.final
        if self.format.folder:
            file.final.mkdir()
            other = file.final / "its"
        other.write_text("the other's")
        with pytest.raises(OutputError, match="exists"):
            self.complete(file, target)
        file.remove()
        assert other.read_text() == "the other's"
        assert len(list(tmp_path.rglob("*"))) == 1 + self.format.folder

    def test_a_link_is_followed_and_a_mode_kept(self, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        real = tmp_path / "elsewhere" / "real"
        real.mkdir() if self.format.folder else real.touch(mode=0o640)
        link = tmp_path / f"out{self.suffix}"
        link.symlink_to(real)
        self.write(tmp_path, np.ones((4, 3), np.float32))
        assert link.is_symlink()
        assert self.format.folder or real.stat().st_mode & 0o777 == 0o640
        assert self.features(link).shape == (4, 3)

    def test_a_planted_link_is_not_followed(self, tmp_path, monkeypatch):
        """Between the removal of what a crash left and the creation of the file."""
        victim = tmp_path / "victim"
        victim.write_text("precious")
        unlink = Path.unlink

        def unlink_and_plant(path, missing_ok=False):
            unlink(path, missing_ok=missing_ok)
            if path.name.endswith(".partial") and not path.is_symlink():
                path.symlink_to(victim)

        monkeypatch.setattr(Path, "unlink", unlink_and_plant)
        with pytest.raises(OutputError, match="cannot write: File exists"):
            self.begin(tmp_path, (4, 3))
        assert victim.read_text() == "precious"

    def test_a_full_disk_is_known_before(self, tmp_path):
        with pytest.raises(OutputError, match=r"out\.\w+ needs [\d.,]+ TiB, its disk has"):
            self.begin(tmp_path, (1, 2**30, 2**18))
        assert list(tmp_path.iterdir()) == []

    def test_a_disk_that_fills_up(self, tmp_path, monkeypatch):
        """At any write: one message, and nothing is left of what could not be begun."""
        write, allowed, left = os.pwrite, 0, 0

        def full(*arguments):
            nonlocal left
            if left == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            left -= 1
            return write(*arguments)

        monkeypatch.setattr(os, "pwrite", full)
        while message := self._attempt(tmp_path):
            assert message.startswith(f"{tmp_path}/out{self.suffix}: cannot write: No space left")
            assert list(tmp_path.iterdir()) == []
            allowed += 1
            left = allowed
        assert allowed >= 2

    def _attempt(self, folder):
        """Begin an output and write rows; return what fails."""
        file = target = None
        try:
            file, target = self.begin(folder, (4, 3))
            target.write(np.array([0, 2]), np.ones((2, 3), np.float32))
        except OutputError as error:
            return str(error)
        finally:
            if target is not None:
                target.close()
                file.remove()
        return ""

    def test_a_shrunken_file_is_not_published(self, tmp_path):
        file, target = self.begin(tmp_path, (4, 3))
        os.truncate(file.path, target.end - 1)
        with pytest.raises(OutputError, match=r"out\.\w+: "):
            self.complete(file, target)
        assert not file.final.exists()
