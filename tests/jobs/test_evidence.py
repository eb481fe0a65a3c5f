"""What candidates are held against: RoIs that tell, where a maximum may be, and equals of what was solved for."""

from dataclasses import replace

import numpy as np
import pytest
from jobs.randomcases import smooth

import roicli
from roicli import conventions
from roicli.errors import FileError
from roicli.jobs import identify, moves
from roicli.jobs.evidence import Evidence, telling
from roicli.jobs.views import bfloat16
from roicli.pooling.arguments import make_spec
from roicli.pooling.contraction import pool_maps
from roicli.pooling.operators import find
from roicli.pooling.placement import place

BOXES = np.array([[4, 4, 20, 16], [40, 8, 70, 60], [10, 30, 90, 70], [60, 50, 75, 58]], float)


def test_rois_that_read_nothing_tell_nothing():
    """Zeros fit whatever misses the map: 2,000 candidates fitted a reference with one RoI on the map."""
    wanted = np.zeros((40, 3, 2, 2))
    wanted[[7, 31]] = 1
    assert telling(np.tile(BOXES, (10, 1)), wanted, 12).tolist() == [7, 31]
    assert len(telling(np.tile(BOXES, (10, 1)), np.ones_like(wanted), 12)) == 12


@pytest.mark.parametrize("mode", ["max", "weighted-max"])
def test_maxima_are_tried_where_means_are_not_above(mode):
    maps = {0: np.random.default_rng(0).random((12, 12, 6), np.float32) + 1}
    spec = make_spec((3, 2), sampling_ratio=2, aligned=True, mode=mode)
    placements = [place(np.zeros(4, np.intp), BOXES, scale) for scale in (1 / 8, 1 / 4, 1 / 64)]
    zeros = np.zeros((4, 6, 3, 2))
    evidence = Evidence(np.arange(4), maps, zeros, zeros, np.dtype(np.float32))
    evidence = evidence._replace(wanted=evidence.off(placements[:1], spec)[0])
    off = evidence.off(placements, replace(spec, mode="avg"))
    assert 0 in evidence.likely(off, spec)
    lower = evidence._replace(wanted=evidence.wanted / 8)
    assert lower.likely(evidence.off(placements, replace(spec, mode="avg")) + evidence.wanted * 7 / 8, spec) == []


@pytest.fixture
def named(tmp_path, monkeypatch):
    """Return all that is said of pooled features, where few specs are tried."""

    def answers(maps, pooled, tried, size):
        for name, array in (("theirs", pooled), ("map", maps), ("boxes", BOXES)):
            np.save(tmp_path / f"{name}.npy", array)
        monkeypatch.setattr(identify, "specs", lambda base, more=False: tried)
        files = [tmp_path / f"{name}.npy" for name in ("theirs", "map", "boxes")]
        found = roicli.identify(*files, size=size, spatial_scale=1 / 8)
        assert found.fits
        assert not found.noise
        return [part for one in found.answers for part in (f"{one.settings}; {one.boxes}", *one.same)]

    return answers


def test_what_computes_the_same_where_boxes_were_moved_is_listed(named):
    """One sample a bin: resizing to one cell is the same, but for the edge, and was left out as equal."""
    maps = np.random.default_rng(1).standard_normal((6, 14, 16)).astype(np.float32)
    resized = make_spec(1, **conventions.find("crop-and-resize-shifted").settings)
    pooled = roicli.roi_align(maps, BOXES + np.tile([9, 5], 2), 1, 1 / 8, 1, aligned=True)
    said = named(maps, pooled, [make_spec(1, sampling_ratio=1, aligned=True), resized], 1)
    moved = "boxes moved by +9, +5 pixels (x, y)"
    assert f"RoIAlign aligned, sampling ratio 1; {moved}" in said
    assert any("crop-and-resize-shifted" in one and moved in one for one in said)


def test_conventions_that_differ_by_a_shift_are_solved_as_one():
    """Those that had been fitted further took all places, and one of them was the only answer."""
    at, cells = np.array([1.1, 0.9, 3, 4]), np.array([8.0, 8.0])
    names = ["torchvision", "torchvision-aligned", "openvino-half-pixel", "mindspore"]
    tried = [make_spec(1, sampling_ratio=2, **conventions.find(name).settings) for name in names]
    starts = [at + moves._shift(one, at, cells) for one in tried]
    placed = [place(np.zeros(4, np.intp), BOXES + one[[3, 2, 3, 2]], at[:2] / 8) for one in starts]
    extents = [find(spec.op).extents(one, (20, 20), spec) for spec, one in zip(tried, placed, strict=True)]
    np.testing.assert_allclose(extents[1], extents[0], atol=1e-9)
    np.testing.assert_allclose(extents[2], extents[0], atol=1e-9)
    left = [0.4, 0.4, 0.4, 0.5]
    groups = moves._alike(list(zip(left, starts, tried, strict=True)), 0)
    assert [[one[2] for one in group] for group in groups] == [tried[:3], tried[3:]]


def test_vectors_of_length_one_are_named(named):
    """The length is that of all channels, and candidates are compared on some."""
    maps = np.random.default_rng(2).random((40, 9, 11), np.float32)
    mean = roicli.roi_align(maps, BOXES, 3, 1 / 8, 2, aligned=True).mean(axis=(2, 3))
    said = named(maps, mean / np.linalg.norm(mean, axis=1)[:, None], [make_spec(3, sampling_ratio=2, aligned=True)], 3)
    assert any("l2 of the bins" in one for one in said)


