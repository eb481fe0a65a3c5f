"""Features and boxes by https://: as those of files, of the bytes that boxes need."""

import threading
from importlib.util import find_spec

import numpy as np
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


def test_a_file_of_hugging_face_is_redirected(tmp_path, server):
    """The token goes to the server that is asked, and not to the one that it names."""
    np.save(tmp_path / "im1.npy", make_maps()["im1"])
    write_boxes(tmp_path / "boxes.json", (1,), False)
    server.files["im1.npy"] = (tmp_path / "im1.npy").read_bytes()

    def redirect(handler, content):
        if content is None:
            handler.send_response(302)
            handler.send_header("Location", f"http://localhost:{server.server_port}/im1.npy?SECRET")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        return content is None

    server.fault = redirect
    where = {"HF_ENDPOINT": server.url("")[:-1], "HF_TOKEN": "SECRET"}
    done = run(tmp_path, "align", "hf://datasets/o/n/im1.npy", "boxes.json", "-o", "out.npy", *HOW, **where)
    assert "SECRET" not in done.stderr
    tokens = {(name.partition("?")[0], headers.get("authorization")) for name, headers in server.asked}
    assert tokens == {("datasets/o/n/resolve/main/im1.npy", "Bearer SECRET"), ("im1.npy", None)}


def test_levels_keep_the_query(tmp_path, server):
    for name, size in (("f_p2.npy", 40), ("f_p3.npy", 20)):
        np.save(tmp_path / name, np.ones((2, size, size), np.float32))
        server.files[name] = (tmp_path / name).read_bytes()
    (tmp_path / "boxes.json").write_text('[{"image_id": "0", "bbox": [5, 5, 100, 100]}]')
    how = ("--levels", "p2:8,p3:16", "--size", "2", "--workers", "1")
    run(tmp_path, "align", server.url("f_{level}.npy?token=1"), "boxes.json", "-o", "out.npy", *how)
    assert {name for name, _ in server.asked} == {"f_p2.npy?token=1", "f_p3.npy?token=1"}


def test_resume_goes_on_with_another_token(tmp_path, server):
    np.save(tmp_path / "maps.npy", np.stack([*make_maps().values()]))
    write_boxes(tmp_path / "boxes.json", WANTED, True)
    server.files["maps.npy"] = (tmp_path / "maps.npy").read_bytes()
    how = ("boxes.json", "-o", "out.npy", *HOW)
    server.fault = lambda handler, content: len(server.asked) > 4 and (handler.answer(403, b"") or True)
    run(tmp_path, "align", server.url("maps.npy?token=1"), *how, expect=3)
    server.fault = lambda handler, content: "token=2" not in handler.path and (handler.answer(403, b"") or True)
    run(tmp_path, "align", server.url("maps.npy?token=2"), *how, "--resume")
    run(tmp_path, "align", "maps.npy", "boxes.json", "-o", "local.npy", *HOW)
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "local.npy").read_bytes()


def test_an_empty_object(tmp_path, server):
    server.files["maps.npy"] = b""
    done = run(tmp_path, "info", server.url("maps.npy"), expect=3)
    assert "maps.npy is not a .npy file: it is empty" in done.stderr


@pytest.mark.parametrize("output", ["http://me:SECRET@host/out.npy?SECRET", "hf://datasets/o/n/out.zarr"])
def test_outputs_are_written_here(tmp_path, output):
    np.save(tmp_path / "im1.npy", make_maps()["im1"])
    write_boxes(tmp_path / "boxes.json", (1,), False)
    told = run(tmp_path, "align", "im1.npy", "boxes.json", "-o", output, *HOW, expect=3).stderr
    assert "of all outputs only .zarr is written to a store, by s3://, gs://, az://" in told
    assert "SECRET" not in told


@pytest.mark.parametrize("name", ["maps.npy", "maps.npz", "maps.safetensors", "maps.h5"])
def test_small_maps_are_fetched_together(tmp_path, server, name):
    FORMATS[name](tmp_path / name, make_maps())
    write_boxes(tmp_path / "boxes.json", WANTED, name == "maps.npy")
    server.files[name] = (tmp_path / name).read_bytes()
    maps, second = iter(range(100)), threading.Event()
    waited = []

    def wait_for_another(handler, content):
        start, stop = handler.headers["Range"].removeprefix("bytes=").split("-")
        number = next(maps) if int(stop) - int(start) > 1 << 16 else 0  # the first is looked at alone
        if number == 1:
            waited.append(second.wait(5))
        elif number == 2:
            second.set()

    server.fault = wait_for_another
    run(tmp_path, "align", server.url(name), "boxes.json", "-o", "out.npy", *HOW)
    assert waited == [True]
