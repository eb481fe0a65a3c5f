"""Kills, full disks and rivals, done to the real command; see crash.py for the harness."""

import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import crash
import driving
import h5py
import numpy as np
import pytest
from driving import files_in, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as Linux shows them")
BOXES = 4000
ONE_THREAD = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # as the command sets it, before its imports load NumPy


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A folder with the inputs of a job of some tasks, and its output, undisturbed."""
    folder = tmp_path_factory.mktemp("job")
    crash.make_inputs(folder, BOXES)
    subprocess.run(crash.command("expected.npy"), cwd=folder, check=True)
    return folder


@pytest.fixture
def folder(job, tmp_path):
    for name in ("feats.h5", "boxes.npy"):
        shutil.copy2(job / name, tmp_path)
    return tmp_path


# What a held command does: each worker does one task, and waits then until a file says go.
HELD = """
import time
from pathlib import Path
from roicli.__main__ import main
from roicli.execution.worker import Pooler
pool, done = Pooler.pool, []
def held(self, task):
    while done and not Path({gate!r}).exists():
        time.sleep(0.002)
    done.append(task)
    return pool(self, task)
Pooler.pool = held
main()
"""


def start(folder, *more, output="out.npy", held=False, **options):
    command = crash.command(output, *more)
    if held:
        command = [sys.executable, "-c", HELD.format(gate=str(gate_of(folder))), *command[1:]]
    options = {"start_new_session": True, "stderr": subprocess.PIPE, "text": True, "env": ONE_THREAD} | options
    return subprocess.Popen(command, cwd=folder, **options)


def gate_of(folder):
    return folder.with_name(f"{folder.name}-go")


@contextmanager
def begun(folder, *more, output="out.npy", **options):
    """Run the command until its journal proves some rows, by far not all; its workers wait for `let_go`."""
    with start(folder, *more, output=output, held=True, **options) as process:
        try:
            wait_until(lambda: process.poll() is not None or proves_rows(folder / output))
            assert proves_rows(folder / output), "it never proved a row"
            assert process.poll() is None, "it ended too soon"
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def proves_rows(output):
    journal = output.with_name(f".{output.name}.journal")
    return journal.exists() and b'"done"' in journal.read_bytes()


def let_go(folder):
    """Let the workers of a held command go on."""
    gate_of(folder).touch()


def run(folder, *more, output="out.npy", expect=0, **options):
    if not options:
        return driving.run(folder, *crash.command(output, *more)[1:], expect=expect)
    done = subprocess.run(
        crash.command(output, *more), cwd=folder, capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == expect, done.stderr
    assert "Traceback" not in done.stderr
    return done


def run_program(folder, program, *more):
    """Run a program that changes what it likes in the command before it calls it."""
    command = [sys.executable, "-c", program, *crash.command("out.npy", *more)[1:]]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=ONE_THREAD)


def check_result(folder, job):
    assert (folder / "out.npy").read_bytes() == (job / "expected.npy").read_bytes()
    assert files_in(folder).keys() == {"feats.h5", "boxes.npy", "out.npy", "rows.csv"}


def check_nothing_is_lost(folder, job, program):
    """Hold a run that is stopped after all rows were pooled to keeping them."""
    done = run_program(folder, program)
    stopped = "stopped: 4,000 of 4,000 rows are done; continue with --resume\n"
    assert (done.returncode, done.stderr) == (143, stopped)
    run(folder, "--resume")
    check_result(folder, job)


def killed(folder):
    """Leave what a run that is killed leaves."""
    with begun(folder):
        pass


def test_kills(dose):
    """Killed at any instant, and resumed to the same bytes."""
    outcomes = crash.run(5 * dose, 10_000 if dose > 1 else 3000)
    print(crash.report(outcomes))  # noqa: T201
    assert {suffix for suffix, *_ in outcomes} == set(crash.ALL)


def test_no_file_of_a_job_takes_the_place_of_a_closed_stream(folder, job):
    """Or what a library prints there would be written into it."""

    def close_all():
        os.closerange(0, 3)

    with begun(folder, stderr=None, preexec_fn=close_all) as process:
        pids = crash.processes_of(process.pid)
        opened = {str(Path(f"/proc/{pid}/fd/{number}").readlink()) for pid in pids for number in range(3)}
        let_go(folder)
        process.wait()
    assert opened == {os.devnull}
    check_result(folder, job)


def test_a_signal_keeps_what_is_done(folder, job):
    with begun(folder) as process:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 143
    [last] = errors.splitlines()
    assert last.startswith("stopped: ")
    assert last.endswith(" of 4,000 rows are done; continue with --resume")
    assert wait_until(lambda: not crash.processes_of(process.pid))
    assert {path.name for path in folder.iterdir()} == {
        "feats.h5", "boxes.npy", ".out.npy.partial", ".out.npy.journal",
    }  # fmt: skip
    refused = run(folder, expect=3).stderr
    assert refused.startswith("error: out.npy is unfinished: ")
    assert refused.endswith(
        "hint: If roicli align began it, run that with --resume to go on; or give --overwrite to start over.\n"
    )
    report = json.loads(run(folder, "--resume", "--json").stdout)
    assert f"stopped: {report['resumed']:,} of" in last
    check_result(folder, job)


def test_a_signal_while_the_last_checkpoint_is_awaited_loses_no_row(folder, job):
    """Python takes a thread whose end it was interrupted to wait for as ended, though it is at its flush still."""
    program = """
