"""`roicli align` as people run it: the real command, in a process of its own, on real files."""

import csv
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from driving import ROICLI, Silent, run

import roicli
from roicli.jobs.align import AlignJob, align
from roicli.pooling.channels_last import channels_last
from roicli.pooling.contraction import pool_maps
from roicli.pooling.placement import place
from roicli.spec import PoolSpec


def refused(folder, *arguments, code=3):
    """Run the command, which must fail and leave nothing behind; return its message."""
    before = sorted(folder.iterdir())
    done = run(folder, "align", *arguments, expect=code)
    assert sorted(folder.iterdir()) == before
    assert done.stdout == ""
    return done.stderr


@pytest.fixture
def many(tmp_path):
    """Five images of different sizes in one HDF5 file, and their boxes out of order in a COCO file."""
    rng = np.random.default_rng(11)
    annotations, maps = [], {}
    with h5py.File(tmp_path / "feats.h5", "w") as file:
        for n in range(5):
            maps[str(7 + n)] = rng.standard_normal((6, 9 + n, 17 - n)).astype(np.float32)
            file[f"maps/{7 + n:04d}"] = maps[str(7 + n)]
    for n in range(40):
        x, y, w, h = rng.uniform(0, 150, 4).round(2).tolist()
        annotations.append({"id": 1000 - n, "image_id": int(rng.integers(7, 12)), "bbox": [x, y, w, h], "iscrowd": 0})
    images = [{"id": 7 + n, "file_name": f"{7 + n:04d}.jpg"} for n in range(5)]
    (tmp_path / "boxes.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    boxes = np.array([a["bbox"] for a in annotations])
    boxes[:, 2:] += boxes[:, :2]
    return tmp_path, maps, [str(a["image_id"]) for a in annotations], boxes


def expected_rows(maps, ids, boxes, size, **settings):
    return np.concatenate(
        [roicli.roi_align(maps[name], box[None], size, **settings) for name, box in zip(ids, boxes, strict=True)]
    )


def test_the_command_of_the_mission(many):
    folder, maps, ids, boxes = many
    run(folder, "align", "feats.h5", "boxes.json", "-o", "pooled.npy", "--size", "7", "--aligned")
    np.testing.assert_array_equal(np.load(folder / "pooled.npy"), expected_rows(maps, ids, boxes, 7, aligned=True))


def test_every_setting_reaches_the_engine(many):
    folder, maps, ids, boxes = many
    for flags, size, settings in [
        (["--size", "3x2", "--spatial-scale", "1/16"], (3, 2), {"spatial_scale": 1 / 16}),
        (["--sampling-ratio", "3", "--spatial-scale", "0.1"], 7, {"spatial_scale": 0.1, "sampling_ratio": 3}),
        (["--sampling-ratio", "auto", "--mode", "max", "--size", "2X3"], (2, 3), {"mode": "max"}),
        (["--no-aligned", "--sampling-ratio", "1"], 7, {"sampling_ratio": 1}),
    ]:
        run(folder, "align", "feats.h5", "boxes.json", "-o", "pooled.npy", "--overwrite", *flags)
        np.testing.assert_array_equal(np.load(folder / "pooled.npy"), expected_rows(maps, ids, boxes, size, **settings))


def test_golden_by_the_command_line(golden_align, tmp_path):
    np.save(tmp_path / "maps.npy", golden_align.features)
    np.save(tmp_path / "boxes.npy", golden_align.rois)
    settings = golden_align.settings
    run(
        tmp_path, "align", "maps.npy", "boxes.npy", "-o", "pooled.npy", "--bad-boxes", "keep",
        "--size", "x".join(map(str, golden_align.output_size)),
        "--spatial-scale", settings["spatial_scale"],
        "--sampling-ratio", settings["sampling_ratio"],
        "--aligned" if settings["aligned"] else "--no-aligned",
    )  # fmt: skip
    np.testing.assert_allclose(np.load(tmp_path / "pooled.npy"), golden_align.expected, rtol=0, atol=1e-6)


def test_any_workers_and_batches_give_the_same_bytes(tmp_path):
    """Enough bytes for pools: processes that have a map each or share each of six, threads that share a huge one."""
    rng = np.random.default_rng(2)
    maps = rng.standard_normal((6, 300, 100, 100)).astype(np.float32)
    with h5py.File(tmp_path / "many.h5", "w") as file:
        for n, feature_map in enumerate(maps):
            file[f"{n}"] = feature_map
    np.save(tmp_path / "huge.npy", rng.integers(0, 99, (170, 320, 320)).astype(np.float32))
    corners = rng.uniform(-10, 110, (300, 4))
    boxes = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)
    np.save(tmp_path / "many-boxes.npy", np.insert(boxes, 0, rng.integers(0, 6, 300), axis=1))
    np.save(tmp_path / "boxes.npy", boxes)
    for features, table, parallel in (
        ("many.h5", "many-boxes.npy", "processes"),
        ("huge.npy", "boxes.npy", "threads"),
    ):
        first = None
        for workers, batch in ((1, 1000), (1, 7), (2, 1000), (3, 5), (4, 1)):
            done = run(
                tmp_path, "align", features, table, "-o", "out.npy", "--overwrite", "--json", "--quiet",
                "--aligned", "--workers", workers, "--batch-size", batch,
            )  # fmt: skip
            assert json.loads(done.stdout)["strategy"] == (parallel if workers > 1 else "serial")
            written = (tmp_path / "out.npy").read_bytes()
            first = first or written
            assert written == first, (features, workers, batch)


