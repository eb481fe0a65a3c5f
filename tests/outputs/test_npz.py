"""The .npz format."""

import json
import zipfile

import numpy as np
import pytest
from outputs.conformance import OutputConformance

from roicli.errors import FileError
from roicli.outputs.base import read_output
from roicli.outputs.npz import Npz


class TestNpz(OutputConformance):
    format, suffix = Npz(), ".npz"

    def features(self, path):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
        with np.load(path) as archive:
            return archive["features"]

    def record(self, path):
        with np.load(path) as archive:
            arrays = dict(archive)
        del arrays["features"], arrays["checksums"]
        return arrays, json.loads(str(arrays.pop("parameters")))

    def test_a_damaged_row_is_noticed(self, tmp_path):
        path = self.write(tmp_path, np.ones((4, 3), np.float32))
        stored = read_output(self.format, path)
        with path.open("r+b") as file:
            file.seek(stored.features.start)
            file.write(b"\1")
        with pytest.raises(FileError, match="rows 0 do not fit"):
            list(self.format.blocks(path, read_output(self.format, path)))

    def test_zipfile_writes_the_same_bytes(self, tmp_path):
        """What is made by hand is what Python's own module makes."""
        values = np.ones((4, 3), np.float32)
        ours = self.write(tmp_path, values).read_bytes()
        with zipfile.ZipFile(tmp_path / "whole.npz", "w") as archive, np.load(tmp_path / "out.npz") as arrays:
            for name in ("features", "checksums", "image_ids", "boxes", "rows", "parameters"):
                info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
                with archive.open(info, "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, arrays[name])
        assert ours == (tmp_path / "whole.npz").read_bytes()
