"""Conformance of the feature sources: one class of tests, which every format subclasses with a way to write maps."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from roicli import files
from roicli.files import StoredArray
from roicli.sources import FeatureSource, open_source
from roicli.sources.hdf5 import virtual as hdf5_virtual
from roicli.sources.hdf5.handle import OwnHandle

DTYPES = ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "u1", "i1", "<i2", ">i4", "<u8"]


def some_maps(dtype: str = "<f4", count: int = 3) -> list[np.ndarray]:
    values = np.random.default_rng(0).integers(0, 100, (count, 2, 3, 5))
    return list(values.astype(dtype))


def stack(maps: list[np.ndarray]) -> np.ndarray:
    return np.stack(maps).astype(maps[0].dtype)  # np.stack alone forgets the byte order


def read_all(source: FeatureSource, pipe: Any) -> None:
    pipe.send([np.array(source.read(i)) for i in range(len(source.ids))])


def loads(monkeypatch: pytest.MonkeyPatch) -> list[StoredArray]:
    """Take down which maps are read as they lie in their file, past the library of its format."""
    loaded: list[StoredArray] = []
    load = StoredArray.load

    def take_down(self: StoredArray, index: int | None = None) -> NDArray[Any]:
        if index is None or self.fortran:  # else an item of a stack comes by again, by itself
            loaded.append(self)
        return load(self, index)

    monkeypatch.setattr(StoredArray, "load", take_down)
    return loaded


class SourceTests:
    """What holds for every source. A subclass says how its format is written and what is to be expected."""

    ids = ("0", "1", "2")
    labelled = False
    in_place = True
    dataset: str | None = None

    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        """Write maps as they are; return the pattern to open."""
        raise NotImplementedError

    @pytest.fixture
    def maps(self) -> list[np.ndarray]:
        return some_maps(count=len(self.ids))

    @pytest.fixture
    def source(self, tmp_path: Path, maps: list[np.ndarray]) -> FeatureSource:
        return open_source(self.write(tmp_path, maps), dataset=self.dataset)

    def test_lists_what_was_written(self, source: FeatureSource, tmp_path: Path):
        assert source.ids == self.ids
        assert source.labelled is self.labelled
        assert str(tmp_path) in source.name
        assert all(Path(path).is_file() for path in source.paths)

    @pytest.mark.parametrize("small", [0, 2**19], ids=["mapped", "read"])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_reads_what_was_written(self, tmp_path: Path, dtype: str, small: int, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(files, "_SMALL", small)
        maps = some_maps(dtype, len(self.ids))
        source = open_source(self.write(tmp_path, maps), dataset=self.dataset)
        loaded = loads(monkeypatch)
        for i, expected in enumerate(maps):
            info, array = source.info(i), source.read(i)
            assert info.shape == array.shape == (2, 3, 5)
            assert info.dtype == array.dtype == np.dtype(dtype)
            assert str(tmp_path) in info.where
            np.testing.assert_array_equal(array, expected)
            assert not array.flags.writeable or not self.in_place
        assert len(loaded) == self.in_place * len(maps)

    def test_channels_last_is_read_as_a_view_with_channels_first(self, tmp_path: Path, maps: list[np.ndarray]):
        pattern = self.write(tmp_path, [np.ascontiguousarray(m.transpose(1, 2, 0)) for m in maps])
        source = open_source(pattern, dataset=self.dataset, layout="hwc")
        for i, expected in enumerate(maps):
            assert source.info(i).shape == (2, 3, 5)
            assert source.read(i).strides[0] == expected.itemsize
            np.testing.assert_array_equal(source.read(i), expected)

    def test_reads_in_any_order(self, source: FeatureSource, maps: list[np.ndarray]):
        for i in [2, 0, 1, 1, 0, 2, 0]:
            np.testing.assert_array_equal(source.read(i), maps[i])

    def test_index_out_of_range(self, source: FeatureSource):
        with pytest.raises(IndexError):
            source.read(len(self.ids))

    def test_survives_pickling(self, source: FeatureSource, maps: list[np.ndarray]):
        source.read(0)  # so that there is a handle to leave behind
        again = pickle.loads(pickle.dumps(source))
        assert again.ids == source.ids
        np.testing.assert_array_equal(again.read(1), maps[1])

    def test_opens_again_after_close(self, source: FeatureSource, maps: list[np.ndarray]):
        source.read(0)
        source.close()
        source.close()
        np.testing.assert_array_equal(source.read(2), maps[2])

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_works_on_both_sides_of_a_fork(self, source: FeatureSource, maps: list[np.ndarray]):
        source.read(0)
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        child = context.Process(target=read_all, args=(source, theirs))
        child.start()
        theirs.close()
        in_child = ours.recv()
        child.join()
        assert child.exitcode == 0
        np.testing.assert_array_equal(in_child, maps)
        np.testing.assert_array_equal([source.read(i) for i in range(len(maps))], maps)

    def test_a_handle_that_came_through_a_fork_is_not_used(
        self, source: FeatureSource, maps: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
    ):
        source.read(0)
        handles = [kept for kept in vars(source).values() if isinstance(kept, OwnHandle)]
        before = [handle.get() for handle in handles]
        monkeypatch.setattr("os.getpid", lambda: -1)
        np.testing.assert_array_equal(source.read(1), maps[1])
        assert all(handle.get() is not old for handle, old in zip(handles, before, strict=True))


class TestNpyStack(SourceTests):
    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        np.save(folder / "feats.npy", stack(maps))
        return str(folder / "feats.npy")


class TestNpyFortranStack(SourceTests):
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


def test_a_memory_map_goes_with_its_array(tmp_path: Path):
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


def test_each_part_of_a_virtual_dataset_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    maps = np.arange(6 * 8, dtype=np.float32).reshape(6, 2, 2, 2)
    layout = h5py.VirtualLayout(maps.shape, np.float32)
    for part in range(3):
        with h5py.File(tmp_path / f"part{part}.h5", "w") as file:
            file["x"] = maps[2 * part : 2 * part + 2]
        layout[2 * part : 2 * part + 2] = h5py.VirtualSource(f"part{part}.h5", "x", (2, 2, 2, 2))
    with h5py.File(tmp_path / "whole.h5", "w", libver="latest") as file:
        file.create_virtual_dataset("maps", layout)
    looked = []
    check_part = hdf5_virtual._check_part
    monkeypatch.setattr(
        hdf5_virtual, "_check_part", lambda source, path, where: looked.append(path) or check_part(source, path, where)
    )
    source = open_source(tmp_path / "whole.h5")
    for index in range(6):
        assert source.info(index).shape == (2, 2, 2)
        np.testing.assert_array_equal(source.read(index), maps[index])
    assert looked == [tmp_path / f"part{part}.h5" for part in range(3)]
    assert set(source.paths) == {str(tmp_path / name) for name in ("whole.h5", "part0.h5", "part1.h5", "part2.h5")}


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
