"""What `roicli align` says: errors, notes, and the report."""

import csv
import json
import os

import h5py
import numpy as np
import pytest
from driving import Silent, run

from roicli.jobs.align import AlignJob, align
from roicli.spec import PoolSpec


def refused(folder, *arguments, code=3):
    """Run the command, which must fail and leave nothing behind; return its message."""
    before = sorted(folder.iterdir())
    done = run(folder, "align", *arguments, expect=code)
    assert sorted(folder.iterdir()) == before
    assert done.stdout == ""
    return done.stderr


def test_broken_cells_and_overflow_are_told(tmp_path):
    maps = np.ones((1, 2, 8, 8), np.float32)
    maps[0, 0, 7, 7] = np.inf
    maps[0, 1, 0, 0] = 1e6
    np.save(tmp_path / "maps.npy", maps)
    np.save(tmp_path / "boxes.npy", np.array([[0, 0, 2, 2], [5, 5, 8, 8], [3, 3, 4, 4.0]]))
    done = run(tmp_path, "align", "maps.npy", "boxes.npy", "-o", "out.npy", "--out-dtype", "float16", "--json")
    report = json.loads(done.stdout)
    assert (report["not_finite"], report["overflowed"]) == (1, 1)
    assert "note: 1 row with NaN or infinite values, read from such cells of maps.npy" in done.stderr
    assert "1 row with values too large for float16" in done.stderr
    assert np.isfinite(np.load(tmp_path / "out.npy")).all(axis=(1, 2, 3)).tolist() == [False, False, True]


def test_messages(many):
    """Every fault has one message that names the file, what is wrong and what to do; exit code 3."""
    folder, *_ = many
    np.save(folder / "maps.npy", np.zeros((2, 3, 4, 5), np.float32))
    np.save(folder / "flat.npy", np.zeros((4, 5), np.float32))
    np.save(folder / "none.npy", np.zeros((1, 3, 0, 5), np.float32))
    np.save(folder / "pickled.npy", np.array([{}, None]), allow_pickle=True)
    (folder / "cut.h5").write_bytes((folder / "feats.h5").read_bytes()[:3000])
    (folder / "text.h5").write_text("not HDF5 at all")
    (folder / "broken.json").write_text("[[0, 0, 1, 1],\n [0, 0, 1")
    (folder / "short.json").write_text("[[0, 0, 1]]")
    (folder / "nan.csv").write_text("image_id,x1,y1,x2,y2\n7,0,0,1,1\n7,nan,0,1,1\n7,0,0,inf,1\n")
    (folder / "unknown.json").write_text('{"7": [[0, 0, 1, 1]], "99": [[0, 0, 1, 1]]}')
    (folder / "one.json").write_text("[[0, 0, 1, 1]]")
    (folder / "far.json").write_text("[[2, 0, 0, 1, 1]]")
    (folder / "there.npy").touch()
    with h5py.File(folder / "mixed.h5", "w") as file:
        file["7"], file["8"] = np.ones((3, 4, 4)), np.ones((4, 4, 3))
    (folder / "two.json").write_text('{"7": [[0, 0, 1, 1]], "8": [[0, 0, 1, 1]]}')
    out = ("-o", "out.npy")
    for arguments, parts in [
        (("nothing.h5", "boxes.json", *out), ["nothing.h5"]),
        (("feats.h5", "nothing.json", *out), ["nothing.json"]),
        (("feats.h5", "boxes.txt", *out), ["boxes.txt"]),
        (("text.h5", "boxes.json", *out), ["text.h5", "HDF5"]),
        (("cut.h5", "boxes.json", *out), ["cut.h5"]),
        (("flat.npy", "one.json", *out), ["flat.npy", "(4, 5)"]),
        (("none.npy", "one.json", *out), ["none.npy"]),
        (("pickled.npy", "one.json", *out), ["pickled.npy"]),
        (("feats.h5", "broken.json", *out), ["broken.json", "line 2, column"]),
        (("feats.h5", "short.json", *out), ["short.json", "box 0"]),
        (("feats.h5", "nan.csv", *out), ["nan.csv, lines 3, 4: NaN", "2 of 3 boxes", "--bad-boxes"]),
        (
            ("feats.h5", "unknown.json", *out),
            ["unknown.json: no features in feats.h5 for 1 of 2 images", "'99'", "'0007'"],
        ),
        (("feats.h5", "boxes.json", "--box-format", "xyxy", *out), ["inverted", "annotation", "--box-format"]),
        (("feats.h5", "one.json", *out), ["one.json: expected boxes that name their image", "5 maps"]),
        (
            ("maps.npy", "far.json", *out),
            ["far.json, box 0: expected the batch index", "2 maps", "0 to 1"],
        ),
        (
            ("mixed.h5", "two.json", *out),
            ["mixed.h5, dataset /8: expected", "3 channels as in", "--layout hwc"],
        ),
        (("feats.h5", "boxes.json", "-o", "no/out.npy"), ["no/out.npy", "folder"]),
        (("feats.h5", "boxes.json", "-o", "there.npy"), ["there.npy exists", "--overwrite"]),
        (("feats.h5", "boxes.json", "-o", "out.txt"), ["out.txt", ".npy, .npz"]),
        (("feats.h5", "boxes.json", "-o", "feats.h5", "--overwrite"), ["feats.h5 is an input"]),
        (("feats.h5", "boxes.json", "--size", "1024", "--index", "r.txt", *out), ["r.txt"]),
    ]:
        message = refused(folder, *arguments)
        assert message.count("error: ") == 1, message
        assert message.count("hint: ") == 1, message
        for part in parts:
            assert part in message, (arguments, message)


