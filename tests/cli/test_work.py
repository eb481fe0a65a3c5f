"""Commands for those who run many jobs: `missing`, `completion`, `help --json`."""

import json
import os
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


# Stands for Slurm: runs a script for each task at once, and tells the id of its array as a federation does.
SBATCH = """#!/bin/bash
case "$*" in *--array=1-3*) tasks="1 2 3" ;; esac
echo "$@" >> submitted
script=$(cat)
for task in ${tasks:-none}; do SLURM_ARRAY_TASK_ID=$task bash -euc "$script"; done
echo "77;east"
"""
ROICLI = """#!/bin/bash
printf '%s\\0' "$SLURM_ARRAY_TASK_ID" "$@" >> called; printf '\\n' >> called
"""


@pytest.mark.parametrize("name", ["p.npy", "my $HOME 'pooled[1].npy", "-p.npy", "END.npy"])
def test_sbatch(folder, name):
    """The script runs in a shell; what it calls makes the bytes of one run."""
    given = [
        "align",
        "f.npy",
        "b.json",
        "-q",
        "--size=3x2",
        "--no-aligned",
        "--spatial-scale",
        "1/2",
        f"--output={name}",
    ]
    script = run(folder, "sbatch", "--nodes", 3, "--time", "1:00:00", *given, "--index", "i j.csv").stdout
    (folder / "bin").mkdir()
    for program, text in (("sbatch", SBATCH), ("roicli", ROICLI)):
        (folder / "bin" / program).write_text(text)
        (folder / "bin" / program).chmod(0o755)
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    subprocess.run(["bash", "-s"], input=script, text=True, cwd=folder, check=True, env=os.environ | {"PATH": path})
    array, merge = (folder / "submitted").read_text().splitlines()
    assert "--array=1-3 --nodes=1 --exclusive --time=1:00:00" in array
    assert "--dependency=afterok:77 --kill-on-invalid-dep=yes --time=1:00:00" in merge
    for call in (folder / "called").read_text().splitlines():
        task, *words = call.split("\0")[:-1]
        run(folder, *words, SLURM_ARRAY_TASK_ID=task)
    run(folder, *given[:-1], "-o", "whole.npy", "--index", "whole.csv")
    assert (folder / name).read_bytes() == (folder / "whole.npy").read_bytes()
    parts = sorted(folder.glob("i j-part-*-of-3.csv"))
    assert len(parts) == 3
    again = script.splitlines()[2].partition("bash FILE ")[2]
    asked = subprocess.run(["bash", "-c", f"echo {again}"], cwd=folder, env=os.environ | {"PATH": path}, check=True)
    *_, last = (folder / "called").read_text().splitlines()
    assert run(folder, *last.split("\0")[1:-1]).stdout == "\n"
    assert asked.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "f.npy", "b.json"], "expected align and its arguments, got 'check'"),
        (["align", "f.npy", "b.json"], "missing option '-o'"),
        (["align", "f.npy", "b.json", "-o", "p.npy", "--sise", "7"], "no such option '--sise'"),
        (["align", "f.npy", "-", "-o", "p.npy"], "boxes on standard input"),
        (["align", "f.npy", "b.json", "-o", "p.npy", "--shard", "1/2"], "--shard does not go with sbatch"),
        (["align", "f.npy", "b.json", "-o", "p.npy", "--executor", "dask:"], "--executor does not go with sbatch"),
        (["align", "f.npy", "b.json", "-o", "p\n.npy"], "cannot be printed"),
        (["align", "https://me:hunter2@a.org/f.npy", "b.json", "-o", "p.npy"], "is secret of https://a.org/f.npy."),
        (["align", "f.npy", "HTTPS://a.org/b.json?token=hunter2", "-o", "p.npy"], "is secret of https://a.org/b.json."),
        (["align", "s3://me:hunter2@a/f.npy", "b.json", "-o", "p.npy"], "have no user or password"),
    ],
)
def test_sbatch_of_what_cannot_run(tmp_path, arguments, message):
    done = run(tmp_path, "sbatch", "--nodes", 2, *arguments, expect=2)
    assert message in done.stderr
    assert "hunter2" not in done.stderr
    assert not done.stdout


def test_sbatch_says_nothing_of_the_environment(tmp_path):
    known = dict.fromkeys(["HF_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], "hunter2")
    for features in "hf://datasets/a/b/f.npy", "s3://a/f.npy":
        assert (
            "SECRET" not in run(tmp_path, "sbatch", "--nodes", 2, "align", features, "b", "-o", "p.npy", **known).stdout
        )


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
