"""The .npy format."""

import os

import numpy as np
import pytest
from outputs.conformance import OutputConformance

from roicli.outputs import rowfile
from roicli.outputs.npy import Npy


class TestNpy(OutputConformance):
    format, suffix = Npy(), ".npy"

    def features(self, path):
        return np.load(path)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no advice on files")
@pytest.mark.parametrize("again", [False, True])
def test_rows_on_the_disk_leave_memory_unless_they_are_read_again(tmp_path, monkeypatch, again):
    asked = []
    monkeypatch.setattr(rowfile, "_TOLD", 24)
    monkeypatch.setattr(rowfile, "_advise", lambda _, *span: asked.append(span[:2]))
    (tmp_path / "rows").write_bytes(bytes(100))
    target = rowfile.RowFile(tmp_path / "rows", tmp_path / "rows", 4, 100, (3,), np.dtype(np.float32), read_again=again)
    for rows in ([0, 1], [2], [3, 4, 7]):
        target.write(np.array(rows), np.ones((len(rows), 3), np.float32))
    target.close()
    assert asked == ([] if again else [(4, 24), (4, 24), (40, 24)])
