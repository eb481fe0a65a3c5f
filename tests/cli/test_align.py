"""`roicli align` as people run it: the real command, in a process of its own, on real files."""

import json

import h5py
import numpy as np
import pytest
from driving import run

import roicli
from roicli.pooling.channels_last import channels_last
from roicli.pooling.contraction import pool_maps
from roicli.pooling.placement import place
from roicli.spec import PoolSpec


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


def test_any_workers_and_batches_give_the_same_bytes(tmp_path, monkeypatch):
    """Processes that have a map each or share each of six, threads that share a huge one."""
    monkeypatch.setattr("roicli.execution.plan._SMALL_BYTES", 0)
    monkeypatch.setattr("roicli.execution.plan._LARGE_MAP_BYTES", 2**22)
    rng = np.random.default_rng(2)
    maps = rng.standard_normal((6, 30, 100, 100)).astype(np.float32)
    with h5py.File(tmp_path / "many.h5", "w") as file:
        for n, feature_map in enumerate(maps):
            file[f"{n}"] = feature_map
    np.save(tmp_path / "huge.npy", rng.integers(0, 99, (17, 320, 320)).astype(np.float32))
    corners = rng.uniform(-10, 110, (100, 4))
    boxes = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)
    np.save(tmp_path / "many-boxes.npy", np.insert(boxes, 0, rng.integers(0, 6, 100), axis=1))
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
    corners = rng.uniform(-2, 12, (80, 4))
    boxes = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)
    index = rng.permutation(np.arange(80) % 40)
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


def test_the_mean_is_that_of_the_bins():
    """The shortcut of one weight row an axis equals the block's own mean."""
    rng = np.random.default_rng(4)
    feature_map = channels_last(rng.standard_normal((5, 12, 9)).astype(np.float32))
    placement = place(np.zeros(3, np.intp), np.array([[-3, 1, 8, 20], [1, 1, 2, 2], [4, 4, 4, 4.0]]))
    block, mean = np.empty((3, 5, 3, 4), np.float32), np.empty((3, 5), np.float32)
    pool_maps(lambda _: feature_map, placement, (12, 9), PoolSpec((3, 4)), block)
    pool_maps(lambda _: feature_map, placement, (12, 9), PoolSpec((3, 4), reduce="mean"), mean)
    np.testing.assert_allclose(mean, block.mean(axis=(2, 3)), atol=1e-6)


def test_a_report_of_the_run(many):
    folder = many[0]
    run(
        folder,
        "align",
        "feats.h5",
        "boxes.json",
        "-o",
        "out.npy",
        "--stride",
        "16",
        "--dataset",
        "maps",
        "--report",
        "run.json",
        "-q",
    )
    said = json.loads((folder / "run.json").read_text())
    assert {"roicli", "python", "numpy", "seconds", "peak_memory"} <= said.keys()
    assert [(found["name"], found["bytes"]) for found in said["inputs"]] == [
        (name, (folder / name).stat().st_size) for name in ("boxes.json", "feats.h5")
    ]
    assert (said["options"]["spatial_scale"], said["output"]) == (1 / 16, "out.npy")
    again = ("align", "feats.h5", "boxes.json", "--dataset", "maps", "-o", "new.npy", "--report")
    for name, message in (("run.json", "exists"), ("run.txt", "the report is JSON"), ("no/r.json", "does not exist")):
        assert f"{name.partition('/')[0]}" in (said := run(folder, *again, name, expect=3).stderr)
        assert message in said
    assert not (folder / "new.npy").exists()
