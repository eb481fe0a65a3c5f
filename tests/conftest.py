"""What several test files share."""

import json
import os
from pathlib import Path

from roicli.pooling.kernels.blas import fix_kernel

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads of BLAS would only stand by, in each of many processes
fix_kernel()  # as the command line, whose bytes tests compare with those of functions; before NumPy loads

import numpy as np
import pytest
from hypothesis import settings
from threadpoolctl import threadpool_limits

from roicli.pooling import engine
from roicli.pooling.kernels.choose import load_kernel
from roicli.spec import PoolSpec

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=150)
settings.load_profile("repeatable")

# Commands take NumPy for a small job, Numba or not, and tests compare their bytes with those of functions.
engine.load_kernel = lambda choice, dtype: load_kernel("numpy" if choice == "auto" else choice, dtype)

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(autouse=True, scope="session")
def _one_blas_thread():
    """As in every worker: OpenBLAS rounds differently when it shares a product out to threads."""
    with threadpool_limits(1):
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    help_text = "also kills and mutations at random: 1 is what CI does in minutes, 1000 takes hours"
    parser.addoption("--long", type=int, default=0, metavar="TIMES", help=help_text)


def pytest_configure(config: pytest.Config) -> None:
    """Do not wait for the disk: no test loses power. CI's --long waits."""
    if not config.getoption("--long"):
        os.fsync = os.fdatasync = lambda descriptor: None


@pytest.fixture
def dose(request: pytest.FixtureRequest) -> int:
    """How many times what CI does of kills and mutations; without --long, the test is left out."""
    times = request.config.getoption("--long")
    if not times:
        pytest.skip("with --long 1")
    return times


class Golden:
    """One case computed by torchvision: arrays and the parameters that gave them."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            self.features, self.rois, self.expected = arrays["input"], arrays["rois"], arrays["expected"]
            meta = json.loads(str(arrays["meta"]))
        self.output_size = tuple(meta["output_size"])
        self.settings = {name: meta[name] for name in ("spatial_scale", "sampling_ratio", "aligned")}
        self.spatial_scale = meta["spatial_scale"]
        self.spec = PoolSpec(self.output_size, meta["sampling_ratio"], meta["aligned"])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every test with a `golden_align` argument one case for each file golden/align_*.npz."""
    if "golden_align" in metafunc.fixturenames:
        paths = sorted(GOLDEN.glob("align_*.npz"))
        metafunc.parametrize("golden_align", paths, ids=[path.stem for path in paths], indirect=True)


@pytest.fixture
def golden_align(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.param)


@pytest.fixture
def tutorial() -> tuple[np.ndarray, np.ndarray]:
    """Feature map and RoI of the well-known walk through torchvision's code."""
    feature_map = np.zeros((1, 7, 7), np.float32)
    feature_map[0, 0] = [0.5663671, 0.2577112, 0.20066682, 0.0127351, 0.07388048, 0.38410962, 0.2822853]
    feature_map[0, 1, [0, -1]] = 0.3358975, 0.07561569
    feature_map[0, 2, [0, -1]] = 0.23596162, 0.04612046
    feature_map[0, 5, 5], feature_map[0, 6, 5] = 0.18630868, 0.00289604
    return feature_map, np.array([[2.2821481227874756, 0.3001725673675537, 4.599632263183594, 5.58889102935791]])