def test_a_full_disk_is_an_error_before_anything_is_computed(many):
    folder, *_ = many
    (folder / "lots.jsonl").write_text('{"image_id": 7, "bbox": [0, 0, 1, 1]}\n' * 200_000)
    message = refused(folder, "feats.h5", "lots.jsonl", "-o", "out.npy", "--size", "1024")
    assert "its disk has" in message


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--size", "7y"], "expected N or HxW, such as 7 or 7x5, got '7y'"),
        (["--size", "0"], "output size 0 x 0 is out of range"),
        (["--spatial-scale", "1/0"], "expected a positive number or fraction, such as 0.0625 or 1/16, got '1/0'"),
        (["--spatial-scale", "-1"], "expected a positive number or fraction, such as 0.0625 or 1/16, got '-1'"),
        (["--sampling-ratio", "2.5"], "expected a whole number or auto, got '2.5'"),
        (["--max-memory", "lots"], "expected an amount of memory, such as 2GiB or 500MiB, got 'lots'"),
        (["--max-memory", "1MiB"], "--max-memory is too small"),
        (["--workers", "0"], "'--workers': expected a whole number from 1 to 1,024, got '0'"),
        (["--mode", "median"], "--mode"),
    ],
)
def test_wrong_usage(many, flags, message):
    assert message in refused(many[0], "feats.h5", "boxes.json", "-o", "out.npy", *flags, code=2)


def test_report(many):
    folder, *_ = many
    done = run(folder, "align", "feats.h5", "boxes.json", "-o", "out.npy", "--json", "--quiet", fresh=True)
    report = json.loads(done.stdout)
    assert done.stderr == ""
    assert report["output"] == "out.npy"
    assert report["shape"] == [40, 6, 7, 7]
    assert (report["boxes"], report["images"], report["dtype"]) == (40, 5, "float32")
    assert 2**20 < report["peak_memory"] < 200 * 2**20
    spoken = run(folder, "align", "feats.h5", "boxes.json", "-o", "out.npy", "--overwrite")
    assert spoken.stdout == ""
    assert "COCO dataset, bbox read as xywh" in spoken.stderr
    last = spoken.stderr.splitlines()[-1]
    assert last.startswith("40 boxes of 5 images in ")
    assert last.endswith("): out.npy 40 x 6 x 7 x 7 float32")


def test_a_map_that_breaks_in_a_worker(many):
    """Found only when its values are read, after the output was begun: nothing is left of it."""
    folder, *_ = many
    with h5py.File(folder / "gz.h5", "w") as file:
        packed = file.create_dataset("7", data=np.random.default_rng(0).random((64, 64, 64)), compression="gzip")
        chunk = packed.id.get_chunk_info(0)
    with (folder / "gz.h5").open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * 64)
    (folder / "one.json").write_text('{"7": [[0, 0, 9, 9]]}')
    assert "gz.h5" in refused(folder, "gz.h5", "one.json", "-o", "out.npy")


def test_boxes_that_miss_their_map_are_told(many):
    folder, *_ = many
    (folder / "far.json").write_text('{"7": [[0, 0, 9, 9], [400, 0, 500, 9], [0, 600, 9, 700]]}')
    done = run(folder, "align", "feats.h5", "far.json", "-o", "far.npy")
    assert ("note: boxes wholly outside their maps: 2 of 3; their features are zero") in done.stderr


EMPTY = "the name is empty"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["info", ""], EMPTY),
        (["check", "", "boxes.json"], EMPTY),
        (["trace", "feats.h5", ""], EMPTY),
        (["merge", "out.npy", ""], EMPTY),
        (["align", "feats.h5", "boxes.json", "-o", ""], EMPTY),
        (["align", "feats.h5", "boxes.json", "-o", "out.npy", "--index", ""], EMPTY),
        (["align", "feats.h5", "boxes.json", "-o", "out.npy", "--max-memory", "1KiB"], "--max-memory is too small"),
    ],
)  # fmt: skip
def test_usage_that_cannot_be_meant(many, command, said):
    folder, *_ = many
    assert said in run(folder, *command, expect=2).stderr


