"""What holds for every source: one class of tests, which each format subclasses with a way to write its files."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from roicli import arrays
from roicli.arrays import StoredArray
from roicli.errors import ChangedInputError, FeatureError
from roicli.files import Stamp
from roicli.sources import FeatureSource, open_source

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

    def take_down(self: StoredArray, index: int | None = None, *, items: Sequence[int] = ()) -> NDArray[Any]:
        if index is None or self.fortran:  # else an item of a stack comes by again, by itself
            loaded.append(self)
        return load(self, index, items=items)

    monkeypatch.setattr(StoredArray, "load", take_down)
    return loaded


class SourceTests:
    """What holds for every source. A subclass says how its format is written and what is to be expected."""

    ids = ("0", "1", "2")
    labelled = False
    in_place = True
    gathered = False  # the values of a map lie scattered, so its file is never mapped
    dataset: str | None = None

    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        """Write maps as they are; return the pattern to open."""
        raise NotImplementedError

    def read_as(self, dtype: str) -> np.dtype[Any]:
        """Dtype that maps of a dtype are read as; a format may have but one byte order."""
        return np.dtype(dtype)

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
        monkeypatch.setattr(arrays, "READ_AT_MOST", small)
        monkeypatch.setattr(arrays, "may_map", True)
        maps = some_maps(dtype, len(self.ids))
        source = open_source(self.write(tmp_path, maps), dataset=self.dataset)
        loaded = loads(monkeypatch)
        for i, expected in enumerate(maps):
            info, array = source.info(i), source.read(i)
            assert info.shape == array.shape == (2, 3, 5)
            assert info.dtype == array.dtype == self.read_as(dtype)
            assert str(tmp_path) in info.where
            np.testing.assert_array_equal(array, expected)
            assert not array.flags.writeable or small or self.gathered or not self.in_place
        assert len(loaded) == (1 if self.gathered else self.in_place * len(maps))

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

    def test_is_a_sequence(self, source: FeatureSource, maps: list[np.ndarray]):
        assert len(source) == len(maps)
        np.testing.assert_array_equal(list(source), maps)
        np.testing.assert_array_equal(source[-1], maps[-1])
        for image_id, expected in zip(self.ids, maps, strict=True):
            np.testing.assert_array_equal(source[image_id], expected)
        with pytest.raises(FeatureError, match="no map is named 'none such'"):
            source["none such"]
        with pytest.raises(IndexError, match=f"has {len(maps)} maps, not one at {len(maps)}"):
            source[len(maps)]

    def test_stamps_the_files_that_it_has_read(self, source: FeatureSource):
        for index in range(len(self.ids)):
            source.read(index)
        assert source.stamps == {path: Stamp.of(path) for path in source.paths}

    def test_a_file_that_was_replaced_is_not_read_on(self, source: FeatureSource):
        source.read(0)
        path = Path(source.paths[0])
        path.with_name("again").write_bytes(path.read_bytes())
        path.with_name("again").replace(path)
        source.close()
        with pytest.raises(ChangedInputError, match="was modified after it was opened"):
            source.read(0)
