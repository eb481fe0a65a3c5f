"""The Parquet format; it needs pyarrow, which reads it back."""

import json
import sys

import numpy as np
import pytest
from driving import run
from outputs.conformance import OutputConformance

import roicli
from roicli.errors import UsageError
from roicli.outputs.parquet import Parquet

parquet = pytest.importorskip("pyarrow.parquet")
# The columns of a record by those of the table.
COLUMNS = {"image_ids": "image_id", "box_ids": "box_id", "rows": "box_file_row"}


def vectors(table):
    return (
        table["vector"]
        .combine_chunks()
        .flatten()
        .to_numpy()
        .reshape(len(table), table.schema.field("vector").type.list_size)
    )


class TestParquet(OutputConformance):
    format, suffix = Parquet(), ".parquet"

    def features(self, path):
        table = parquet.read_table(path)
        said = json.loads(table.schema.metadata[b"roicli"])
        return vectors(table).reshape(-1, *said["shape"])

    def record(self, path):
        table = parquet.read_table(path)
        columns = {name: table[key].to_numpy() for name, key in COLUMNS.items() if key in table.column_names}
        columns["boxes"] = np.stack([table[name].to_numpy() for name in ("x1", "y1", "x2", "y2")], axis=1)
        return columns, json.loads(table.schema.metadata[b"roicli"])["parameters"]


ALIGN = ("align", "f.npy", "b.csv", "--size", "2", "-q")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Maps of three channels, and boxes with labels and scores whose rows make several groups."""
    monkeypatch.setattr("roicli.outputs.parquet._GROUP_BYTES", 200)
    rng = np.random.default_rng(0)
    np.save(tmp_path / "f.npy", rng.standard_normal((4, 3, 6, 6)).astype(np.float32))
    lines = ["image_id,x1,y1,x2,y2,label,score,subject"]
    lines += [f"{n % 4},1,{n / 10},4,5,{'cat' if n % 3 else 'dög'},{n / 20 if n % 5 else ''},{n}" for n in range(20)]
    (tmp_path / "b.csv").write_text("\n".join(lines))
    return tmp_path


def test_a_job(folder):
    """What an index says, and the features; its parts and what a program streams make the same table."""
    run(folder, *ALIGN, "-o", "plain.npy", "--index", "rows.csv")
    run(folder, *ALIGN, "-o", "whole.parquet", "--resume")
    assert "were there already" in run(folder, *ALIGN[:-1], "-o", "whole.parquet", "--resume").stderr
    table = parquet.read_table(folder / "whole.parquet")
    assert parquet.ParquetFile(folder / "whole.parquet").num_row_groups == 5
    np.testing.assert_array_equal(vectors(table), np.load(folder / "plain.npy").reshape(20, -1))
    assert str(table.schema.field("vector").type) == "fixed_size_list<element: float not null>[12]"
    index = [line.split(",") for line in (folder / "rows.csv").read_text().splitlines()]
    for number, name in enumerate(index[0]):
        if name not in ("row", "box_id"):
            told = ["" if value is None else str(value) for value in table[name].to_pylist()]
            assert told == [line[number] for line in index[1:]], name
    for part in (1, 2, 3):
        run(folder, *ALIGN, "-o", f"part-{part}.parquet", "--shard", f"{part}/3")
    run(folder, "merge", "merged.parquet", "part-*.parquet", "-q")
    whole = (folder / "whole.parquet").read_bytes()
    assert (folder / "merged.parquet").read_bytes() == whole
    with roicli.open_output(folder / "s.parquet", folder / "b.csv", size=2) as job:
        for image in reversed(job.missing()):
            job.add(image, np.load(folder / "f.npy")[int(image)])
    assert parquet.read_table(folder / "s.parquet").equals(table)


def test_it_is_read_back(folder):
    """As features by verify, and as boxes."""
    run(folder, *ALIGN, "-o", "out.parquet", "--out-dtype", "float16")
    assert run(folder, "verify", "out.parquet", "f.npy", "b.csv", "-q").returncode == 0
    said = run(folder, "info", "out.parquet").stdout
    assert "written by" in said
    assert "20 of 4 images" in said
    run(folder, "align", "f.npy", "out.parquet", "--size", "2", "-q", "-o", "again.npy", "--out-dtype", "float16")
    table = parquet.read_table(folder / "out.parquet")
    np.testing.assert_array_equal(vectors(table), np.load(folder / "again.npy").reshape(20, -1))


def test_without_its_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match="outputs to Parquet need the package pyarrow") as caught:
        TestParquet().begin(tmp_path, (1, 2))
    assert caught.value.hint == "Install it: pip install 'roicli[parquet]'."
    assert list(tmp_path.iterdir()) == []
