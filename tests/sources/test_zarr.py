"""Zarr stores, by the conformance tests; they need the package zarr."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from sources.conformance import SourceTests, some_maps, stack

from roicli.errors import ChangedInputError, FeatureError, FileError, RoicliError
from roicli.files import Stamp
from roicli.sources import open_source
from roicli.sources.open import take_stock

zarr = pytest.importorskip("zarr")


def write(path: Path, arrays: dict[str, np.ndarray], version: Literal[2, 3] = 3, **more: Any) -> str:
    """Write arrays into a group; into a zip archive if the name says so."""
    store = zarr.storage.ZipStore(path, mode="w") if path.suffix == ".zip" else zarr.storage.LocalStore(path)
    root = zarr.open_group(store, mode="w", zarr_format=version)
    for name, array in arrays.items():
        chunks = more.get("chunks") or array.shape
        made = root.create_array(name, shape=array.shape, dtype=array.dtype, chunks=chunks[: array.ndim])
        made[...] = array
        made.attrs.update(more.get("attributes", {}))
    store.close()
    return str(path)


class ZarrTests(SourceTests):
    in_place = False
    version: Literal[2, 3] = 3
    suffix = ".zarr"

    def test_reads_what_was_written(self, tmp_path: Path):  # type: ignore[override]
        for number, dtype in enumerate(["<f2", ">f4", "<f4", "<f8", "u1", "<i2"]):
            (tmp_path / str(number)).mkdir()
            maps = some_maps(dtype, len(self.ids))
            source = open_source(self.write(tmp_path / str(number), maps))
            for i, expected in enumerate(maps):
                info, array = source.info(i), source.read(i)
                assert info.shape == array.shape == (2, 3, 5)
                assert info.dtype == array.dtype
                assert info.dtype.newbyteorder("=") == np.dtype(dtype).newbyteorder("=")
                assert str(tmp_path) in info.where
                np.testing.assert_array_equal(array, expected)

    def test_stamps_the_files_that_it_has_read(self, tmp_path: Path):  # type: ignore[override]
        path = Path(self.write(tmp_path, some_maps(count=len(self.ids))))
        source = open_source(path)
        assert len([*source]) == len(self.ids)
        files = [file for file in path.rglob("*") if file.is_file()] or [path]
        described = {".zattrs", ".zmetadata"}
        assert source.stamps == {str(file): Stamp.of(file) for file in files if file.name not in described}
        assert set(source.paths) <= source.stamps.keys()


class TestZarrMaps(ZarrTests):
    ids = ("139", "285", "1000")
    labelled = True

    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        return write(folder / f"a{self.suffix}", dict(zip(self.ids, maps, strict=True)), self.version)


class TestZarrMapsOfVersion2(TestZarrMaps):
    version = 2


class TestZarrZip(TestZarrMaps):
    suffix = ".zarr.zip"


class TestZarrStackWithIds(ZarrTests):
    ids = ("7", "9", "8")
    labelled = True

    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        arrays = {"feats": stack(maps), "image_ids": np.array([7, 9, 8])}
        return write(folder / "a.zarr", arrays, self.version, chunks=(2, 1, 3, 4))


class TestZarrStackOfVersion2(TestZarrStackWithIds):
    version = 2


class TestZarrArray(ZarrTests):
    """An array without a group, in a folder without the suffix."""

    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        made = zarr.create_array(folder / "feats", shape=stack(maps).shape, dtype=maps[0].dtype, chunks=(1, 2, 3, 5))
        made[...] = stack(maps)
        return str(folder / "feats")


def test_text_ids(tmp_path: Path):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w")
    root.create_array("feats", data=stack(some_maps()))
    root.create_array("filenames", shape=(3,), dtype=str)[...] = np.array(["a", "b/c", "d"], dtype=object)
    assert open_source(tmp_path / "a.zarr").ids == ("a", "b/c", "d")


def test_packed_values(tmp_path: Path):
    maps = stack(some_maps("<i2"))
    attributes = {"scale_factor": 0.5, "_FillValue": int(maps[0, 0, 0, 0])}
    path = write(tmp_path / "a.zarr", {"feats": maps}, attributes=attributes)
    source = open_source(path)
    expected = np.where(maps == maps[0, 0, 0, 0], np.nan, maps * 0.5)
    assert source.info(0).dtype == np.float32
    np.testing.assert_array_equal([*source], expected)
    named = open_source(write(tmp_path / "b.zarr", {"x": maps[1], "y": maps[2]}, attributes=attributes))
    np.testing.assert_array_equal([*named], expected[1:])
    nan = {"_FillValue": "AAAAAAAA+H8="}  # as xarray writes NaN
    source = open_source(write(tmp_path / "c.zarr", {"x": maps[0].astype("f4")}, attributes=nan))
    np.testing.assert_array_equal(source.read(0), maps[0])


def test_chunks_that_were_never_written(tmp_path: Path):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w")
    feats = root.create_array("feats", shape=(3, 2, 3, 5), dtype="f4", chunks=(1, 2, 3, 5))
    feats[:2] = 1
    source = open_source(tmp_path / "a.zarr")
    assert source.read(1).max() == 1
    with pytest.raises(FileError, match="map 2 was never written"):
        source.read(2)


def test_a_store_that_claims_much(tmp_path: Path):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w")
    root.create_array("feats", shape=(64, 2000, 2000), dtype="f4", chunks=(1, 2000, 2000))[0] = 1
    with pytest.raises(FileError, match="are in its file"):
        open_source(tmp_path / "a.zarr").read(0)


def test_damaged_chunks(tmp_path: Path):
    path = Path(write(tmp_path / "a.zarr", {"x": some_maps()[0]}))
    [chunk] = [file for file in path.rglob("*") if file.is_file() and file.name != "zarr.json"]
    chunk.write_bytes(chunk.read_bytes()[:-9])
    with pytest.raises(FileError, match="array x cannot be read"):
        open_source(path).read(0)


@pytest.mark.parametrize("version", [2, 3])
def test_a_chunk_that_is_rewritten_is_noticed(tmp_path: Path, version: Literal[2, 3]):
    maps = {"feats": stack(some_maps())}
    path = Path(write(tmp_path / "a.zarr", maps, version, chunks=(1, 2, 2, 5)))
    source = open_source(path)
    source.info(1)
    kept = source.stamps
    source.read(1)
    chunk = path / "feats" / ("1.0.1.0" if version == 2 else "c/1/0/1/0")
    assert str(chunk) in kept
    chunk.write_bytes(chunk.read_bytes())
    source.read(0)
    with pytest.raises(ChangedInputError, match="was modified after it was opened"):
        source.read(1)


def test_what_is_not_a_store(tmp_path: Path):
    (tmp_path / "a.zarr").mkdir()
    np.savez(tmp_path / "b.zip", x=np.zeros(3))
    (tmp_path / "c.zip").write_bytes(b"x")
    for name in ("a.zarr", "b.zip", "c.zip"):
        with pytest.raises(RoicliError) as error:
            open_source(tmp_path / name)
        assert name in error.value.message


def test_more_than_one_thing_to_pool(tmp_path: Path):
    path = write(tmp_path / "a.zarr", {"x/feats": stack(some_maps()), "y/feats": stack(some_maps())})
    with pytest.raises(FeatureError, match="more than one thing to pool"):
        open_source(path)
    assert len(open_source(path, dataset="y/feats")) == 3
    assert take_stock(Path(path)).arrays == 2
