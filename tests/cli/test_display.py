"""Progress: a bar on a terminal is tested with the real command; here, lines on a pipe."""

import pytest

from roicli.cli.render import Display


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves."""
    now = [1000.0]
    monkeypatch.setattr("roicli.cli.render.time.monotonic", lambda: now[0])
    return now


def lines(clock, capsys, seconds, quiet=False, boxes=12_000, steps=600):
    with Display(quiet=quiet) as display:
        display.begin(boxes)
        for _ in range(steps):
            clock[0] += seconds / steps
            display.advance(boxes // steps)
    return capsys.readouterr().err.splitlines()


def test_a_short_job_says_nothing(clock, capsys):
    assert lines(clock, capsys, 59) == []


def test_a_line_each_minute(clock, capsys):
    said = lines(clock, capsys, 330)
    assert len(said) == 5
    assert said[1] == "pooled 4,400 of 12,000 boxes (37%), about 3 min left"


def test_a_line_each_tenth_of_a_long_job(clock, capsys):
    said = lines(clock, capsys, 10 * 3600)
    assert len(said) in (9, 10)
    assert said[0] == "pooled 1,200 of 12,000 boxes (10%), about 540 min left"


def test_quiet(clock, capsys):
    assert lines(clock, capsys, 3600, quiet=True) == []
