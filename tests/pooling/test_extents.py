"""What align, check and trace say of the place of boxes, held against what the engine reads."""

import numpy as np
import pytest
from driving import Silent

from roicli.jobs.align import AlignJob, align
from roicli.jobs.check import check
from roicli.jobs.geometry import Geometry
from roicli.jobs.trace import TraceJob, trace
from roicli.pooling.arguments import make_spec
from roicli.pooling.extents import lie_outside, shares_inside
from roicli.pooling.placement import place
from roicli.spec import PoolSpec

# Two boxes beside their map that read its border.
BESIDE = [(False, [-0.9, 2, -0.1, 4]), (True, [8.3, 2, 8.45, 4])]


@pytest.mark.parametrize(("aligned", "box"), BESIDE, ids=["left", "right"])
def test_a_box_beside_its_map_may_read_the_border(tmp_path, aligned, box):
    np.save(tmp_path / "map.npy", np.full((1, 8, 8), 5, np.float32))
    np.save(tmp_path / "boxes.npy", [box])
    spec = PoolSpec((1, 2), aligned=aligned)
    listener = Silent()
    job = AlignJob(str(tmp_path / "map.npy"), tmp_path / "boxes.npy", spec, output=tmp_path / "out.npy")
    align(job, listener)
    assert np.load(job.output).max() == 5
    assert not any("outside" in note for note in listener.notes)


def near_edges(rng, number):
    """Boxes about an 8 x 5 map: of many sizes, of none, at half cells, beside it and far away."""
    start = np.where(
        rng.random((number, 2)) < 0.5, rng.uniform(-4, 12, (number, 2)), rng.integers(-8, 24, (number, 2)) / 2
    )
    size = rng.choice([0, 0.25, 1, 3.5, 9, 40], (number, 2)) * rng.choice([0, 1, 1, 1], (number, 2))
    return np.concatenate([start, start + size], axis=1)


@pytest.mark.parametrize("op", ["roi_align", "roi_pool"])
@pytest.mark.parametrize("settings", [{}, {"aligned": True}, {"sampling_ratio": 1, "aligned": True}], ids=str)
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_what_jobs_say_is_what_the_engine_reads(tmp_path, op, settings, scale):
    settings = {} if op == "roi_pool" else settings
    spec = make_spec((3, 2), op=op, **settings)
    np.save(tmp_path / "map.npy", np.full((1, 8, 5), 5, np.float32))
    boxes = near_edges(np.random.default_rng(1), 400)
    np.save(tmp_path / "boxes.npy", boxes)
    inputs = str(tmp_path / "map.npy"), tmp_path / "boxes.npy"
    listener = Silent()
    job = AlignJob(*inputs, spec, geometry=Geometry(spatial_scale=scale), output=tmp_path / "out.npy")
    align(job, listener)
    block = np.load(job.output).reshape(400, -1)
    zero = (block == 0).all(axis=1)
    report = check(job, Silent())
    empty = sum(int(note.split(": ")[1].split(" of ")[0]) for note in report.notes if "without width" in note)
    assert report.wholly_outside + empty == zero.sum()
    assert f"boxes wholly outside their maps: {report.wholly_outside} of 400; their features are zero" in report.notes
    assert list(report.notes) == [note for note in listener.notes if note in report.notes]
    placement, sizes = place(np.zeros(400, np.intp), boxes, scale), np.tile([8.0, 5.0], (400, 1))
    outside = lie_outside(placement.rounded(np.float32), sizes, spec)
    assert outside.sum() == report.wholly_outside
    # A box of at least a cell that lies on its map with all of its area reads it in every bin.
    whole = (shares_inside(placement, sizes) == 1) & ((boxes[:, 2:] - boxes[:, :2]) * scale >= 1).all(axis=1)
    assert whole.any()
    assert (block[whole] == 5).all()
    for row in np.flatnonzero(zero)[::9].tolist() + np.flatnonzero(~zero)[::40].tolist():
        notes = []
        trace(TraceJob(*inputs, (spec,), geometry=Geometry(spatial_scale=scale), roi=row), notes.append)
        assert any("lies wholly outside its map" in note for note in notes) == outside[row]
