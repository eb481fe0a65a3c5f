"""`roicli trace`: what it prints on terminals of any width, as JSON and as pictures, and what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import driving
import h5py
import numpy as np
import pytest
from PIL import Image

import roicli

ROICLI = Path(sys.executable).with_name("roicli")
SAMPLES = Path(__file__).parents[2] / "sample_data"


def run(*arguments, expect=0, columns=80, cwd=SAMPLES):
    return driving.run(cwd, "trace", *arguments, expect=expect, COLUMNS=str(columns))


def check_whole(shown, columns):
    """Nothing is cut off, and no word is torn apart."""
    assert max(map(len, shown.splitlines())) <= columns
    assert "…" not in shown
    for word in ("clamped", "out of range"):
        assert sum(shown.count(part) for part in (word, word[:-1] + "\n")) == shown.count(word)
    assert "align computes" in shown


@pytest.mark.parametrize("columns", [80, 160, 240])
@pytest.mark.parametrize(
    "arguments",
    [
        ("tutorial.npy", "tutorial.json", "--size", 2, "--bins", "--footprint"),
        ("feats.h5", "boxes.json", "--roi", 3, "--spatial-scale", "1/16", "--size", 14, "--bins", "--footprint"),
        ("feats.h5", "boxes.json", "--roi", 2, "--spatial-scale", "1/16", "--vs", "roi-pool", "--bin", "0,6"),
        ("feats.h5", "--image", 632, "--box=-9000,-9000,9000,9000", "--sampling-ratio", 5, "--bin", "3,3"),
        ("tutorial.npy", "--box", "100,100,110,110", "--vs", "sampling-ratio=3"),
        ("tutorial.npy", "--box", "1,1,1,1", "--aligned"),
    ],
)
def test_nothing_is_cut_off(columns, arguments):
    check_whole(run(*arguments, columns=columns).stdout, columns)


@pytest.mark.parametrize("columns", [80, 150, 160])
@pytest.mark.parametrize("scale", [1e-5, 1e37])
@pytest.mark.parametrize("more", [[], ["--vs", "aligned"], ["--mode", "max"]])
def test_small_and_large_values_fit_too(tmp_path, columns, scale, more):
    np.save(tmp_path / "map.npy", (np.random.default_rng(1).standard_normal((1, 200, 272)) * scale).astype(np.float32))
    box = ["--box", "264,195,271.9,201", "--size", 2, "--bin", "1,1"]
    shown = run("map.npy", *box, *more, columns=columns, cwd=tmp_path).stdout
    check_whole(shown, columns)
    assert shown.count("clamped") >= 1
    assert shown.count("out of range") >= 3
    if "max" in more:
        assert "maximum of 12 samples, sample " in shown


def test_a_terminal_of_40_columns_breaks_lines(tmp_path):
    shown = run("tutorial.npy", "tutorial.json", "--size", 2, columns=40).stdout
    assert "0.1109 0.1482   0.201 0.0127   0.024149\n" in shown


LEGEND = "w is the weight and v the value of a neighbor: 00 upper left, 01 upper right,\n10 lower left, 11 lower right"
ARITHMETIC = """
y      0.7409 = 0.3002 + (0 + 0.5) × 2.6444 / 3
x      2.5718 = 2.2821 + (0 + 0.5) × 1.1587 / 2
       begin of the bin + (number + 0.5) × size of the bin / samples
w00    0.1109 = (1 - 0.7409) × (1 - 0.5718)  upper left
w01    0.1482 = (1 - 0.7409) × 0.5718  upper right
w10    0.3172 = 0.7409 × (1 - 0.5718)  lower left
w11    0.4237 = 0.7409 × 0.5718  lower right
       0.7409 and 0.5718 are how far it lies below row 0 and right of column 2
