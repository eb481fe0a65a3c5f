"""Whole jobs on HDF5 files of gzip chunks."""

import json
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

ALIGN = [Path(sys.executable).with_name("roicli"), "align"]


def test_the_command_says_which_chunk_is_broken(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("maps", (16, 30, 40), "f4", chunks=(8, 30, 40), compression="gzip")
        dataset[...] = 1
        dataset.id.write_direct_chunk((8, 0, 0), zlib.compress(bytes(10)))
    (tmp_path / "boxes.json").write_text("[[1, 1, 20, 20]]")
    command = [*ALIGN, "a.h5", "boxes.json", "-o", "pooled.npy"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    message = " ".join(done.stderr.split())
    assert "a.h5, dataset /maps cannot be read: its chunk at (8, 0, 0) does not hold 38400 bytes" in message
    assert not (tmp_path / "pooled.npy").exists()


@pytest.mark.parametrize(("images", "size"), [(range(40), "2x3"), ([3] * 1500, "14x13")], ids=["many", "one"])
def test_chunks_give_the_bytes_that_plain_maps_give(tmp_path: Path, images: list[int], size: str):
    """Chunks that span maps, inflated by processes that take turns at the maps, or that share one."""
    values = np.random.default_rng(5).integers(0, 9, (40, 64, 50, 68)).astype(np.float32)
    with h5py.File(tmp_path / "packed.h5", "w") as file:
        filters = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
        file.create_dataset("maps", data=values, chunks=(3, 64, 25, 68), **filters)
    np.save(tmp_path / "plain.npy", values)
    np.save(tmp_path / "boxes.npy", [[image, 1, 2, 40, 30] for image in images])
    arguments = ["boxes.npy", "-o", "pooled.npy", "--size", size, "--overwrite", "--json", "--workers"]
    outputs = []
    for features, workers in ("plain.npy", "1"), ("packed.h5", "1"), ("packed.h5", "2"):
        done = subprocess.run([*ALIGN, features, *arguments, workers], cwd=tmp_path, check=True, capture_output=True)
        outputs.append((tmp_path / "pooled.npy").read_bytes())
    assert json.loads(done.stdout)["strategy"] == "processes"
    assert outputs[0] == outputs[1] == outputs[2]