def test_files_are_named_as_they_were_given(many):
    folder, *_ = many
    align = ("align", "feats.h5", "boxes.json", "-o")
    for output, said in [
        (["gone/out.npy"], "gone/out.npy: the folder gone does not exist"),
        (["feats.h5"], "feats.h5 exists"),
        (["out.npy", "--index", "gone/i.csv"], "gone/i.csv: the folder gone does not exist"),
        (["out.npy", "--index", "out.npy"], "out.npy: the index is a CSV file"),
    ]:
        assert run(folder, *align, *output, expect=3).stderr.startswith(f"error: {said}\nhint: ")


def test_bytes_that_are_not_utf8_are_shown_one_way(many, tmp_path):
    folder, *_ = many
    features, boxes = (tmp_path / os.fsdecode(name) for name in (b"caf\xe9.h5", b"caf\xe9.json"))
    try:
        boxes.write_text("[[1]]")
    except OSError:
        pytest.skip("names are UTF-8 here")
    with h5py.File(features, "w") as file:
        file["a"] = np.zeros(3)
    for command, said in [
        (["check", folder / "feats.h5", boxes], "caf\\xe9.json, box 0: expected array"),
        (["check", features, folder / "boxes.json"], "caf\\xe9.h5 holds no feature maps"),
        (["info", f"{features}.npy"], "caf\\xe9.h5.npy does not exist"),
        (["info", f"{features}*.npy"], "caf\\xe9.h5*.npy"),
    ]:
        shown = run(tmp_path, *command, expect=3).stderr
        assert said in shown
        assert "udce9" not in shown


@pytest.mark.parametrize("far", [1e300, -1e39, np.inf, np.nan])
def test_boxes_that_float32_cannot_hold_are_zeros_if_asked_for(tmp_path, far):
    """Without a warning of NumPy, which tests take for an error, and not counted among what lies outside."""
    np.save(tmp_path / "feats.npy", np.ones((1, 2, 8, 8), np.float32))
    np.save(tmp_path / "boxes.npy", [[0, 1, 1, 3, 3], [0, 1, 1, far, 3], [0, far, far, far, far]])
    output, listener = tmp_path / "out.npy", Silent()
    spec = PoolSpec((2, 2), aligned=True)
    align(
        AlignJob(str(tmp_path / "feats.npy"), tmp_path / "boxes.npy", spec, output=output, bad_boxes="zero"), listener
    )
    assert np.load(output).reshape(3, -1).max(axis=1).tolist() == [1, 0, 0]
    assert not any("outside" in note or "no width" in note for note in listener.notes)


@pytest.mark.parametrize(
    ("options", "zero"), [(["--aligned"], 2), (["--aligned", "--sampling-ratio", "2"], 0), ([], 0)], ids=str
)
def test_boxes_without_extent_are_told_where_they_become_zeros(tmp_path, options, zero):
    np.save(tmp_path / "map.npy", np.ones((2, 20, 20), np.float32))
    (tmp_path / "boxes.json").write_text("[[10, 10, 100, 100], [50, 50, 50, 50], [60, 60, 60, 200]]")
    scale = ["--spatial-scale", "1/16", "--reduce", "mean"]
    done = run(tmp_path, "align", "map.npy", "boxes.json", "-o", "out.npy", *scale, *options)
    assert (np.load(tmp_path / "out.npy") == 0).all(axis=1).tolist() == [False, zero > 0, zero > 0]
    said = "boxes without width or height: 2 of 3; their features are zero"
    assert (said in done.stderr) == (zero > 0)


def test_a_file_of_no_lines_is_told(tmp_path):
    np.save(tmp_path / "map.npy", np.ones((2, 20, 20), np.float32))
    (tmp_path / "boxes.jsonl").touch()
    assert "note: boxes.jsonl holds no boxes" in run(tmp_path, "align", "map.npy", "boxes.jsonl", "-o", "o.npy").stderr


def test_the_list_of_skipped_boxes_names_images_as_the_index_does(tmp_path):
    np.savez(tmp_path / "maps.npz", **{"000000000139": np.ones((2, 20, 20), np.float32)})
    (tmp_path / "boxes.json").write_text('{"139": [[1, 1, 9, 9], [9, 9, 1, 1]]}')
    asked = ["--bad-boxes", "skip", "--index", "rows.csv"]
    run(tmp_path, "align", "maps.npz", "boxes.json", "-o", "out.npy", *asked)
    for name in ("rows.csv", "out.npy.skipped.csv"):
        with (tmp_path / name).open(newline="") as file:
            assert [line["image_id"] for line in csv.DictReader(file)] == ["000000000139"]