@pytest.mark.parametrize(
    "options", [(), ("--op", "roi-pool"), ("--mode", "max"), ("--sampling-ratio", "2")], ids=" ".join
)
def test_maps_of_many_sizes_and_dtypes_are_pooled_together(tmp_path, options):
    """Boxes of alike maps are placed at once, whose numbers are those of each by itself."""
    rng = np.random.default_rng(5)
    shapes = [(4, 9, 7), (4, 9, 7), (4, 5, 12), (4, 9, 7)]
    maps = [rng.standard_normal(shapes[n // 3 % 4]) for n in range(40)]
    maps = [feature_map.astype(np.float64 if n % 10 == 0 else np.float32) for n, feature_map in enumerate(maps)]
    maps[7][2, 4, 5] = np.nan
    with h5py.File(tmp_path / "feats.h5", "w") as file:
        for n, feature_map in enumerate(maps):
            file[f"{n:02d}"] = feature_map
    corners = rng.uniform(-2, 12, (200, 4))
    boxes = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)
    index = rng.permutation(np.arange(200) % 40)
    np.save(tmp_path / "boxes.npy", np.insert(boxes, 0, index, axis=1))
    written = []
    for batch in (1, 3, 1000):
        arguments = ("feats.h5", "boxes.npy", "-o", "out.npy", "--size", "3x2", "--batch-size", batch, *options)
        report = json.loads(run(tmp_path, "align", *arguments, "--json", "--overwrite").stdout)
        written.append((tmp_path / "out.npy").read_bytes())
        if "roi-pool" not in options:
            assert 0 < report["not_finite"] < 6
    assert written[0] == written[1] == written[2]
    pooled = np.load(tmp_path / "out.npy")
    for row, (image, box) in enumerate(zip(index, boxes, strict=True)):
        if "roi-pool" in options:
            expected = roicli.roi_pool(maps[image], [box], (3, 2))
        else:
            ratio = 2 if "2" in options else -1
            expected = roicli.roi_align(maps[image], [box], (3, 2), 1, ratio, mode="max" if "max" in options else "avg")
        np.testing.assert_array_equal(pooled[row], expected[0].astype(pooled.dtype), err_msg=str(row))


def test_a_folder_in_the_place_of_a_list_is_refused_at_once(many):
    folder = many[0]
    (folder / "listed.npy.skipped.csv").mkdir()
    for options in ((), ("--bad-boxes", "skip")):
        run(folder, "align", "feats.h5", "boxes.json", "-o", "listed.npy", "--size", "2", *options)
        (folder / "listed.npy").unlink()
        done = run(
            folder,
            "align",
            "feats.h5",
            "boxes.json",
            "-o",
            "listed.npy",
            "--size",
            "2",
            "--overwrite",
            *options,
            expect=3,
        )
        assert "error: listed.npy.skipped.csv is a folder\n" in done.stderr
        assert "rows are done" not in done.stderr
        assert not list(folder.glob(".listed*"))


def test_outputs_hold_the_same_features(many):
    folder, _, ids, boxes = many
    for name in ("a.npy", "a.npz", "a.h5"):
        run(folder, "align", "feats.h5", "boxes.json", "-o", name, "--size", "2", "--index", "rows.csv", "--overwrite")
    features = np.load(folder / "a.npy")
    with np.load(folder / "a.npz") as archive, h5py.File(folder / "a.h5") as file:
        np.testing.assert_array_equal(archive["features"], features)
        np.testing.assert_array_equal(file["features"][()], features)
        assert archive["image_ids"].tolist() == file["image_ids"].asstr()[()].tolist() == [f"{int(i):04d}" for i in ids]
        np.testing.assert_array_equal(archive["boxes"], boxes)
        np.testing.assert_array_equal(file["boxes"][()], boxes)
        assert file["box_ids"][()].tolist() == list(range(1000, 960, -1))
        assert file.attrs["roicli_version"] == roicli.__version__
        assert file.attrs["output_height"] == 2
    # The index is a box file: it gives the same features again.
    run(folder, "align", "feats.h5", "rows.csv", "-o", "again.npy", "--size", "2")
    np.testing.assert_array_equal(np.load(folder / "again.npy"), features)


def test_reduce_and_dtype(many):
    folder, maps, ids, boxes = many
    run(folder, "align", "feats.h5", "boxes.json", "-o", "mean.npy", "--reduce", "mean", "--size", "3")
    blocks = expected_rows(maps, ids, boxes, 3)
    np.testing.assert_allclose(np.load(folder / "mean.npy"), blocks.mean(axis=(2, 3)), atol=1e-6)
    run(folder, "align", "feats.h5", "boxes.json", "-o", "half.h5", "--out-dtype", "float16", "--size", "3")
    with h5py.File(folder / "half.h5") as file:
        np.testing.assert_array_equal(file["features"][()], blocks.astype(np.float16))


def test_float64_stays_float64(tmp_path):
    maps = np.random.default_rng(0).standard_normal((2, 3, 8, 8))
    np.save(tmp_path / "maps.npy", maps)
    (tmp_path / "boxes.json").write_text("[[1, 1.5, 2, 6, 7], [0, 0, 0, 3, 3]]")
    run(tmp_path, "align", "maps.npy", "boxes.json", "-o", "out.npy", "--size", "2")
    expected = roicli.roi_align(maps, [[1, 1.5, 2, 6, 7], [0, 0, 0, 3, 3]], 2)
    assert expected.dtype == np.float64
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)


def test_normalized_boxes(many):
    folder, maps, _, _ = many
    (folder / "unit.json").write_text('{"8": [[0.1, 0.2, 0.7, 0.9]], "11": [[0, 0, 1, 1]]}')
    run(
        folder,
        "align",
        "feats.h5",
        "unit.json",
        "-o",
        "out.npy",
        "--normalized",
        "--spatial-scale",
        "1/16",
        "--size",
        2,
    )
    expected = [
        roicli.roi_align(maps["8"], [[1.6, 2, 11.2, 9]], 2),
        roicli.roi_align(maps["11"], [[0, 0, 13, 13]], 2),
    ]
    np.testing.assert_allclose(np.load(folder / "out.npy"), np.concatenate(expected), atol=1e-6)


def test_a_pattern_is_one_source(tmp_path):
    maps = np.random.default_rng(0).standard_normal((11, 2, 6, 5)).astype(np.float32)
    (tmp_path / "feats").mkdir()
    for n, feature_map in enumerate(maps):
        with h5py.File(tmp_path / "feats" / f"part{n}.h5", "w") as file:
            file[f"image{n}"] = feature_map
    boxes = {f"image{n}.jpg": [[0, 0, 4, n]] for n in range(11)}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    run(tmp_path, "align", "feats/*.h5", "boxes.json", "-o", "out.npy", "--size", 2)
    expected = [roicli.roi_align(maps[n], [[0, 0, 4, n]], 2) for n in range(11)]
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), np.concatenate(expected))


