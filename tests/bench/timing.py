"""Runs in turn, A B C A B C: what slows the machine for a while slows all of them alike."""

import time


def interleaved(runs, rounds):
    """Call every run once, in order, then all of them again; return the results of each by name."""
    results = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            results[name].append(run())
    return results


def seconds(call):
    """Return the wall time of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def ratio(ours, other):
    """Say how much faster or slower we are than another, in two digits: a benchmark does not know more."""
    times, word = (other / ours, "faster") if other >= ours else (ours / other, "slower")
    shown = f"{times:.{1 if times < 9.95 else 0}f}"
    return "as fast" if shown == "1.0" else f"{shown} x {word}"
