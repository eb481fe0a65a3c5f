"""Pool while extracting: the same bytes as from files, resumed, complete or not at all."""

import json
from contextlib import contextmanager, suppress

import h5py
import numpy as np
import pytest
from driving import files_in, run

import roicli
from roicli import RoicliError
from roicli.outputs import find_format
from roicli.outputs.base import read_output

RNG = np.random.default_rng(0)
MAPS = {name: RNG.standard_normal((4, 9, 11)).astype(np.float32) for name in ("7", "139", "5")}
BOXES = {"139": [[0, 0, 20, 30], [4, 4, 30, 20]], "7": [[1, 2, 33, 30]], "5": [], "285": []}
HOW = {"size": 2, "aligned": True, "stride": 4}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        for name, array in MAPS.items():
            file[name] = array
    (tmp_path / "b.json").write_text(json.dumps({name: boxes for name, boxes in BOXES.items() if name != "285"}))
    monkeypatch.chdir(tmp_path)
    roicli.align("f.h5", "b.json", "whole.npy", **HOW)
    return tmp_path


class Tensor:
    """What another library hands over."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **how):
        return self.array.__dlpack__(**how)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_the_same_bytes_as_from_files(folder):
    with roicli.open_output("out.npy", "b.json", index="rows.csv", **HOW) as job:
        assert job.missing() == ["139", "7"]
        job.add(7, Tensor(MAPS["7"]))
        assert job.missing() == ["139"]
        job.add("000139", MAPS["139"])
        job.add("139", np.zeros(3))  # it is done
        assert job.missing() == []
    assert (folder / "out.npy").read_bytes() == (folder / "whole.npy").read_bytes()
    assert (folder / "rows.csv").read_text().split("\n")[1].startswith("0,139,")
    assert not [name for name in files_in(folder) if name.startswith(".")]


def test_features_and_record_of_hdf5(folder):
    roicli.align("f.h5", "b.json", "whole.h5", **HOW)
    with roicli.open_output("out.h5", "b.json", **HOW) as job:
        for image in job.missing():
            job.add(image, MAPS[image].transpose(1, 2, 0).copy().transpose(2, 0, 1))
    with h5py.File("out.h5") as ours, h5py.File("whole.h5") as whole:
        assert ours.keys() == whole.keys()
        for name in whole:
            np.testing.assert_array_equal(ours[name][: len(whole["features"])], whole[name][: len(whole["features"])])
        assert {name for name in whole.attrs if ours.attrs[name] != whole.attrs[name]} == {"features"}


def test_it_is_resumed(folder):
    with suppress(KeyboardInterrupt), roicli.open_output("out.npy", "b.json", **HOW) as job:
        job.add("139", MAPS["139"])
        raise KeyboardInterrupt
    assert not (folder / "out.npy").exists()
    with pytest.raises(RoicliError, match="unfinished: 2 of 3 rows are done"), roicli.open_output("out.npy", "b.json"):
        pass
    again = roicli.open_output("out.npy", "b.json", resume=True, **HOW)
    with pytest.raises(RoicliError, match="1 image without a map, '7'"), again as job:
        assert job.missing() == ["7"]
    with roicli.open_output("out.npy", "b.json", resume=True, **HOW) as job:
        job.add("7", MAPS["7"])
    assert (folder / "out.npy").read_bytes() == (folder / "whole.npy").read_bytes()
    with roicli.open_output("out.npy", "b.json", resume=True, **HOW) as job:
        assert job.missing() == []


@contextmanager
def begun():
    with roicli.open_output("out.npy", "b.json", **HOW) as job:
        job.add("139", MAPS["139"])
        yield job


def test_tokens(folder):
    tokens = {name: array.reshape(4, -1).T.copy() for name, array in MAPS.items()}
    with roicli.open_output("out.npy", "b.json", layout="tokens", grid=(9, 11), **HOW) as job:
        for image in job.missing():
            job.add(image, np.concatenate([np.zeros((1, 4), np.float32), tokens[image]]))
    assert (folder / "out.npy").read_bytes() == (folder / "whole.npy").read_bytes()


@pytest.mark.parametrize(
    ("image", "array", "message"),
    [
        ("12", MAPS["7"], "b.json has no boxes of image '12'"),
        ("7", np.zeros((4, 9), np.float32), "features of image '7': expected a map"),
        ("7", np.zeros((5, 9, 11), np.float32), r"give rows of \(5, 2, 2\) .* the first map gave \(4, 2, 2\)"),
        ("7", np.zeros((4, 9, 11)), "in float64, the first map gave"),
        ("7", Tensor(None), "cannot be read as an array"),
    ],
)
def test_maps_that_are_refused(folder, image, array, message):
    with pytest.raises(RoicliError, match=message), begun() as job:
        job.add(image, array)
    assert "2 of 3 rows are done" in run(folder, "info", "out.npy", expect=0).stdout


def test_no_map_at_all(folder):
    with pytest.raises(RoicliError, match="2 images without a map"), roicli.open_output("out.npy", "b.json"):
        pass
    assert files_in(folder).keys() == {"f.h5", "b.json", "whole.npy"}
    with pytest.raises(RoicliError, match="are for maps in files"):
        roicli.open_output("out.npy", "b.json", levels="a:4,b:8")


@pytest.mark.parametrize("suffix", [".npy", ".h5"])
def test_parts_by_several_writers(folder, suffix):
    roicli.align("f.h5", "b.json", f"whole{suffix}", overwrite=True, **HOW)
    for part in ("1/2", "2/2"):
        with roicli.open_output(f"part-{part[0]}{suffix}", "b.json", shard=part, resume=True, **HOW) as job:
            for image in job.missing():
                job.add(image, MAPS[image])
        assert job.report.boxes == {"1/2": 2, "2/2": 1}[part]
        if part == "1/2":
            assert "missing: 2" in run(folder, "missing", f"part-*{suffix}", expect=1).stdout
    run(folder, "merge", f"merged{suffix}", f"part-*{suffix}")
    stored = [
        read_output(find_format(path), path) for path in (folder / f"{name}{suffix}" for name in ("merged", "whole"))
    ]
    assert stored[0].columns.keys() == stored[1].columns.keys()
    np.testing.assert_array_equal(*(found.features.load() for found in stored))


def test_a_part_without_boxes(folder):
    (folder / "one.json").write_text(json.dumps({"7": BOXES["7"]}))
    empty = roicli.open_output("1.npy", "one.json", shard="1/2", **HOW)
    with pytest.raises(RoicliError, match="no map was added\nGive `shard` fewer parts"), empty as job:
        job.add("7", MAPS["7"])  # of another part: passed over
    with roicli.open_output("2.npy", "one.json", shard="2/2", **HOW) as job:
        assert job.missing() == ["7"]
        job.add("7", MAPS["7"])


def test_its_report(folder):
    with roicli.open_output("out.h5", "b.json", report="run.json", **HOW) as job:
        for image in job.missing():
            job.add(image, MAPS[image])
    said = json.loads((folder / "run.json").read_text())
    assert (said["boxes"], said["images"], said["shape"]) == (3, 2, [3, 4, 2, 2])
    assert [found["name"] for found in said["inputs"]] == ["b.json"]


def test_bad_boxes_are_left_out(folder):
    (folder / "b.json").write_text(json.dumps({"139": [[0, 0, 20, 30], [9, 9, 0, 0]], "7": [[1, 2, 33, 30]]}))
    roicli.align("f.h5", "b.json", "skipped.npy", bad_boxes="skip", **HOW)
    with roicli.open_output("out.npy", "b.json", bad_boxes="skip", **HOW) as job:
        for image in job.missing():
            job.add(image, MAPS[image])
    assert (folder / "out.npy").read_bytes() == (folder / "skipped.npy").read_bytes()
    assert (folder / "out.npy.skipped.csv").read_text() == (folder / "skipped.npy.skipped.csv").read_text()
