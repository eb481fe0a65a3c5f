"""The HDF5 format: HDF5 never touches the disk, and the file is as h5py would read any other."""

import os

import h5py
import numpy as np
import pytest
from outputs.conformance import OutputConformance, make_record

from roicli.files import HDF5_SUFFIXES
from roicli.outputs import find_format
from roicli.outputs.hdf5 import Hdf5
from roicli.regions import Names


class TestHdf5(OutputConformance):
    format, suffix = Hdf5(), ".h5"

    def features(self, path):
        with h5py.File(path) as file:
            return file["features"][()]

    def record(self, path):
        with h5py.File(path) as file:
            arrays = {
                name: file[name].asstr()[()] if h5py.check_string_dtype(file[name].dtype) else file[name][()]
                for name in file
            }
            parameters = {name: value.item() if hasattr(value, "item") else value for name, value in file.attrs.items()}
        del arrays["features"], arrays["checksums"]
        return arrays, parameters

    def test_more_rows_than_memory(self, tmp_path, monkeypatch):
        """40 GB of rows are laid out at once, and only what is written takes space."""
        monkeypatch.setattr("roicli.outputs.base.check_space", lambda name, needed: None)  # few disks have it all
        file, target = self.begin(tmp_path, (200_000, 1024, 7, 7))
        target.write(np.array([199_999]), np.ones((1, 1024, 7, 7), np.float32))
        target.close()
        assert file.path.stat().st_size > 40e9
        assert file.path.stat().st_blocks * 512 < 60e6
        with h5py.File(file.path) as stored:
            assert stored["features"][199_999].min() == 1
        file.remove()

    def test_the_room_that_ids_take_is_known(self, tmp_path):
        """The layout counts every byte."""
        record = make_record(1000, Names(np.arange(1000), tuple(f"{n:040d}" for n in range(1000))))
        layout = self.format.layout((1000, 2), np.dtype(np.float32), record)
        assert self.write(tmp_path, np.ones((1000, 2), np.float32), record).stat().st_size == layout.size

    def test_what_is_made_is_what_hdf5_would_make(self, tmp_path):
        """A file that HDF5 has closed once is not changed."""
        path = self.write(tmp_path, np.ones((4, 3), np.float32))
        before = path.read_bytes()
        with h5py.File(path, "r+") as file:
            file["features"][0] = 1
        assert path.read_bytes() == before

    def test_names_that_are_not_utf8(self, tmp_path):
        record = make_record(1)._replace(image_ids=Names(np.array([0]), (os.fsdecode(b"a\xff"),)))
        columns, _ = self.record(self.write(tmp_path, np.ones((1, 2), np.float32), record))
        assert columns["image_ids"].tolist() == ["a\\udcff"]


@pytest.mark.parametrize("suffix", HDF5_SUFFIXES)
def test_all_suffixes_that_are_read_are_written(tmp_path, suffix):
    assert isinstance(find_format(tmp_path / f"out{suffix}"), Hdf5)
