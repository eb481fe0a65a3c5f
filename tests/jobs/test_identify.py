"""What made pooled features: each convention and each mistake made on purpose, and named; and the comparison."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from driving import run
from jobs.randomcases import draw, verdict

import roicli
from roicli import conventions
from roicli.cli.comparetable import show_weights
from roicli.jobs.solved import Footprint
from roicli.pooling.arguments import make_spec
from roicli.pooling.placement import place
from roicli.pooling.reference import roi_align_reference
from roicli.spec import PoolSpec

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def inputs(tmp_path):
    """A ReLU-like map whose neighbors are alike, and boxes: tiny, beyond the border, and others."""
    rng = np.random.default_rng(4)
    coarse = rng.standard_normal((6, 12, 15))
    rows, columns = np.linspace(0, 11, 24), np.linspace(0, 14, 30)
    smooth = np.stack([[np.interp(columns, np.arange(15), line) for line in one] for one in coarse])
    smooth = np.stack([[np.interp(rows, np.arange(12), line) for line in one.T] for one in smooth]).transpose(0, 2, 1)
    maps = np.maximum(smooth + 0.2, 0).astype(np.float32)
    low = rng.uniform(0, [300, 240], (14, 2))
    boxes = np.hstack([low, low + rng.uniform(20, [180, 140], (14, 2))]).astype(np.float32)
    boxes[0], boxes[1, :2], boxes[2, 2:] = [40, 40, 49, 51], -26, [488, 400]
    np.save(tmp_path / "map.npy", maps)
    np.save(tmp_path / "boxes.npy", boxes)
    return tmp_path, maps, boxes


def named(folder, pooled, **options):
    np.save(folder / "theirs.npy", pooled)
    options = {"spatial_scale": 1 / 16} | options
    return roicli.identify(folder / "theirs.npy", folder / "map.npy", folder / "boxes.npy", size=3, **options)


@pytest.mark.parametrize("name", conventions.ALL)
def test_conventions_are_those_of_the_reference_loops(inputs, name):
    """And what they compute is identified as them."""
    folder, maps, boxes = inputs
    settings = {"op": "roi_align"} | conventions.find(name).settings
    if settings["op"] != "roi_align":
        return
    spec = make_spec((3, 2), sampling_ratio=2, **settings)
    expected = roi_align_reference(maps[None], np.insert(boxes, 0, 0, axis=1), spec, 1 / 16)
    roicli.align(
        *(folder / "map.npy", folder / "boxes.npy", folder / "out.npy"),
        **{"convention": name, "spatial_scale": 1 / 16, "sampling_ratio": 2, "size": (3, 2)},
    )
    np.testing.assert_allclose(np.load(folder / "out.npy"), expected, atol=2e-6)


def answer_of(tmp_path, case):
    for name, array in (("theirs", case.pooled), ("map", case.maps), ("boxes", case.boxes)):
        np.save(tmp_path / f"{name}.npy", array)
    files = (tmp_path / f"{name}.npy" for name in ("theirs", "map", "boxes"))
    return verdict(case, roicli.identify(*files, bad_boxes="keep", **case.options))


def test_random_cases_are_not_misnamed(tmp_path, dose):
    """The answer is among those that fit alike; `--long 50` draws 1,000 cases."""
    cases = (draw(seed) for seed in range(20 * dose))
    tally = Counter(answer_of(tmp_path, case) for case in cases if np.ptp(case.pooled))  # zeros say nothing
    assert tally["WRONG ALONE"] == 0
    assert tally["right"] > 5 * dose
    assert tally["right"] + tally["among"] > 16 * dose


@pytest.mark.parametrize(
    ("words", "mistake"),
    [
        ("xywh taken for xyxy", lambda b: np.hstack([b[:, :2], b[:, 2:] - b[:, :2]])),
    ],
)
def test_mistakes_are_named(inputs, words, mistake):
    folder, maps, boxes = inputs
    pooled = roicli.roi_align(maps, mistake(boxes), 3, 1 / 16, 2, aligned=True)
    found = named(folder, pooled.astype(np.float16))
    assert found.fits
    assert any(words in answer.boxes for answer in found.answers)
    assert all(answer.options.get("aligned", True) for answer in found.answers)


def test_torchvision_in_float16_is_named(tmp_path):
    """Though the scale is not known."""
    golden = np.load(GOLDEN / "torchvision_float16.npz")
    for name in ("features", "boxes", "pooled"):
        np.save(tmp_path / f"{name}.npy", golden[name])
    files = [tmp_path / f"{name}.npy" for name in ("pooled", "features", "boxes")]
    found = roicli.identify(*files)
    assert found.fits
    assert any("computed in float16" in answer.boxes for answer in found.answers)
    assert all(answer.options["sampling_ratio"] == 2 for answer in found.answers)


def test_weights_are_solved_for_where_nothing_fits(tmp_path):
    """Each box is enlarged by another factor, which no way to take boxes is."""
    maps = np.random.default_rng(1).standard_normal((24, 12, 14)).astype(np.float32)
    boxes = np.array([[32, 24, 90, 70], [16, 30, 60, 80]], np.float32)
    center, side = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    taken = np.hstack([center - side * [[0.6], [0.4]], center + side * [[0.6], [0.4]]])
    np.save(tmp_path / "theirs.npy", roicli.roi_align(maps, taken, 3, 1 / 8, 2, aligned=True))
    np.save(tmp_path / "map.npy", maps)
    np.save(tmp_path / "boxes.npy", boxes)
    shown = run(
        *(tmp_path, "identify", "theirs.npy", "map.npy", "boxes.npy", "--size", "3", "--stride", "8", "--json"),
        *("--picture", "weights.png"),
        expect=1,
    )
    answer = json.loads(shown.stdout)
    assert answer["answers"][0]["failing"]
    found = answer["footprint"]
    true = taken[found["row"]] / 8 - 0.5
    np.testing.assert_allclose([found["x"][0], found["y"][0], found["x"][1], found["y"][1]], true, atol=0.02)
    assert np.sum(found["read"]) == pytest.approx(1, abs=0.02)
    assert (tmp_path / "weights.png").read_bytes().startswith(b"\x89PNG")
    assert "--overwrite" in run(tmp_path, "identify", *["map.npy"] * 3, "--picture", "weights.png", expect=3).stderr


def test_weights_are_shown_beside_each_other_where_there_is_room(monkeypatch, capsys):
    read, ours = np.zeros((2, 8)), np.zeros((2, 8))
    read[0, 1], ours[1, 7] = 0.75, 0.5
    lines = {}
    for columns in (80, 160, 40):
        monkeypatch.setenv("COLUMNS", str(columns))
        show_weights(Footprint(3, (0.5, 4.5), (1, 9), (1, 1), (4, 20), read.tolist(), ours.tolist()))
        lines[columns] = capsys.readouterr().out.splitlines()
        assert max(map(len, lines[columns][3:])) <= columns
    titles = [next(line for line in lines[columns] if line.startswith("solved")) for columns in lines]
    assert ["ours" in title for title in titles] == [False, True, False]
    assert "   4       . ██0.750       ." in "\n".join(lines[80])
    assert lines[80][-1].endswith("▓▓0.500")
    assert lines[40][-2:] == ["   5       .       .       .       .", "Part of 2 x 8 cells; --picture draws all"]


@pytest.mark.parametrize(
    "arrange",
    [
        lambda a: a,
        lambda a: a.transpose(0, 2, 3, 1),
        lambda a: a.reshape(len(a), -1),
        lambda a: a.transpose(0, 2, 3, 1).reshape(len(a), -1),
        lambda a: a.mean(axis=(2, 3)),
        lambda a: a[::-1],
        lambda a: a.astype(np.float16),
    ],
)
def test_verify_reads_any_arrangement(inputs, arrange):
    folder, maps, boxes = inputs
    pooled = roicli.roi_align(maps, boxes, 3, 1 / 16, 2, aligned=True)
    np.save(folder / "theirs.npy", arrange(pooled))
    how = {"size": 3, "spatial_scale": 1 / 16, "sampling_ratio": 2, "workers": 1}
    files = folder / "theirs.npy", folder / "map.npy", folder / "boxes.npy"
    assert roicli.verify(*files, aligned=True, **how).agrees
    report = roicli.verify(*files, **how)
    assert not report.agrees
    assert report.agreeing < len(boxes)
    assert sum(number for _, number in report.histogram) == len(boxes)


def test_verify_weighs_values_that_are_not_numbers_and_last_bits(inputs):
    folder, maps, boxes = inputs
    how = {"size": 3, "spatial_scale": 1 / 16, "sampling_ratio": 2, "aligned": True}
    files = folder / "theirs.npy", folder / "map.npy", folder / "boxes.npy"
    maps[0, 5, 5] = np.nan
    np.save(files[1], maps)
    pooled = roicli.roi_align(maps, boxes, 3, 1 / 16, 2, aligned=True)
    np.save(files[0], pooled)
    assert roicli.verify(*files, **how, workers=1).agreeing == len(boxes)
    for value in (np.nan, np.inf, -np.inf, 1e30):
        wrong = pooled.copy()
        wrong[3, 1, 2, 1] = value
        np.save(files[0], wrong)
        report = roicli.verify(*files, **how, workers=1)
        assert report.agreeing == len(boxes) - 1
        assert {name: report.worst[name] for name in ("row", "channel", "bin")} == {
            "row": 3,
            "channel": 1,
            "bin": (2, 1),
        }
    for wrong in (pooled * np.float32(1e25), pooled + np.float32(1e4)):
        np.save(files[0], wrong)
        report = roicli.verify(*files, **how, workers=1)
        assert report.agreeing == 0
        assert report.spread == pytest.approx(np.nan_to_num(np.float64(wrong)).std(), rel=1e-3)
    halves = np.nextafter(pooled.astype(np.float16), np.float16(np.inf))
    np.save(files[0], halves)
    assert roicli.verify(*files, **how, workers=1).largest == 0
    np.save(files[0], np.nextafter(halves, np.float16(np.inf)))
    assert roicli.verify(*files, **how, workers=1).agreeing < len(boxes)


def test_verify_takes_what_an_output_records(inputs):
    folder, _, _ = inputs
    files = "map.npy", "boxes.npy"
    run(folder, "align", *files, "-o", "out.h5", "--convention", "mindspore", "--size", "3x2", "--stride", "16", "-q")
    done = run(folder, "verify", "out.h5", *files, "--json")
    assert json.loads(done.stdout)["largest"] == 0
    shown = run(folder, "verify", "out.h5", *files, "--convention", "torchvision", expect=1).stdout
    line = next(line for line in shown.splitlines() if "roicli trace" in line)
    assert "--convention torchvision --size 3x2 --spatial-scale 1/16 --roi" in line
    run(folder, *line.split()[3:])


def test_a_convention_fixes_its_settings(inputs):
    folder, _, _ = inputs
    files = folder / "map.npy", folder / "boxes.npy", folder / "out.npy"
    with pytest.raises(roicli.RoicliError, match="fixes aligned"):
        roicli.align(*files, convention="mindspore", aligned=True)
    with pytest.raises(roicli.RoicliError, match="'cafe' is unknown"):
        roicli.align(*files, convention="cafe")


def test_the_default_rule_is_torchvisions():
    spec = PoolSpec((2, 2))
    assert conventions.name_of(spec)[0] == "torchvision"
    assert conventions.name_of(replace(spec, aligned=True))[0] == "torchvision-aligned"
    assert len(place(np.array([0]), np.zeros((1, 4)))) == 1


def test_a_reference_that_is_not_there(tmp_path):
    with pytest.raises(roicli.RoicliError) as caught:
        roicli.verify(tmp_path / "gone.npy", tmp_path / "map.npy", tmp_path / "boxes.json")
    assert caught.value.hint == "Check the spelling and the folder."
