"""The inputs of a job of about ten tasks."""

import shutil

import crash
import pytest
from driving import Silent
from resume.resuming import BOXES, FORMATS, make_job

from roicli.jobs.align import align


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """A folder with the inputs of a job of about ten tasks, and its outputs, undisturbed."""
    folder = tmp_path_factory.mktemp("inputs")
    crash.make_inputs(folder, BOXES)
    (folder / "expected").mkdir()
    for suffix in FORMATS:
        align(make_job(folder, suffix), Silent())
        for name in (f"out{suffix}", "rows.csv"):
            (folder / name).rename(folder / "expected" / name)
    return folder


@pytest.fixture
def folder(inputs, tmp_path, monkeypatch):
    """The inputs in a folder of their own, which is the current one."""
    for name in ("feats.h5", "boxes.npy"):
        shutil.copy2(inputs / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
