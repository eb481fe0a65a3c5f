"""The crash harness: kills the real command at many instants, resumes it, and compares bytes with an undisturbed run.

`python tests/crash.py 300` kills so often for each format and prints what became of it.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
from driving import content, files_in, without_locks

from roicli.newfiles import remove_tree

ROICLI = Path(sys.executable).with_name("roicli")
# Blocks of many bins that are averaged away: much to do, little to write.
SETTINGS = ("--size", "64", "--reduce", "mean", "--workers", "2", "--index", "rows.csv", "--quiet")
FORMATS = (".npy", ".npz", ".h5")
# With one that is made at the end, and one that is a folder.
ALL = (*FORMATS, *((".parquet",) if find_spec("pyarrow") else ()), *((".zarr",) if find_spec("zarr") else ()))
# When to kill: after some time; when the journal grows; while files are completed and published.
MOMENTS = ("time", "journal", "finish")
STRIKES = ("group", "group", "parent", "worker", "worker", "stop")


def make_inputs(folder, boxes):
    """Write features and boxes of a job that takes two processes about a second for 10,000 boxes."""
    rng = np.random.default_rng(0)
    with h5py.File(folder / "feats.h5", "w") as file:
        for n in range(60):
            file[f"{n:03d}"] = rng.standard_normal((8, 64, 64)).astype(np.float32)
    corner, side = rng.uniform(0, 30, (boxes, 2)), rng.uniform(1, 30, (boxes, 2))
    np.save(folder / "boxes.npy", np.concatenate([rng.integers(0, 60, (boxes, 1)), corner, corner + side], axis=1))


def command(output, *more):
    return [ROICLI, "align", "feats.h5", "boxes.npy", "-o", output, *SETTINGS, *more]


def processes_of(session):
    """Ids of the living processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            found.append(int(stat.parent.name))
    return found


def workers_of(parent):
    """Ids of its living workers; the readers of damaged files, which say nothing, are none."""
    found = []
    for pid in processes_of(parent):
        with suppress(OSError):
            if pid != parent and Path(f"/proc/{pid}/fd/2").readlink() != Path(os.devnull):
                found.append(pid)
    return found


def size_of(path):
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


