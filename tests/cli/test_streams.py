"""What `roicli` prints where, and what becomes of it if a stream is closed, full or a terminal."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from driving import ROICLI, run

import roicli


def test_a_progress_bar_on_a_terminal_only(many):
    folder, *_ = many
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [ROICLI, "align", "feats.h5", "boxes.json", "-o", "out.npy"], cwd=folder, stderr=theirs, stdout=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            shown += part
        assert process.wait() == 0
    os.close(ours)
    assert b"40/40" in shown
    assert b"pooling" not in run(folder, "align", "feats.h5", "boxes.json", "-o", "b.npy").stderr.encode()


def test_a_terminal_that_is_closed_meanwhile_ends_no_job(many):
    """As after `disown`: neither notes nor the bar find anybody."""
    folder, *_ = many
    ours, theirs = pty.openpty()
    command = ["sh", "-c", 'trap "" HUP; read go; exec "$@"', "sh", ROICLI, "align", "feats.h5", "boxes.json"]
    with subprocess.Popen([*command, "-o", "out.npy"], cwd=folder, stdin=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        os.close(ours)
        process.communicate(b"go\n", timeout=30)
    assert process.returncode == 0
    assert (folder / "out.npy").exists()


@pytest.mark.parametrize("start", [[ROICLI], [sys.executable, "-m", "roicli"]], ids=["roicli", "python -m roicli"])
def test_a_signal_while_modules_are_loaded(tmp_path, start):
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = subprocess.run(
        [*start, "--version"], env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_closed_and_full_streams(many):
    folder, *_ = many
    command = f"{ROICLI} align feats.h5 boxes.json -o out.npy --overwrite"
    for script, code in [
        (f"{command} 2>&-", 0),
        (f"{command} 2>/dev/full", 0),
        (f"{command} 2> >(true)", 0),
        (f"{command} <&- >&- 2>&-", 0),
        (f"{ROICLI} align 2>/dev/full", 2),
        (f"{ROICLI} info no.npy 2>/dev/full", 3),
        (f"{command} --json >&-", 3),
        (f"{command} --json >/dev/full", 3),
        (f"{ROICLI} --help >/dev/full", 3),
        (f"{command} --json | true; exit ${{PIPESTATUS[0]}}", 141),
        (f"{ROICLI} info feats.h5 | true; exit ${{PIPESTATUS[0]}}", 141),
        (f"{ROICLI} check feats.h5 boxes.json | true; exit ${{PIPESTATUS[0]}}", 141),
        (f"trap '' XFSZ; ulimit -f 4; {command} --size 20", 3),
    ]:
        (folder / "out.npy").unlink(missing_ok=True)
        done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == code, (script, done.stderr)
        assert "Traceback" not in done.stderr
        assert (folder / "out.npy").exists() == (command in script and "ulimit" not in script)
        assert not list(folder.glob(".*.partial"))


def test_an_output_is_told_before_standard_output_fails(many):
    folder, *_ = many
    script = f"{ROICLI} align feats.h5 boxes.json -o out.npy --json >/dev/full"
    done = subprocess.run(["sh", "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    *_, report, error, hint = done.stderr.splitlines()
    assert report.endswith("out.npy 40 x 6 x 7 x 7 float32")
    assert error == "error: standard output: No space left on device"
    assert hint.startswith("hint: ")


@pytest.mark.parametrize("target", [">/dev/full", ">&-"])
@pytest.mark.parametrize("form", ["", "--json"])
@pytest.mark.parametrize("command", ["info feats.h5", "check feats.h5 boxes.json", "trace feats.h5 boxes.json"])
def test_what_is_asked_for_is_not_lost_in_silence(many, command, form, target):
    folder, *_ = many
    script = f"{ROICLI} {command} {form} {target}"
    done = subprocess.run(["sh", "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    reason = "No space left on device" if "full" in target else "Bad file descriptor"
    *_, error, hint = done.stderr.splitlines()
    assert error == f"error: standard output: {reason}"
    remedy = "Send it to a file on a disk that has room, or to a pipe." if "full" in target else "Do not close it."
    assert hint == f"hint: {remedy}"


def test_help_is_complete():
    for arguments in ([], ["align"]):
        shown = run(Path.cwd(), *arguments, "--help", COLUMNS="80").stdout
        assert max(map(len, shown.splitlines())) <= 80
        assert "  roicli align feats.h5 boxes.json -o pooled.npy --size 7 --aligned\n" in shown
    assert run(Path.cwd(), "--version").stdout == f"roicli {roicli.__version__}\n"
    as_module = subprocess.run(
        [sys.executable, "-m", "roicli", "--version"], capture_output=True, text=True, check=True
    )
    assert as_module.stdout == f"roicli {roicli.__version__}\n"


@pytest.mark.parametrize("words", ["align feat", "check feat", "trace feat", "info feat", "merge out.npy feat"])
def test_shells_complete_names_of_files(words):
    asked = {
        "_ROICLI_COMPLETE": "bash_complete",
        "COMP_WORDS": f"roicli {words}",
        "COMP_CWORD": str(words.count(" ") + 1),
    }
    assert run(Path.cwd(), **asked).stdout == "file,feat\n"


def test_an_unexpected_failure_is_one_line_without_debug(many, monkeypatch):
    from click.testing import CliRunner

    from roicli.cli.main import main
    from roicli.jobs.align import align as job

    folder, *_ = many
    monkeypatch.setattr(sys.modules[job.__module__], "prepare_and_judge", lambda *_, **__: 1 / 0)
    arguments = [
        "align",
        str(folder / "feats.h5"),
        str(folder / "boxes.json"),
        "-o",
        str(folder / "out.npy"),
        "--quiet",
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 70
    assert result.output.splitlines()[0] == "error: unexpected ZeroDivisionError: division by zero"
    assert isinstance(CliRunner().invoke(main, ["--debug", *arguments]).exception, ZeroDivisionError)
