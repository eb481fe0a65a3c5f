"""Kills, full disks and rivals, done to the real command; see crash.py for the harness."""

import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import crash
import driving
import h5py
import numpy as np
import pytest
from driving import files_in, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as Linux shows them")
BOXES = 16_000


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


def start(folder, *more, output="out.npy"):
    return subprocess.Popen(
        crash.command(output, *more), cwd=folder, start_new_session=True, stderr=subprocess.PIPE, text=True
    )


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
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # as the command sets it, before its imports load NumPy
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=env)


def wait_for_rows(folder, process, output="out.npy"):
    """Wait until the journal proves some rows, and by far not all: workers are held back, however fast they are."""
    journal = folder / f".{output}.journal"
    for _ in range(20_000):
        assert process.poll() is None, "it ended too soon"
        workers = [pid for pid in crash.processes_of(process.pid) if pid != process.pid]
        send(workers, signal.SIGSTOP)
        for _ in range(250 if workers else 1):
            if journal.exists() and b'"done"' in journal.read_bytes():
                send(workers, signal.SIGCONT)
                return
            time.sleep(0.001)
        send(workers, signal.SIGCONT)
        time.sleep(0.02 if workers else 0)
    raise AssertionError("it never proved a row")


def send(pids, number):
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def check_result(folder, job):
    assert (folder / "out.npy").read_bytes() == (job / "expected.npy").read_bytes()
    assert files_in(folder).keys() == {"feats.h5", "boxes.npy", "out.npy", "rows.csv"}


def check_nothing_is_lost(folder, job, program):
    """Hold a run that is stopped after all rows were pooled to keeping them."""
    done = run_program(folder, program)
    stopped = "stopped: 16,000 of 16,000 rows are done; continue with --resume\n"
    assert (done.returncode, done.stderr) == (143, stopped)
    run(folder, "--resume")
    check_result(folder, job)


def killed(folder):
    """Leave what a run that is killed leaves."""
    with start(folder) as process:
        wait_for_rows(folder, process)
        os.killpg(process.pid, signal.SIGKILL)


def test_kills(dose):
    """Killed at any instant, and resumed to the same bytes."""
    outcomes = crash.run(5 * dose, 10_000 if dose > 1 else 3000)
    print(crash.report(outcomes))  # noqa: T201
    assert {suffix for suffix, *_ in outcomes} == set(crash.FORMATS)


def test_no_file_of_a_job_takes_the_place_of_a_closed_stream(folder, job):
    """Or what a library prints there would be written into it."""
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *crash.command("out.npy")]
    with subprocess.Popen(command, cwd=folder, start_new_session=True) as process:
        wait_for_rows(folder, process)
        pids = crash.processes_of(process.pid)
        opened = {str(Path(f"/proc/{pid}/fd/{number}").readlink()) for pid in pids for number in range(3)}
    assert opened == {os.devnull}
    check_result(folder, job)


