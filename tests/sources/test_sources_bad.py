"""Features that cannot be read: each ends in one error that names the file, the fault and the remedy."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from driving import ROICLI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roicli import arrays, child
from roicli.arrays import StoredArray
from roicli.errors import FeatureError, FileError, RoicliError, UsageError
from roicli.files import Stamp
from roicli.sources import open_source
from roicli.sources.inventory import take_stock

MAP = np.arange(30, dtype="f4").reshape(2, 3, 5)
STACK = np.stack([MAP, MAP + 30])
FIELDS = "{'descr': [('\u03a9', '<f4')], 'fortran_order': False, 'shape': (1, 2, 3), }\n".encode()
STRUCTURED = b"\x93NUMPY\x03\x00" + struct.pack("<I", len(FIELDS)) + FIELDS + bytes(24)


@pytest.fixture
def own_child():
    """Start the child anew for a test that patches what runs in it."""
    child.stop()
    yield
    child.stop()


def read_everything(path: Path | str, dataset: str | None = None) -> list[np.ndarray]:
    source = open_source(path, dataset=dataset)
    for i in range(len(source.ids)):
        source.info(i)
    return [np.array(source.read(i)) for i in range(len(source.ids))]


def npy_header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def absurd_npy() -> bytes:
    return npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (4000000000, 4000000000, 4000000000), }\n")


def save(array: object) -> Callable[[Path], None]:
    return lambda path: np.save(path, np.asarray(array))


def write(content: bytes) -> Callable[[Path], None]:
    return lambda path: (path.write_bytes(content), None)[1]


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def hdf5(**datasets: object) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with h5py.File(path, "w") as file:
            for name, value in datasets.items():
                file[name] = value

    return make


def npz(**arrays: object) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **arrays)


def short_npy(path: Path) -> None:
    np.save(path, MAP)
    cut(path, path.stat().st_size - 1)


def short_zip(path: Path) -> None:
    np.savez(path, a=MAP)
    cut(path, path.stat().st_size - 30)


def short_hdf5(path: Path) -> None:
    hdf5(features=STACK)(path)
    cut(path, path.stat().st_size - 50)


def lying_npz(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", absurd_npy())


def folder_with(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def make_folder(path: Path) -> None:
        path.mkdir()
        make(path / "dog.npy")

    return make_folder


def linked_hdf5(path: Path) -> None:
    hdf5(features=STACK)(path.with_name("other.h5"))
    with h5py.File(path, "w") as file:
        file["features"] = h5py.ExternalLink("other.h5", "features")
        file["gone"] = h5py.SoftLink("/nowhere")


def virtual_hdf5(path: Path) -> None:
    layout = h5py.VirtualLayout((2, 2, 3, 5), "f4")
    layout[0] = h5py.VirtualSource("lost.h5", "a", (2, 3, 5))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("features", layout)


BAD = {
    "missing": ("gone.npy", lambda path: None, FileError, ["does not exist"]),
    "no match": ("gone*.npy", lambda path: None, FileError, ["no file matches", "gone*.npy"]),
    "long name": ("a" * 300 + ".npy", lambda path: None, FileError, ["cannot be read: File name too long", "shorter"]),
    "long pattern": ("a" * 300 + "*.npy", lambda path: None, FileError, ["no file matches"]),
    "below a file": ("a.npy/b.npy", lambda path: save(MAP)(path.parent), FileError, ["Not a directory", "Check the"]),
    "nul": ("a\0.npy", lambda path: None, FileError, ["null"]),
    "extension": ("a.csv", write(b"1,2"), FileError, ["extension", ".npy, .npz, .h5"]),
    "broken link": ("a.npy", lambda path: path.symlink_to("nowhere"), FileError, ["broken symbolic link"]),
    "pipe": ("a.h5", lambda path: os.mkfifo(path), FileError, ["pipe"]),
    "pipe.npz": ("a.npz", lambda path: os.mkfifo(path), FileError, ["pipe"]),
    "empty folder": ("maps", lambda path: path.mkdir(), FileError, ["without .npy files"]),
    "folder.npy": ("maps", folder_with(lambda path: path.mkdir()), FileError, ["dog.npy is a folder"]),
    "folder pipe": ("maps", folder_with(os.mkfifo), FileError, ["dog.npy is a pipe"]),
    "folder link": ("maps", folder_with(lambda path: path.symlink_to("x")), FileError, ["dog.npy is a broken"]),
    "folder stack": ("maps", folder_with(save(STACK)), FeatureError, ["dog.npy", "(2, 2, 3, 5)", "a stack of maps"]),
    "empty": ("a.npy", write(b""), FileError, ["not a .npy file", "empty"]),
    "hdf5 as npy": ("a.npy", write(b"\x89HDF\r\n\x1a\n"), FileError, ["not a .npy file: it is an HDF5 file"]),
    "npy as hdf5": ("a.h5", write(b"\x93NUMPY"), FileError, ["not an HDF5 file: it is a .npy array"]),
    "pointer": ("a.npz", write(b"version https://git-lfs.github.com/spec/v1"), FileError, ["Git LFS pointer"]),
    "pickle": ("a.npy", write(b"\x80\x04]"), FileError, ["a pickle, which roicli never loads"]),
    "objects": ("a.npy", save(np.array([[[None]]])), FeatureError, ["Python objects", "pickle"]),
    "one axis": ("a.npy", save(np.ones(3)), FeatureError, ["(3,)", "(C, H, W)"]),
    "five axes": ("a.npy", save(STACK[None]), FeatureError, ["5 axes"]),
    "no cells": ("a.npy", save(np.ones((2, 0, 3))), FeatureError, ["without cells"]),
    "stack no cells": ("a.npy", save(np.ones((2, 2, 0, 3))), FeatureError, ["without cells"]),
    "bool": ("a.npy", save(MAP > 3), FeatureError, ["dtype bool", "astype"]),
    "complex": ("a.npy", save(MAP + 1j), FeatureError, ["dtype complex64"]),
    "text": ("a.npy", save(MAP.astype("U3")), FeatureError, ["dtype <U3"]),
    "long double": ("a.npy", save(MAP.astype("longdouble")), FeatureError, ["dtype float128"]),
    "structured": ("a.npy", save(np.zeros((1, 2, 3), [("x", "f4")])), FeatureError, ["dtype [("]),
    "structured 3.0": ("a.npy", write(STRUCTURED), FeatureError, ["dtype [("]),
    "short npy": ("a.npy", short_npy, FileError, ["truncated", "byte 248", "byte 247"]),
    "short header": ("a.npy", write(b"\x93NUMPY\x01\x00\x70\x00{'d"), FileError, ["cannot be read"]),
    "header code": ("a.npy", write(npy_header("{'descr': ((((\n")), FileError, ["cannot be read"]),
    "absurd npy": ("a.npy", write(absurd_npy()), FileError, ["truncated", "4000000000"]),
    "negative": (
        "a.npy",
        write(npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 2, -3), }\n")),
        FileError,
        ["claims the shape (-1, 2, -3)"],
    ),
    "short zip": ("a.npz", short_zip, FileError, ["truncated"]),
    "absurd npz": ("a.npz", lying_npz, FileError, ["array a is broken"]),
    "npz objects": ("a.npz", npz(a=np.array([None])), FeatureError, ["no feature maps", "a  (1,) object"]),
    "npz two": ("a.npz", npz(p3=STACK, p4=STACK), FeatureError, ["p3  (2, 2, 3, 5) float32", "`dataset`"]),
    "npz mixed": ("a.npz", npz(p3=STACK, p4=MAP), FeatureError, ["/  1 maps such as p4 (2, 3, 5)", "`dataset`"]),
    "npz empty": ("a.npz", npz(), FeatureError, ["it is empty"]),
    "npz no cells": ("a.npz", npz(a=np.ones((0, 2, 3))), FeatureError, ["array a", "without cells"]),
    "npz twice": ("a.npz", npz(f=STACK, ids=[7, 7]), FeatureError, ["array ids", "'7' more than once"]),
    "short hdf5": ("a.h5", short_hdf5, FileError, ["a.h5", "truncated"]),
    "hdf5 text": ("a.h5", hdf5(text="none"), FeatureError, ["no feature maps", "/text  () object"]),
    "hdf5 empty": ("a.h5", hdf5(), FeatureError, ["it is empty"]),
    "hdf5 null": ("a.h5", hdf5(a=h5py.Empty("f4")), FeatureError, ["no feature maps"]),
    "hdf5 complex": ("a.h5", hdf5(f=STACK + 1j), FeatureError, ["no feature maps", "(2, 2, 3, 5) complex64"]),
    "hdf5 two": ("a.h5", hdf5(p3=STACK, p4=STACK), FeatureError, ["/p3  (2, 2, 3, 5) float32", "`dataset`"]),
    "hdf5 mixed": ("a.h5", hdf5(p3=STACK, p4=MAP), FeatureError, ["/  1 maps such as p4 (2, 3, 5)", "`dataset`"]),
    "hdf5 no cells": ("a.h5", hdf5(a=np.ones((0, 2, 3))), FeatureError, ["dataset /a", "without cells"]),
    "hdf5 twice": ("a.h5", hdf5(f=STACK, ids=[7, 7]), FeatureError, ["dataset /ids", "'7' more than once"]),
    "hdf5 link": ("a.h5", linked_hdf5, FeatureError, ["no feature maps", "/features  (a link, not followed)"]),
    "hdf5 virtual": ("a.h5", virtual_hdf5, FileError, ["lacks lost.h5"]),
}


@pytest.mark.parametrize(("name", "make", "kind", "fragments"), BAD.values(), ids=BAD.keys())
def test_bad_file(
    tmp_path: Path, name: str, make: Callable[[Path], None], kind: type[RoicliError], fragments: list[str]
):
    make(tmp_path / name)
    with pytest.raises(kind) as refusal:
        read_everything(tmp_path / name)
    assert str(tmp_path / name) in refusal.value.message or name.endswith("*.npy")
    assert refusal.value.hint.endswith(".")
    assert not refusal.value.message.endswith(".")
    for fragment in fragments:
        assert fragment in str(refusal.value)


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
    resource = pytest.importorskip("resource")
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
    resource = pytest.importorskip("resource")
    for n in range(50):
        hdf5(**{f"image{n}": MAP})(tmp_path / f"{n}.h5")
    boxes = ", ".join(f'"image{n}": [[0, 0, 2, 2]]' for n in range(50))
    (tmp_path / "boxes.json").write_text(f"{{{boxes}}}")
    done = subprocess.run(
        [ROICLI, "align", "*.h5", "boxes.json", "-o", "out.npy", "--workers", "1"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("small", [0, 2**19], ids=["mapped", "read"])
def test_a_map_that_ends_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: int):
    monkeypatch.setattr(arrays, "READ_AT_MOST", small)
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


def nested_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["p3/all"] = STACK
        file["p4/one"] = MAP
        file["p4/two"] = MAP
        file["p4/deep/sizes"] = np.ones((2, 2))
        file["masks"] = STACK > 3
        file["type"] = np.dtype("f4")
        file["soft"] = h5py.SoftLink("/p3/all")
        file["p4/deep/loop"] = file["/"]


@pytest.mark.parametrize(
    ("dataset", "ids"),
    [
        ("p3/all", ("0", "1")),
        ("/p3/all/", ("0", "1")),
        ("p3", ("0", "1")),
        ("p4", ("one", "two")),
        ("p4/two", ("two",)),
        ("soft", ("0", "1")),
    ],
)
def test_dataset_chooses(tmp_path: Path, dataset: str, ids: tuple[str, ...]):
    nested_hdf5(tmp_path / "a.h5")
    assert open_source(tmp_path / "a.h5", dataset=dataset).ids == ids
    assert len(read_everything(tmp_path / "a.h5", dataset)) == len(ids)


@pytest.mark.parametrize(
    ("dataset", "fragments"),
    [
        (None, ["/p3/all  (2, 2, 3, 5) float32", "/p4  2 maps such as one (2, 3, 5) float32", "`dataset`"]),
        ("p5", ["no dataset 'p5'", "/p3/all  (2, 2, 3, 5) float32"]),
        ("p4/deep/sizes", ["(2, 2)", "2 axes"]),
        ("masks", ["dtype bool"]),
        ("type", ["a datatype"]),
        ("/", ["more than one"]),
    ],
)
def test_dataset_that_cannot_be_chosen(tmp_path: Path, dataset: str | None, fragments: list[str]):
    nested_hdf5(tmp_path / "a.h5")
    with pytest.raises(FeatureError) as refusal:
        read_everything(tmp_path / "a.h5", dataset)
    for fragment in fragments:
        assert fragment in str(refusal.value)


def test_dataset_behind_a_link_to_another_file(tmp_path: Path):
    linked_hdf5(tmp_path / "a.h5")
    with pytest.raises(FeatureError, match=r"link to features of other\.h5"):
        open_source(tmp_path / "a.h5", dataset="features")
    with pytest.raises(FeatureError, match="no dataset 'gone'"):
        open_source(tmp_path / "a.h5", dataset="gone")


@pytest.mark.parametrize(("dataset", "ids"), [("p3", ("0", "1")), ("p4", ("p4",)), ("/", ("p4", "p5"))])
def test_dataset_of_an_npz(tmp_path: Path, dataset: str, ids: tuple[str, ...]):
    npz(p3=STACK, p4=MAP, p5=MAP)(tmp_path / "a.npz")
    assert open_source(tmp_path / "a.npz", dataset=dataset).ids == ids
    with pytest.raises(FeatureError, match="no array 'p6'"):
        open_source(tmp_path / "a.npz", dataset="p6")


def test_a_long_listing_is_cut(tmp_path: Path):
    hdf5(**{f"p{i}": STACK for i in range(40)})(tmp_path / "a.h5")
    with pytest.raises(FeatureError) as refusal:
        open_source(tmp_path / "a.h5")
    assert "/p19 " in str(refusal.value)
    assert "/p20 " not in str(refusal.value)


def test_npy_files_have_no_datasets(tmp_path: Path):
    np.save(tmp_path / "a.npy", MAP)
    with pytest.raises(UsageError, match="`dataset`"):
        open_source(tmp_path / "a.npy", dataset="x")
    with pytest.raises(UsageError, match="'chw', 'hwc'"):
        open_source(tmp_path / "a.npy", layout="nhwc")  # type: ignore[arg-type]


def test_one_image_id_in_two_files(tmp_path: Path):
    for name, image in (("one.h5", "dog"), ("three.h5", "cat"), ("two.h5", "dog")):
        hdf5(**{image: MAP})(tmp_path / name)
    with pytest.raises(FeatureError, match=r"'dog' is both in .*one\.h5 and in .*two\.h5"):
        open_source(tmp_path / "*.h5")


def test_named_and_counted_maps_do_not_mix(tmp_path: Path):
    hdf5(dog=MAP)(tmp_path / "one.h5")
    hdf5(features=STACK)(tmp_path / "two.h5")
    with pytest.raises(FeatureError, match=r"one\.h5 names its maps by image id, .*two\.h5 only counts them"):
        open_source(tmp_path / "*.h5")


@pytest.mark.parametrize(
    "values",
    [
        np.array(["a", "é"], h5py.string_dtype()),
        np.array([b"a", "é".encode()], h5py.string_dtype(length=4)),
        np.array([b"a", "é".encode()]),
    ],
)
def test_image_ids_may_be_any_kind_of_string(tmp_path: Path, values: np.ndarray):
    hdf5(features=STACK, Filenames=values, names=[1, 2])(tmp_path / "a.h5")
    assert open_source(tmp_path / "a.h5").ids == ("a", "é")


FORMATS = pytest.mark.parametrize(("name", "make"), [("a.h5", hdf5), ("a.npz", npz)])


@FORMATS
def test_arrays_that_may_be_something_else_than_image_ids(tmp_path: Path, name: str, make: Callable[..., object]):
    arrays = {"ids": [1.5, 2.0], "id": [1, 2, 3], "filenames": [True, False], "names": [[1, 2], [3, 4]]}
    make(features=STACK, **arrays, keys=[5, 6])(tmp_path / name)
    assert open_source(tmp_path / name).ids == ("5", "6")
    make(features=STACK, **arrays)(tmp_path / name)
    assert not open_source(tmp_path / name).labelled


@FORMATS
@pytest.mark.parametrize("values", [[[139], [285]], [139.0, 285.0], np.array([[139], [285]], "f4"), [b"139", b"285"]])
def test_image_ids_may_be_a_column_or_whole_floats(
    tmp_path: Path, name: str, make: Callable[..., object], values: object
):
    make(features=STACK, image_ids=values)(tmp_path / name)
    assert open_source(tmp_path / name).ids == ("139", "285")


@FORMATS
@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([1], "(1,) of dtype int64"),
        ([1.5, 2], "(2,) of dtype float64"),
        ([1, np.nan], "(2,) of dtype float64"),
        ([1, np.inf], "(2,) of dtype float64"),
        (7, "() of dtype int64"),
        ([[1, 2]], "(1, 2) of dtype int64"),
        ([[1, 2], [3, 4]], "(2, 2) of dtype int64"),
        ([True, False], "(2,) of dtype bool"),
        ([b"a", b"b", b"c"], "(3,) of strings"),
    ],
)
@pytest.mark.parametrize("array", ["image_ids", "image_id", "ImageIDs", "imageid", "img_ids", "img_id"])
def test_image_ids_that_do_not_fit(
    tmp_path: Path, name: str, make: Callable[..., object], array: str, values: object, found: str
):
    make(features=STACK, ids=[5, 6], **{array: values})(tmp_path / name)
    with pytest.raises(FeatureError) as refusal:
        open_source(tmp_path / name)
    where = f"{tmp_path / name}, " + (f"dataset /{array}" if name == "a.h5" else f"array {array}")
    assert refusal.value.message == f"{where}: shape {found}, where 2 maps need (2,) integers or strings"
    assert refusal.value.hint == "Write one id a map there, or rename it if it holds something else."


def test_image_ids_that_nothing_can_read(tmp_path: Path):
    npz(features=STACK, image_ids=np.array([1, "a"], object))(tmp_path / "a.npz")
    with pytest.raises(FeatureError, match=r"array image_ids: shape \(2,\) of dtype object, where"):
        open_source(tmp_path / "a.npz")
    hdf5(features=STACK, image_ids=h5py.Empty("i4"))(tmp_path / "a.h5")
    with pytest.raises(FeatureError, match=r"dataset /image_ids: shape \(\) of dtype int32, where"):
        open_source(tmp_path / "a.h5")
    hdf5(**{"features": STACK, "image_ids/of_boxes": [1, 2, 3]})(tmp_path / "b.h5")
    assert not open_source(tmp_path / "b.h5").labelled


def not_utf8_hdf5(path: Path, *names: bytes) -> None:
    with h5py.File(path, "w") as file:
        for name in names:
            space = h5py.h5s.create_simple(MAP.shape)
            h5py.h5d.create(file.id, name, h5py.h5t.py_create(MAP.dtype), space).write(h5py.h5s.ALL, h5py.h5s.ALL, MAP)


def check_printable(path: Path | str, ids: tuple[str, ...]) -> None:
    source = open_source(path)
    assert source.ids == ids
    "".join([*source.ids, source.name, *(source.info(i).where for i in range(len(ids)))]).encode()
    assert all(Path(file).is_file() for file in source.paths)
    for i in range(len(ids)):
        np.testing.assert_array_equal(source.read(i), MAP)


def test_names_that_are_not_utf8_are_printable_and_open(tmp_path: Path):
    not_utf8_hdf5(tmp_path / "a.h5", b"caf\xe9", "caf\u00e9".encode())
    check_printable(tmp_path / "a.h5", ("caf\u00e9", "caf\\xe9"))
    folder = tmp_path / "maps"
    folder.mkdir()
    strange = folder / os.fsdecode(b"caf\xe9.npy")
    np.save(strange, MAP)
    check_printable(strange, ("caf\\xe9",))
    check_printable(folder, ("caf\\xe9",))
    np.save(folder / "dog.npy", MAP)
    check_printable(folder / "*.npy", ("caf\\xe9", "dog"))
    check_printable(os.fsdecode(os.fsencode(folder) + b"/caf[\xe9]*"), ("caf\\xe9",))
    np.save(folder / "caf\\xe9.npy", MAP)
    with pytest.raises(FeatureError, match="more than once"):
        open_source(folder)


def test_groups_and_ids_that_are_not_utf8(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group(b"caf\xe9")["maps"] = MAP[None]
        file[b"caf\xe9"]["image_ids"] = np.array([b"\xe9"])
    check_printable(tmp_path / "a.h5", ("\\xe9",))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_group(b"caf\xe9").create_group(b"\xe9")["dog"] = MAP
    check_printable(tmp_path / "b.h5", ("dog",))
    not_utf8_hdf5(tmp_path / "c.h5", b"caf\xe9")
    with h5py.File(tmp_path / "c.h5", "a") as file:
        file.create_group(b"\xe9")["dog"] = MAP
    with pytest.raises(FeatureError, match="more than one thing to pool"):
        open_source(tmp_path / "c.h5")
    with pytest.raises(FeatureError, match=r"c\.h5: the name '\\\\xe9' is not UTF-8"):
        open_source(tmp_path / "c.h5", dataset="\udce9")
    npz(features=MAP[None], image_ids=np.array(["\udce9"]))(tmp_path / "a.npz")
    check_printable(tmp_path / "a.npz", ("\\xe9",))
    npz(features=MAP[None], image_ids=np.array(["\ud800"]))(tmp_path / "b.npz")
    with pytest.raises(FileError, match=r"array image_ids cannot be read: .*surrogates"):
        open_source(tmp_path / "b.npz")
    for name in (b"caf\xe9.npy", b"caf\\xe9.npy"):
        np.save(os.fsdecode(os.fsencode(tmp_path) + b"/" + name), MAP)
    with pytest.raises(FeatureError, match="is both in"):
        open_source(tmp_path / "caf*.npy")


@pytest.mark.parametrize("userblock", [0, 1024])
def test_hdf5_reads_what_is_not_stored_as_it_is_read(tmp_path: Path, userblock: int, monkeypatch: pytest.MonkeyPatch):
    bfloat16 = h5py.h5t.IEEE_F32LE.copy()
    bfloat16.set_fields(15, 7, 8, 0, 7)
    bfloat16.set_precision(16)
    bfloat16.set_size(2)
    bfloat16.set_ebias(127)
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=userblock) as file:
        file.create_dataset("chunked", data=MAP, chunks=MAP.shape)
        file.create_dataset("external", MAP.shape, "f4", external=[(str(tmp_path / "a.bin"), 0, MAP.nbytes)])[...] = MAP
        file.create_dataset("unwritten", MAP.shape, "f4")
        space = h5py.h5s.create_simple(MAP.shape)
        h5py.h5d.create(file.id, b"bfloat16", bfloat16, space).write(h5py.h5s.ALL, h5py.h5s.ALL, MAP)
    source = open_source(tmp_path / "a.h5")
    assert source.ids == ("bfloat16", "chunked", "external", "unwritten")
    monkeypatch.setattr(StoredArray, "load", None)  # not asked
    np.testing.assert_array_equal([source.read(i) for i in range(4)], [MAP, MAP, MAP, 0 * MAP])


@pytest.mark.usefixtures("own_child")
def test_a_large_group_is_listed_but_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("roicli.sources.hdf5.tree._GROUP_SAMPLE", 2)
    hdf5(**{"1": MAP, "2": [1.0], "3": MAP, "4": [1.0]})(tmp_path / "a.h5")
    source = open_source(tmp_path / "a.h5")
    assert source.ids == ("1", "3", "4")
    with pytest.raises(FeatureError, match="dataset /4 has shape"):
        source.info(2)


def test_hard_links_may_repeat_and_go_in_circles(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["net/features"] = STACK
        file["net/alias"] = file["net/features"]
        file["net/loop"] = file["net"]
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["net/dog"] = MAP
        file["net/loop"] = file["/"]
    assert open_source(tmp_path / "a.h5").ids == ("0", "1")
    assert open_source(tmp_path / "b.h5").ids == ("dog",)


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
    command = [*("sh", "-c", 'ulimit -n "$0" && exec "$@"')]
    for limit in (32, 44, 48, 200):
        align = [ROICLI, "align", "maps.h5", "boxes.json", "-o", "out.npy", "--quiet", "--overwrite"]
        done = subprocess.run([*command, str(limit), *align], cwd=tmp_path, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            assert limit > 40
            assert (np.load(tmp_path / "out.npy")[0, :, 3, 3] == np.arange(1, 41)).all()
        else:
            assert limit < 200
            assert done.stderr.splitlines() == [
                "error: maps.h5, dataset /map cannot be read: Too many open files",
                "hint: Raise the limit of open files (ulimit -n).",
            ]


def test_damaged_and_numerous_chunks_are_told_by_their_dataset(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("maps", data=np.ones((2, 8, 8, 8), "f4"), chunks=(1, 4, 8, 8), compression="gzip")
        file.create_dataset("/many/maps", (5000, 1024, 1, 1), "f4", chunks=(1, 1, 1, 1))
    data = (tmp_path / "a.h5").read_bytes()
    with pytest.raises(FeatureError, match="dataset /many/maps lies in 5,120,000 chunks, too many") as caught:
        open_source(tmp_path / "a.h5", dataset="/many/maps").read(0)
    assert "h5repack" in caught.value.hint
    # Version 1 trees of type 1 are those of chunks.
    (tmp_path / "a.h5").write_bytes(data.replace(b"TREE\x01", b"XXXX\x01"))
    for look in open_source, take_stock:
        with pytest.raises(FileError, match=r"a\.h5, dataset /maps cannot be read"):
            look(tmp_path / "a.h5")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_an_empty_file_is_not_to_be_renamed(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"")
    with pytest.raises(FileError, match="it is empty") as caught:
        open_source(path)
    assert caught.value.hint == "Copy or download the file again, or write it anew."
