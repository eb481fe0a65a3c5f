"""What people meet first: --help, `roicli help`, and what a mistyped word gets."""

import re

import click
import pytest
from click.testing import CliRunner
from driving import run_on_terminal

from roicli.cli.help import TOPICS, read_topic
from roicli.cli.main import main
from roicli.regions import BoxFormat


def said(*arguments, code=0, **settings):
    done = CliRunner().invoke(main, arguments, prog_name="roicli", **settings)
    assert done.exit_code == code, done.output
    return done.output


def test_options_stand_in_groups():
    shown = said("align", "--help", terminal_width=80)
    headings = [line for line in shown.splitlines() if line.endswith(":") and not line.startswith(" ")]
    groups = ["Inputs:", "Levels:", "Numbers:", "Rows:", "Output:", "Run:"]
    assert [line for line in headings if line != "Options:"] == groups
    assert shown.index("Numbers:") < shown.index("  --aligned") < shown.index("Rows:") < shown.index("--bad-boxes")
    assert "Exit codes: 0 done, 1 a comparison failed or check --strict has warned, 2 wrong usage, 3" in " ".join(
        shown.split()
    )
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize("command", ["align", "check", "trace", "merge", "info"])
def test_defaults_are_what_one_would_type(command, width):
    shown = said(command, "--help", terminal_width=width)
    assert not re.search(r"\[default:\s+\(|\[[^\]]*[<>]", shown)
    assert not re.search(r"\w-\n", shown)  # a value that is cut cannot be typed


def test_every_option_is_declared_once():
    """Commands share the same declarations, so that a word means the same in all of them."""
    declared = {}
    for name in main.list_commands(None):
        for option in main.get_command(None, name).params:
            if isinstance(option, click.Option) and option.name in ("size", "op", "box_format", "bad_boxes", "as_json"):
                declared.setdefault(option.name, set()).add(option.help)
    assert all(len(texts) == 1 for name, texts in declared.items() if name != "as_json"), declared


def test_box_formats_are_those_of_the_regions():
    [option] = [one for one in main.get_command(None, "align").params if one.name == "box_format"]
    assert list(option.type.choices) == [str(one) for one in BoxFormat]


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["algin"], "roicli has no command 'algin'", "Did you mean roicli align?"),
        (["pool"], "roicli has no command 'pool'", "Use one of align, check, info,"),
        (["align", "--alligned"], "no such option '--alligned'", "Did you mean --aligned?"),
        (["check", "maps.npy"], "missing argument 'BOXES'", "See roicli check --help."),
        (["--colour"], "no such option '--colour'", "See roicli --help."),
        (["help", "resum"], "the guide has no topic 'resum'", "Did you mean roicli help resume?"),
        (["help", "x"], "the guide has no topic 'x'", "Use one of formats, geometry,"),
    ],
)
def test_a_mistyped_word_gets_a_suggestion(arguments, message, hint):
    lines = said(*arguments, code=2).splitlines()
    assert lines[0].lower() == f"error: {message}".lower()
    assert lines[1].startswith(f"hint: {hint}")
    assert len(lines) == 2


def test_the_guide_lists_its_topics():
    shown = said("help")
    assert all(f"  {name} " in shown for name in TOPICS)
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_is_shown(topic):
    assert said("help", topic) == read_topic(topic)


def test_a_topic_on_a_terminal_is_laid_out(tmp_path):
    shown = run_on_terminal(tmp_path, 60, "help", "resume")
    assert "```" not in shown
    assert max(map(len, shown.splitlines())) <= 60


def test_help_of_a_command_is_found_there_too():
    assert said("help", "merge").startswith("Usage: roicli merge [OPTIONS] OUT PART...")


def test_errors_have_colors_on_a_terminal_only(tmp_path, monkeypatch):
    failed = CliRunner().invoke(main, ["info", "nothing.npy"], color=True).output
    assert failed.startswith("\x1b[31m\x1b[1merror:\x1b[0m nothing.npy")
    assert "\x1b" not in said("info", "nothing.npy", code=3)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in CliRunner().invoke(main, ["info", "nothing.npy"], color=True).output
