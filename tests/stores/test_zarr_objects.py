"""Zarr in stores, whose files are objects."""

from importlib.util import find_spec

import numpy as np
import pytest
from driving import run
from stores.webserver import server as server

missing = [name for name in ("obstore", "zarr") if find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason="needs roicli[stores,zarr]")
HOW = ("--spatial-scale", "1/4", "--workers", "1")
MAP = (32, 60, 80)
BYTES = 4 * 32 * 60 * 80


@pytest.fixture
def folder(tmp_path, server):
    """Write a stack, a sharded one, and a group with its consolidated metadata, and serve them."""
    import zarr

    values = np.random.default_rng(0).standard_normal((6, *MAP), np.float32)
    zarr.create_array(tmp_path / "stack.zarr", data=values, chunks=(1, *MAP), compressors=None)
    zarr.create_array(tmp_path / "shards.zarr", data=values, chunks=(1, *MAP), shards=(3, *MAP), compressors=None)
    group = zarr.open_group(tmp_path / "group.zarr", mode="w")
    for number, value in enumerate(values):
        group.create_array(str(number), data=value, chunks=(8, 60, 80))
    (tmp_path / "boxes.json").write_text(str([[number, 3, 5, 90, 80] for number in range(6)]))
    for path in tmp_path.rglob("*"):
        if path.is_file():
            server.files[str(path.relative_to(tmp_path))] = path.read_bytes()
    return tmp_path


@pytest.mark.parametrize("name", ["stack.zarr", "shards.zarr"])
def test_a_stack(folder, server, name):
    run(folder, "align", name, "boxes.json", "-o", "local.npy", *HOW)
    run(folder, "align", server.url(f"{name}?SECRET"), "boxes.json", "-o", "remote.npy", *HOW)
    assert (folder / "remote.npy").read_bytes() == (folder / "local.npy").read_bytes()
    assert {name.partition("?")[2] for name, _ in server.asked} == {"SECRET"}
    assert server.sent < 1.3 * 6 * BYTES


def test_a_group(folder, server):
    import zarr

    done = run(folder, "info", server.url("group.zarr"), expect=3)
    assert "tells no names of files" in done.stderr
    assert "consolidate_metadata" in done.stderr
    with pytest.warns(UserWarning, match="Consolidated"):
        zarr.consolidate_metadata(folder / "group.zarr")
    server.files["group.zarr/zarr.json"] = (folder / "group.zarr/zarr.json").read_bytes()
    assert "6 maps" in run(folder, "info", server.url("group.zarr")).stdout
    run(folder, "align", server.url("group.zarr"), "boxes.json", "-o", "remote.npy", *HOW)
