"""Commands for those who run many jobs: `missing`, `completion`, `help --json`."""

import json
import subprocess

import numpy as np
import pytest
from driving import run

JOB = ("align", "f.npy", "b.json", "-q")


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "f.npy", np.ones((5, 2, 4, 4), np.float32))
    (tmp_path / "b.json").write_text(json.dumps([[n, 0, 0, 3, 3] for n in range(5)]))
    for part in (1, 4):
        run(tmp_path, *JOB, "-o", f"part-{part}.npy", "--shard", f"{part}/5")
    return tmp_path


def test_missing(folder):
    assert run(folder, "missing", "part-*.npy", expect=1).stdout == "2 of 5 parts are done; missing: 2-3,5\n"
    assert run(folder, "missing", "part-1.npy", "part-4.npy", "--array", expect=1).stdout == "2-3,5\n"
    report = json.loads(run(folder, "missing", "part-*.npy", "--json", expect=1).stdout)
    assert report == {"parts": 5, "done": [1, 4], "missing": [2, 3, 5], "array": "2-3,5"}
    for part in (2, 3, 5):
        run(folder, *JOB, "-o", f"part-{part}.h5", "--shard", f"{part}/5")
    assert run(folder, "missing", "part-*").stdout == "5 of 5 parts are done; none is missing\n"


def test_missing_of_other_files(folder):
    run(folder, *JOB, "-o", "whole.npy")
    assert "whole.npy is not a part of a job" in run(folder, "missing", "whole.npy", expect=3).stderr
    assert "no file matches x-*" in run(folder, "missing", "x-*", expect=3).stderr
    run(folder, *JOB, "-o", "other.npy", "--shard", "1/3")
    assert "part-1.npy is one of 5 parts, other.npy one of 3" in run(
        folder, "missing", "part-1.npy", "other.npy", expect=3
    ).stderr  # fmt: skip


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(tmp_path, shell):
    script = run(tmp_path, "completion", shell).stdout
    assert "_ROICLI_COMPLETE" in script
    if shell == "bash":
        subprocess.run(["bash", "-n", "-c", script], check=True)


def test_completion_completes(tmp_path):
    known = {"_ROICLI_COMPLETE": "bash_complete", "COMP_WORDS": "roicli align --ove", "COMP_CWORD": "2"}
    assert run(tmp_path, fresh=True, **known).stdout.split() == ["plain,--overwrite"]


def test_help_as_json(tmp_path):
    commands = json.loads(run(tmp_path, "help", "--json").stdout)["commands"]
    assert commands.keys() >= {"align", "check", "trace", "merge", "missing"}
    [size] = [option for option in commands["align"]["params"] if option["name"] == "size"]
    assert size["opts"] == ["--size"]