@pytest.mark.parametrize(
    ("boxes", "rows"), [("[]", 0), ('{"annotations": [], "images": []}', 0), ('{"7": [[0, 0, 1, 1]]}', 1)]
)
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_few_boxes(many, boxes, rows, suffix):
    folder, *_ = many
    (folder / "few.json").write_text(boxes)
    report = json.loads(run(folder, "align", "feats.h5", "few.json", "-o", f"few{suffix}", "--json").stdout)
    assert report["shape"] == [rows, 6, 7, 7]
    assert report["boxes"] == report["images"] == rows


@pytest.mark.parametrize("fate", ["skip", "zero", "keep"])
def test_bad_boxes(tmp_path, fate):
    maps = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "maps.npy", maps)
    boxes = np.array([[0, 0, 5, 5], [5, 5, 1, 1], [2, 2, 6, 6.0]])
    np.save(tmp_path / "boxes.npy", boxes)
    done = run(
        tmp_path, "align", "maps.npy", "boxes.npy", "-o", "out.npz", "--bad-boxes", fate, "--size", 2, "--aligned",
        "--sampling-ratio", 2, "--json",
    )  # fmt: skip
    expected = roicli.roi_align(maps, boxes, 2, aligned=True, sampling_ratio=2)
    with np.load(tmp_path / "out.npz") as archive:
        got, rows = archive["features"], archive["rows"].tolist()
    report = json.loads(done.stdout)
    if fate == "skip":
        expected = expected[[0, 2]]
        assert rows == [0, 2]
        assert report["skipped"] == [1]
    elif fate == "zero":
        expected[1] = 0
        assert report["zeroed"] == [1]
    np.testing.assert_array_equal(got, expected)
    assert "boxes.npy, box 1: inverted (x2 < x1 or y2 < y1), 1 of 3 boxes" in done.stderr


