"""What the system refuses or does meanwhile: links, limits, files that are cut, damaged or written to."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from driving import run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sources.badfiles import MAP, STACK, hdf5, npz, read_everything, save, short_npy, write

from roicli import arrays
from roicli.arrays import StoredArray
from roicli.errors import FeatureError, FileError, RoicliError
from roicli.files import Stamp
from roicli.sources import open_source


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.EACCES, "Check its permissions."),
        (errno.EPERM, "Check its permissions."),
        (errno.EMFILE, "Raise the limit of open files (ulimit -n)."),
        (errno.ENFILE, "Raise the limit of open files (ulimit -n)."),
        (errno.ENAMETOOLONG, "Use a shorter name."),
        (errno.EIO, "Copy or download the file again, or write it anew."),
    ],
)
@pytest.mark.parametrize(
    ("call", "name"),
    [
        ("iterdir", "maps"),
        *(("stat", f"a.{suffix}") for suffix in ("npy", "npz", "h5")),
        ("open", "a.npy"),
        ("open", "a.npz"),
    ],
)
def test_a_refusal_of_the_system_has_its_own_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, hint: str, call: str, name: str
):
    write(b"?")(tmp_path / name) if name != "maps" else (tmp_path / name).mkdir()

    def refuse(path: Path, *_args: object, **_options: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, call, refuse)
    with pytest.raises(FileError) as refusal:
        open_source(tmp_path / name)
    assert refusal.value.message == f"{tmp_path / name} cannot be read: {os.strerror(number)}"
    assert refusal.value.hint == (hint if call != "stat" or number != errno.EIO else "Check the path.")


def test_a_handle_beyond_the_limit_of_open_files(tmp_path: Path):
    hdf5(features=STACK)(tmp_path / "a.h5")
    np.savez_compressed(tmp_path / "a.npz", features=STACK)
    sources = [open_source(tmp_path / name) for name in ("a.h5", "a.npz")]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    refusals = []
    try:
        for source in sources:
            try:
                source.read(0)
            except FileError as error:
                refusals.append(error)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert [refusal.hint for refusal in refusals] == ["Raise the limit of open files (ulimit -n)."] * 2


def test_more_files_than_may_be_open(tmp_path: Path):
    for n in range(50):
        hdf5(**{f"image{n}": MAP})(tmp_path / f"{n}.h5")
    boxes = ", ".join(f'"image{n}": [[0, 0, 2, 2]]' for n in range(50))
    (tmp_path / "boxes.json").write_text(f"{{{boxes}}}")
    arguments = ("align", "*.h5", "boxes.json", "-o", "out.npy", "--workers", "1")
    run(tmp_path, *arguments, limits=[(resource.RLIMIT_NOFILE, 40)])


@pytest.mark.parametrize("small", [0, 2**19], ids=["mapped", "read"])
def test_a_map_that_ends_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: int):
    monkeypatch.setattr(arrays, "READ_AT_MOST", small)
    monkeypatch.setattr(arrays, "may_map", True)
    np.save(tmp_path / "a.npy", MAP)
    source = open_source(tmp_path / "a.npy")
    os.truncate(tmp_path / "a.npy", 128 + MAP.nbytes - 1)
    message = rf"a\.npy is truncated: .* ends at byte {128 + MAP.nbytes}, the file at byte {128 + MAP.nbytes - 1}"
    with pytest.raises(FileError, match=message):
        source.read(0)
    # And where it shrinks just after a look at its size.
    monkeypatch.setattr(StoredArray, "check_inside", lambda array, size: None)
    with pytest.raises(FileError, match="was modified after it was opened"):
        source.read(0)
    monkeypatch.setattr(Stamp, "check", lambda stamp, path, now: None)
    with pytest.raises(FileError, match="cannot be read"):
        source.read(0)


def test_a_system_that_reads_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    np.save(tmp_path / "a.npy", MAP)
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, views, place: preadv(file, [views[0][:7]], place))
    np.testing.assert_array_equal(open_source(tmp_path / "a.npy").read(0), MAP)


def test_external_storage_that_is_looked_for_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where HDF5 looks for a file without a folder."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "values.bin").write_bytes(MAP.tobytes())
    with h5py.File(tmp_path / "data" / "a.h5", "w") as file:
        file.create_dataset("f", MAP.shape, "f4", external=[("values.bin", 0, MAP.nbytes)])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FeatureError, match=r"dataset /f has values in values\.bin, which HDF5 looks for") as refusal:
        open_source("data/a.h5").read(0)
    assert refusal.value.hint == f"Run this in {tmp_path / 'data'}."
    monkeypatch.chdir("data")
    np.testing.assert_array_equal(open_source("a.h5").read(0), MAP)
    Path("values.bin").unlink()
    with pytest.raises(FileError, match=r"a\.h5, dataset /f has values in values\.bin, which does not exist"):
        open_source("a.h5").read(0)


def test_an_hdf5_file_that_is_being_written(tmp_path: Path):
    hdf5(f=MAP)(tmp_path / "a.h5")
    program = "import h5py, sys; file = h5py.File('a.h5', 'a'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdin is not None
        writer.stdout.readline()
        with pytest.raises(FileError, match=r"a\.h5 cannot be read: ") as refusal:
            open_source(tmp_path / "a.h5")
        writer.stdin.close()
    assert refusal.value.hint == "Close it in the program that writes to it."


def test_an_empty_name_is_not_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    np.save(tmp_path / "a.npy", MAP)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileError, match="features: the name is empty"):
        open_source("")
    assert open_source(".").ids == ("a",)


def test_a_short_file_is_found_on_opening(tmp_path: Path):
    short_npy(tmp_path / "a.npy")
    with pytest.raises(FileError, match="truncated"):
        open_source(tmp_path / "a.npy")


def test_a_file_cut_short_after_opening(tmp_path: Path):
    for name, make in (("a.npy", save(STACK)), ("a.h5", hdf5(features=STACK)), ("a.npz", npz(features=STACK))):
        make(tmp_path / name)
        source = open_source(tmp_path / name)
        source.read(1)
        os.truncate(tmp_path / name, 200)
        with pytest.raises(FileError, match="truncated"):
            source.read(1)


VALID: dict[str, Callable[[Path], None]] = {
    "a.npy": save(STACK),
    "stored.npz": npz(features=STACK, ids=["a", "b"]),
    "packed.npz": lambda path: np.savez_compressed(path, a=MAP, b=MAP),
    "stack.h5": hdf5(features=STACK, ids=[1, 2]),
}


@pytest.mark.parametrize("name", VALID)
@settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_reads_or_is_refused(tmp_path: Path, name: str, data: st.DataObject):
    path = tmp_path / name
    VALID[name](path)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), label="cut"):
        content = content[: data.draw(st.integers(0, len(content)), label="size")]
    else:
        for _ in range(data.draw(st.integers(1, 8), label="changes")):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.unlink()
    path.write_bytes(content)
    try:
        arrays, named = read_everything(path), True
    except RoicliError as refusal:
        arrays, named = [], str(path) in str(refusal)
    assert named
    assert all(array.ndim == 3 for array in arrays)


def test_parts_of_a_virtual_map_that_cannot_all_be_opened(tmp_path):
    """HDF5 would give zeros for the last of them."""
    layout = h5py.VirtualLayout((40, 8, 8), "f4")
    for number in range(40):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["part"] = np.full((8, 8), number + 1, "f4")
        layout[number] = h5py.VirtualSource(f"{number}.h5", "part", (8, 8))
    with h5py.File(tmp_path / "maps.h5", "w") as file:
        file.create_virtual_dataset("map", layout)
    (tmp_path / "boxes.json").write_text("[[0, 0, 5, 5]]")
    command = ("align", "maps.h5", "boxes.json", "-o", "out.npy", "--quiet", "--overwrite")
    for limit in (40, 44, 48, 200):
        done = run(tmp_path, *command, limits=[(resource.RLIMIT_NOFILE, limit)], expect=None)
        if done.returncode == 0:
            assert limit > 40
            assert (np.load(tmp_path / "out.npy")[0, :, 3, 3] == np.arange(1, 41)).all()
        else:
            assert (done.returncode, limit < 200) == (3, True)
            assert done.stderr.splitlines() == [
                "error: maps.h5, dataset /map cannot be read: Too many open files",
                "hint: Raise the limit of open files (ulimit -n).",
            ]
