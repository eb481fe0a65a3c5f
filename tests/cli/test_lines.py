"""What is printed where: whole lines in a pipe, lines broken between words on a terminal."""

from pathlib import Path

import numpy as np
import pytest
from driving import run, run_on_terminal

from roicli.cli.lines import fitted

SAMPLES = Path(__file__).parents[2] / "sample_data"
FORGOTTEN = ["check", "feats.h5", "boxes.json"]  # whose notes are long, with the spatial scale missing
TRACED = ["trace", "feats.h5", "boxes.json", "--spatial-scale", "1/16", "--bins"]


def test_the_middle_of_an_endless_message_is_left_out():
    shown = fitted(f"error: b.json: no image {'x' * 10**6} in a.h5")
    assert len(shown) < 5000
    assert shown.startswith("error: b.json: no image xxx")
    assert shown.endswith("xxx in a.h5")


def test_a_pipe_gets_whole_lines():
    done = run(SAMPLES, *FORGOTTEN)
    notes = done.stderr.splitlines()
    assert [note.partition(":")[0] for note in notes] == ["note", "note", "warning"]
    assert notes[-1].endswith("--spatial-scale 1/16")
    assert "142.51 to 212.01, 0 is the center of the first cell\n" in done.stdout
    assert run(SAMPLES, *FORGOTTEN, COLUMNS="40").stderr == done.stderr


@pytest.mark.parametrize("command", [FORGOTTEN, [*TRACED, "--vs", "roi-pool"], ["info", "feats.h5"]])
@pytest.mark.parametrize("columns", [{}, {"COLUMNS": "80"}, {"COLUMNS": "160"}])
def test_no_line_ends_in_spaces(command, columns):
    lines = run(SAMPLES, *command, **columns).stdout.splitlines()
    assert [line for line in lines if line != line.rstrip()] == []


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("command", [FORGOTTEN, TRACED, ["trace", "feats.h5", "--vs", "caffe"]])
def test_a_terminal_breaks_lines_between_words(columns, command):
    shown = run_on_terminal(SAMPLES, columns, *command)
    assert max(len(line) for line in shown.splitlines() if not line.startswith("Usage:")) <= columns
    done = run(SAMPLES, *command, expect=2 if "caffe" in command else 0)
    assert [word for word in done.stderr.split() if word not in shown.split()] == []


def test_a_dumb_terminal_has_a_width_too():
    shown = run_on_terminal(SAMPLES, 100, *FORGOTTEN, TERM="dumb")
    assert "142.51 to 212.01, 0 is the center of the first cell\n" in shown
    assert 80 < max(map(len, shown.splitlines())) <= 100


def test_two_traces_side_by_side_break_no_extent():
    shown = run_on_terminal(SAMPLES, 160, *TRACED, "--vs", "roi-pool")
    assert "y 8.9069 to 9.5274 (0.2205 wide, 0.6205 high)" in shown
    assert "y 8.5 to 9.5 (1 wide, 1 high)" in shown
    narrow = run_on_terminal(SAMPLES, 40, *TRACED)
    assert "its bin   x 14.811 to 15.032,\n          y 8.9069 to 9.5274\n" in narrow


@pytest.mark.parametrize(
    ("columns", "factor", "headers"),
    [
        (None, 1, ["0 1 2 3 4 5 6"]),
        (80, 1, ["0 1 2 3 4 5 6"]),
        (80, -1e-5, ["0 1 2 3", "4 5 6"]),
        (40, 1, ["0 1 2 3", "4 5 6"]),
        (40, -1e-5, ["0 1 2", "3 4", "5 6"]),
    ],
)
def test_a_block_stands_on_one_line_or_is_broken_evenly(tmp_path, columns, factor, headers):
    np.save(tmp_path / "map.npy", (np.random.default_rng(0).random((1, 9, 9)) * factor).astype(np.float32))
    command = ["trace", "map.npy", "--box", "0,0,8,8", "--bins"]
    shown = run_on_terminal(tmp_path, columns, *command) if columns else run(tmp_path, *command).stdout
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert [line for line in lines if line and set(line) <= set("0123456 ")] == headers


def test_a_name_is_no_emoji(tmp_path):
    np.save(tmp_path / ":car:.npy", np.zeros((1, 2, 2), np.float32))
    assert "file          :car:.npy, 144 bytes\n" in run(tmp_path, "info", ":car:.npy").stdout
