"""Means over groups of boxes, in every format."""

import csv
from importlib.util import find_spec

import h5py
import numpy as np
import pytest
from driving import run

import roicli
from roicli.outputs import find_format, suffixes
from roicli.outputs.base import read_output

ALIGN = ("align", "f.npy", "b.csv", "--size", "2", "-q")
NEEDS = {".zarr": "zarr", ".parquet": "pyarrow"}
GROUPS = {
    "category": {"dög": [0, 3, 6, 9], "cat": [1, 2, 4, 5, 7, 8, 10, 11]},
    "image": {"2": [0, 3, 6, 9], "0": [1, 4, 7, 10], "1": [2, 5, 8, 11]},
}


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "f.npy", np.random.default_rng(0).standard_normal((3, 4, 6, 6)).astype(np.float32))
    lines = [f"{(n + 2) % 3},0,{n / 10},3,5,{'cat' if n % 3 else 'dög'}" for n in range(12)]
    (tmp_path / "b.csv").write_text("\n".join(["image_id,x1,y1,x2,y2,label", *lines]))
    run(tmp_path, *ALIGN, "-o", "plain.npy")
    return tmp_path


def means(folder, by):
    plain = np.load(folder / "plain.npy").astype(np.float64)
    return np.array([plain[rows].mean(axis=0) for rows in GROUPS[by].values()]).astype(np.float32)


@pytest.mark.parametrize("by", GROUPS)
@pytest.mark.parametrize("suffix", [suffix for suffix in suffixes() if find_spec(NEEDS.get(suffix, "numpy"))])
def test_every_format(folder, suffix, by, monkeypatch):
    """One row a group, in the order in which groups come first, and how many boxes it is the mean of."""
    monkeypatch.setattr("roicli.outputs.grouped._BLOCK_BYTES", 100)
    name = f"out{suffix}"
    run(folder, *ALIGN, "-o", name, "--group-by", by, "--index", "rows.csv")
    stored = read_output(made := find_format(folder / name), folder / name)
    np.testing.assert_array_equal(made.values(folder / name, stored), means(folder, by))
    if made.keeps_record:
        assert stored.columns.keys() == {"groups", "counts"}
        assert stored.columns["groups"].tolist() == list(GROUPS[by])
        assert stored.columns["counts"].tolist() == [len(rows) for rows in GROUPS[by].values()]
        assert f"group_by          {by}" in run(folder, "info", name).stdout
    with (folder / "rows.csv").open(encoding="utf-8", newline="") as text:
        told = [(line["group"], int(line["boxes"])) for line in csv.DictReader(text)]
    assert told == [(group, len(rows)) for group, rows in GROUPS[by].items()]
    assert {path.name for path in folder.iterdir()} == {"f.npy", "b.csv", "plain.npy", name, "rows.csv"}


def test_parts_and_programs_make_the_same(folder):
    job = (*ALIGN, "--group-by", "category")
    run(folder, *job, "-o", "whole.h5", "--resume")
    assert "were there already" in run(folder, *job[:-3], *job[-2:], "-o", "whole.h5", "--resume").stderr
    whole = (folder / "whole.h5").read_bytes()
    for part in (1, 2):
        run(folder, *job, "-o", f"part-{part}.h5", "--shard", f"{part}/2")
    assert "2 parts: merged.h5 2 x 4 x 2 x 2 float32" in run(folder, "merge", "merged.h5", "part-*.h5").stderr
    assert (folder / "merged.h5").read_bytes() == whole
    with roicli.open_output(folder / "s.h5", folder / "b.csv", size=2, group_by="category") as output:
        for image in reversed(output.missing()):
            output.add(image, np.load(folder / "f.npy")[int(image)])
    with h5py.File(folder / "s.h5") as file:
        np.testing.assert_array_equal(file["features"][()], means(folder, "category"))
        assert file["counts"][()].tolist() == [4, 8]


def test_what_cannot_be_grouped(folder):
    refused = run(folder, *ALIGN, "-o", "x.h5", "--group-by", "image", "--bad-boxes", "zero", expect=2).stderr
    assert "means over groups have no layout of boxes, and no boxes that count as zeros" in refused
    for what in (("--group-by", "image"), ("--output-layout", "m2-h5")):
        refused = run(folder, *ALIGN, "-o", "part.npy", *what, "--shard", "1/2", expect=2).stderr
        assert "merge makes layouts and means over groups of what parts record, .npy nothing" in refused
    (folder / "c.csv").write_text("image_id,x1,y1,x2,y2\n0,1,1,4,4")
    refused = run(folder, "align", "f.npy", "c.csv", "-o", "x.h5", "--group-by", "category", expect=3).stderr
    assert "the boxes have no category and no label to group them by" in refused
    assert "Give --group-by image" in refused
