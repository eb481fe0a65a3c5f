"""Every format of maps, by the conformance tests; and what is particular to one of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from sources.conformance import SourceTests, loads, some_maps, stack

from roicli import arrays
from roicli.cli.main import main
from roicli.errors import FeatureError, FileError, UsageError
from roicli.files import HDF5_SUFFIXES
from roicli.sources import open_source, register
from roicli.sources.base import MapSource, StoredMap
from roicli.sources.hdf5 import inside
from roicli.sources.hdf5 import virtual as hdf5_virtual
from roicli.sources.open import suffixes


class TestNpyStack(SourceTests):
    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        np.save(folder / "feats.npy", stack(maps))
        return str(folder / "feats.npy")


class TestNpyFortranStack(SourceTests):
    gathered = True

    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        np.save(folder / "feats.npy", np.asfortranarray(stack(maps)))
        return str(folder / "feats.npy")

    def test_channels_last_is_read_as_a_view_with_channels_first(self, tmp_path: Path, maps: list[np.ndarray]):
        pattern = self.write(tmp_path, [m.transpose(1, 2, 0) for m in maps])
        np.testing.assert_array_equal(open_source(pattern, layout="hwc").read(1), maps[1])


class TestFolder(SourceTests):
    ids = ("img2", "img010", "img10")
    labelled = True

    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        (folder / "maps").mkdir()
        for image_id, array in zip(self.ids, maps, strict=True):
            np.save(folder / "maps" / f"{image_id}.npy", array)
        (folder / "maps" / "notes.txt").write_text("not a map")
        (folder / "maps" / "._img2.npy").write_text("nor this")
        return str(folder / "maps")


class TestFolderOfBatchesOfOne(TestFolder):
    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        return super().write(folder, [m[None] for m in maps])


class TestNpzMaps(SourceTests):
    ids = ("a/1", "a/2", "a/10")
    labelled = True
    save = staticmethod(np.savez)

    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        sizes = np.ones((3, 2))
        self.save(folder / "feats.npz", sizes=sizes, **dict(zip(self.ids, maps, strict=True)))
        return str(folder / "feats.npz")


class TestNpzCompressedMaps(TestNpzMaps):
    in_place = False
    save = staticmethod(np.savez_compressed)


class TestNpzStack(SourceTests):
    save = staticmethod(np.savez)

    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        self.save(folder / "feats.npz", features=stack(maps))
        return str(folder / "feats.npz")


class TestNpzCompressedStack(TestNpzStack):
    in_place = False
    save = staticmethod(np.savez_compressed)


class TestNpzCompressedFortranStack(TestNpzCompressedStack):
    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        self.save(folder / "feats.npz", features=np.asfortranarray(stack(maps)))
        return str(folder / "feats.npz")

    test_channels_last_is_read_as_a_view_with_channels_first = (
        TestNpyFortranStack.test_channels_last_is_read_as_a_view_with_channels_first
    )


class TestNpzStackWithIds(SourceTests):
    ids = ("000139", "285", "dog.jpg")
    labelled = True

    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        np.savez(folder / "feats.npz", features=stack(maps), image_ids=np.array(self.ids))
        return str(folder / "feats.npz")


class TestHdf5Stack(SourceTests):
    options: ClassVar[dict[str, Any]] = {}

    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        with h5py.File(folder / "feats.h5", "w") as file:
            file.create_dataset("net/features", data=stack(maps), **self.options)
            file["net/boxes"] = np.ones((7, 4))
            file["net/valid"] = np.ones((3, 3, 5), bool)
        return str(folder / "feats.h5")


class TestHdf5Chunked(TestHdf5Stack):
    options: ClassVar = {"chunks": (2, 2, 2, 2)}
    in_place = False


class TestHdf5Gzip(TestHdf5Stack):
    options: ClassVar = {"compression": "gzip", "shuffle": True, "fletcher32": True}
    in_place = False


class TestHdf5Lzf(TestHdf5Stack):
    options: ClassVar = {"compression": "lzf", "chunks": (1, 2, 3, 2)}
    in_place = False


class TestHdf5External(TestHdf5Stack):
    in_place = False
    limited = True

    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        values = stack(maps)
        with h5py.File(folder / "feats.h5", "w") as file:
            external = [(str(folder / "values.bin"), 0, values.nbytes if self.limited else h5py.h5f.UNLIMITED)]
            file.create_dataset("features", values.shape, values.dtype, external=external)[...] = values
        return str(folder / "feats.h5")


class TestHdf5ExternalWithoutLimit(TestHdf5External):
    limited = False


class TestHdf5StackWithIds(SourceTests):
    ids = ("139", "285", "632")
    labelled = True

    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        with h5py.File(folder / "feats.hdf5", "w") as file:
            file["features"] = stack(maps)
            file["image_ids"] = np.array([139, 285, 632])
        return str(folder / "feats.hdf5")


class TestHdf5Maps(SourceTests):
    ids = ("2", "10", "dog")
    labelled = True

    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        with h5py.File(folder / "feats.h5", "w") as file:
            for image_id, array in zip(self.ids, maps, strict=True):
                file[image_id] = array
            file["sizes"] = np.ones((3, 2))
            file["about/text"] = "none of these is a map"
        return str(folder / "feats.h5")


class TestHdf5GroupOfMaps(SourceTests):
    ids = ("2", "10", "11")
    labelled = True
    dataset = "p3/maps"

    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        with h5py.File(folder / "feats.h5", "w", userblock_size=512) as file:
            for image_id, array in zip(self.ids, maps, strict=True):
                file[f"p3/maps/{image_id}"] = array
                file[f"p4/maps/{image_id}"] = array + 1
        return str(folder / "feats.h5")


class TestHdf5CompactMaps(TestHdf5Maps):
    in_place = False

    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        with h5py.File(folder / "feats.h5", "w") as file:
            for image_id, array in zip(self.ids, maps, strict=True):
                space, kind = h5py.h5s.create_simple(array.shape), h5py.h5t.py_create(array.dtype)
                dataset = h5py.h5d.create(file.id, image_id.encode(), kind, space, plist)
                dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, array)
        return str(folder / "feats.h5")


class TestManyStacks(SourceTests):
    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        for name, part in (("part2", maps[:2]), ("part10", maps[2:])):
            with h5py.File(folder / f"{name}.h5", "w") as file:
                file["features"] = stack(part)
        np.save(folder / "part11.h.npy", np.ones((0, 2, 3, 5)))
        return str(folder / "part*.*")


class TestManyMaps(SourceTests):
    ids = ("b", "c", "a")
    labelled = True

    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        with h5py.File(folder / "part1.h5", "w") as file:
            file["b"], file["c"] = maps[:2]
        (folder / "part2").mkdir()
        np.save(folder / "part2" / "a.npy", maps[2])
        return str(folder / "part*")


def test_one_npy_map_is_named_by_its_file(tmp_path: Path):
    [expected] = some_maps(count=1)
    np.save(tmp_path / "dog.npy", expected)
    source = open_source(tmp_path / "dog.npy")
    assert (source.ids, source.labelled) == (("dog",), True)
    np.testing.assert_array_equal(source.read(0), expected)


@pytest.mark.parametrize("shape", ["batch", "map", "mixed"])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
@pytest.mark.parametrize("count", [1, 3])
def test_files_of_one_map_each_name_it(tmp_path: Path, suffix: str, shape: str, count: int):
    """As a network writes them, image by image, always under the same name; files in a gap of numbers are no places."""
    maps, names = some_maps(count=count), ("1", "2", "6")
    for n, (name, array) in enumerate(zip(names, maps, strict=False)):
        one = array[None] if shape == "batch" or (shape == "mixed" and n != 1) else array
        if suffix == ".npy":
            np.save(tmp_path / name, one)
        elif suffix == ".npz":
            np.savez(tmp_path / name, features=one)
        else:
            with h5py.File(tmp_path / f"{name}.h5", "w") as file:
                file["features"] = one
    source = open_source(tmp_path / f"*{suffix}")
    named = count > 1 or shape != "map" or suffix == ".npy"  # of one file, the name of its dataset may be an image id
    assert (source.ids, source.labelled) == (names[:count] if named else ("features",), True)
    for n in range(count):
        np.testing.assert_array_equal(source.read(n), maps[n])


def test_versions_of_npy(tmp_path: Path):
    [expected] = some_maps(count=1)
    for version in ((1, 0), (2, 0), (3, 0)):
        with (tmp_path / "a.npy").open("wb") as file:
            np.lib.format.write_array(file, expected, version=version)
        np.testing.assert_array_equal(open_source(tmp_path / "a.npy").read(0), expected)


def test_a_stack_may_be_empty(tmp_path: Path):
    np.save(tmp_path / "none.npy", np.ones((0, 2, 3, 5)))
    assert open_source(tmp_path / "none.npy").ids == ()


def test_an_existing_path_is_not_a_pattern(tmp_path: Path):
    np.save(tmp_path / "map[1].npy", some_maps()[0])
    np.save(tmp_path / "map1.npy", some_maps()[1])
    assert open_source(tmp_path / "map[1].npy").ids == ("map[1]",)
    assert open_source(tmp_path / "map[1-9].npy").ids == ("map1",)


def test_brackets_may_be_those_of_a_folder(tmp_path: Path):
    (tmp_path / "feats [v2]").mkdir()
    np.save(tmp_path / "feats [v2]" / "im0.npy", some_maps()[0])
    assert open_source(f"{tmp_path}/feats [v2]/*.npy").ids == ("im0",)


def test_a_file_beside_maps_is_judged_when_it_is_asked_for(tmp_path: Path):
    np.save(tmp_path / "im0.npy", some_maps()[0])
    np.save(tmp_path / "im0_boxes.npy", np.ones((5, 4)))
    np.save(tmp_path / "im0_info.npy", np.array({"width": 640}), allow_pickle=True)
    (tmp_path / "im0.json").touch()  # of the same name
    assert open_source(tmp_path / "*0.*").ids == ("im0",)
    source = open_source(tmp_path / "*.npy")
    assert source.ids == ("im0", "im0_boxes", "im0_info")
    np.testing.assert_array_equal(source.read(0), some_maps()[0])
    with pytest.raises(FeatureError, match=r"im0_info\.npy: expected numbers, got Python objects"):
        source.info(2)
    with pytest.raises(FeatureError, match=r"im0_boxes\.npy: expected a map .*, got 2 axes, \(5, 4\)"):
        open_source(tmp_path / "im0_*.npy")
    np.save(tmp_path / "im1.npy", np.stack(some_maps()[:1] * 2))  # whose maps are counted over all files
    with pytest.raises(FeatureError, match=r"im0_boxes\.npy: expected a map"):
        open_source(tmp_path / "*.npy")


@pytest.mark.parametrize(("name", "pattern"), [("a.npz", "*.npz"), ("x/a.npy", "**/*.npy"), ("x/y/a.h5", "**/*.h5")])
def test_a_folder_of_maps_elsewhere_names_their_pattern(tmp_path: Path, name: str, pattern: str):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(FileError) as caught:
        open_source(tmp_path)
    assert caught.value.hint == f"Give a pattern in quotes: '{tmp_path}/{pattern}'."


def test_a_memory_map_goes_with_its_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(arrays, "READ_AT_MOST", 0)
    monkeypatch.setattr(arrays, "may_map", True)
    np.save(tmp_path / "feats.npy", np.ones((2, 256, 32, 32)))
    source = open_source(tmp_path / "feats.npy")
    smaps = Path("/proc/self/maps")
    if not smaps.exists():
        pytest.skip("the mapped files are listed on Linux only")
    array = source.read(0)
    assert "feats.npy" in smaps.read_text()
    assert array.base is not None
    del array
    assert "feats.npy" not in smaps.read_text()


def test_many_files_do_not_use_up_the_file_descriptors(tmp_path: Path):
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("the open files are listed on Linux only")
    for i in range(80):
        with h5py.File(tmp_path / f"{i}.h5", "w") as file:
            file["features"] = np.full((1, 1, 1, 1), i)
    before = len(list(descriptors.iterdir()))
    source = open_source(tmp_path / "*.h5")
    assert len(list(descriptors.iterdir())) == before
    assert [int(source.read(i).item()) for i in range(80)] == list(range(80))
    assert len(list(descriptors.iterdir())) <= before + 64


def test_h5py_is_imported_only_for_hdf5(tmp_path: Path):
    np.save(tmp_path / "map.npy", some_maps()[0])
    code = "import sys, roicli.sources as s; s.open_source(sys.argv[1]).read(0); sys.exit('h5py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "map.npy"], check=False).returncode == 0


def test_a_virtual_dataset_grows_with_its_part(tmp_path: Path):
    maps = stack(some_maps())
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file.create_dataset("maps", data=maps, chunks=(1, 2, 3, 5), maxshape=(None, 2, 3, 5))
    limits = {"shape": (1, 2, 3, 5), "dtype": maps.dtype, "maxshape": (None, 2, 3, 5)}
    layout, part = h5py.VirtualLayout(**limits), h5py.VirtualSource("part.h5", "maps", **limits)
    layout[: h5py.h5s.UNLIMITED] = part[: h5py.h5s.UNLIMITED]
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file.create_virtual_dataset("maps", layout)
    source = open_source(tmp_path / "whole.h5")
    np.testing.assert_array_equal([source.read(i) for i in range(len(source.ids))], maps)


def virtual(folder: Path, maps: np.ndarray, parts: int) -> Path:
    layout, size = h5py.VirtualLayout(maps.shape, maps.dtype), len(maps) // parts
    for part in range(parts):
        with h5py.File(folder / f"part{part}.h5", "w") as file:
            file["x"] = maps[size * part : size * part + size]
        layout[size * part : size * part + size] = h5py.VirtualSource(f"part{part}.h5", "x", (size, *maps.shape[1:]))
    with h5py.File(folder / "whole.h5", "w", libver="latest") as file:
        file.create_virtual_dataset("maps", layout)
    return folder / "whole.h5"


def test_the_parts_of_a_virtual_dataset_are_read(tmp_path: Path):
    maps = np.arange(6 * 8, dtype=np.float32).reshape(6, 2, 2, 2)
    source = open_source(virtual(tmp_path, maps, 3))
    np.testing.assert_array_equal(list(source), maps)
    assert set(source.paths) == {str(tmp_path / name) for name in ("whole.h5", "part0.h5", "part1.h5", "part2.h5")}
    assert set(source.stamps) == set(source.paths)


def test_the_sources_of_a_virtual_dataset_are_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = virtual(tmp_path, np.ones((40, 2, 2, 2), np.float32), 20)
    looked, asked = [], []
    check_part, ask = hdf5_virtual._check_part, h5py.Dataset.virtual_sources
    monkeypatch.setattr(hdf5_virtual, "_check_part", lambda path, *rest: looked.append(path) or check_part(path, *rest))
    monkeypatch.setattr(h5py.Dataset, "virtual_sources", lambda dataset: asked.append(dataset) or ask(dataset))
    inside.survey(str(path), None, "chw")
    assert sorted(looked) == sorted(tmp_path / f"part{part}.h5" for part in range(20))
    assert len(asked) <= 2  # for its parts, and for what they take


@pytest.mark.parametrize(
    "more", [{}, {"chunks": (1, 1, 2, 5), "compression": "gzip"}, {"chunks": (1, 2, 3, 5)}], ids=str
)
@pytest.mark.parametrize("name", ["maps.h5", "maps.npz"])
def test_maps_in_batches_of_one_are_maps(tmp_path: Path, name: str, more: dict[str, object]):
    maps = {f"img{number}": some_maps()[number][None] for number in range(3)}
    if name.endswith("npz"):
        (np.savez_compressed if more else np.savez)(tmp_path / name, **maps)
    else:
        with h5py.File(tmp_path / name, "w") as file:
            for image, feature_map in maps.items():
                file.create_dataset(f"layer/{image}", data=feature_map, **more)
    source = open_source(tmp_path / name)
    assert list(source.ids) == list(maps)
    for index, feature_map in enumerate(maps.values()):
        assert source.info(index).shape == feature_map.shape[1:]
        np.testing.assert_array_equal(source.read(index), feature_map[0])


def test_one_batch_of_one_is_a_stack(tmp_path: Path):
    with h5py.File(tmp_path / "maps.h5", "w") as file:
        file["maps"], file["image_ids"] = some_maps()[0][None], ["a"]
    source = open_source(tmp_path / "maps.h5")
    assert list(source.ids) == ["a"]
    np.testing.assert_array_equal(source.read(0), some_maps()[0])


class Digits(MapSource):
    """A format in a few lines: the number of maps, then digits, each a map of one channel and 2 x 2 cells."""

    def __init__(self, path: Path, layout, dataset: str | None = None) -> None:
        super().__init__(path, layout)
        self._digits = path.read_text()
        self.ids, self.labelled = tuple(f"img{digit}" for digit in self._digits), True

    def _find(self, index: int) -> StoredMap:
        shape, value = (1, 4, 4), int(self._digits[index])
        return StoredMap(f"{self.path}, map {index}", shape, np.dtype("f4"), lambda: np.full(shape, value, "f4"))


@pytest.fixture
def digits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr("roicli.sources.open._FORMATS", dict(open_source.__globals__["_FORMATS"]))
    register([".digits"], Digits)
    (tmp_path / "maps.digits").write_text("375")
    return tmp_path / "maps.digits"


def test_a_format_is_one_class(digits: Path):
    (digits.parent / "boxes.json").write_text('{"img7": [[1, 1, 2, 2]], "img3": [[0, 0, 2, 2]]}')
    made = digits.parent / "out.npy"
    command = ["align", str(digits), str(digits.parent / "boxes.json"), "-o", str(made), "--size", "2"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(np.load(made)[:, 0, 0, 0], [7, 3])
    assert ".digits" in suffixes()
    [kind] = open_source(digits).take_stock(digits).kinds
    assert (kind.count, kind.kind.shape) == (3, (1, 4, 4))


def test_every_suffix_of_hdf5_is_read(tmp_path: Path):
    for suffix in HDF5_SUFFIXES:
        with h5py.File(tmp_path / f"a{suffix}", "w") as file:
            file["maps"] = stack(some_maps())
        assert len(open_source(tmp_path / f"a{suffix}")) == 3


def test_a_layout_that_is_not_known(tmp_path: Path):
    with pytest.raises(UsageError, match="unknown layout 'hcw'"):
        open_source(tmp_path, layout="hcw")


@pytest.mark.parametrize("save", [np.save, np.savez, np.savez_compressed])
def test_a_stack_in_fortran_order_is_read_in_one_pass(tmp_path: Path, save, monkeypatch: pytest.MonkeyPatch):
    values = np.random.default_rng(0).normal(size=(7, 3, 4, 5)).astype(np.float32)
    path = tmp_path / ("a.npy" if save is np.save else "a.npz")
    save(path, np.asfortranarray(values))
    source = open_source(path)
    assert source.shared(0).key == source.shared(6).key == (0,)
    loaded = loads(monkeypatch)
    source.expect([1, 3, 4])
    for index in (1, 3, 4, 0, 6):
        np.testing.assert_array_equal(source.read(index), values[index])
    assert len(loaded) == (0 if save is np.savez_compressed else 2)
    save(path, values)
    assert open_source(path).shared(0) is None
