"""Jobs shared out: which part is which, ten parts made in ten processes and joined, and parts that do not fit."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from driving import Silent, run, write_journal
from hypothesis import given
from hypothesis import strategies as st

from roicli.boxfiles import kept, npyboxes
from roicli.errors import FileError, RoicliError, UsageError
from roicli.jobs.align import AlignJob, align
from roicli.jobs.info import info
from roicli.jobs.merge import MergeJob, merge
from roicli.jobs.options import grouped
from roicli.jobs.partfiles import StoredPart
from roicli.jobs.shards import Shard, parts_of, read_shard
from roicli.outputs import hdf5
from roicli.outputs.rowfile import RowFile
from roicli.resume.history import find_history
from roicli.spec import PoolSpec

ROICLI = Path(sys.executable).with_name("roicli")
FORMATS = [".npy", ".npz", ".h5"]
SPEC = PoolSpec((3, 2), aligned=True)
OPTIONS = ["--size", "3x2", "--spatial-scale", "1/8", "--aligned", "--bad-boxes", "zero"]


def align_here(job, output, shard=None, boxes="boxes.csv", **more):
    """Do in this process what `run` does in one of its own: much faster."""
    settings = {"spec": SPEC, "spatial_scale": 1 / 8, "bad_boxes": "zero"} | more
    shard = None if shard is None else read_shard(shard, {})
    return align(
        AlignJob(str(job / "feats.h5"), job / boxes, output=output, shard=shard, **grouped(settings)), Silent()
    )


def merge_here(output, *parts, **more):
    return merge(MergeJob(output, list(map(str, parts)), **more), lambda rows: None)


@pytest.fixture(scope="session")
def job(tmp_path_factory):
    """Seven images of different sizes and 60 boxes out of order, three of them bad; no test writes here."""
    folder = tmp_path_factory.mktemp("job")
    rng = np.random.default_rng(3)
    with h5py.File(folder / "feats.h5", "w") as file:
        for n in range(7):
            # One of float64: a part without it must be written as float64 all the same.
            dtype = np.float64 if n == 6 else np.float32
            file[f"{n:03d}"] = rng.standard_normal((4, 9 + n, 17 - n)).astype(dtype)
    corners = rng.uniform(0, 120, (60, 4)).round(1)
    boxes = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)
    boxes[17] = np.nan
    for row in (5, 40):
        boxes[row] = boxes[row, [2, 3, 0, 1]]
    images = rng.choice(7, 60, p=[0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    lines = [
        f"{image},{row + 900}," + ",".join(map(str, box))
        for row, (image, box) in enumerate(zip(images, boxes, strict=True))
    ]
    (folder / "boxes.csv").write_text("\n".join(["image_id,id,x1,y1,x2,y2", *lines]))
    return folder


@pytest.fixture(scope="session")
def parts(job, tmp_path_factory):
    """The whole job and its ten parts in each format; those of HDF5 made in ten processes at once."""
    folder = tmp_path_factory.mktemp("parts")
    for suffix in FORMATS:
        align_here(job, folder / f"whole{suffix}")
    for n in range(1, 11):
        for suffix in FORMATS[:2]:
            align_here(job, folder / f"part-{n}{suffix}", f"{n}/10")
    command = [ROICLI, "align", job / "feats.h5", job / "boxes.csv", "--workers", "1", "--quiet", *OPTIONS]
    processes = [
        subprocess.Popen([*command, "-o", folder / f"part-{n}.h5", "--shard", f"{n}/10"]) for n in range(1, 11)
    ]
    assert [process.wait() for process in processes] == [0] * 10
    return folder


@given(st.lists(st.integers(-3, 12), max_size=80), st.integers(1, 30))
def test_partition(images, count):
    images = np.array(images, dtype=np.int64)
    parts = parts_of(images, count)
    assert len(parts) == len(images)
    assert ((parts >= 1) & (parts <= count)).all()
    first_seen = list(dict.fromkeys(images.tolist()))
    of_image = [set(parts[images == image].tolist()) for image in first_seen]
    # Every image is in exactly one part, and parts are runs of images in the order of their first box.
    assert all(len(found) == 1 for found in of_image)
    assert [min(found) for found in of_image] == sorted(min(found) for found in of_image)
    sizes = np.bincount(parts, minlength=count + 1)
    largest = max((images == image).sum() for image in first_seen) if len(images) else 0
    assert (sizes * count <= len(images) + largest * count).all()
    # It depends on nothing but who is whose image: neither on the numbers that images have, nor on the run.
    names = {image: -7 * n for n, image in enumerate(first_seen)}
    assert (parts_of(np.array([names[image] for image in images.tolist()], dtype=np.int64), count) == parts).all()


def test_equal_images_are_shared_out_equally():
    assert np.bincount(parts_of(np.repeat(np.arange(20), 3), 10))[1:].tolist() == [6] * 10
    assert parts_of(np.zeros(0, np.int64), 4).tolist() == []


SLURM = {f"SLURM_ARRAY_TASK_{name}": value for name, value in (("MIN", "0"), ("MAX", "9"), ("STEP", "1"))}
SGE = {"SGE_TASK_FIRST": "2", "SGE_TASK_LAST": "10", "SGE_TASK_STEPSIZE": "3"}


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("2/10", {}, Shard(2, 10)),
        ("1/1", {"SLURM_ARRAY_TASK_ID": "7"}, Shard(1, 1)),
        ("auto", SLURM | {"SLURM_ARRAY_TASK_COUNT": "10", "SLURM_ARRAY_TASK_ID": "0"}, Shard(1, 10)),
        ("AUTO", SLURM | {"SLURM_ARRAY_TASK_COUNT": "10", "SLURM_ARRAY_TASK_ID": "9"}, Shard(10, 10)),
        (
            "auto",
            SLURM | {"SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_STEP": "3", "SLURM_ARRAY_TASK_ID": "6"},
            Shard(3, 4),
        ),
        ("auto", SGE | {"SGE_TASK_ID": "5"}, Shard(2, 3)),
        ("auto/10", {"PBS_ARRAY_INDEX": "3"}, Shard(3, 10)),
        ("auto/1-10", {"PBS_ARRAYID": "3"}, Shard(3, 10)),
        ("auto/0-9", {"PBS_ARRAYID": "3"}, Shard(4, 10)),
        ("auto/1-10", SLURM | {"SLURM_ARRAY_TASK_COUNT": "1", "SLURM_ARRAY_TASK_ID": "7"}, Shard(7, 10)),
        ("auto/1-10", {"PBS_ARRAYID": "3", "PBS_ARRAY_INDEX": "3", "SGE_TASK_ID": "undefined"}, Shard(3, 10)),
    ],
)
def test_shard_read(text, environment, expected):
    assert read_shard(text, environment) == expected


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        *(
            (text, {}, "must be I/N, auto or auto/FIRST-LAST, got")
            for text in ("", "3", "3/", "/3", "a/b", "1-2/3", "auto/", "2/10/3", "-1/2")
        ),
        ("0/10", {}, "part 0 of 10 does not exist"),
        ("11/10", {}, "part 11 of 10 does not exist"),
        ("1/9999999", {}, "part 1 of 9999999 does not exist"),
        ("auto", {}, "this is not an array task of Slurm, Grid Engine or PBS"),
        ("auto", {"SGE_TASK_ID": "undefined"}, "this is not an array task"),
        ("auto", {"PBS_ARRAY_INDEX": "3"}, "PBS says that this is task 3 .* but not of how many"),
        ("auto/10", {"PBS_ARRAY_INDEX": "0"}, "PBS_ARRAY_INDEX is 0, expected 1 to 10"),
        ("auto/0-9", {"PBS_ARRAY_INDEX": "10"}, "is 10, expected 0 to 9"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "3"}, "SLURM_ARRAY_TASK_MIN must be a number, got ''"),
        # sbatch --array=0,4,9: the variables do not say what lies between.
        (
            "auto",
            SLURM | {"SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_ID": "4"},
            "task 4 does not fit 3 tasks from 0 to 9, step 1",
        ),
        ("auto", SGE | {"SGE_TASK_ID": "4"}, "does not fit"),
        ("auto", SGE | {"SGE_TASK_ID": "5", "PBS_ARRAYID": "4"}, "SGE_TASK_ID and PBS_ARRAYID are set and differ"),
    ],
)
def test_shard_refused(text, environment, message):
    with pytest.raises(UsageError, match=message):
        read_shard(text, environment)


@pytest.mark.parametrize("suffix", FORMATS)
def test_ten_parts_are_the_whole(parts, tmp_path, suffix):
    # In any order, here that of the pattern: 1, 10, 2, ...
    done = run(tmp_path, "merge", f"merged{suffix}", f"{parts}/part-*{suffix}", "--json")
    assert json.loads(done.stdout) == {
        "output": f"merged{suffix}", "parts": 10, "shape": [60, 4, 3, 2], "dtype": "float64", "virtual": False,
    }  # fmt: skip
    assert done.stderr == f"10 parts: merged{suffix} 60 x 4 x 3 x 2 float64\n"
    assert (tmp_path / f"merged{suffix}").read_bytes() == (parts / f"whole{suffix}").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [f"merged{suffix}"]


def test_what_a_part_says(parts):
    with h5py.File(parts / "part-2.h5") as file, np.load(parts / "part-2.npz") as archive:
        said = json.loads(str(archive["parameters"]))
        beside = json.loads((parts / "part-2.npy.shard.json").read_text())
        assert {name: file.attrs[name] for name in said} == said == beside["parameters"]
        assert (said["shard"], said["shard_total_rows"]) == ("2/10", 60)
        rows = file["output_rows"][()].tolist()
        assert archive["output_rows"].tolist() == rows
        assert [row for first, stop in beside["output_rows"] for row in range(first, stop)] == rows
        assert file["rows"][()].tolist() == rows
        np.testing.assert_array_equal(file["features"][()], np.load(parts / "whole.npy")[rows])
    assert not (parts / "whole.npy.shard.json").exists()


@pytest.mark.parametrize("suffix", FORMATS)
def test_boxes_left_out_and_more_parts_than_images(job, tmp_path, suffix):
    spec = PoolSpec((3, 2), reduce="mean")
    more = {"spec": spec, "bad_boxes": "skip", "out_dtype": "float16"}
    whole = align_here(job, tmp_path / f"whole{suffix}", **more)
    reports = [align_here(job, tmp_path / f"{n}{suffix}", f"{n}/9", **more) for n in range(1, 10)]
    assert {report.shape[1:] for report in reports} == {(4,)}
    assert 0 in {report.shape[0] for report in reports}
    for name in ("boxes", "images"):
        assert sum(getattr(report, name) for report in reports) == getattr(whole, name)
    assert sorted(row for report in reports for row in report.skipped) == [5, 17, 40]
    zeroed = [align_here(job, tmp_path / f"zero-{n}{suffix}", f"{n}/3").zeroed for n in (1, 2, 3)]
    assert sorted(row for rows in zeroed for row in rows) == [5, 17, 40]
    report = merge_here(tmp_path / f"merged{suffix}", *(tmp_path / f"{n}{suffix}" for n in range(1, 10)))
    assert (tmp_path / f"merged{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    assert (report.parts, report.shape, report.dtype) == (9, (57, 4), "float16")


@pytest.mark.parametrize("fate", ["skip", "zero"])
def test_boxes_of_an_array_are_read_as_far_as_a_part_needs(job, tmp_path, monkeypatch, fate):
    """They stay in their file, which is read in pieces; a part judges its own boxes alone."""
    monkeypatch.setattr(npyboxes, "_ROWS", 7)
    rng = np.random.default_rng(1)
    boxes = np.column_stack([rng.permutation(np.arange(40) % 7), rng.uniform(0, 90, (40, 2)), np.full((40, 2), 100.0)])
    boxes[11, 1], boxes[20] = 200, np.nan
    np.save(tmp_path / "b.npy", boxes)
    align_here(job, tmp_path / "whole.h5", boxes=tmp_path / "b.npy", bad_boxes=fate)
    for n in range(1, 4):
        align_here(job, tmp_path / f"{n}.h5", f"{n}/3", boxes=tmp_path / "b.npy", bad_boxes=fate)
    merge_here(tmp_path / "merged.h5", *(tmp_path / f"{n}.h5" for n in (1, 2, 3)))
    assert (tmp_path / "merged.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
    part = parts_of(np.where(np.isnan(boxes[:, 0]), -1, boxes[:, 0]).astype(np.int64), 3)
    good = next(n for n in (1, 2, 3) if n not in part[[11, 20]])
    align_here(job, tmp_path / "good.h5", f"{good}/3", boxes=tmp_path / "b.npy", bad_boxes="error")
    boxes[0, 2] += 1
    np.save(tmp_path / "b.npy", boxes)
    align_here(job, tmp_path / "2.h5", "2/3", boxes=tmp_path / "b.npy", bad_boxes=fate, overwrite=True)
    assert merge_refused(tmp_path, "m.h5", "1.h5", "2.h5", "3.h5").endswith("boxes or feature maps are not the same")


def test_parts_that_share_a_table_of_boxes(job, tmp_path, monkeypatch):
    """Whether a part has parsed the boxes, or found them, is all the same."""
    monkeypatch.setattr(kept, "_LONG", 0)
    (tmp_path / "b.csv").write_bytes((job / "boxes.csv").read_bytes())
    for n in (1, 2):
        align_here(job, tmp_path / f"{n}.h5", f"{n}/3", boxes=tmp_path / "b.csv")
    (tmp_path / ".b.csv.roicli-boxes").unlink()
    monkeypatch.setattr(kept, "_save", lambda *_: None)
    align_here(job, tmp_path / "3.h5", "3/3", boxes=tmp_path / "b.csv")
    merge_here(tmp_path / "merged.h5", *(tmp_path / f"{n}.h5" for n in (1, 2, 3)))
    align_here(job, tmp_path / "whole.h5", boxes=tmp_path / "b.csv")
    assert (tmp_path / "merged.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


@pytest.mark.parametrize("suffix", FORMATS)
def test_no_boxes_at_all(job, tmp_path, suffix):
    (tmp_path / "none.json").write_text("{}")
    for name, shard in (("whole", None), ("1", "1/2"), ("2", "2/2")):
        align_here(job, tmp_path / f"{name}{suffix}", shard, boxes=tmp_path / "none.json")
    merge_here(tmp_path / f"merged{suffix}", *(tmp_path / f"{n}{suffix}" for n in (1, 2)))
    assert (tmp_path / f"merged{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()


def test_virtual(parts, tmp_path):
    """The features stay in the parts, which may be moved together with what refers to them."""
    (tmp_path / "old" / "100%").mkdir(parents=True)
    for n in range(1, 11):
        (tmp_path / "old" / "100%" / f"{n}.h5").write_bytes((parts / f"part-{n}.h5").read_bytes())
    done = run(tmp_path, "merge", "old/all.h5", "old/100%/*.h5", "--virtual")
    assert done.stderr == "10 parts, features left in them: old/all.h5 60 x 4 x 3 x 2 float64\n"
    (tmp_path / "old").rename(tmp_path / "new")
    with h5py.File(tmp_path / "new" / "all.h5") as file, h5py.File(parts / "whole.h5") as whole:
        assert file["features"].is_virtual
        assert {source.file_name for source in file["features"].virtual_sources()} <= {
            f"100%%/{n}.h5" for n in range(1, 11)
        }
        assert [*file] == [name for name in whole if name != "checksums"]
        for name in file:
            np.testing.assert_array_equal(file[name][()], whole[name][()])
        assert dict(file.attrs) == dict(whole.attrs)


def test_virtual_of_too_many_runs(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "_MOST_RUNS", 20)
    message = merge_refused(tmp_path, "out.h5", f"{parts}/part-*.h5", virtual=True)
    assert re.fullmatch(r"out\.h5 would refer to \d\d separate runs of rows; 20 are allowed", message)


def test_a_part_that_becomes_a_whole(job, tmp_path):
    """What an .npy has beside it goes with the part that it describes."""
    align_here(job, tmp_path / "out.npy", "1/2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.npy", "out.npy.shard.json", "out.npy.skipped.csv"]
    with pytest.raises(RoicliError, match=r"out\.npy exists"):
        align_here(job, tmp_path / "out.npy", "1/2")
    (tmp_path / "out.npy").unlink()
    with pytest.raises(RoicliError, match=r"out\.npy\.shard\.json exists"):
        align_here(job, tmp_path / "out.npy", "1/2")
    (tmp_path / "out.npy.skipped.csv").unlink()
    with pytest.raises(RoicliError, match=r"out\.npy\.shard\.json exists"):
        align_here(job, tmp_path / "out.npy")
    align_here(job, tmp_path / "out.npy", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.npy", "out.npy.skipped.csv"]


def test_through_links(job, tmp_path):
    """Links stay links, leading to a file or not yet; what belongs to an output lies beside what they lead to."""
    far, here = tmp_path / "far", tmp_path / "here"
    far.mkdir()
    here.mkdir()
    for name in ("part-1.npy", "part-2.npy", "out.npy", "rows.csv"):
        (here / name).symlink_to(f"../far/real-{name}")
    (far / "real-out.npy").write_text("before")
    (far / "real-out.npy.shard.json").write_text("before")
    align_here(job, here / "part-1.npy", "1/2", index=here / "rows.csv")
    align_here(job, far / "real-part-2.npy", "2/2")
    run(here, "merge", "out.npy", "part-1.npy", "part-2.npy", expect=3)
    run(here, "merge", "out.npy", "part-1.npy", "part-2.npy", "--overwrite")
    align_here(job, tmp_path / "whole.npy")
    assert (far / "real-out.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert json.loads(run(here, "info", "part-1.npy", "--json").stdout)["parameters"]["shard"] == "1/2"
    assert all(path.is_symlink() for path in here.iterdir())
    assert sorted(path.name for path in far.iterdir()) == [
        "real-out.npy", "real-part-1.npy", "real-part-1.npy.shard.json", "real-part-1.npy.skipped.csv",
        "real-part-2.npy", "real-part-2.npy.shard.json", "real-part-2.npy.skipped.csv", "real-rows.csv",
    ]  # fmt: skip
    (here / "part-1.npy").unlink()
    (here / "part-1.npy").symlink_to("part-1.npy")
    with pytest.raises(RoicliError, match="is a link that leads to itself"):
        align_here(job, here / "part-1.npy", "1/2", overwrite=True)


def merge_refused(folder, output, *parts, code=3, **more):
    """Merge files of `folder`, which must fail and leave all as it was; return the message."""
    before = sorted(folder.iterdir())
    with pytest.raises(RoicliError) as refusal:
        merge_here(folder / output, *(folder / part for part in parts), **more)
    assert refusal.value.exit_code == code
    assert sorted(folder.iterdir()) == before
    return refusal.value.message.replace(f"{folder}/", "")


def test_parts_missing_or_doubled(parts, tmp_path):
    given = [parts / f"part-{n}.h5" for n in range(1, 11)]
    message = merge_refused(tmp_path, "out.h5", *given[:2], *given[3:6], *given[7:])
    assert message == "missing parts of 10: 3, 7"
    assert merge_refused(tmp_path, "out.h5", *given[1:]) == "missing parts of 10: 1"
    assert merge_refused(tmp_path, "out.h5", given[0]).startswith("missing parts of 10: 2, 3, 4, 5, 6, 7, 8, 9, 10")
    assert merge_refused(tmp_path, "out.h5", *given, given[4]).startswith("part 5 of 10 is given twice: ")
    done = run(tmp_path, "merge", "out.h5", f"{parts}/part-[2-9].h5", expect=3)
    assert done.stderr == (
        "error: missing parts of 10: 1, 10\nhint: Make each by roicli align with --shard 1/10, or name it too.\n"
    )


@pytest.mark.parametrize(
    ("shard", "more", "message"),
    [
        ("2/3", {}, "one is 1/2, the other 2/3"),
        ("2/2", {"spec": PoolSpec((3, 2))}, "aligned is True in one, False in the other"),
        ("2/2", {"out_dtype": "float16"}, "rows are (4, 3, 2) of float64 in one, (4, 3, 2) of float16 in the other"),
    ],
)
def test_parts_of_different_jobs(job, tmp_path, shard, more, message):
    align_here(job, tmp_path / "a.npy", "1/2")
    align_here(job, tmp_path / "b.npy", shard, **more)
    refusal = merge_refused(tmp_path, "out.npy", "a.npy", "b.npy")
    assert refusal == f"a.npy and b.npy are parts of different jobs: {message}"


def test_parts_of_different_boxes_but_of_moved_files(job, tmp_path):
    text = (job / "boxes.csv").read_text()
    (tmp_path / "moved.csv").write_text(text)
    (tmp_path / "edited.csv").write_text(text.replace("\n0,", "\n1,", 1))
    (tmp_path / "renamed.csv").write_text(text.replace("\n0,90", "\n0,80", 1))
    align_here(job, tmp_path / "a.h5", "1/2")
    for name in ("moved", "edited", "renamed"):
        align_here(job, tmp_path / f"{name}.h5", "2/2", boxes=tmp_path / f"{name}.csv")
    merge_here(tmp_path / "out.h5", tmp_path / "a.h5", tmp_path / "moved.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert file.attrs["boxes_file"] == str(job / "boxes.csv")
    for name in ("edited", "renamed"):
        refusal = merge_refused(tmp_path, "new.h5", "a.h5", f"{name}.h5")
        assert refusal.endswith("their boxes or feature maps are not the same")


def test_refused_names(parts, job, tmp_path):
    for suffix in FORMATS:
        (tmp_path / f"part{suffix}").write_bytes((parts / f"part-1{suffix}").read_bytes())
    (tmp_path / "whole.h5").write_bytes((parts / "whole.h5").read_bytes())
    assert merge_refused(tmp_path, "part.h5", "part.h5", overwrite=True) == "part.h5 is a part and the output"
    assert merge_refused(tmp_path, "whole.h5", "part.h5") == "whole.h5 exists"
    assert "are of different formats" in merge_refused(tmp_path, "out.h5", "part.npz", code=2)
    assert "only HDF5 has virtual" in merge_refused(tmp_path, "out.npz", "part.npz", virtual=True, code=2)
    assert merge_refused(tmp_path, "out.h5", "no*.h5") == "no file matches no*.h5"
    assert merge_refused(tmp_path, "out.h5", "missing.h5") == "missing.h5 does not exist"
    assert merge_refused(tmp_path, "out.h5", "whole.h5").startswith("whole.h5 is not a part of a job")
    assert merge_refused(tmp_path, "out.npy", "part.npy").startswith("part.npy is not a part of a job")
    merge_here(tmp_path / "whole.h5", f"{parts}/part-*.h5", overwrite=True)
    # What lies beside a part goes when a whole takes its name.
    (tmp_path / "part.npy.shard.json").write_text("{}")
    merge_here(tmp_path / "part.npy", f"{parts}/part-*.npy", overwrite=True)
    assert not (tmp_path / "part.npy.shard.json").exists()


def broken_parts():
    yield ".npy.shard.json", lambda data: b"{"
    yield ".npy.shard.json", lambda data: b'{"parameters": {"shard": "1/10", "shard_total_rows": 60}, "output_rows": 7}'
    yield ".npy.shard.json", lambda data: data.replace(b'"output_rows": [[', b'"output_rows": [[1')
    yield ".npy.shard.json", lambda data: data.replace(b'"1/10"', b'"0/10"')
    yield ".npy", lambda data: data[:-1]
    yield ".npz", lambda data: data[:-30]
    yield ".npz", lambda data: data.replace(b"output_rows", b"output_cows")
    yield ".npz", lambda data: data.replace(b", 4), }", b", 5), }")
    yield ".h5", lambda data: data[:-1]
    yield ".h5", lambda data: data.replace(b"output_rows", b"output_cows")
    yield ".h5", lambda data: data.replace(b"boxes\0", b"foxes\0")


@pytest.mark.parametrize(("suffix", "damage"), list(broken_parts()))
def test_damaged_parts(parts, tmp_path, suffix, damage):
    for path in parts.glob("part-1.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    victim = tmp_path / f"part-1{suffix}"
    data = victim.read_bytes()
    assert damage(data) != data
    victim.write_bytes(damage(data))
    kind = "." + suffix.split(".")[1]
    others = [parts / f"part-{n}{kind}" for n in range(2, 11)]
    assert "part-1." in merge_refused(tmp_path, f"out{kind}", f"part-1{kind}", *others)


def test_a_part_that_claims_any_size(parts, tmp_path):
    """Nothing that a file only claims takes memory."""
    (tmp_path / "a.npy").write_bytes((parts / "part-1.npy").read_bytes())
    said = json.loads((parts / "part-1.npy.shard.json").read_text())
    (tmp_path / "a.npy.shard.json").write_text(json.dumps(said | {"output_rows": [[0, 2_000_000_000]]}))
    assert merge_refused(tmp_path, "out.npy", "a.npy") == "a.npy.shard.json does not fit a.npy"
    with h5py.File(parts / "part-1.h5") as file, h5py.File(tmp_path / "b.h5", "w") as claims:
        claims.attrs.update(file.attrs)
        claims.create_dataset("features", (2_000_000_000, 4), "f4", chunks=(10, 4))
        claims.create_dataset("output_rows", (2_000_000_000,), "i8", chunks=(10,))
    assert merge_refused(tmp_path, "out.h5", "b.h5") == "b.h5, /features is not as roicli writes it"


def test_a_part_that_is_unfinished(parts, tmp_path):
    """A kill while a part was replaced may leave the old rows beside a new record."""
    for name in ("part-1.npy", "part-1.npy.shard.json"):
        (tmp_path / name).write_bytes((parts / name).read_bytes())
    (tmp_path / ".part-1.npy.partial").touch()
    assert merge_refused(tmp_path, "out.npy", "part-1.npy") == "part-1.npy is unfinished"


@pytest.mark.parametrize("suffix", FORMATS)
def test_parts_that_were_copied_with_their_journals(job, parts, tmp_path, suffix):
    """Those that proved themselves where they were made: by cp, which gives them another time, and by cp -a."""
    for n in (1, 2):
        align_here(job, tmp_path / f"part-{n}{suffix}", f"{n}/2", resume=True)
    names = [path.name for path in tmp_path.iterdir()]
    assert f".part-1{suffix}.journal" in names
    for folder, copy in (("cp", shutil.copyfile), ("cp-a", shutil.copy2)):
        (tmp_path / folder).mkdir()
        for name in names:
            copy(tmp_path / name, tmp_path / folder / name)
        os.utime(tmp_path / folder / f"part-2{suffix}", ns=(0, 0))
        merge_here(tmp_path / folder / f"whole{suffix}", *(tmp_path / folder / f"part-{n}{suffix}" for n in (1, 2)))
        assert (tmp_path / folder / f"whole{suffix}").read_bytes() == (parts / f"whole{suffix}").read_bytes()
        for n, proved in ((1, folder == "cp-a"), (2, False)):
            past = find_history(tmp_path / folder / f"part-{n}{suffix}")
            assert (past is not None and past.published) is proved
            assert info(tmp_path / folder / f"part-{n}{suffix}").unfinished is None


def test_an_output_that_is_unfinished(parts, tmp_path):
    """merge cannot go on with what align has begun, and does not propose an option that it lacks."""
    (tmp_path / ".out.npy.partial").touch()
    header = {"format": "roicli journal 2", "output": "out.npy", "job": {}, "total": 9, "offset": 0, "size": 0}
    lines = (header, {"done": [[0, 4]], "not_finite": 0, "overflowed": 0})
    write_journal(tmp_path / ".out.npy.journal", *map(json.dumps, lines))
    done = run(tmp_path, "merge", "out.npy", f"{parts}/part-*.npy", expect=3)
    assert done.stderr == (
        "error: out.npy is unfinished: 4 of 9 rows are done\n"
        "hint: If roicli align began it, run that with --resume to go on; or give --overwrite to start over.\n"
    )
    run(tmp_path, "merge", "out.npy", f"{parts}/part-*.npy", "--overwrite")
    assert [path.name for path in tmp_path.iterdir()] == ["out.npy"]


def test_parts_are_closed_where_the_output_cannot_be_written(parts, tmp_path, monkeypatch):
    """What fails then is a message, not what Python prints when it collects what nobody closed."""

    def blocks(self):
        try:
            yield np.zeros((1, *self.output.features.shape[1:]), np.float32)
        finally:
            raise FileError(f"{self.path.name} cannot be read: Input/output error", "Check the disk.")

    def write(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(StoredPart, "blocks", blocks)
    monkeypatch.setattr(RowFile, "write", write)
    with pytest.raises(FileError, match="cannot be read"):
        merge_here(tmp_path / "out.npy", *sorted(parts.glob("part-*.npy")))


def test_a_merge_that_fails_at_last_leaves_what_belongs_to_the_old_output(parts, tmp_path, monkeypatch):
    for name in ("out.npy", "out.npy.shard.json", "out.npy.skipped.csv"):
        (tmp_path / name).write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        merge_refused(tmp_path, "out.npy", *(parts / f"part-{n}.npy" for n in range(1, 11)), overwrite=True)
    merge_here(tmp_path / "out.npy", *(parts / f"part-{n}.npy" for n in range(1, 11)), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out.npy"]


def test_the_job_script_of_the_guide(tmp_path, dose):
    """As Slurm runs it: each task by itself, in a process of its own, with its variables set."""
    root = Path(__file__).parents[2]
    script, joined = re.findall(
        r"^```bash\n(.*?)^```$", (root / "roicli/guide/cluster.md").read_text(), re.MULTILINE | re.DOTALL
    )
    tasks = int(re.search(r"--array=1-(\d+)", script)[1])
    (tmp_path / "sample_data").symlink_to(root / "sample_data")
    (tmp_path / "job.sh").write_text(script)
    (tmp_path / "join.sh").write_text(joined)
    env = os.environ | {"PATH": f"{ROICLI.parent}:{os.environ['PATH']}"}
    array = {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": str(tasks), "SLURM_ARRAY_TASK_COUNT": str(tasks)}
    for task in range(1, tasks + 1):
        subprocess.run(
            ["bash", "job.sh"], cwd=tmp_path, env=env | array | {"SLURM_ARRAY_TASK_ID": str(task)}, check=True
        )
    subprocess.run(["bash", "join.sh"], cwd=tmp_path, env=env, check=True)
    run(
        tmp_path,
        "align",
        "sample_data/feats.h5",
        "sample_data/boxes.json",
        "-o",
        "whole.h5",
        "--size",
        7,
        "--aligned",
        "--spatial-scale",
        "1/16",
    )
    assert (tmp_path / "pooled-whole.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
