"""Time roicli on this machine: its function on arrays, and whole jobs as processes, beside what else is installed.

Run `python -m tests.bench` in a checkout. All take turns with the same number of threads; figures are medians.
"""

import argparse
import os
import platform
import tempfile
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

import roicli

from .arrays import contestants
from .jobs import JOBS, time_job
from .timing import interleaved, ratio, seconds
from .workloads import WORKLOADS


def machine():
    """Name the machine."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cpu = models[0] if models else platform.processor()
    return f"{os.cpu_count()} cores, {cpu}, {memory:.0f} GiB, {platform.system()} {platform.machine()}"


def versions():
    """Name all that computes, with versions."""
    found = [f"roicli {roicli.__version__}", f"Python {platform.python_version()}"]
    for package in ("numpy", "h5py", "numba", "torchvision", "onnxruntime"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    blas = (one for one in threadpool_info() if one["user_api"] == "blas")
    return ", ".join(found + [f"{one['internal_api']} {one['version']} {one.get('architecture', '')}" for one in blas])


def show_arrays(workloads, rounds, threads):
    """Time the function on each workload; print the ratio of each of our kernels to everyone else."""
    everyone = contestants()
    kernels = [name for name in everyone if name in ("numpy", "numba")]
    print("\nroicli.roi_align on arrays: 7 x 7 bins, aligned, ms a call; difference: the largest from the first line")
    heading = "".join(f"{name + ' is':>16}" for name in kernels)
    print(f"{'map':17}{'RoIs':>4}  {'sampling':9} {'by':11}{'ms':>8}{heading}{'difference':>12}")
    for workload in workloads:
        features, boxes = workload.features(), workload.boxes()
        calls = {name: prepare(features, boxes, workload, threads) for name, prepare in everyone.items()}
        pooled = {name: call() for name, call in calls.items()}  # the warm-up
        times = interleaved({name: partial(seconds, call) for name, call in calls.items()}, rounds)
        medians = {name: median(taken) for name, taken in times.items()}
        sampling = "adaptive" if workload.sampling_ratio < 0 else str(workload.sampling_ratio)
        for name, taken in medians.items():
            ratios = "".join(f"{'' if name == one else ratio(medians[one], taken):>16}" for one in kernels)
            difference = np.abs(pooled[name] - pooled[kernels[0]]).max()
            work = f"{' x '.join(map(str, workload.shape)):17}{workload.rois:>4}  {sampling:9}"
            print(f"{work} {name:11}{taken * 1000:>8.1f}{ratios}{difference:>12.1e}", flush=True)


def show_jobs(jobs, rounds, threads, beside):
    """Time each job; print the ratio of align to everyone else."""
    print("\nWhole jobs: HDF5 to .npy, as processes; MiB: peak of the largest process")
    print(f"{'maps':70}{'by':17}{'s':>6}{'CPU s':>7}{'MiB':>6}{'align is':>15}")
    for job in jobs:
        with tempfile.TemporaryDirectory(prefix="roicli-bench-") as folder:
            results = time_job(Path(folder), job, rounds, threads, beside)
        first = median(usage["seconds"] for usage in next(iter(results.values())))
        for number, (name, usages) in enumerate(results.items()):
            wall, cpu, memory = (
                median(usage[key] for usage in usages) for key in ("seconds", "cpu_seconds", "peak_memory")
            )
            said = ratio(first, wall) if number else ""
            print(f"{job!s:70}{name:17}{wall:>6.2f}{cpu:>7.2f}{memory / 2**20:>6.0f}{said:>15}", flush=True)


def main(arguments=None, workloads=WORKLOADS, jobs=JOBS):
    """Do what the command line asks."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", choices=["arrays", "jobs"], help="one part instead of both")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("--threads", type=int, default=cores, help="what everyone may use [all cores]")
    parser.add_argument("--rounds", type=int, default=7, help="rounds to take medians of [7]")
    parser.add_argument("--beside", metavar="PYTHON", help="time the jobs of the roicli of this Python too")
    asked = parser.parse_args(arguments)
    with threadpool_limits(asked.threads, "blas"):
        print(machine(), versions(), f"{asked.threads} threads, {asked.rounds} rounds", sep="\n")
        if asked.only != "jobs":
            show_arrays(workloads, asked.rounds, asked.threads)
        if asked.only != "arrays":
            show_jobs(jobs, asked.rounds, asked.threads, asked.beside)


if __name__ == "__main__":
    main()