import os, signal, threading, time
from roicli.__main__ import main
from roicli.resume import checkpoints
from roicli.outputs.rowfile import RowFile
end, flush, waited_for = checkpoints.Checkpoints._end, RowFile.flush, threading.Event()
def ended(self):
    waited_for.set()
    end(self)
def slow(self):
    if waited_for.wait(60) and threading.current_thread() is not threading.main_thread():
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.3)
    flush(self)
checkpoints.Checkpoints._end, RowFile.flush = ended, slow
checkpoints._PAUSE = 0.001  # so that it is at a checkpoint before the job ends, however soon
main()
"""
    check_nothing_is_lost(folder, job, program)


def test_a_signal_while_a_job_is_given_up_loses_no_row(folder, job):
    """It has failed already, and is at its last checkpoint."""
    program = """
import os, signal, sys
from roicli.__main__ import main
from roicli.errors import OutputError
from roicli.resume import checkpoints
from roicli.outputs.rowfile import RowFile
checkpoints._PAUSE = 60  # so that this is the only one
flush = RowFile.flush
def stop(self):
    if sys._getframe(2).f_code.co_name == "save":
        os.kill(os.getpid(), signal.SIGTERM)
    flush(self)
def fail(self):
    raise OutputError("out.npy: cannot write: No space left on device", "")
RowFile.flush, RowFile.check = stop, fail
main()
"""
    check_nothing_is_lost(folder, job, program)


def stopped_in(folder, place, *more):
    """Run the command in a process that is asked to stop when it comes to a place; return what it says."""
    program = f"""