def test_one_last_bit_of_float16_may_differ(named):
    """Here all are rounded down; a sum near the middle of two numbers goes either way, by another order of sums."""
    maps = np.random.default_rng(4).random((6, 9, 11), np.float32)
    pooled = roicli.roi_align(maps, BOXES, 3, 1 / 8, 2, aligned=True)
    near = pooled.astype(np.float16)
    down = np.where(near > pooled, np.nextafter(near, np.float16(0)), near)
    said = named(maps, down, [make_spec(3, sampling_ratio=2, aligned=True)], 3)
    assert "RoIAlign aligned, sampling ratio 2; " in said


def test_a_view_of_the_maps_is_listed_beside_what_is_the_same(named):
    """Once bins have no order, maps mirrored are the same as boxes mirrored, which was the only answer."""
    maps = np.random.default_rng(2).random((6, 9, 11), np.float32)
    mean = roicli.roi_align(maps[:, :, ::-1], BOXES, 3, 1 / 8, 2, aligned=True).mean(axis=(2, 3))
    said = named(maps, mean, [make_spec(3, sampling_ratio=2, aligned=True)], 3)
    assert any("boxes mirrored" in one for one in said)
    assert any("maps mirrored" in one for one in said)


def test_views_are_tried_with_boxes_as_given(named, monkeypatch):
    """Whatever else looks alike: other ways took all places, and maps in bfloat16 were said to be noise."""
    monkeypatch.setattr(identify._Search, "_alike", lambda *given: [])
    maps = smooth(np.random.default_rng(3), (8, 33, 38)).astype(np.float32)
    spec = make_spec(3, **conventions.find("crop-and-resize").settings)
    placed = place(np.zeros(4, np.intp), BOXES, 1 / 8)
    pooled = np.zeros((4, 8, 3, 3), np.float32)
    pool_maps(lambda index: bfloat16(maps.transpose(1, 2, 0)), placed, (33, 38), spec, pooled)
    assert any("maps rounded to bfloat16" in one for one in named(maps, pooled, [spec], 3))


@pytest.mark.parametrize("moved", [0, 9], ids=["as given", "solved"])
def test_maps_of_several_sizes_are_compared(tmp_path, monkeypatch, moved):
    """Of images of all shapes the three boxes of one were compared."""
    rng, spec = np.random.default_rng(5), make_spec(3, sampling_ratio=2, aligned=True)
    maps = [rng.random((12, *size), np.float32) for size in ((9, 11), (11, 9), (10, 10))]
    pooled = [roicli.roi_align(one, BOXES + moved, 3, 1 / 8, 2, aligned=True) for one in maps]
    np.savez(tmp_path / "maps.npz", **{str(number): one for number, one in enumerate(maps)})
    np.save(tmp_path / "boxes.npy", [[number, *box] for number in range(3) for box in BOXES])
    np.save(tmp_path / "theirs.npy", np.concatenate(pooled))
    monkeypatch.setattr(identify, "specs", lambda base, more=False: [spec])
    files = [tmp_path / name for name in ("theirs.npy", "maps.npz", "boxes.npy")]
    found = roicli.identify(*files, size=3, spatial_scale=1 / 8)
    assert (found.fits, found.checked) == (True, 12)
    assert ("moved by +9, +9" in found.answers[0].boxes) == bool(moved)


def test_few_values_are_not_solved_for(tmp_path, monkeypatch):
    """A scale and an offset gave any three numbers, and eleven such answers were listed."""
    rng = np.random.default_rng(6)
    np.save(tmp_path / "map.npy", rng.random((3, 20, 30), np.float32))
    np.save(tmp_path / "boxes.npy", BOXES[:1])
    np.save(tmp_path / "theirs.npy", rng.random((1, 3), np.float32))
    monkeypatch.setattr(identify, "specs", lambda base, more=False: [make_spec(3, sampling_ratio=2)])
    found = roicli.identify(*(tmp_path / f"{name}.npy" for name in ("theirs", "map", "boxes")), size=3)
    assert not found.fits
    assert any("3 values are too few to solve for scale and offset" in note for note in found.notes)


@pytest.mark.parametrize(("value", "hint"), [(0, "was the spatial scale forgotten"), (2, "Give features that differ")])
def test_values_that_are_all_the_same_say_nothing(tmp_path, value, hint):
    np.save(tmp_path / "map.npy", np.random.default_rng(7).random((3, 20, 30), np.float32))
    np.save(tmp_path / "boxes.npy", BOXES)
    np.save(tmp_path / "theirs.npy", np.full((4, 3, 2, 2), value, np.float32))
    with pytest.raises(FileError, match=f"all values of the reference are {value}, which says nothing") as caught:
        roicli.identify(*(tmp_path / f"{name}.npy" for name in ("theirs", "map", "boxes")), size=2)
    assert hint in caught.value.hint


def test_what_leaves_no_more_than_what_fits_is_listed(monkeypatch):
    """Rounding puts one of two equals within the bound, and the other beyond it."""
    search = object.__new__(identify._Search)
    specs = [make_spec(1, sampling_ratio=number) for number in (1, 2, 3)]
    ranked = [
        (left, identify.Candidate(None, spec, fits=True)) for left, spec in zip((1.00, 1.01, 2.0), specs, strict=True)
    ]
    off = {1: 1.0, 2: 1.01, 3: 2.0}
    zeros = np.zeros((4, 1, 1, 1))
    search.evidence = Evidence(np.arange(4), {}, zeros, zeros + 1, np.dtype(np.float32))
    monkeypatch.setattr(identify.Candidate, "cost", 0)
    monkeypatch.setattr(search, "_off", lambda one: zeros + off[one.spec.sampling_ratio], raising=False)
    assert [one.spec for one in search._fitting(ranked)] == specs[:2]