value  0.02415 = 0.1109 × 0.2007 + 0.1482 × 0.01274 + 0.3172 × 0 + 0.4237 × 0
"""  # noqa: RUF001


def test_a_real_terminal_shows_the_arithmetic_of_one_sample():
    shown = driving.run_on_terminal(SAMPLES, 80, "trace", "tutorial.npy", "tutorial.json", "--size", 2)
    assert ARITHMETIC in shown
    assert LEGEND in shown


def test_the_table():
    wide = run("tutorial.npy", "tutorial.json", "--size", 2, "--limit", 3, columns=120).stdout
    assert " 0   0  0.7409  2.5718   0 1   2 3  0.1109  0.1482  0.3172  0.4237   0.20067" in wide
    assert LEGEND in wide
    assert ARITHMETIC in wide
    assert "sum 0.0298436852 / 6 samples = 0.00497394754\nalign computes 0.00497394754, difference 0" in wide
    assert "... and 3 more samples (--limit 3)" in wide
    assert wide.count(" 2.5718   0 1") == 1
    beyond = run("tutorial.npy", "--box=-3,-3,2,2", "--size", 2, "--sampling-ratio", 2).stdout
    assert beyond.count("out of range") == 5
    assert "value  0, since it is out of range" in beyond
    assert "clamped" in run("tutorial.npy", "--box", "4,4,8,8", "--size", 1).stdout


def test_the_sample_to_explain():
    inputs = ("tutorial.npy", "tutorial.json", "--size", 2)
    assert "Sample 1,0: how" in run(*inputs, "--point", 2).stdout
    assert "Sample 0,1: how" in run(*inputs, "--mode", "max", "--bin", "0,1").stdout  # the maximum
    first = run("tutorial.npy", "--box=-1.6,1,3.4,7.4", "--size", 2, "--aligned", "--sampling-ratio", 3).stdout
    assert "Sample 0,1: how" in first  # the first one in range
    assert "x      -0.8500 = -2.1000 + (1 + 0.5) × 2.5000 / 3" in first  # noqa: RUF001


def test_halves_are_level_below_a_line_that_one_of_them_breaks(tmp_path):
    values = np.ones((1, 7, 7), np.float32)
    values[:, 3:] = -0.125
    np.save(tmp_path / "map.npy", values)
    how = "--size", 2, "--bin", "1,1", "--vs", "aligned", "--point", 0
    shown = run(tmp_path / "map.npy", "tutorial.json", *how, columns=160).stdout.splitlines()
    (line,) = [number for number, text in enumerate(shown) if text.startswith("value  ")]
    assert shown[line + 1].strip() == "-0.125"
    assert next(text.count("sum ") for text in shown if "sum " in text) == 2


def test_several_conventions_stand_side_by_side():
    inputs = ("tutorial.npy", "tutorial.json", "--size", 2)
    vs = ("--vs", "aligned", "--vs", "roi-pool", "--vs", "sampling-ratio=2")
    shown = run(*inputs, *vs).stdout
    values = [
        roicli_value(**settings) for settings in ({}, {"aligned": True}, {"op": "roi_pool"}, {"sampling_ratio": 2})
    ]
    (line,) = [line for line in shown.splitlines() if line.startswith("value of the ")]
    assert [float(word) for word in line.split()[-4:]] == pytest.approx(values, rel=1e-8)
    (line,) = [line for line in shown.splitlines() if line.startswith("less the first")]
    assert [float(word) for word in line.split()[-3:]] == pytest.approx(np.subtract(values[1:], values[0]), rel=1e-4)
    beside = run(*inputs, *vs[:2], columns=160).stdout.splitlines()
    for words in ("its bin ", "samples ", " iy  ", "Sample 0,0", "sum "):
        assert next(line.count(words) for line in beside if words in line) == 2, "both halves are level"
    beside = run(*inputs, "--vs", "roi-pool", columns=160).stdout.splitlines()
    assert any("align computes" in line[:80] and "align computes" in line[80:] for line in beside), "of any operator"
    traces = json.loads(run(*inputs, *vs, "--json").stdout)["traces"]
    assert [trace["align_value"] for trace in traces] == values


def roicli_value(**settings):
    box = json.loads((SAMPLES / "tutorial.json").read_text())[0]
    return roicli.trace_bin(np.load(SAMPLES / "tutorial.npy"), box, 2, **settings).engine_value


def test_quiet_prints_the_table_only(tmp_path):
    inputs = ("tutorial.npy", "tutorial.json", "--size", 2)
    loud = run(*inputs)
    for flag in ("-q", "--quiet"):
        quiet = run(*inputs, flag, "--picture", tmp_path / f"{flag}.png")
        assert (quiet.stdout, quiet.stderr) == (loud.stdout, "")
    assert "boxes taken as xyxy" in loud.stderr


def test_an_image_without_features_beside_the_traced_one(tmp_path):
    (tmp_path / "part.json").write_text('{"139": [[1, 1, 50, 50]], "nothere": [[0, 0, 4, 4]]}')
    assert "align computes" in run(SAMPLES / "feats.h5", tmp_path / "part.json", "--roi", 0).stdout
    assert "'nothere'" in run(SAMPLES / "feats.h5", tmp_path / "part.json", "--roi", 1, expect=3).stderr


def test_a_box_outside_its_map_is_told():
    note = run("tutorial.npy", "--box", "100,100,200,200", "--size", 2).stderr
    assert "note: the box given lies wholly outside its map: is --spatial-scale right?" in note


def test_an_ascii_terminal_and_a_closed_pipe(tmp_path):
    np.savez(tmp_path / "maps.npz", **{"ünï": np.zeros((2, 8, 9), np.float32)})
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "COLUMNS": "80"}
    command = [ROICLI, "trace", "maps.npz", "--box", "1,1,5,5"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env=environment)
    assert "image \\xfcn\\xef" in done.stdout
    assert "(0 + 0.5) x 0.5714 / 1" in done.stdout
    script = f"{ROICLI} trace maps.npz --box 1,1,5,5 --sampling-ratio 20 --limit 400 | true; exit ${{PIPESTATUS[0]}}"
    assert subprocess.run(["bash", "-c", script], cwd=tmp_path, check=False).returncode == 141


def test_json_carries_everything_the_table_shows():
    answer = json.loads(run("feats.h5", "boxes.json", "--image", "139", "--roi", 1, "--json", "--vs", "no-aligned",
                            "--aligned", "--spatial-scale", "1/16", "--channel", 2, "--bin", "1,3").stdout)  # fmt: skip
    assert answer["image_id"] == "000000000139"
    assert answer["roi"] == "annotation 1 (id 2) of boxes.json"
    assert (answer["row"], answer["box_id"], answer["features"]) == (1, 2, "feats.h5")
    np.testing.assert_allclose(answer["given_box"], [7.03, 167.76, 156.35, 262.63])
    with h5py.File(SAMPLES / "feats.h5") as file:
        feature_map = file["000000000139"][()]
    for told, aligned in zip(answer["traces"], (True, False), strict=True):
        trace = roicli.trace_bin(feature_map, answer["given_box"], 7, 1 / 16, aligned=aligned, bin=(1, 3), channel=2)
        assert told["spec"]["aligned"] is aligned
        assert told["result"] == trace.result
        assert told["align_value"] == trace.engine_value
        for name in ("y", "x", "rows", "columns", "weights", "values", "interpolated", "in_range", "clamped"):
            assert told["samples"][name] == getattr(trace, name).tolist()
        assert told["pooled"] == trace.pooled.tolist()
        assert told["footprint"]["weights"] == trace.footprint()[2].tolist()
        assert told["roi"] == list(trace.roi)


def test_json_without_numbers_for_what_json_lacks(tmp_path):
    np.save(tmp_path / "map.npy", np.full((1, 3, 3), np.nan, np.float32))
    answer = json.loads(run("map.npy", "--box", "0,0,2,2", "--size", 1, "--json", cwd=tmp_path).stdout)
    assert answer["traces"][0]["result"] == "nan"


def test_the_numbers_are_those_of_align(tmp_path):
    settings = ["--size", "3x4", "--spatial-scale", "1/16", "--aligned", "--sampling-ratio", "2"]
    inputs = [SAMPLES / "feats.h5", SAMPLES / "boxes.json"]
    driving.run(tmp_path, "align", *inputs, "-o", "out.npy", *settings)
    pooled = np.load(tmp_path / "out.npy")
    for roi in range(len(pooled)):
        answer = json.loads(run(*inputs, "--roi", roi, "--channel", 5, "--json", *settings).stdout)
        np.testing.assert_array_equal(np.array(answer["traces"][0]["pooled"], np.float32), pooled[roi, 5])


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (
            ["feats.h5", "boxes.json", "--roi", 7],
            2,
            ["boxes.json: --roi must be below 7, the number of boxes, got 7", "--roi 0 to 6"],
        ),
        (["feats.h5", "boxes.json", "--image", 139, "--roi", 3], 2, ["--roi must be below 3", "0 to 2"]),
        (["feats.h5", "boxes.json", "--image", 7], 2, ["feats.h5 has no image '7'", "'000000000139'"]),
        (["feats.h5", "boxes.json", "--bin", "7,0"], 2, ["bin 7,0 is not among 7 x 7", "0 to 6"]),
        (["feats.h5", "boxes.json", "--channel", 8], 2, ["channel 8 is not among 8", "0 to 7"]),
        (["feats.h5", "boxes.json", "--bin", "x"], 2, ["row and column of a bin such as 0,0, got 'x'"]),
        (["feats.h5", "boxes.json", "--vs", "caffe"], 2, ["'caffe' is not a convention; give one of aligned"]),
        (["feats.h5", "boxes.json", "--vs", "no-aligned"], 2, ["--vs names what is traced already"]),
        (["feats.h5", "boxes.json", "--box", "1,2,3,4"], 2, ["two boxes to trace"]),
        (["feats.h5"], 2, ["a box to trace is missing", "Give a box file, or --box"]),
        (["feats.h5", "--box", "1,2,3,4"], 2, ["holds 3 maps", "--image"]),
        (
            ["feats.h5", "--image", 139, "--box", "1,2,3"],
            2,
            ["expected four numbers such as 10,20,110,220, got '1,2,3'"],
        ),
        (["feats.h5", "--image", 139, "--box", "1,2,3,nan"], 3, ["NaN, infinite"]),
        (["tutorial.npy", "tutorial.json", "--dpi", "96"], 2, ["give --picture too"]),
        (["tutorial.npy", "tutorial.json", "--point", 99], 2, ["point 99 is not among the 1 sample", "0 to 0"]),
        (["tutorial.npy", "tutorial.json", *["--vs", "roi-pool"] * 4], 2, ["given 4 times", "at most 3"]),
        (["tutorial.npy", "tutorial.json", *["--vs", "roi-pool"] * 2], 2, ["what is traced already: RoIPool"]),
        (["tutorial.npy", "tutorial.json", "--picture", "out.gif", "--point", "0"], 2, ["is for a .png"]),
        (["feats.h5", "--image", 139, "--box", "1,2,3,4", "--roi", "0"], 2, ["give one of them"]),
        (["tutorial.npy", "tutorial.json", "--sampling-ratio", 1000], 2, ["traced (131,072)", "a smaller --sampling-"]),
        (["tutorial.npy", "tutorial.json", "--overwrite"], 2, ["give --picture too"]),
        (["tutorial.npy", "tutorial.json", "--json", "--limit", "5"], 2, ["gives all samples"]),
        (["tutorial.npy", "tutorial.json", "--picture", "no/out.png"], 3, ["folder"]),
        (["tutorial.npy", "tutorial.json", "--picture", "out.txt"], 2, [".png", ".gif"]),
        (["tutorial.npy", "tutorial.json", "--picture", "out.png", "--point", 99], 2, ["point 99", "0 to"]),
    ],
)
def test_requests_that_cannot_be_met(arguments, code, parts):
    done = run(*arguments, expect=code)
    assert done.stdout == ""
    for part in parts:
        assert part in done.stderr


def test_an_image_without_boxes(tmp_path):
    (tmp_path / "one.json").write_text('{"139": [[0, 0, 100, 100]]}')
    message = run(SAMPLES / "feats.h5", tmp_path / "one.json", "--image", 285, expect=2).stderr
    assert "image '000000000285' of" in message
    assert "has 0 boxes" in message


def test_pictures(tmp_path):
    for name, more in (("bin.png", []), ("bin.gif", []), ("large.png", ["--dpi", 144])):
        path = tmp_path / name
        done = run("feats.h5", "boxes.json", "--spatial-scale", "1/16", "--picture", path, "--vs", "aligned", *more)
        assert f"{path} drawn" in done.stderr
        assert "exists" in run("feats.h5", "boxes.json", "--picture", path, expect=3).stderr
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["bin.gif", "bin.png", "large.png"]
    with Image.open(tmp_path / "bin.png") as small, Image.open(tmp_path / "large.png") as large:
        assert large.size == (small.width * 1.5, small.height * 1.5)
        assert large.info["dpi"] == pytest.approx((144, 144), abs=0.1)


def test_the_picture_of_the_readme(tmp_path):
    run("tutorial.npy", "tutorial.json", "--size", 2, "--picture", tmp_path / "trace.png")
    drawn, kept = (folder / "trace.png" for folder in (tmp_path, SAMPLES))
    with Image.open(drawn) as new, Image.open(kept) as old:
        assert new.size == old.size
    assert kept.stat().st_size < 60_000


def test_a_huge_file_is_read_at_one_map_only(tmp_path):
    """50 GB, sparse: were more than one map read, this would take minutes and all memory."""
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space = h5py.h5s.create_simple((60_000, 64, 50, 68))
        h5py.h5d.create(file.id, b"maps", h5py.h5t.NATIVE_FLOAT, space, dcpl=layout)
        file["image_ids"] = np.arange(60_000)
    assert (tmp_path / "huge.h5").stat().st_size > 50e9
    script = f"ulimit -v 2000000; {ROICLI} trace huge.h5 --image 59999 --box 1,2,30,40 --size 2"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "image 59999" in done.stdout


def test_a_box_too_large_for_its_scale_is_named(tmp_path):
    (tmp_path / "boxes.json").write_text("[[0, 0, 5, 5], [0, -9e8, 5, 9e8]]")
    options = ["--roi", "1", "--spatial-scale", "50", "--bin", "0,0"]
    done = run(SAMPLES / "tutorial.npy", "boxes.json", *options, cwd=tmp_path, expect=3)
    assert "error: box 1 of boxes.json is [0.0, -900000000.0, 5.0, 900000000.0]: too large to sample" in done.stderr