import os, signal, sys
import roicli.jobs.align
from roicli.__main__ import main
from roicli.resume.journal import Journal
align = sys.modules["roicli.jobs.align"]
called = {place}
def stop(*arguments, **more):
    os.kill(os.getpid(), signal.SIGTERM)
    return called(*arguments, **more)
{place} = stop
main()
"""
    done = run_program(folder, program, *more)
    assert done.returncode == 143
    return done.stderr.strip()


def test_a_signal_is_heard_wherever_it_comes(folder, job):
    """Before a job takes up the rows of an earlier run, and while it publishes."""
    killed(folder)
    assert stopped_in(folder, "align.make_plan", "--resume") == "stopped"
    assert stopped_in(folder, "Journal.remove", "--overwrite") == "stopped: the output is complete"
    check_result(folder, job)


@pytest.fixture
def long_job(tmp_path):
    """A job of some seconds before whose first checkpoint there is time, and its two workers."""
    with h5py.File(tmp_path / "feats.h5", "w") as file:
        for n in range(8):
            file[f"{n}"] = np.ones((256, 64, 64), np.float32)
    boxes = np.tile([0.0, 0, 0, 60, 60], (6000, 1))
    boxes[:, 0] = np.arange(6000) % 8
    np.save(tmp_path / "boxes.npy", boxes)
    command = [crash.ROICLI, "align", "feats.h5", "boxes.npy", "-o", "out.npy", "--workers", "2", "--mode", "max"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        yield tmp_path, process, wait_until(lambda: two_workers(process))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def two_workers(process):
    found = crash.workers_of(process.pid)
    return found if len(found) == 2 else None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_stops_it_and_leaves_nothing(long_job, number, code):
    folder, process, _ = long_job
    for _ in range(3):  # an impatient user's further signals must not disturb the cleaning up
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert errors.splitlines()[-1] == "stopped: what was not complete has been removed"
    assert "Traceback" not in errors
    assert files_in(folder).keys() == {"boxes.npy", "feats.h5"}
    assert wait_until(lambda: not crash.processes_of(process.pid))


def test_workers_end_with_their_parent(long_job):
    _, process, _ = long_job
    process.kill()
    assert wait_until(lambda: not crash.processes_of(process.pid))


def test_a_worker_that_dies_costs_only_its_task(folder, job):
    with begun(folder) as process:
        os.kill(crash.workers_of(process.pid)[0], signal.SIGKILL)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 3
    error, _, note = errors.splitlines()
    assert error == "error: a worker process died before its work was done (SIGKILL)"
    assert note.endswith("rows are done; continue with --resume")
    assert wait_until(lambda: not crash.processes_of(process.pid))
    run(folder, "--resume")
    check_result(folder, job)


def test_a_second_run_is_refused_while_the_first_lives(folder, job):
    with begun(folder) as process:
        process.send_signal(signal.SIGSTOP)  # as good as dead, but not dead
        for flags in ([], ["--overwrite"], ["--resume"], ["--resume", "--overwrite"]):
            message = run(folder, *flags, expect=3).stderr
            assert f"out.npy is being written by process {process.pid} of {os.uname().nodename}" in message
        (folder / "link.npy").symlink_to("out.npy")
        assert "link.npy is being written by" in run(folder, output="link.npy", expect=3).stderr
        (folder / "link.npy").unlink()
        let_go(folder)
        process.send_signal(signal.SIGCONT)
        assert process.wait(30) == 0
    check_result(folder, job)


def test_of_many_that_resume_at_once_one_does(folder, job):
    killed(folder)
    rivals = [start(folder, "--resume") for _ in range(5)]
    errors = [process.communicate(timeout=60)[1] for process in rivals]
    codes = [process.returncode for process in rivals]
    assert codes.count(0) == 1, errors
    for code, error in zip(codes, errors, strict=True):
        assert code in (0, 3)
        assert code == 0 or "is being written by process" in error or "exists" in error, error
    check_result(folder, job)


def test_a_map_that_breaks_in_the_middle(folder):
    """What was done before it was read is kept, though it will break again."""
    import h5py

    with h5py.File(folder / "feats.h5", "r+") as file:
        array = file["055"][()]
        del file["055"]
        file.create_dataset("055", data=array, compression="gzip")
        place = file["055"].id.get_chunk_info(0).byte_offset
    with (folder / "feats.h5").open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 64)
    for flags in ([], ["--resume"]):
        error, _, note = run(folder, *flags, expect=3).stderr.splitlines()
        assert "feats.h5, dataset /055" in error
        assert note.endswith("rows are done; continue with --resume")


def test_a_file_that_may_not_grow(folder, job):
    """The archive of an .npz is larger than its rows: its last part finds no room, after all rows were written."""
    size = BOXES * (32 + 4) + 2000
    before = folder / "out.npz"
    before.write_text("before")
    done = run(
        folder, "--overwrite", "--workers", "1", output="out.npz", expect=3,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )  # fmt: skip
    error, hint, note = done.stderr.splitlines()
    assert error.endswith("out.npz: cannot write: File too large")
    assert hint.startswith("hint: Raise the limit of the size of files (ulimit -f)")
    assert note == "note: 4,000 of 4,000 rows are done; continue with --resume and --overwrite"
    assert before.read_text() == "before"
    report = json.loads(run(folder, "--overwrite", "--resume", "--json", output="out.npz").stdout)
    assert report["resumed"] == BOXES


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 8 MiB, if this process may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("may not mount a small disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_the_disk_that_a_link_leads_to_must_have_room(folder, small_disk):
    options = ("--size", "16", "--reduce", "none")
    (small_disk / "out.npy").symlink_to(folder / "real.npy")
    (folder / "out.npy").symlink_to(small_disk / "real.npy")
    assert "out.npy needs 31.3 MiB, its disk has 8.00 MiB free" in run(folder, *options, expect=3).stderr
    run(folder, *options, output=small_disk / "out.npy")
    assert (folder / "real.npy").stat().st_size > 30e6
    assert list(files_in(small_disk)) == ["out.npy"]


def test_a_disk_that_fills_up_meanwhile(folder, small_disk):
    """Another program takes the rest of the disk while rows are written."""
    output = small_disk / "out.npy"
    output.write_text("before")
    boxes = np.load(folder / "boxes.npy")
    np.save(folder / "boxes.npy", boxes[np.argsort(boxes[:, 0])])  # so that the file's blocks are filled one by one
    run(folder, output="expected.npy")
    (folder / "rows.csv").unlink()
    with begun(folder, "--overwrite", output=output) as process:
        for name in ("much", "more"):
            with (small_disk / name).open("wb", buffering=0) as file:
                try:
                    while file.write(bytes(4096)):
                        pass
                except OSError:
                    pass
        let_go(folder)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 3
    error, hint, note = errors.splitlines()
    assert error == f"error: {output}: cannot write: No space left on device"
    assert hint.startswith("hint: Free some disk space")
    assert note.endswith("rows are done; continue with --resume and --overwrite")
    assert output.read_text() == "before"
    for name in ("much", "more"):
        (small_disk / name).unlink()
    run(folder, "--resume", "--overwrite", output=output)
    assert output.read_bytes() == (folder / "expected.npy").read_bytes()
    assert list(files_in(small_disk)) == ["out.npy"]


def without_privileges():
    """Hold root to permissions like anybody, in a process to come."""
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.fixture
def locked(tmp_path):
    """A folder, and what makes it unwritable for processes started with `without_privileges`."""
    path = tmp_path / "locked"
    path.mkdir(mode=0o555)
    if not subprocess.run(
        ["touch", path / "probe"], stderr=subprocess.DEVNULL, preexec_fn=without_privileges
    ).returncode:
        pytest.skip("permissions do not hold here")
    path.chmod(0o755)
    yield path
    path.chmod(0o755)


def test_a_folder_that_becomes_unwritable(folder, job, locked):
    """What went wrong is told, not what could not be cleaned up then; no row is lost."""
    with begun(folder, output=locked / "out.npy", preexec_fn=without_privileges) as process:
        locked.chmod(0o555)
        let_go(folder)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors.splitlines()) == (
        3,
        [
            f"error: {locked}/out.npy: cannot write: Permission denied",
            "hint: Check the folder and its permissions.",
            "note: 4,000 of 4,000 rows are done; continue with --resume",
        ],
    )
    locked.chmod(0o755)
    report = json.loads(run(folder, "--resume", "--json", output=locked / "out.npy").stdout)
    assert report["resumed"] == BOXES
    assert (locked / "out.npy").read_bytes() == (job / "expected.npy").read_bytes()
    assert list(files_in(locked)) == ["out.npy"]


def test_a_journal_of_somebody_else(folder, locked):
    killed(folder)
    (folder / ".out.npy.journal").chmod(0)
    for flags in ([], ["--resume"]):
        done = run(folder, *flags, expect=3, preexec_fn=without_privileges)
        assert "/.out.npy.journal cannot be read: Permission denied\nhint: Check its permissions" in done.stderr


@pytest.mark.parametrize("suffix", crash.FORMATS)
def test_rows_that_somebody_removes_are_not_said_to_be_kept(folder, job, suffix):
    with begun(folder, output=f"out{suffix}") as process:
        for path in folder.glob(".out*.partial"):
            path.unlink()
        let_go(folder)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 3
    assert errors == (
        f"error: out{suffix}: cannot write: No such file or directory\nhint: Check the folder and its permissions.\n"
    )
    assert {path.name for path in folder.iterdir()} == {"feats.h5", "boxes.npy"}


def test_parts_of_which_one_is_killed(folder, job):
    """Done in processes at once, one killed and resumed, and joined: the bytes of a single run."""
    names = [f"part-{n}.npy" for n in (1, 2, 3, 4)]
    parts = [("--shard", f"{n}/4", "--index", f"rows-{n}.csv") for n in (1, 2, 3, 4)]
    with begun(folder, *parts[2], output=names[2]):
        others = [start(folder, *parts[n], output=names[n]) for n in (0, 1, 3)]
        said = [process.communicate(timeout=60)[1] for process in others]
        assert [process.returncode for process in others] == [0, 0, 0], said
    merge = ["merge", "out.npy", *names]
    assert "part-3.npy" in driving.run(folder, *merge, expect=3).stderr
    run(folder, *parts[2], "--resume", output=names[2])
    driving.run(folder, *merge)
    assert (folder / "out.npy").read_bytes() == (job / "expected.npy").read_bytes()
    assert not [name for name in files_in(folder) if name.startswith(".")]


def test_no_more_threads(folder, job):
    """As under a limit of processes; the workers of a pool have started by then."""
    program = """
import threading
from roicli.__main__ import main
from roicli.resume import checkpoints
class Refused(threading.Thread):
    def start(self):
        raise RuntimeError("can't start new thread")
checkpoints.threading.Thread = Refused
main()
"""
    for workers in ("1", "2"):
        done = run_program(folder, program, "--workers", workers)
        assert done.returncode == 3
        assert done.stderr == (
            "error: the system starts no more threads\n"
            "hint: Raise its limits (ulimit -u, ulimit -v), or free some memory.\n"
        )
        assert set(files_in(folder)) == {"feats.h5", "boxes.npy"}


def test_the_memory_of_what_a_shell_ran_before_is_not_that_of_the_job(folder, job):
    script = 'python=$1; shift; "$python" -c "x = bytearray(300_000_000)"; exec "$@"'
    command = ["sh", "-c", script, "sh", sys.executable, *crash.command("out.npy", "--workers", "1", "--json")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["peak_memory"] < 250_000_000
