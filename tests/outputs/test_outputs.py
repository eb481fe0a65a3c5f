"""The registry of formats, and a new format that is one class."""

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner
from outputs.conformance import OutputConformance, make_record

import roicli.outputs
from roicli.arrays import StoredArray
from roicli.cli.main import main
from roicli.errors import OutputError
from roicli.outputs import check_output, find_format, register
from roicli.outputs.base import Layout, OutputFormat, Stored
from roicli.outputs.sidefiles import SideFile, check_index, index_text


class Raw(OutputFormat):
    """A line of JSON, then the values: the whole of a new format."""

    suffixes = (".raw",)
    keeps_record = False

    def layout(self, shape, dtype, record):
        header = json.dumps({"shape": shape, "dtype": dtype.str}).encode() + b"\n"
        return Layout({0: header}, len(header), len(header) + int(np.prod(shape)) * dtype.itemsize)

    def read(self, path):
        with path.open("rb") as file:
            header = json.loads(file.readline())
            features = StoredArray(path, file.tell(), tuple(header["shape"]), np.dtype(header["dtype"]))
        return Stored(features, {}, {})

    def parameters(self, path):
        return {}


class TestRaw(OutputConformance):
    format, suffix = Raw(), ".raw"

    def features(self, path):
        return self.format.read(path).features.load()


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(roicli.outputs, "_FORMATS", dict(roicli.outputs._FORMATS))
    register(Raw())


def test_a_new_format_by_the_command_line(tmp_path, monkeypatch, registered):
    monkeypatch.chdir(tmp_path)
    np.save("map.npy", np.ones((2, 8, 8), np.float32))
    np.save("boxes.npy", np.array([[0.0, 0, 4, 4], [1, 1, 5, 5]]))
    done = CliRunner().invoke(main, ["align", "map.npy", "boxes.npy", "-o", "out.raw", "--size", "2", "--resume"])
    assert done.exit_code == 0, done.output
    [block] = Raw().blocks(tmp_path / "out.raw", Raw().read(tmp_path / "out.raw"))
    assert block.tolist() == np.ones((2, 2, 2, 2)).tolist()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.txt", "out.txt: '.txt' is not the suffix of an output format"),
        ("out", "out: a name without suffix\nName a file that ends in .npy, .npz, .h5"),
        ("no/out.npy", "the folder .*no does not exist"),
        ("folder.npy", "folder.npy is a folder"),
        (f"{'x' * 245}.npy", "cannot write: File name too long\nGive it a shorter name"),
    ],
)
def test_refused_names(tmp_path, name, message):
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(OutputError, match=message):
        check_output(tmp_path / name, find_format(tmp_path / name))


def test_index(tmp_path):
    record = make_record(2, np.array([5, 6]))
    file = SideFile(tmp_path / "rows.csv", lambda: index_text(record), overwrite=False)
    file.prepare()
    assert not file.final.exists()
    file.publish()
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as text:
        lines = list(csv.DictReader(text))
    assert lines[1] == {
        "row": "1", "image_id": "bild-ä1", "box_id": "6", "box_file_row": "3",
        "x1": repr(4 / 3), "y1": repr(5 / 3), "x2": "2.0", "y2": repr(7 / 3),
    }  # fmt: skip
    with pytest.raises(OutputError, match="the index is a CSV file"):
        check_index(tmp_path / "rows.txt", overwrite=False)
    with pytest.raises(OutputError, match="exists"):
        check_index(tmp_path / "rows.csv", overwrite=False)


def test_a_file_that_appears_in_the_last_instant_is_kept(tmp_path, monkeypatch):
    """Between the last look and the rename, without `overwrite`."""
    file = SideFile(tmp_path / "rows.csv", lambda: ["new"], overwrite=False)
    file.prepare()
    monkeypatch.setattr("roicli.newfiles.os.link", late(tmp_path / "rows.csv", roicli.newfiles.os.link))
    with pytest.raises(OutputError, match=r"rows\.csv exists"):
        file.publish()
    assert (tmp_path / "rows.csv").read_text() == "another program's"


def late(path, link):
    def write_and_link(*arguments, **more):
        path.write_text("another program's")
        return link(*arguments, **more)

    return write_and_link
