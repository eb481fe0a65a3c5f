"""Which array of a file holds the maps, and what their ids are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from sources.badfiles import MAP, STACK, hdf5, linked_hdf5, npz, read_everything

from roicli import child
from roicli.errors import FeatureError, FileError, UsageError
from roicli.sources import open_source


@pytest.fixture
def own_child():
    """Start the child anew for a test that patches what runs in it."""
    child.stop()
    yield
    child.stop()


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
    assert refusal.value.message == f"{where}: expected (2,) integers or strings for 2 maps, got {found}"
    assert refusal.value.hint == "Write one id a map there, or rename it if it holds something else."


def test_image_ids_that_nothing_can_read(tmp_path: Path):
    npz(features=STACK, image_ids=np.array([1, "a"], object))(tmp_path / "a.npz")
    with pytest.raises(FeatureError, match="array image_ids: expected ids, got Python objects"):
        open_source(tmp_path / "a.npz")
    hdf5(features=STACK, image_ids=h5py.Empty("i4"))(tmp_path / "a.h5")
    with pytest.raises(
        FeatureError,
        match=r"dataset /image_ids: expected \(2,\) integers or strings for 2 maps, got \(\) of dtype int32",
    ):
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


@pytest.mark.usefixtures("own_child")
def test_a_large_group_is_listed_but_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("roicli.sources.hdf5.tree._GROUP_SAMPLE", 2)
    hdf5(**{"1": MAP, "2": [1.0], "3": MAP, "4": [1.0]})(tmp_path / "a.h5")
    source = open_source(tmp_path / "a.h5")
    assert source.ids == ("1", "3", "4")
    with pytest.raises(FeatureError, match="dataset /4: expected a map"):
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


def grouped(path: Path, *names: str) -> Path:
    with h5py.File(path, "w") as file:
        for number, name in enumerate(names):
            file[name] = MAP + number
    return path


@pytest.mark.parametrize(
    ("names", "dataset", "ids"),
    [
        (("train/a", "train/b", "val/c"), None, ("train/a", "train/b", "val/c")),
        (("x/train/a", "x/val/c", "x/val/d"), None, ("x/train/a", "x/val/c", "x/val/d")),
        (("x/train/a", "x/val/c", "x/val/d"), "x", ("train/a", "val/c", "val/d")),
        (("train/a", "train/b", "val/a"), "/", ("train/a", "train/b", "val/a")),
        (("train/a/features", "train/b/features", "val/c/features"), None, ("train/a", "train/b", "val/c")),
        (("a/features", "a/other", "b/features", "b/other"), "*/features", ("a", "b")),
        (("a/features", "a/other", "b/other"), "*/features", ("a",)),
        (("a/x/features", "b/x/features", "b/x/other"), "*/x/features", ("a", "b")),
        (("a_features", "b_features", "c_others"), "*_features", ("a", "b")),
        (("x/a_features", "x/b_features"), "x/*_features", ("a", "b")),
    ],
)
def test_names_that_are_paths(tmp_path: Path, names: tuple[str, ...], dataset: str | None, ids: tuple[str, ...]):
    source = open_source(grouped(tmp_path / "a.h5", *names), dataset=dataset)
    assert source.ids == ids
    wanted = [number for number, name in enumerate(names) if any(id_ in name for id_ in ids) and "other" not in name]
    for index, number in enumerate(wanted):
        np.testing.assert_array_equal(source.read(index), MAP + number)


def test_an_array_of_each_name_in_an_npz(tmp_path: Path):
    npz(a_features=MAP, b_features=MAP, b_boxes=MAP)(tmp_path / "a.npz")
    assert open_source(tmp_path / "a.npz", dataset="*_features").ids == ("a", "b")


def test_groups_of_the_same_names_are_not_taken_for_one(tmp_path: Path):
    path = grouped(tmp_path / "a.h5", "a/x", "a/y", "b/x", "b/y")
    with pytest.raises(FeatureError, match="more than one thing to pool") as error:
        open_source(path)
    assert "`dataset=*/x`" in error.value.hint
    with pytest.raises(FeatureError, match=r"no maps named '\*/z'"):
        open_source(path, dataset="*/z")
    assert len(open_source(path, dataset="/")) == 4


def test_many_groups_are_all_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_child: None):
    monkeypatch.setattr("roicli.sources.hdf5.tree._FILE_SAMPLE", 60)
    names = [f"{number // 4:02d}/{number}" for number in range(100)]
    assert len(open_source(grouped(tmp_path / "a.h5", *names))) == 100