def test_broken_cells_and_overflow_are_told(tmp_path):
    maps = np.ones((1, 2, 8, 8), np.float32)
    maps[0, 0, 7, 7] = np.inf
    maps[0, 1, 0, 0] = 1e6
    np.save(tmp_path / "maps.npy", maps)
    np.save(tmp_path / "boxes.npy", np.array([[0, 0, 2, 2], [5, 5, 8, 8], [3, 3, 4, 4.0]]))
    done = run(tmp_path, "align", "maps.npy", "boxes.npy", "-o", "out.npy", "--out-dtype", "float16", "--json")
    report = json.loads(done.stdout)
    assert (report["not_finite"], report["overflowed"]) == (1, 1)
    assert "1 box reads NaN or infinite cells of maps.npy; so are its features" in done.stderr
    assert "1 box has values too large for float16" in done.stderr
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
        (("feats.h5", "unknown.json", *out), ["1 of 2 images of unknown.json", "'99'", "'0007'"]),
        (("feats.h5", "boxes.json", "--box-format", "xyxy", *out), ["inverted", "annotation", "--box-format"]),
        (("feats.h5", "one.json", *out), ["one.json name no image", "5 maps"]),
        (("maps.npy", "far.json", *out), ["far.json, box 0: batch index 2", "2 maps", "0 to 1"]),
        (("mixed.h5", "two.json", *out), ["mixed.h5, dataset /8 has 4 channels", "dataset /7 has 3", "--layout hwc"]),
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


def test_a_progress_bar_on_a_terminal_only(many):
    folder, *_ = many
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [ROICLI, "align", "feats.h5", "boxes.json", "-o", "out.npy"], cwd=folder, stderr=theirs, stdout=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            shown += part
        assert process.wait() == 0
    os.close(ours)
    assert b"40/40" in shown
    assert b"pooling" not in run(folder, "align", "feats.h5", "boxes.json", "-o", "b.npy").stderr.encode()


