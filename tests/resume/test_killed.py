"""Killed before each of the changes that it makes to files, one run after another, a job goes on to the same bytes."""

import os
import signal
import sys
import traceback
import warnings
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from driving import Silent, files_in, without_locks

from roicli.jobs.align import AlignJob, align
from roicli.spec import PoolSpec

INPUTS = ("feats.npy", "boxes.npy")
# Without --long, the one with the most changes.
USUAL = [(".npz", True, False)]


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


def make_job(output, **settings):
    return AlignJob(
        "feats.npy",
        Path("boxes.npy"),
        PoolSpec((2, 2)),
        bad_boxes="skip",
        batch_size=2,
        output=Path(output),
        **settings,
    )


def is_killed(job, changes):
    """Run a job in a process that is killed after so many changes to files; False if it makes no more than that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # NumPy has threads of its own, which see to a fork
        child = os.fork()
    if not child:
        try:
            kill_after(changes)
            align(job, Silent())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


def kill_after(changes):
    """Kill this process when it is about to change one more file."""
    left = iter(range(changes))

    def change():
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_event(event, arguments):
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in ("os.rename", "os.remove", "os.truncate", "os.chmod"):
            change()

    def changing(call):
        def changes_first(*arguments):
            change()
            return call(*arguments)

        return changes_first

    os.pwrite, os.fsync = changing(os.pwrite), changing(os.fsync)
    sys.addaudithook(on_event)


@pytest.mark.parametrize(("replaces", "again"), [(False, False), (False, True), (True, False)])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_killed_at_every_change(folder, suffix, replaces, again, request):
    if (suffix, replaces, again) not in USUAL and not request.config.getoption("--long"):
        pytest.skip("with --long 1")
    names = (f"out{suffix}", "rows.csv", f"out{suffix}.skipped.csv")
    before = dict.fromkeys(names, b"another") if replaces else {}
    job = make_job(names[0], index=Path("rows.csv"), overwrite=replaces)
    align(job, Silent())
    whole = files_in(folder, *INPUTS)
    assert whole.keys() == {*names}
    for changes in count():
        for path in folder.iterdir():
            if path.name not in INPUTS:
                path.unlink()
        for name, content in before.items():
            Path(name).write_bytes(content)
        if not is_killed(job, changes):
            break
        if without_locks(files_in(folder, *INPUTS)) == whole and not Path(f".out{suffix}.journal").exists():
            continue  # without it, --resume would refuse an output that is complete
        if again:
            is_killed(replace(job, resume=True), changes // 2)
        for name, content in files_in(folder, *INPUTS).items():
            assert name not in whole or content in (whole[name], before.get(name)), f"{name} after {changes} changes"
        align(replace(job, resume=True), Silent())
        assert files_in(folder, *INPUTS) == whole, f"after {changes} changes"
    assert changes > 20
