"""Features and boxes by https://: as those of files, of the bytes that boxes need."""

from importlib.util import find_spec

import pytest
from driving import run
from stores.webserver import server as server
from stores.writers import FORMATS, WANTED, make_maps, write_boxes

pytestmark = pytest.mark.skipif(find_spec("obstore") is None, reason="needs roicli[stores]")

HOW = ("--spatial-scale", "1/16", "--size", "2", "--workers", "1")


@pytest.mark.parametrize("name", FORMATS)
def test_features_are_read_by_ranges(tmp_path, server, name):
    maps = make_maps()
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
