"""Start a command, print its wall time, processor time and peak memory as JSON, and leave with its exit code.

A program of its own: Linux counts what the process that starts another has in memory as that one's peak, so it must be
small. It imports nothing of ours.
"""

from __future__ import annotations

import json
import os
import sys
import time


def measure(command: list[str]) -> int:
    """Run a command to its end, without its standard output; times are in seconds, memory in bytes."""
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    began = time.perf_counter()
    process = os.posix_spawn(command[0], command, os.environ, file_actions=silent)
    _, status, usage = os.wait4(process, 0)
    taken = {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_memory": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }
    sys.stdout.write(json.dumps(taken))
    exit_code = os.waitstatus_to_exitcode(status)
    return exit_code if exit_code >= 0 else 128 - exit_code


if __name__ == "__main__":
    sys.exit(measure(sys.argv[1:]))
