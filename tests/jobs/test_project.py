"""A value a bin taken back onto the maps: the adjoint of align, from files to files."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import roicli
from roicli.cli.main import main

BOXES = {"139": [[0, 1, 60, 80], [33, 20, 100, 130]], "285": [[5, 5, 90, 40]]}
WHOLE = ("maps.npz", "boxes.json", "-o", "back.npz", "--stride", "16")
SETTINGS = {"size": (3, 2), "spatial_scale": 1 / 16, "aligned": True}


@pytest.fixture
def maps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    maps = {"139": rng.standard_normal((6, 9, 7)), "285": rng.standard_normal((6, 5, 8))}
    np.savez("maps.npz", **maps)
    Path("boxes.json").write_text(str(BOXES).replace("'", '"'))
    return maps


def project(*arguments, code=0):
    done = CliRunner().invoke(main, ["project", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.output


@pytest.mark.parametrize("op", ["roi_align", "precise_roi_pool", "ps_roi_align"])
def test_it_is_the_adjoint(maps, op):
    settings = SETTINGS | {"aligned": op == "roi_align"}
    roicli.align("maps.npz", "boxes.json", "out.npy", op=op, **settings)
    pooled = np.load("out.npy")
    grad = np.random.default_rng(1).standard_normal(pooled.shape)
    np.save("grad.npy", grad)
    how = ["--op", op.replace("_", "-"), *(["--aligned"] if op == "roi_align" else [])]
    project("grad.npy", "maps.npz", "boxes.json", "-o", "back.npz", "--stride", 16, *how)
    with np.load("back.npz") as back:
        assert {name: array.shape for name, array in back.items()} == {name: m.shape for name, m in maps.items()}
        total = sum((back[name] * maps[name]).sum() for name in maps)
    np.testing.assert_allclose(total, (pooled * grad).sum(), rtol=1e-10)


def test_a_value_a_bin_and_a_picture(maps):
    np.save("values.npy", np.ones((3, 2, 2), np.float32))
    said = project("values.npy", *WHOLE, "--aligned", "--picture", "back.png")
    assert "2 maps: back.npz" in said
    assert Path("back.png").stat().st_size > 0
    with np.load("back.npz") as back:
        assert {name: back[name].shape for name in back.files} == {"139": (1, 9, 7), "285": (1, 5, 8)}
        np.testing.assert_allclose(sum(back[name].sum() for name in back.files), 12, rtol=1e-5)
    assert "exists" in project("values.npy", *WHOLE, code=3)


@pytest.mark.parametrize(
    ("shape", "options", "said"),
    [
        ((2, 2, 2), ["-o", "back.npz"], "values.npy has 2 rows, boxes.json gives 3"),
        ((3, 6), ["-o", "back.npz"], "expected (K, C, PH, PW) or (K, PH, PW)"),
        ((3, 2, 2), ["-o", "back.npy"], "2 maps do not fit into one .npy"),
        ((3, 2, 2), ["-o", "back.txt"], "ends in .npy or .npz"),
        ((3, 2, 2), ["-o", "back.npz", "--op", "roi-pool"], "RoIPool has no adjoint"),
        ((3, 2, 2), ["-o", "back.npz", "--reduce", "mean"], "not one vector a box"),
    ],
)
def test_what_is_refused(maps, shape, options, said):
    np.save("values.npy", np.ones(shape, np.float32))
    code = 2 if "--op" in options or "--reduce" in options else 3
    shown = project("values.npy", "maps.npz", "boxes.json", "--stride", 16, *options, code=code)
    assert said in " ".join(shown.split())
    assert not Path("back.npz").exists()
