"""The same bytes on every CPU: the command line fixes the kernel of BLAS, and an output says which one made it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from driving import run

from roicli.pooling.kernels.blas import blas_kernel, cpu_flags

SAMPLES = Path(__file__).parents[2] / "sample_data"
JOB = ("align", SAMPLES / "feats.h5", SAMPLES / "boxes.json", "--size", "7", "--aligned", "--spatial-scale", "1/16")
NEEDS = {
    "Haswell": {"avx2", "fma"},
    "SkylakeX": {"avx512f", "avx512dq", "avx512bw", "avx512vl"},
    "Nehalem": {"sse4_2"},
}

pytestmark = [
    pytest.mark.skipif(not {"avx2", "fma"} <= cpu_flags(), reason="not an x86-64 CPU with AVX2"),
    pytest.mark.skipif("OpenBLAS" not in blas_kernel(), reason="NumPy without OpenBLAS"),
]


def make(folder, kernel, output, *more):
    """Run the job; return its features, and the kernel that it says it used."""
    run(folder, *JOB, "-o", output, *more, fresh=True, OPENBLAS_CORETYPE=kernel or "")
    with np.load(folder / output) as made:
        return made["features"].tobytes(), json.loads(str(made["parameters"]))["blas_kernel"]


def test_the_command_line_fixes_the_kernel(tmp_path):
    """Unset is Haswell; a user may choose another."""
    usual, fixed = make(tmp_path, None, "usual.npz")
    assert fixed.endswith(" Haswell")
    different = set()
    for kernel in [kernel for kernel, flags in NEEDS.items() if flags <= cpu_flags()]:
        features, used = make(tmp_path, kernel, f"{kernel}.npz")
        assert (features, used) == (usual, fixed) or kernel != "Haswell"
        if used != fixed:
            different.add(features)
    assert different - {usual}, "without the fix, the bytes depend on the CPU"


def test_parts_by_different_kernels_do_not_merge(tmp_path):
    _, ours = make(tmp_path, None, "1.npz", "--shard", "1/2")
    _, other = make(tmp_path, "Nehalem", "2.npz", "--shard", "2/2")
    message = run(tmp_path, "merge", "out.npz", "1.npz", "2.npz", expect=3).stderr
    assert f"blas_kernel is '{ours}' in one, '{other}' in the other" in message


def test_a_job_is_not_resumed_by_another_kernel(tmp_path):
    run(tmp_path, *JOB, "-o", "out.npy", "--resume", fresh=True, OPENBLAS_CORETYPE="Nehalem")
    message = run(tmp_path, *JOB, "-o", "out.npy", "--resume", fresh=True, OPENBLAS_CORETYPE="", expect=3).stderr
    assert "blas_kernel was OpenBLAS" in message


def test_importing_roicli_leaves_the_kernel_alone():
    """A Python caller's environment is not changed: what is used is recorded."""
    program = "import os, roicli, roicli.jobs.align; print(os.environ.get('OPENBLAS_CORETYPE'))"
    unset = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    done = subprocess.run([sys.executable, "-c", program], env=unset, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
