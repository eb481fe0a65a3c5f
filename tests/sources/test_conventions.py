"""What MATLAB, netCDF and plug-in filters mean in an HDF5 file; bfloat16 and packed values in any."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from sources.conformance import SourceTests, some_maps, stack

import roicli
from roicli import child
from roicli.errors import FeatureError, FileError
from roicli.sources import open_source
from roicli.sources.values import ENCODINGS, Packing

_DIMENSION = b"This is a netCDF dimension but not a netCDF variable.         3"


def matlab(path: Path, array: np.ndarray, kind: bytes = b"single") -> str:
    """Write an array as MATLAB does, which has `array.shape[::-1]` there."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file["features"] = array
        file["features"].attrs["MATLAB_class"] = np.bytes_(kind)
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")
    return str(path)


class TestNetCdf(SourceTests):
    """Dimensions without variables are datasets that hold nothing."""

    dataset = "features"

    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        with h5py.File(folder / "feats.nc", "w") as file:
            file["features"] = stack(maps)
            file["image_id"] = np.zeros(len(maps), ">f4")
            file["image_id"].make_scale(_DIMENSION)
        return str(folder / "feats.nc")


@pytest.mark.parametrize(("layout", "axes"), [("cwh", (1, 2, 0)), ("whc", (0, 1, 2))])
def test_matlab_reverses_axes(tmp_path: Path, layout: str, axes: tuple[int, ...]):
    maps = stack(some_maps())
    sized = np.moveaxis(maps.transpose(0, *(1 + axis for axis in axes)), 0, -1)  # (H, W, C, N) or (C, H, W, N)
    path = matlab(tmp_path / "feats.mat", np.ascontiguousarray(sized.T))
    source = open_source(path, layout=layout)
    np.testing.assert_array_equal([*source], maps)
    with pytest.raises(FeatureError, match="MATLAB reverses axes") as error:
        open_source(path).info(0)
    assert "`layout=cwh`" in error.value.hint


def test_matlab_cell_arrays_are_refused_by_name(tmp_path: Path):
    with h5py.File(tmp_path / "feats.mat", "w") as file:
        group = file.create_group("#refs#")
        for name, array in zip("abc", some_maps(), strict=True):
            group[name] = array
        file["x"] = np.array([group[name].ref for name in "abc"], h5py.ref_dtype)
        file["x"].attrs["MATLAB_class"] = np.bytes_("cell")
    with pytest.raises(FeatureError, match="MATLAB cell array"):
        open_source(tmp_path / "feats.mat")
    for name in ("#refs#", "x"):
        with pytest.raises(FeatureError, match="is of a MATLAB cell array"):
            open_source(tmp_path / "feats.mat", dataset=name)


@pytest.mark.parametrize(
    ("name", "start", "hint"),
    [("a.mat", b"MATLAB 5.0 MAT-file", "-v7.3"), ("a.nc", b"CDF\x01", "nccopy")],
)
def test_older_versions_are_refused_with_the_line_that_converts_them(
    tmp_path: Path, name: str, start: bytes, hint: str
):
    (tmp_path / name).write_bytes(start.ljust(200))
    with pytest.raises(FileError, match="is not an HDF5 file") as error:
        open_source(tmp_path / name)
    assert hint in error.value.hint


def packed(path: Path, values: np.ndarray, attributes: dict[str, Any], **more: Any) -> str:
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=values, **more).attrs.update(attributes)
    return str(path)


@pytest.mark.parametrize("more", [{}, {"chunks": (1, 2, 3, 5), "compression": "gzip"}], ids=["plain", "gzip"])
@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i2", "<i4", "<f4"])
def test_packed_values_are_unpacked(tmp_path: Path, dtype: str, more: dict[str, Any]):
    stored = stack(some_maps(dtype))
    attributes = {"scale_factor": 0.1, "add_offset": -3, "_FillValue": stored[0, 0, 0, 0]}
    path = packed(tmp_path / "a.h5", stored, attributes, **more)
    source = open_source(path)
    expected = stored.astype("f8") * 0.1 - 3
    expected[stored == stored[0, 0, 0, 0]] = np.nan
    wide = np.float64 if dtype == "<i4" else np.float32
    assert source.info(0).dtype == source.read(0).dtype == wide
    np.testing.assert_array_equal([*source], expected.astype(wide))