def test_a_signal_keeps_what_is_done(folder, job):
    with start(folder) as process:
        wait_for_rows(folder, process)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 143
    [last] = errors.splitlines()
    assert last.startswith("stopped: ")
    assert last.endswith(" of 16,000 rows are done; continue with --resume")
    assert wait_until(lambda: not crash.processes_of(process.pid))
    assert {path.name for path in folder.iterdir()} == {
        "feats.h5", "boxes.npy", ".out.npy.partial", ".out.npy.journal",
    }  # fmt: skip
    refused = run(folder, expect=3).stderr
    assert refused.startswith("error: out.npy is unfinished: ")
    assert refused.endswith("hint: Run roicli align with --resume to go on, or give --overwrite to start over.\n")
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
checkpoints._PAUSE = 60  # so that there is no other
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
    with start(folder) as process:
        wait_for_rows(folder, process)
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
    with start(folder) as process:
        wait_for_rows(folder, process)
        process.send_signal(signal.SIGSTOP)  # as good as dead, but not dead
        for flags in ([], ["--overwrite"], ["--resume"], ["--resume", "--overwrite"]):
            message = run(folder, *flags, expect=3).stderr
            assert f"out.npy is being written by process {process.pid} of {os.uname().nodename}" in message
        (folder / "link.npy").symlink_to("out.npy")
        assert "link.npy is being written by" in run(folder, output="link.npy", expect=3).stderr
        (folder / "link.npy").unlink()
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
    size = BOXES * 32 + 2000
    before = folder / "out.npz"
    before.write_text("before")
    done = run(
        folder, "--overwrite", "--workers", "1", output="out.npz", expect=3,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )  # fmt: skip
    error, hint, note = done.stderr.splitlines()
    assert error.endswith("out.npz: cannot write: File too large")
    assert hint.startswith("hint: Raise the limit of the size of files (ulimit -f)")
    assert note == "note: 16,000 of 16,000 rows are done; continue with --resume and --overwrite"
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
    options = ("--size", "8", "--reduce", "none")
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
    boxes = np.tile(np.load(folder / "boxes.npy"), (3, 1))
    np.save(folder / "boxes.npy", boxes[np.argsort(boxes[:, 0])])  # so that the file's blocks are filled one by one
    run(folder, output="expected.npy")
    (folder / "rows.csv").unlink()
    with start(folder, "--overwrite", output=output) as process:
        wait_for_rows(small_disk, process)
        os.killpg(process.pid, signal.SIGSTOP)
        for name in ("much", "more"):
            with (small_disk / name).open("wb", buffering=0) as file:
                try:
                    while file.write(bytes(4096)):
                        pass
                except OSError:
                    pass
        os.killpg(process.pid, signal.SIGCONT)
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
    command = crash.command(locked / "out.npy")
    with subprocess.Popen(
        command, cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=without_privileges
    ) as process:
        wait_for_rows(locked, process)
        process.send_signal(signal.SIGSTOP)
        locked.chmod(0o555)
        process.send_signal(signal.SIGCONT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors.splitlines()) == (
        3,
        [
            f"error: {locked}/out.npy: cannot write: Permission denied",
            "hint: Check the folder and its permissions.",
            "note: 16,000 of 16,000 rows are done; continue with --resume",
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
    with start(folder, output=f"out{suffix}") as process:
        wait_for_rows(folder, process, f"out{suffix}")
        process.send_signal(signal.SIGSTOP)
        for path in folder.glob(".out*.partial"):
            path.unlink()
        process.send_signal(signal.SIGCONT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 3
    assert errors == (
        f"error: out{suffix}: cannot write: No such file or directory\nhint: Check the folder and its permissions.\n"
    )
    assert {path.name for path in folder.iterdir()} == {"feats.h5", "boxes.npy"}


def test_ten_parts_of_which_one_is_killed(folder, job):
    """Done in ten processes at once, one killed and resumed, and joined: the bytes of a single run."""
    names = [f"part-{n}.npy" for n in range(1, 11)]
    parts = [("--shard", f"{n}/10", "--index", f"rows-{n}.csv") for n in range(1, 11)]
    processes = [start(folder, *part, output=name) for name, part in zip(names, parts, strict=True)]
    for _ in range(20_000):
        if (folder / ".part-5.npy.journal").exists():
            break
        time.sleep(0.0005)
    os.killpg(processes[4].pid, signal.SIGKILL)
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0] * 4 + [-signal.SIGKILL] + [0] * 5
    merge = [crash.ROICLI, "merge", "out.npy", *names]
    missing = subprocess.run(merge, cwd=folder, capture_output=True, text=True, check=False)
    assert missing.returncode == 3
    assert "part-5.npy" in missing.stderr
    run(folder, *parts[4], "--resume", output=names[4])
    subprocess.run(merge, cwd=folder, check=True)
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
