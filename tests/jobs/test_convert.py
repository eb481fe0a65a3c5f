"""`roicli convert`: outputs in other formats, layouts and dtypes, with nothing lost."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from driving import files_in, run

from roicli.jobs import convert as converting
from roicli.outputs import find_stored
from roicli.outputs.base import read_output

ALIGN = ("align", "f.h5", "b.csv", "--stride", "4", "--reduce", "mean", "--image-size", "16x16", "-q")
LAYOUTS = {
    "butd-h5-adaptive": "l.h5",
    "butd-h5-fixed": "l.h5",
    "m2-h5": "l.h5",
    "vlt5-h5": "l.h5",
    "butd-tsv": "l.tsv",
    "per-image-npz": "l",
}


@pytest.fixture
def folder(tmp_path):
    """Boxes of two images, in turns; images come in natural order."""
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        for image in ("12", "9"):
            file[image] = rng.standard_normal((3, 4, 4)).astype(np.float32)
    lines = ["image_id,x1,y1,x2,y2,label", "9,0,0,8,4,a", "12,0,0,16.25,16,b", "9,4,4,12,12,a", "9,1,1,9,9,c"]
    (tmp_path / "b.csv").write_text("\n".join(lines))
    run(tmp_path, *ALIGN, "-o", "whole.h5")
    return tmp_path


def rows(path):
    """The rows of an output and their boxes, by image, in their order within it."""
    stored = read_output(find_stored(path), path)
    values = np.concatenate(list(find_stored(path).blocks(path, stored)))
    boxes = stored.columns["boxes"].astype(np.float32).tolist()
    found = list(zip(stored.columns["image_ids"].tolist(), values.tolist(), boxes, strict=True))
    return sorted(found, key=lambda row: row[0])


@pytest.mark.parametrize("name", ["x.npz", "x.safetensors"])
def test_there_and_back_gives_the_same_bytes(folder, name):
    run(folder, "convert", "whole.h5", name, "-q")
    run(folder, "convert", name, "back.h5", "-q")
    assert (folder / "back.h5").read_bytes() == (folder / "whole.h5").read_bytes()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(folder, layout):
    run(folder, "convert", "whole.h5", LAYOUTS[layout], "--output-layout", layout, "-q")
    run(folder, *ALIGN, "-o", f"a{LAYOUTS[layout]}", "--output-layout", layout)
    made, aligned = folder / LAYOUTS[layout], folder / f"a{LAYOUTS[layout]}"
    if made.is_file():
        assert made.read_bytes() == aligned.read_bytes()
    run(folder, "convert", made.name, "back.npz", "-q")
    assert rows(folder / "back.npz") == rows(made) == rows(folder / "whole.h5")


def test_dtypes(folder):
    done = run(folder, "convert", "whole.h5", "half.npy", "--dtype", "float16", "--index", "rows.csv", "--json", "-q")
    assert json.loads(done.stdout) == {"output": "half.npy", "shape": [4, 3], "dtype": "float16", "record": False}
    with h5py.File(folder / "whole.h5") as file:
        np.testing.assert_array_equal(np.load(folder / "half.npy"), file["features"][()].astype(np.float16))
    run(folder, *ALIGN, "-o", "x.npz", "--index", "aligned.csv")
    run(folder, "convert", "x.npz", "x.npy", "--index", "again.csv")
    assert (folder / "again.csv").read_text().splitlines()[1].split(",")[:2] == ["0", "9"]


def test_numbers_too_large(folder):
    with h5py.File(folder / "f.h5", "r+") as file:
        file["12"][1, 2, 2] = 1e6
    run(folder, *ALIGN, "-o", "large.h5")
    refused = run(folder, "convert", "large.h5", "half.npz", "--dtype", "float16", expect=3)
    assert "large.h5, row 1: values up to" in refused.stderr
    assert "are too large for float16\nhint: Leave --dtype out." in refused.stderr
    assert not [name for name in files_in(folder) if "half" in name]


def test_the_list_of_boxes_left_out_goes_along(folder):
    (folder / "b.csv").write_text((folder / "b.csv").read_text() + "\n9,nan,0,1,1,d\n")
    run(folder, *ALIGN, "-o", "some.h5", "--bad-boxes", "skip")
    run(folder, "convert", "some.h5", "some.npz", "-q")
    assert (folder / "some.npz.skipped.csv").read_bytes() == (folder / "some.h5.skipped.csv").read_bytes()
    run(folder, "convert", "whole.h5", "some.npz", "--overwrite", "-q")
    assert not (folder / "some.npz.skipped.csv").exists()


def test_means_over_groups(folder):
    run(folder, *ALIGN, "-o", "groups.h5", "--group-by", "category")
    run(folder, "convert", "groups.h5", "groups.npz", "-q")
    with np.load(folder / "groups.npz") as arrays:
        assert arrays["groups"].tolist() == ["a", "b", "c"]
        assert arrays["counts"].tolist() == [2, 1, 1]
    said = run(folder, "convert", "groups.h5", "l.h5", "--output-layout", "m2-h5", expect=3).stderr
    assert "groups.h5 does not say whose features its rows are" in said


def test_what_is_refused(folder):
    run(folder, *ALIGN, "-o", "part.h5", "--shard", "1/2")
    run(folder, *ALIGN, "-o", "plain.npy")
    for arguments, message, code in (
        (("part.h5", "x.npz"), "part.h5 is a part of a job\nhint: Merge its parts first.", 3),
        (("plain.npy", "x.h5"), "plain.npy does not say whose features its rows are, as x.h5 would have to", 3),
        (("whole.h5", "whole.h5", "--overwrite"), "whole.h5 would be written over itself", 3),
        (("whole.h5", "plain.npy"), "plain.npy exists\nhint: Give --overwrite", 3),
        (("whole.h5", "x.npz", "--spatial", "6"), "Give --output-layout too", 2),
        (("f.h5", "x.npz"), "is not as roicli writes it", 3),
        (("whole.h5", "x.txt"), "is not the suffix of an output format", 3),
    ):
        assert message in run(folder, "convert", *arguments, expect=code).stderr
    assert not list(folder.glob("*x.*"))


@pytest.mark.parametrize("place", ["source", "written"])
def test_damage_is_found(folder, monkeypatch, place):
    path = folder / "whole.h5"
    start = read_output(find_stored(path), path).features.start
    if place == "source":
        data = bytearray(path.read_bytes())
        data[start + 12] ^= 1
        path.write_bytes(data)
        message = "rows 1 do not fit their checksums"
    else:
        real = converting._check
        monkeypatch.setattr(converting, "_check", lambda *how: real(*how[:4], np.ones(4, np.uint32), *how[5:]))
        message = "features read back are not those of"
    assert message in run(folder, "convert", "whole.h5", "x.npz", expect=3).stderr
    assert not list(Path(folder).glob("*x.npz*"))