def test_a_terminal_that_is_closed_meanwhile_ends_no_job(many):
    """As after `disown`: neither notes nor the bar find anybody."""
    folder, *_ = many
    ours, theirs = pty.openpty()
    command = ["sh", "-c", 'trap "" HUP; read go; exec "$@"', "sh", ROICLI, "align", "feats.h5", "boxes.json"]
    with subprocess.Popen([*command, "-o", "out.npy"], cwd=folder, stdin=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        os.close(ours)
        process.communicate(b"go\n", timeout=30)
    assert process.returncode == 0
    assert (folder / "out.npy").exists()


@pytest.mark.parametrize("start", [[ROICLI], [sys.executable, "-m", "roicli"]], ids=["roicli", "python -m roicli"])
def test_a_signal_while_modules_are_loaded(tmp_path, start):
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = subprocess.run(
        [*start, "--version"], env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


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


def test_closed_and_full_streams(many):
    folder, *_ = many
    command = f"{ROICLI} align feats.h5 boxes.json -o out.npy --overwrite"
    for script, code in [
        (f"{command} 2>&-", 0),
        (f"{command} 2>/dev/full", 0),
        (f"{command} 2> >(true)", 0),
        (f"{command} <&- >&- 2>&-", 0),
        (f"{ROICLI} align 2>/dev/full", 2),
        (f"{ROICLI} info no.npy 2>/dev/full", 3),
        (f"{command} --json >&-", 3),
        (f"{command} --json >/dev/full", 3),
        (f"{ROICLI} --help >/dev/full", 3),
        (f"{command} --json | true; exit ${{PIPESTATUS[0]}}", 141),
        (f"{ROICLI} info feats.h5 | true; exit ${{PIPESTATUS[0]}}", 141),
        (f"{ROICLI} check feats.h5 boxes.json | true; exit ${{PIPESTATUS[0]}}", 141),
        (f"trap '' XFSZ; ulimit -f 4; {command} --size 20", 3),
    ]:
        (folder / "out.npy").unlink(missing_ok=True)
        done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == code, (script, done.stderr)
        assert "Traceback" not in done.stderr
        assert (folder / "out.npy").exists() == (command in script and "ulimit" not in script)
        assert not list(folder.glob(".*.partial"))


def test_an_output_is_told_before_standard_output_fails(many):
    folder, *_ = many
    script = f"{ROICLI} align feats.h5 boxes.json -o out.npy --json >/dev/full"
    done = subprocess.run(["sh", "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    *_, report, error, hint = done.stderr.splitlines()
    assert report.endswith("out.npy 40 x 6 x 7 x 7 float32")
    assert error == "error: standard output: No space left on device"
    assert hint.startswith("hint: ")


@pytest.mark.parametrize("target", [">/dev/full", ">&-"])
@pytest.mark.parametrize("form", ["", "--json"])
@pytest.mark.parametrize("command", ["info feats.h5", "check feats.h5 boxes.json", "trace feats.h5 boxes.json"])
def test_what_is_asked_for_is_not_lost_in_silence(many, command, form, target):
    folder, *_ = many
    script = f"{ROICLI} {command} {form} {target}"
    done = subprocess.run(["sh", "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    reason = "No space left on device" if "full" in target else "Bad file descriptor"
    *_, error, hint = done.stderr.splitlines()
    assert error == f"error: standard output: {reason}"
    remedy = "Send it to a file on a disk that has room, or to a pipe." if "full" in target else "Do not close it."
    assert hint == f"hint: {remedy}"


def test_boxes_that_miss_their_map_are_told(many):
    folder, *_ = many
    (folder / "far.json").write_text('{"7": [[0, 0, 9, 9], [400, 0, 500, 9], [0, 600, 9, 700]]}')
    done = run(folder, "align", "feats.h5", "far.json", "-o", "far.npy")
    assert ("note: boxes wholly outside their maps: 2 of 3; their features are zero") in done.stderr


def test_help_is_complete():
    for arguments in ([], ["align"]):
        shown = run(Path.cwd(), *arguments, "--help", COLUMNS="80").stdout
        assert max(map(len, shown.splitlines())) <= 80
        assert "  roicli align feats.h5 boxes.json -o pooled.npy --size 7 --aligned\n" in shown
    assert run(Path.cwd(), "--version").stdout == f"roicli {roicli.__version__}\n"
    as_module = subprocess.run(
        [sys.executable, "-m", "roicli", "--version"], capture_output=True, text=True, check=True
    )
    assert as_module.stdout == f"roicli {roicli.__version__}\n"


@pytest.mark.parametrize("words", ["align feat", "check feat", "trace feat", "info feat", "merge out.npy feat"])
def test_shells_complete_names_of_files(words):
    asked = {
        "_ROICLI_COMPLETE": "bash_complete",
        "COMP_WORDS": f"roicli {words}",
        "COMP_CWORD": str(words.count(" ") + 1),
    }
    assert run(Path.cwd(), **asked).stdout == "file,feat\n"


def test_an_unexpected_failure_is_one_line_without_debug(many, monkeypatch):
    from click.testing import CliRunner

    from roicli.cli.main import main
    from roicli.jobs.align import align as job

    folder, *_ = many
    monkeypatch.setattr(sys.modules[job.__module__], "prepare_and_judge", lambda *_, **__: 1 / 0)
    arguments = [
        "align",
        str(folder / "feats.h5"),
        str(folder / "boxes.json"),
        "-o",
        str(folder / "out.npy"),
        "--quiet",
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 70
    assert result.output.splitlines()[0] == "error: unexpected ZeroDivisionError: division by zero"
    assert isinstance(CliRunner().invoke(main, ["--debug", *arguments]).exception, ZeroDivisionError)


def test_the_mean_is_that_of_the_bins():
    """The shortcut of one weight row an axis equals the block's own mean."""
    rng = np.random.default_rng(4)
    feature_map = channels_last(rng.standard_normal((5, 12, 9)).astype(np.float32))
    placement = place(np.zeros(3, np.intp), np.array([[-3, 1, 8, 20], [1, 1, 2, 2], [4, 4, 4, 4.0]]))
    block, mean = np.empty((3, 5, 3, 4), np.float32), np.empty((3, 5), np.float32)
    pool_maps(lambda _: feature_map, placement, (12, 9), PoolSpec((3, 4)), block)
    pool_maps(lambda _: feature_map, placement, (12, 9), PoolSpec((3, 4), reduce="mean"), mean)
    np.testing.assert_allclose(mean, block.mean(axis=(2, 3)), atol=1e-6)


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
        (["align", "feats.h5", "boxes.json", "-o", "out.npy", "--max-memory", "1KiB"], "error: 1,024 bytes"),
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
