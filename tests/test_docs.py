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
from itertools import pairwise
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
    """What a fresh clone has for the README's commands, and the environment that the first one makes."""
    shutil.copytree(ROOT / "sample_data", tmp_path / "sample_data")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "roicli").symlink_to(BIN / "roicli")
    (tmp_path / ".venv" / "bin" / "activate").touch()
    return tmp_path


def do(command, folder):
    """Do what the README says in a shell; the environment is there already."""
    known = os.environ | {"PATH": f"{folder}/.venv/bin:{os.environ['PATH']}", "COLUMNS": "80"}
    script = re.sub("^python3 -m venv .*?pip install --quiet . && ", "", command)
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False, env=known)
    assert done.returncode == 0, done.stderr
    return done.stderr + done.stdout


def test_commands_of_the_readme(folder):
    """One after another, as a reader does them; a text below a command is how its output begins."""
    figures = re.compile(r"in \d.*?\)")  # of speed
    shown = 0
    for (kind, text), (kind_below, below) in pairwise([*BLOCKS, ("", "")]):
        for command in text.splitlines() if kind == "sh" and "pytest" not in text else []:
            printed = [figures.sub("", line) for line in do(command, folder).splitlines()]
            words = shlex.split(command)
            for flag in {"-o", "--index", "--picture"} & set(words):
                assert (folder / words[words.index(flag) + 1]).stat().st_size > 0
        if (kind, kind_below) == ("sh", "text"):
            expected = [figures.sub("", line) for line in below.splitlines()]
            assert printed[: len(expected)] == expected
            shown += 1
    assert shown == 3


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
    if module == "roicli.pooling.kernels.compiled":
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