def test_attributes_that_change_nothing_leave_the_dtype(tmp_path: Path):
    attributes = {"scale_factor": 1.0, "add_offset": 0, "_FillValue": np.float32("nan")}
    source = open_source(packed(tmp_path / "a.h5", stack(some_maps("<f2")), attributes))
    assert source.read(0).dtype == np.float16


@pytest.mark.parametrize(
    "attributes", [{"scale_factor": [0.1, 0.2]}, {"add_offset": "1"}, {"_Unsigned": "true"}, {"scale_factor": np.nan}]
)
def test_packing_that_cannot_be_undone_is_refused(tmp_path: Path, attributes: dict[str, Any]):
    source = open_source(packed(tmp_path / "a.h5", stack(some_maps("<i2")), attributes))
    with pytest.raises(FeatureError, match=next(iter(attributes))):
        source.info(0)


def test_the_dtype_of_unpacked_values():
    dtypes = ["u1", "i2", "f2", "f4", "i4", "f8"]
    assert [str(Packing(2.0).widened(np.dtype(dtype))) for dtype in dtypes] == ["float32"] * 4 + ["float64"] * 2


def test_bfloat16_of_two_void_bytes(tmp_path: Path):
    values = np.array([1, -2.5, 2.0**127, np.inf, 0, -0.0, 2**-126, 1.0078125], np.float32).reshape(1, 2, 2, 2)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16).view("V2")
    np.save(tmp_path / "a.npy", bits)
    np.savez(tmp_path / "a.npz", x=bits)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = bits
    (tmp_path / "named.npy").write_bytes(_with_descr(bits, b"'bfloat16'"))
    for name in ("a.npy", "a.npz", "a.h5", "named.npy"):
        source = open_source(tmp_path / name)
        assert source.info(0).dtype == np.float32
        np.testing.assert_array_equal(source.read(0), values[0])
    (tmp_path / "boxes.json").write_text("[[0, 0, 1, 1]]")
    report = roicli.align(tmp_path / "a.h5", tmp_path / "boxes.json", tmp_path / "out.npy")
    assert any("two bytes of no dtype of NumPy (V2), read as bfloat16" in note for note in report.notes)


def _with_descr(array: np.ndarray, descr: bytes) -> bytes:
    text = b"{'descr': " + descr + b", 'fortran_order': False, 'shape': " + str(array.shape).encode() + b", }"
    text = text.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + array.tobytes()


