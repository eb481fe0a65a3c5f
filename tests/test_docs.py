"""What the documents say, done: every command and every example of the README, and all docstrings."""

import doctest
import importlib
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import h5py
import numpy as np
import pytest

import roicli
from roicli.cli.main import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]


@pytest.fixture
def folder(tmp_path):
    """A folder with the files that the README's commands name."""
    shutil.copytree(ROOT / "sample_data", tmp_path / "sample_data")
    shutil.copy(ROOT / "sample_data" / "feats.h5", tmp_path)
    shutil.copy(ROOT / "sample_data" / "boxes.json", tmp_path)
    (tmp_path / "feats").mkdir()
    with h5py.File(tmp_path / "feats.h5") as file:
        for name in file:
            np.save(tmp_path / "feats" / f"{name}.npy", file[name][()])
    (tmp_path / "boxes.csv").write_text("image_id,x1,y1,x2,y2\n139,1,2,30,40\n632,5,5,9,30\n")
    return tmp_path


@pytest.mark.parametrize("command", [line for line in COMMANDS if "pytest" not in line])
def test_commands_of_the_readme(command, folder):
    words = shlex.split(command.rpartition("&& ")[2])
    assert words.pop(0) in ("roicli", ".venv/bin/roicli")
    done = subprocess.run([BIN / "roicli", *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for flag in {"-o", "--index", "--picture"} & set(words):
        assert (folder / words[words.index(flag) + 1]).stat().st_size > 0


@pytest.mark.parametrize(
    "start", ["roicli align sample_data/", "roicli check sample_data/", "roicli trace sample_data/"]
)
def test_outputs_shown_in_the_readme(start, folder):
    """The block after a command on the samples begins what it prints; figures of speed aside."""
    at, command = next(
        (i, line[line.index(start) :])
        for i, (_, text) in enumerate(BLOCKS)
        for line in text.splitlines()
        if start in line
    )
    done = subprocess.run(
        [BIN / "roicli", *shlex.split(command)[1:]],
        cwd=folder, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "80"},
    )  # fmt: skip
    figures = re.compile(r"in \d.*?\)")
    printed, shown = (
        [figures.sub("", line.rstrip()) for line in text.splitlines()]
        for text in (done.stderr + done.stdout, BLOCKS[at + 1][1])
    )
    assert printed[: len(shown)] == shown


def test_set_up_commands_of_the_readme():
    """CI runs these two lines as they are; here, that each sets up an environment and what it then does."""
    first, second = (line for line in COMMANDS if line.startswith("python3 -m venv .venv && .venv/bin/pip install"))
    assert "roicli align sample_data/" in first
    assert second.endswith(".venv/bin/pytest --quiet")


def test_python_of_the_readme(capsys):
    at = next(i for i, (kind, _) in enumerate(BLOCKS) if kind == "python")
    exec(compile(BLOCKS[at][1], "README.md", "exec"), {})
    assert capsys.readouterr().out == BLOCKS[at + 1][1]


def test_every_command_and_option_is_documented():
    for name in main.list_commands(None):
        command = main.get_command(None, name)
        assert f"roicli {name}" in README
        assert "Examples:" in command.help
        for option in command.params:
            if option.param_type_name == "option":
                assert option.help, option.name
                assert option.help[0] != "[", f"--{option.name} says its default, and not what it is"
        # Words of click for a value whose name nobody has given.
        assert not {"INTEGER", "TEXT", "FLOAT"} & set(command.get_help(click.Context(command)).split())


MODULES = [found.name for found in pkgutil.walk_packages(roicli.__path__, "roicli.") if "__main__" not in found.name]


@pytest.mark.parametrize("module", MODULES)
def test_docstrings(module):
    if module == "roicli.kernels.compiled":
        pytest.importorskip("numba")
    failed, _ = doctest.testmod(importlib.import_module(module), extraglobs={"np": np})
    assert failed == 0


def test_samples_are_what_their_script_makes(folder):
    made = folder / "sample_data"
    before = {path.name: path.read_bytes() for path in (ROOT / "sample_data").iterdir() if path.suffix != ".h5"}
    for path in made.iterdir():
        if path.suffix != ".py":
            path.unlink()
    subprocess.run([sys.executable, made / "make_samples.py"], check=True)
    assert {path.name: path.read_bytes() for path in made.iterdir() if path.suffix != ".h5"} == before
    with h5py.File(made / "feats.h5") as new, h5py.File(ROOT / "sample_data" / "feats.h5") as old:
        assert list(new) == list(old)
        for name in new:
            np.testing.assert_allclose(new[name][()], old[name][()], atol=1e-6)