class Harness:
    """One format's output, killed again and again."""

    def __init__(self, folder, suffix, seed=0):
        self.folder, self.output = folder, folder / f"out{suffix}"
        self.random = random.Random(f"{suffix} {seed}")
        self.inputs = {"feats.h5", "boxes.npy"}
        self.outcomes = Counter()
        began = time.monotonic()
        subprocess.run(command(self.output.name), cwd=folder, check=True)
        self.seconds = time.monotonic() - began
        self.expected = {path.name: content(path) for path in (self.output, folder / "rows.csv")}
        self.hidden = [f".{self.output.name}.{ending}" for ending in ("partial", "journal")]
        self.clear()

    def clear(self):
        for path in self.folder.iterdir():
            if path.name not in self.inputs:
                remove_tree(path)

    def kill_once(self, *more):
        """Start the command, kill its process group; True if it had ended before."""
        moment = self.random.choice(MOMENTS)
        with subprocess.Popen(
            command(self.output.name, *more), cwd=self.folder, start_new_session=True, stderr=subprocess.PIPE, text=True
        ) as process:
            self.wait_for(moment, process)
            allowed = self.strike(process) if process.poll() is None else {0}
            _, errors = process.communicate(timeout=20)
            deadline = time.monotonic() + 10
            while processes_of(process.pid):
                assert time.monotonic() < deadline, "an orphan lives on"
                time.sleep(0.001)
        assert process.returncode in allowed, errors
        assert "Traceback" not in errors, errors
        if process.returncode:
            self.outcomes[self.output.suffix, moment, self.look()] += 1
        return process.returncode == 0

    def strike(self, process):
        """Kill all at once, the parent whose workers must end by themselves, or one worker; or ask the parent to stop.

        Return the exit codes that are right.
        """
        how = self.random.choice(STRIKES)
        workers = workers_of(process.pid)
        if how == "worker" and workers:
            with suppress(ProcessLookupError):
                os.kill(self.random.choice(workers), self.random.choice((signal.SIGKILL, signal.SIGBUS)))
            return {0, 3}
        if how == "stop":
            process.send_signal(signal.SIGTERM)
            return {0, 128 + signal.SIGTERM, -signal.SIGTERM}  # the last before it listens
        (os.kill if how == "parent" else os.killpg)(process.pid, signal.SIGKILL)
        return {0, -signal.SIGKILL}

    def wait_for(self, moment, process):
        journal = self.folder / self.hidden[1]
        if moment == "time":
            deadline = time.monotonic() + self.random.uniform(0.1, self.seconds)
            while time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.001)
            return
        if moment == "journal":
            for _ in range(self.random.choice((1, 1, 2, 3))):
                size = size_of(journal)
                while size_of(journal) == size and process.poll() is None:
                    time.sleep(0.0002)
        else:
            begun = [self.folder / ".rows.csv.partial", self.output]
            stale = [path for path in begun if path.exists()]
            while not any(path.exists() for path in begun if path not in stale) and process.poll() is None:
                time.sleep(0.0002)
        time.sleep(self.random.choice((0, 0.001, 0.003, 0.01)))

    def look(self):
        """Check what a kill has left: nothing under the final name, or all of it; return which."""
        names = {path.name for path in self.folder.iterdir()} - self.inputs
        for name in self.expected.keys() & names:
            assert content(self.folder / name) == self.expected[name], f"{name} is not complete"
        strange = {name for name in names if not name.endswith(".lock")} - self.expected.keys()
        assert strange <= {*self.hidden, f".{self.output.name}.assembled", ".rows.csv.partial"}, strange
        if self.output.name in names:
            return "complete"
        if self.hidden[1] not in names:
            return "not begun"
        return "some rows proved" if b'"done"' in (self.folder / self.hidden[1]).read_bytes() else "no row proved"

    def kill(self, times):
        """Kill so many times: one job up to four times on end, which is then resumed to its end."""
        while self.outcomes.total() < times:
            more = ()
            for _ in range(self.random.randint(1, 4)):
                if self.kill_once(*more) or self.is_settled():
                    break
                more = ("--resume",)
            if not self.is_settled():
                done = subprocess.run(
                    command(self.output.name, "--resume"), cwd=self.folder, capture_output=True, text=True, check=False
                )
                assert done.returncode == 0, done.stderr
            left = without_locks(files_in(self.folder, *self.inputs))
            assert left.keys() == self.expected.keys(), left.keys()
            assert left == self.expected, "resumed, and other bytes"
            self.clear()

    def is_settled(self):
        """Whether the output is there, without anything that another run would do."""
        left = files_in(self.folder)
        return self.output.exists() and not {self.hidden[1], ".rows.csv.partial"} & left.keys()


def report(outcomes):
    lines = [f"{'format':10}{'killed at':10}{'outcome':18}{'count':>6}"]
    lines += [f"{a:10}{b:10}{c:18}{count:6}" for (a, b, c), count in sorted(outcomes.items())]
    by_outcome = Counter()
    for (*_, outcome), count in outcomes.items():
        by_outcome[outcome] += count
    totals = ", ".join(f"{count} {outcome}" for outcome, count in by_outcome.most_common())
    return "\n".join([*lines, f"{outcomes.total()} kills: {totals}; all resumed to the same bytes"])


def run(kills, boxes, suffixes=ALL, seed=0):
    """Kill so many times for each format; return what became of it."""
    outcomes = Counter()
    for suffix in suffixes:
        with tempfile.TemporaryDirectory() as folder:
            make_inputs(Path(folder), boxes)
            harness = Harness(Path(folder), suffix, seed)
            harness.kill(kills)
            outcomes += harness.outcomes
    return outcomes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", type=int)
    parser.add_argument("--boxes", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--suffix", action="append", default=[])
    chosen = parser.parse_args()
    print(report(run(chosen.kills, chosen.boxes, chosen.suffix or ALL, chosen.seed)))  # noqa: T201
