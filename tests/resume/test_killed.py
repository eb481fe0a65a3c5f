"""Stopped before each of the changes that it makes to files, one run after another, a job goes on to the same bytes.

Each fifth of them, or with --long 2 each one; by SIGKILL, or since the disk is full from then on.
"""

import errno
import os
import signal
import sys
import traceback
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from driving import Silent, files_in, without_locks

from roicli.errors import OutputError
from roicli.jobs.align import align
from roicli.jobs.alignjob import AlignJob
from roicli.jobs.convert import ConvertJob, convert
from roicli.jobs.geometry import Geometry
from roicli.newfiles import remove_tree
from roicli.spec import PoolSpec

INPUTS = ("feats.npy", "boxes.npy")
# What is written, by the options that ask for it; and the package that it needs.
OUTPUTS = {
    "npy": ({"output": "out.npy"}, "numpy"),
    "npz": ({"output": "out.npz"}, "numpy"),
    "h5": ({"output": "out.h5"}, "numpy"),
    "safetensors": ({"output": "out.safetensors"}, "numpy"),
    "zarr": ({"output": "out.zarr"}, "zarr"),
    "scattered": ({"output": "out.zarr"}, "zarr"),
    "parquet": ({"output": "out.parquet"}, "pyarrow"),
    "groups": ({"output": "out.h5", "group_by": "image"}, "numpy"),
    "butd-h5-adaptive": ({"output": "out.h5", "output_layout": "butd-h5-adaptive"}, "numpy"),
    "butd-tsv": ({"output": "out.tsv", "output_layout": "butd-tsv"}, "numpy"),
    "per-image-npz": ({"output": "out", "output_layout": "per-image-npz"}, "numpy"),
    "vlt5-h5": ({"output": "out.h5", "output_layout": "vlt5-h5"}, "numpy"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three maps and a dozen boxes, one of which is skipped, in the current folder."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "feats.npy", rng.standard_normal((3, 2, 5, 6), dtype=np.float32))
    boxes = np.array([[number % 3, 0, 0, 3 + number % 2, 4] for number in range(12)], np.float64)
    boxes[4, 1] = np.nan
    np.save(tmp_path / "boxes.npy", boxes)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_job(kind, **settings):
    options, needed = OUTPUTS[kind]
    if find_spec(needed) is None:
        pytest.skip(f"without {needed}")
    return AlignJob(
        "feats.npy",
        Path("boxes.npy"),
        PoolSpec((2, 2)),
        bad_boxes="skip",
        batch_size=2,
        geometry=Geometry(image_size="5x6"),
        index=Path("rows.csv"),
        **{**options, "output": Path(options["output"])},
        **settings,
    )


def is_stopped(work, changes, *, full=False):
    """Do some work in a process that is stopped after so many changes to files; False if it makes no more than that."""
    child = os.fork()
    if not child:
        try:
            stop_after(changes, full=full)
            work()
            os._exit(0)
        except OutputError as error:
            if full and "No space left on device" in str(error):
                os._exit(3)
            traceback.print_exc()
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 3 if full else -signal.SIGKILL)
    return code != 0


def stop_after(changes, *, full):
    """Kill this process when it is about to change one more file; or find no room from then on for what needs some."""
    left = changes

    def change(needs_room=True):
        nonlocal left
        if left <= 0:
            if not full:
                os.kill(os.getpid(), signal.SIGKILL)
            if needs_room:
                raise OSError(errno.ENOSPC, "No space left on device")
        left -= 1

    def on_event(event, arguments):
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            change(arguments[2] & os.O_CREAT)
        elif event in ("os.rename", "os.remove", "os.truncate", "os.chmod", "os.mkdir", "os.rmdir", "os.link"):
            change(event in ("os.mkdir", "os.link"))

    def changing(call):
        def changes_first(*arguments):
            change()
            return call(*arguments)

        return changes_first

    os.write, os.pwrite, os.fsync = changing(os.write), changing(os.pwrite), changing(os.fsync)
    sys.addaudithook(on_event)


def is_usual(kind, replaces, again, full):
    """Whether a case is tried without --long: one of each way to write with the most changes."""
    return (kind, replaces, again, full) in [("npz", True, False, False), ("per-image-npz", True, False, False)]


@pytest.mark.parametrize(
    ("replaces", "again", "full"),
    [(False, False, False), (False, True, False), (True, False, False), (True, False, True)],
)
@pytest.mark.parametrize("kind", OUTPUTS)
def test_stopped_at_every_change(folder, monkeypatch, kind, replaces, again, full, request):
    long = request.config.getoption("--long")
    if not is_usual(kind, replaces, again, full) and not long:
        pytest.skip("with --long 1")
    monkeypatch.setattr("roicli.outputs.zarr._CHUNK_BYTES", 64)
    monkeypatch.setattr("roicli.outputs.zarr._SHARD_BYTES", 128)
    monkeypatch.setattr("roicli.jobs.align.is_scattered", lambda *_: kind == "scattered")
    job = make_job(kind, overwrite=replaces)
    align(job, Silent())
    whole = files_in(folder, *INPUTS)
    name = job.output.name
    assert {name, "rows.csv", f"{name}.skipped.csv"} <= whole.keys()
    before = {name: {"x": b"another"} if isinstance(found, dict) else b"another" for name, found in whole.items()}
    for changes in count(0, 1 if long > 1 else 5):
        for path in folder.iterdir():
            if path.name not in INPUTS:
                remove_tree(path)
        for other, content in before.items() if replaces else ():
            if isinstance(content, dict):
                Path(other).mkdir()
            Path(other, "x" if isinstance(content, dict) else "").write_bytes(b"another")
        if not is_stopped(partial(align, job, Silent()), changes, full=full):
            break
        if without_locks(files_in(folder, *INPUTS)) == whole and not Path(f".{name}.journal").exists():
            continue  # without it, --resume would refuse an output that is complete
        if again:
            is_stopped(partial(align, replace(job, resume=True), Silent()), changes // 2)
        for other, content in files_in(folder, *INPUTS).items():
            assert other not in whole or content in (whole[other], before[other]), f"{other} after {changes} changes"
        align(replace(job, resume=True), Silent())
        assert files_in(folder, *INPUTS) == whole, f"after {changes} changes"
    assert changes > 20


@pytest.mark.parametrize("replaces", [False, True])
@pytest.mark.parametrize("kind", [kind for kind in OUTPUTS if kind not in ("scattered", "groups")])
def test_convert_stopped_at_every_change(folder, kind, replaces, dose):
    """It does not go on, but begins anew; until it is done, no output appears, or what it replaces stays."""
    source = make_job("npz", output_layout=None)
    align(replace(source, output=Path("source.npz"), spec=PoolSpec((1, 1), reduce="mean"), index=None), Silent())
    inputs = (*INPUTS, "source.npz", "source.npz.skipped.csv")
    output = OUTPUTS[kind][0]
    convert(
        job := ConvertJob(
            Path("source.npz"),
            Path(output["output"]),
            output.get("output_layout"),
            index=Path("rows.csv"),
            overwrite=replaces,
        ),
        lambda rows: None,
    )
    whole = files_in(folder, *inputs)
    name = job.output.name
    assert {name, "rows.csv", f"{name}.skipped.csv"} <= whole.keys()
    for changes in count(0, 1 if dose > 1 else 25):
        if not replaces:
            for path in folder.iterdir():
                if path.name not in inputs:
                    remove_tree(path)
        if not is_stopped(partial(convert, job, lambda rows: None), changes):
            break
        left = files_in(folder, *inputs)
        assert left.get(name, whole[name]) == whole[name], f"after {changes} changes"
        assert name not in left or whole.keys() <= left.keys(), f"after {changes} changes"
        convert(replace(job, overwrite=True), lambda rows: None)
        assert files_in(folder, *inputs) == whole, f"after {changes} changes"
    assert changes > 15
