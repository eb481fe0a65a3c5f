"""`roicli recipe`: each script compiles, is short, and gives options that align has. Run them by tests/recipes."""

import shlex

import click
import pytest
from driving import run

from roicli.cli.main import main
from roicli.cli.recipe import recipes

NAMES = {
    *("torchvision", "detectron2", "mmdetection", "ultralytics", "timm"),
    *("dinov2", "clip", "sam", "qwen-vl", "slowfast"),
}


def test_the_list(tmp_path):
    assert recipes().keys() == NAMES
    listed = run(tmp_path, "recipe").stdout
    assert all(f"\n  {name} " in listed for name in NAMES)
    assert max(map(len, listed.splitlines())) <= 140
    assert run(tmp_path, "recipe", "timm").stdout == recipes()["timm"]
    assert "'tim' is not a recipe\nhint: Give one of clip, " in run(tmp_path, "recipe", "tim", expect=2).stderr


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each(name):
    text = recipes()[name]
    compile(text, name, "exec")
    lines = text.splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 120
    words = shlex.split(joined(text))
    assert words[:2] == ["roicli", "align"]
    align = main.get_command(click.Context(main), "align")
    with align.make_context("align", words[2:]) as context:
        assert context.params["preprocess"] is not None


def joined(text):
    """The command that a script names in its head."""
    lines = [line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#")]
    first = next(number for number, line in enumerate(lines) if line.startswith("roicli align"))
    command = lines[first]
    while command.endswith("\\"):
        first += 1
        command = f"{command[:-1]} {lines[first]}"
    return command
