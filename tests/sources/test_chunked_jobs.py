"""Whole jobs on HDF5 files of gzip chunks."""

import json
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from driving import Silent, run

from roicli.jobs import costs
from roicli.jobs.align import AlignJob, align
from roicli.spec import PoolSpec


def test_the_command_says_which_chunk_is_broken(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("maps", (16, 30, 40), "f4", chunks=(8, 30, 40), compression="gzip")
        dataset[...] = 1
        dataset.id.write_direct_chunk((8, 0, 0), zlib.compress(bytes(10)))
    (tmp_path / "boxes.json").write_text("[[1, 1, 20, 20]]")
    done = run(tmp_path, "align", "a.h5", "boxes.json", "-o", "pooled.npy", expect=3)
    message = " ".join(done.stderr.split())
    assert "a.h5, dataset /maps cannot be read: its chunk at (8, 0, 0) does not hold 38400 bytes" in message
    assert not (tmp_path / "pooled.npy").exists()


@pytest.mark.parametrize(("images", "size"), [(range(40), "2x3"), ([3] * 400, "14x13")], ids=["many", "one"])
def test_chunks_give_the_bytes_that_plain_maps_give(tmp_path: Path, monkeypatch, images: list[int], size: str):
    """Chunks that span maps, inflated by processes that take turns at the maps, or that share one."""
    monkeypatch.setattr("roicli.execution.plan._SMALL_BYTES", 0)
    values = np.random.default_rng(5).integers(0, 9, (40, 16, 50, 68)).astype(np.float32)
    with h5py.File(tmp_path / "packed.h5", "w") as file:
        filters = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
        file.create_dataset("maps", data=values, chunks=(3, 16, 25, 68), **filters)
    np.save(tmp_path / "plain.npy", values)
    np.save(tmp_path / "boxes.npy", [[image, 1, 2, 40, 30] for image in images])
    arguments = ["boxes.npy", "-o", "pooled.npy", "--size", size, "--overwrite", "--json", "--workers"]
    outputs = []
    for features, workers in ("plain.npy", "1"), ("packed.h5", "1"), ("packed.h5", "2"):
        done = run(tmp_path, "align", features, *arguments, workers)
        outputs.append((tmp_path / "pooled.npy").read_bytes())
    assert json.loads(done.stdout)["strategy"] == "processes"
    assert outputs[0] == outputs[1] == outputs[2]


def test_many_passes_are_told_with_what_makes_them_fewer(tmp_path, monkeypatch):
    monkeypatch.setattr(costs, "_ROOM", 2 * 4 * 9 * 12)  # for two maps of integers of one byte
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("maps", data=np.ones((9, 4, 9, 12), np.uint8), chunks=(9, 2, 3, 4), compression="gzip")
    told = {}
    for maps in (8, 9):
        (tmp_path / "b.json").write_text(str([[image, 1, 1, 8, 8] for image in range(maps)]))
        output = tmp_path / f"{maps}.npy"
        job = AlignJob(str(tmp_path / "a.h5"), tmp_path / "b.json", PoolSpec((2, 2)), output=output)
        told[maps] = [note for note in align(job, Silent()).notes if "pieces of many maps" in note]
    name = tmp_path / "a.h5"
    said = (
        f"each chunk of {name} holds pieces of many maps and is unpacked 5 times; a larger `max_memory` makes these "
        f"fewer; h5repack -l maps:CHUNK=1x4x9x12 {name} NEW.h5 would write each map in one piece"
    )
    assert told == {8: [], 9: [said]}