def test_float8_values():
    codes = np.arange(256, dtype=np.uint8)
    # Of torch: torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()[...]
    some = [0, 1, 8, 56, 57, 126, 127, 128, 129, 184, 254]
    expected = {
        "float8_e4m3fn": [0, 2**-9, 2**-6, 1, 1.125, 448, np.nan, -0.0, -(2**-9), -1, -448],
        "float8_e5m2": [0, 2**-16, 2**-13, 0.5, 0.625, np.nan, np.nan, -0.0, -(2**-16), -0.5, np.nan],
        "float8_e4m3fnuz": [0, 2**-10, 2**-7, 0.5, 0.5625, 224, 240, np.nan, -(2**-10), -0.5, -224],
        "float8_e5m2fnuz": [0, 2**-17, 2**-14, 0.25, 0.3125, 49152, 57344, np.nan, -(2**-17), -0.25, -49152],
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(ENCODINGS[name].decode(codes)[some].astype(np.float64), values, err_msg=name)
    e5m2 = (codes.astype(np.uint16) << 8).view(np.float16)
    np.testing.assert_array_equal(ENCODINGS["float8_e5m2"].decode(codes), e5m2)


@pytest.mark.parametrize("name", ["Blosc", "Blosc2", "Zstd", "LZ4", "Bitshuffle"])
def test_plugin_filters_are_read(tmp_path: Path, name: str):
    hdf5plugin = pytest.importorskip("hdf5plugin")
    maps = stack(some_maps())
    path = packed(tmp_path / "a.h5", maps, {}, chunks=(2, 2, 3, 5), **getattr(hdf5plugin, name)())
    np.testing.assert_array_equal([*open_source(path)], maps)


def test_a_filter_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from roicli.sources.hdf5 import conventions, inside

    monkeypatch.setattr(conventions, "_load_plugins", lambda: False)
    monkeypatch.setattr(conventions.h5z, "filter_avail", lambda code: False)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("features", data=stack(some_maps()), compression="lzf")
    said = inside.survey(str(tmp_path / "b.h5"), None, "chw").value
    assert "is compressed with lzf (filter 32000)" in said["place"]["error"][1]
    assert "hdf5plugin" in said["place"]["error"][2]


def test_another_process_reads_plugin_filters(tmp_path: Path):
    """Whoever opened the file has loaded the plug-ins, its workers have not."""
    hdf5plugin = pytest.importorskip("hdf5plugin")
    maps = stack(some_maps())
    source = open_source(packed(tmp_path / "a.h5", maps, {}, chunks=(1, 2, 3, 5), **hdf5plugin.Zstd()))
    source.info(0)
    child.stop()
    np.testing.assert_array_equal([*source], maps)


def test_two_arrays_in_one_npy(tmp_path: Path):
    with (tmp_path / "a.npy").open("wb") as file:
        for array in some_maps():
            np.save(file, array)
    with pytest.raises(FileError, match="holds several arrays"):
        open_source(tmp_path / "a.npy")


def test_what_macos_puts_into_archives_is_no_array(tmp_path: Path):
    np.savez(tmp_path / "a.npz", x=some_maps()[0])
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("__MACOSX/._x.npy", b"\0\5\x16\7")
    assert open_source(tmp_path / "a.npz").ids == ("x",)


def test_ids_that_are_pickled_are_named(tmp_path: Path):
    np.savez(tmp_path / "a.npz", x=stack(some_maps()), filenames=np.array(["a", "b", "c"], dtype=object))
    with pytest.raises(FeatureError, match="array filenames: expected ids, got Python objects"):
        open_source(tmp_path / "a.npz")


def test_a_map_that_was_never_written_beside_others(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        feats = file.create_dataset("features", (3, 2, 3, 5), "f4", chunks=(1, 2, 3, 5), compression="gzip")
        feats[:2] = 1
    source = open_source(tmp_path / "a.h5")
    assert source.read(1).max() == 1
    with pytest.raises(FeatureError, match="map 2 was never written: HDF5 would give its fill value"):
        source.info(2)  # so that `check` refuses it too


@pytest.mark.parametrize("options", [{}, {"chunks": (2, 3, 5)}, {"chunks": (1, 3, 5), "compression": "gzip"}])
def test_a_dataset_that_was_never_written_beside_others(tmp_path: Path, options):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.ones((2, 3, 5), np.float32)
        file.create_dataset("b", (2, 3, 5), "f4", **options)
        part = file.create_dataset("c", (2, 3, 5), "f4", **options)
        part[:1] = 1
    source = open_source(tmp_path / "a.h5")
    assert [source.read(source.ids.index(name)).max() for name in "ac"] == [1, 1]
    with pytest.raises(FeatureError, match="dataset /b was never written: HDF5 would give its fill value"):
        source.info(source.ids.index("b"))
    with h5py.File(tmp_path / "b.h5", "w") as file:  # the one map that there is: `align` warns of zeros
        file.create_dataset("b", (2, 3, 5), "f4", fillvalue=3, **options)
    assert open_source(tmp_path / "b.h5").read(0).tolist() == np.full((2, 3, 5), 3).tolist()
