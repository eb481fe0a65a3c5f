"""Features and boxes by https://: as those of files, of the bytes that boxes need."""

import json
from importlib.util import find_spec

import h5py
import numpy as np
import pytest
from driving import run
from stores.webserver import server as server

pytestmark = pytest.mark.skipif(find_spec("obstore") is None, reason="needs roicli[stores]")

HOW = ("--spatial-scale", "1/16", "--size", "2", "--workers", "1")
SHAPE = (32, 40, 50)
WANTED = (1, 2, 4, 5, 6, 7, 9, 10, 11, 12)


def write_npy(path, maps):
    np.save(path, np.stack([*maps.values()]))


def write_npz(path, maps):
    np.savez(path, **maps)


def write_safetensors(path, maps):
    header, start = {}, 0
    for name, array in maps.items():
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [start, start := start + array.nbytes]}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(array.tobytes() for array in maps.values()))


def write_packed(path, maps):
    np.savez_compressed(path, **maps)


def write_hdf5(path, maps):
    with h5py.File(path, "w") as file:
        for name, array in maps.items():
            file.create_dataset(name, data=array)


def write_chunks(path, maps):
    with h5py.File(path, "w") as file:
        for name, array in maps.items():
            file.create_dataset(name, data=array, chunks=(8, 20, 50), compression="gzip", compression_opts=1)


def write_filtered(path, maps):
    with h5py.File(path, "w") as file:
        for name, array in maps.items():
            file.create_dataset(name, data=array, chunks=(8, 20, 50), compression="lzf")


FORMATS = {
    "maps.npy": write_npy,
    "maps.npz": write_npz,
    "packed.npz": write_packed,
    "maps.safetensors": write_safetensors,
    "maps.h5": write_hdf5,
    "chunks.h5": write_chunks,
    "filtered.h5": write_filtered,
}


@pytest.fixture
def maps():
    random = np.random.default_rng(0)
    return {f"im{number}": random.standard_normal(SHAPE, np.float32) for number in range(14)}


def write_boxes(path, images, counted):
    """Write boxes of images, by number or by name."""
    rows = [{"image_id": number if counted else f"im{number}", "bbox": [8, 16, 300, 400]} for number in images]
    path.write_text(json.dumps(rows))


@pytest.mark.parametrize("name", FORMATS)
def test_features_are_read_by_ranges(tmp_path, server, maps, name):
    FORMATS[name](tmp_path / name, maps)
    write_boxes(tmp_path / "boxes.json", WANTED, name == "maps.npy")
    server.files = {
        f"a%20b/{name}": (tmp_path / name).read_bytes(),
        "boxes.json": (tmp_path / "boxes.json").read_bytes(),
    }
    run(tmp_path, "align", name, "boxes.json", "-o", "local.npy", *HOW)
    address = server.url(f"a%20b/{name}?token=SECRET", "me:SECRET@")
    done = run(tmp_path, "align", address, server.url("boxes.json"), "-o", "remote.npy", *HOW)
    assert (tmp_path / "remote.npy").read_bytes() == (tmp_path / "local.npy").read_bytes()
    needed = len(WANTED) * maps["im0"].nbytes
    assert server.sent < 1.3 * needed
    asked = [(name.partition("?")[2], headers.get("authorization")) for name, headers in server.asked if "%20" in name]
    assert {*asked} == {("token=SECRET", "Basic bWU6U0VDUkVU")}
    assert not [path for path in tmp_path.iterdir() if b"SECRET" in path.read_bytes()]
    assert "SECRET" not in done.stdout + done.stderr


def test_a_folder_may_be_searched_only_where_names_are_told(tmp_path, server):
    done = run(tmp_path, "info", server.url("nothing.npy"), expect=3)
    assert "nothing.npy does not exist" in done.stderr
    done = run(tmp_path, "info", server.url("maps/*.npy"), expect=3)
    assert "maps/*.npy does not exist" in done.stderr
