"""Servers that fail, stall or answer wrongly: a finished job, or one clear message in bounded time."""

import time
from importlib.util import find_spec

import numpy as np
import pytest
from driving import run
from stores.webserver import server as server

from roicli.stores import requests

pytestmark = pytest.mark.skipif(find_spec("obstore") is None, reason="needs roicli[stores]")

HOW = ("--spatial-scale", "1/4", "--workers", "1", "--quiet")


@pytest.fixture
def job(tmp_path, server, monkeypatch):
    """Return a function that runs a job of twelve maps from the server."""
    monkeypatch.setattr(requests, "PAUSE", 0.001)
    monkeypatch.setattr(requests, "STALLED", "0.3s")
    monkeypatch.setattr(requests, "PART", 2**16)
    np.save(tmp_path / "maps.npy", np.random.default_rng(0).standard_normal((12, 8, 50, 60), np.float32))
    (tmp_path / "boxes.json").write_text(str([[number, 3, 5, 90, 80] for number in range(12)]))
    server.files["maps.npy"] = (tmp_path / "maps.npy").read_bytes()

    def start(expect=0):
        done = run(tmp_path, "align", server.url("maps.npy?SECRET"), "boxes.json", "-o", "out.npy", *HOW, expect=expect)
        assert "SECRET" not in done.stderr
        assert (tmp_path / "out.npy").exists() == (not expect)
        return done.stderr

    return start


def every(number, answer):
    """Answer each so manieth request in another way."""
    asked = iter(range(1, 10**6))
    return lambda handler, content: not next(asked) % number and (answer(handler, content) or True)


def cut_off(handler, content):
    handler.answer(206, content[:5], content, f"bytes 0-99/{len(content)}", length=100)
    handler.close_connection = True


FAULTS = {
    "503": lambda handler, content: handler.answer(503, b"SECRET"),
    "429": lambda handler, content: handler.answer(429, b""),
    "closed": lambda handler, content: setattr(handler, "close_connection", True),
    "cut off": cut_off,
    "stalled": lambda handler, content: time.sleep(0.5),
    "short": lambda handler, content: handler.answer(206, b"x", content, f"bytes 0-{len(content) - 1}/{len(content)}"),
    "other range": lambda handler, content: handler.answer(206, content[7:9], content, f"bytes 7-8/{len(content)}"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_tenth_of_the_requests_fails(tmp_path, server, job, fault):
    run(tmp_path, "align", "maps.npy", "boxes.json", "-o", "local.npy", *HOW)
    server.fault = every(10, FAULTS[fault])
    job()
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "local.npy").read_bytes()


MESSAGES = {
    "503": "the server answers 503 Service Unavailable (5 times)",
    "429": "the server answers 429 Too Many Requests (5 times)",
    "closed": "the server ends the connection too early (5 times)",
    "cut off": "(5 times)",
    "stalled": "the server does not answer in time (5 times)",
    "short": "(5 times)",
    "other range": "(5 times)",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_all_requests_fail_after_the_first(server, job, fault):
    asked = iter(range(10**6))
    server.fault = lambda handler, content: next(asked) > 2 and (FAULTS[fault](handler, content) or True)
    told = job(expect=3)
    assert f"error: {server.url('maps.npy')} cannot be read: " in told
    assert MESSAGES[fault] in told
    assert len(told.splitlines()) == 2
    assert len(server.asked) < 120


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (403, "cannot be read: the server answers 403 Forbidden\nhint: Give the whole address, with its token"),
        (401, "cannot be read: the server answers 401 Unauthorized"),
        (404, "does not exist"),
        (200, "cannot be read: its server sends whole files only, no ranges of bytes\nhint: Download it"),
        (400, "cannot be read: the server answers 400 Bad Request"),
    ],
)
def test_answers_that_no_other_try_would_mend(server, job, code, told):
    server.fault = lambda handler, content: handler.answer(code, content if code == 200 else b"no", content) or True
    assert f"error: {server.url('maps.npy')} {told}" in job(expect=3)
    assert len(server.asked) < 5


def test_an_object_that_changes_during_the_job(server, job):
    asked = iter(range(10**6))

    def change(handler, content):
        if next(asked) == 6:
            server.files["maps.npy"] = content[:-1] + b"\1"

    server.fault = change
    assert "maps.npy was modified after it was opened" in job(expect=3)


def test_an_object_that_changes_after_its_last_byte(server, job):
    def change(handler, content):
        if handler.headers["Range"] == "bytes=0-0":
            handler.answer(206, b"\x93", b"other", f"bytes 0-0/{len(content)}")
            return True
        return False

    server.fault = change
    assert "maps.npy was modified while the job ran" in job(expect=3)


def test_no_server(server, job):
    server.shutdown()
    server.server_close()
    assert "cannot be read: the server refuses the connection (5 times)" in job(expect=3)
