"""Chunks that roicli takes from the file and unpacks itself: equal to what h5py reads, and refused where they lie."""

import ctypes
import os
import pickle
import tracemalloc
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roicli import child
from roicli.errors import FileError
from roicli.sources import base, open_source
from roicli.sources.hdf5 import filters as hdf5_filters
from roicli.sources.hdf5 import inside
from roicli.sources.hdf5 import source as hdf5

SHAPE = (16, 9, 14)
CHUNK = (8, 9, 14)
FILTERS = [{}, {"shuffle": True}]
LEFT_TO_HDF5 = [
    {"shuffle": True, "fletcher32": True},
    {"compression": "lzf", "compression_opts": None},
    {"compression": "lzf", "compression_opts": None, "shuffle": True, "fletcher32": True},
]


@pytest.fixture(params=["zlib", "deflate"], autouse=True)
def inflater(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """Each test runs with both that may inflate, whatever is installed for users."""
    module = None if request.param == "zlib" else pytest.importorskip("deflate")
    monkeypatch.setattr(hdf5_filters, "libdeflate", lambda: module)


def some(shape: tuple[int, ...], dtype: str = "<f4") -> np.ndarray:
    """Values that compress well in parts, as features after a ReLU do."""
    return np.maximum(np.random.default_rng(3).integers(-100, 100, shape), 0).astype(dtype)


def write(path: Path, values: np.ndarray, **options: object) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("maps", data=values, **({"compression": "gzip", "chunks": CHUNK} | options))
    return path


def by_h5py(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return file["maps"][()]


def taken(path: Path) -> bool:
    """Whether a dataset is read here, and then all of it, or left to HDF5."""
    source = open_source(path)
    place = source._stack if source._maps is None else source._look_up(0)
    with path.open("rb") as file:
        return place.chunks is not None and place.chunks.read(file) is not None


def check_equal(path: Path) -> None:
    expected = by_h5py(path)
    expected = expected if expected.ndim == 4 else expected[None]
    source = open_source(path)
    for i, wanted in enumerate(expected):
        array = source.read(i)
        assert array.dtype == wanted.dtype
        np.testing.assert_array_equal(array, wanted)


@pytest.mark.parametrize("options", FILTERS)
@pytest.mark.parametrize("level", [0, 1, 4, 9])
@pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "u1", "i1", "<i2", ">i4", "<u8"])
def test_equals_h5py(tmp_path: Path, dtype: str, level: int, options: dict[str, bool]):
    path = write(tmp_path / "a.h5", some(SHAPE, dtype), **{"compression_opts": level, "chunks": (5, 4, 6)} | options)
    assert taken(path)
    check_equal(path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), shuffle=st.booleans(), together=st.sampled_from([0, 2000, 2**20]))
def test_any_chunks_of_any_shape(tmp_path: Path, data: st.DataObject, shuffle: bool, together: int):
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=3, max_size=4), label="shape"))
    chunk = tuple(data.draw(st.integers(1, size), label="chunk") for size in shape)
    path = write(tmp_path / "a.h5", some(shape, ">i2"), chunks=chunk, shuffle=shuffle)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "_AHEAD", together)
        check_equal(path)


@pytest.mark.parametrize(
    "options",
    [
        *LEFT_TO_HDF5,
        {"compression": None, "chunks": None},
        {"scaleoffset": 0},
        {"shuffle": True, "scaleoffset": 0},
    ],
    ids=str,
)
def test_other_storage_is_left_to_hdf5(tmp_path: Path, options: dict[str, object]):
    path = write(tmp_path / "a.h5", some(SHAPE, "<i4"), **options)
    assert not taken(path)
    check_equal(path)


def test_types_that_numpy_has_not_are_left_to_hdf5(tmp_path: Path):
    bfloat16 = h5py.h5t.IEEE_F32LE.copy()
    bfloat16.set_fields(15, 7, 8, 0, 7)
    bfloat16.set_size(2)
    bfloat16.set_ebias(127)
    created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    created.set_chunk(CHUNK)
    created.set_deflate(4)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = h5py.h5d.create(file.id, b"maps", bfloat16, h5py.h5s.create_simple(SHAPE), created)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, some(SHAPE))
    assert not taken(tmp_path / "a.h5")
    check_equal(tmp_path / "a.h5")


@pytest.mark.parametrize("written", [slice(0), slice(8), slice(8, 16)])
def test_chunks_that_were_never_written_hold_the_fill_value(tmp_path: Path, written: slice):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("maps", SHAPE, "f4", chunks=CHUNK, compression="gzip", fillvalue=7)
        dataset[written] = 1
    check_equal(tmp_path / "a.h5")


def shuffled(data: bytes, itemsize: int = 4) -> bytes:
    return np.frombuffer(data, np.uint8).reshape(-1, itemsize).T.tobytes()


@pytest.mark.parametrize("mask", range(4))
def test_filters_that_a_chunk_has_skipped(tmp_path: Path, mask: int):
    values = some(SHAPE)
    path = write(tmp_path / "a.h5", np.zeros_like(values), shuffle=True)
    data = values[8:].tobytes()
    for bit, step in enumerate((shuffled, zlib.compress)):
        data = data if mask >> bit & 1 else step(data)
    with h5py.File(path, "a") as file:
        file["maps"].id.write_direct_chunk((8, 0, 0), data, mask)
    assert taken(path)
    np.testing.assert_array_equal(open_source(path).read(0)[8:], values[8:])
    check_equal(path)


def test_bytes_shuffled_by_another_size_are_left_to_hdf5(tmp_path: Path):
    path = write(tmp_path / "a.h5", some(SHAPE), shuffle=True)
    pipeline = b"shuffle\0" + (4).to_bytes(4, "little")
    assert pipeline in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(pipeline, b"shuffle\0" + (2).to_bytes(4, "little")))
    assert not taken(path)
    check_equal(path)


NBYTES = int(np.prod(CHUNK)) * 4
NOISE = np.random.default_rng(0).bytes(NBYTES)
NOT_FULL = f"its chunk at (8, 0, 0) does not hold {NBYTES} bytes"
BY_ZLIB = "its chunk at (8, 0, 0) cannot be unpacked: Error -3 while decompressing data: incorrect"
ONES = zlib.compress(b"\1" * NBYTES)
BROKEN = {
    "inflates to less": (zlib.compress(NOISE[:-4]), 0, NOT_FULL),
    "inflates to more": (zlib.compress(NOISE + b"\0"), 0, NOT_FULL),
    "a bomb": (zlib.compress(bytes(2**27), 9), 0, NOT_FULL),
    "cut in its checksum": (zlib.compress(NOISE)[:-1], 0, NOT_FULL),
    "cut in its data": (zlib.compress(NOISE)[: NBYTES // 2], 0, NOT_FULL),
    "wrong checksum": (ONES[:-1] + bytes([ONES[-1] ^ 1]), 0, BY_ZLIB),
    "no deflated data": (NOISE, 0, BY_ZLIB),
    "a flipped byte": (ONES[:4] + bytes([ONES[4] ^ 0xFF]) + ONES[5:], 0, ""),
    "not deflated, too short": (NOISE[:-4], 2, NOT_FULL),
    "not deflated, too long": (NOISE + b"\0" * 4, 2, NOT_FULL),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("axes", [3, 4])
def test_a_broken_chunk_is_one_error_that_names_it(tmp_path: Path, axes: int, kind: str):
    more = (1,) * (axes - 3)
    path = tmp_path / "a.h5"
    write(path, some((*more, *SHAPE)), chunks=(*more, *CHUNK))
    data, mask, reason = BROKEN[kind]
    with h5py.File(path, "a") as file:
        # Without shuffle, the filter that packs is the first.
        file["maps"].id.write_direct_chunk((*(0 for _ in more), 8, 0, 0), data, mask >> 1)
    source = open_source(path)
    tracemalloc.start()
    with pytest.raises(FileError, match="cannot be read: its chunk at") as refusal:
        source.read(0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert f"{path}, dataset /maps" in str(refusal.value)
    assert reason.replace("(8", "(0, 8" if more else "(8") in str(refusal.value)
    assert peak < 2**23


@pytest.mark.parametrize("axes", [3, 4])
@pytest.mark.parametrize("options", [{"fletcher32": True}, {"compression": "lzf"}], ids=str)
def test_what_hdf5_checks_is_an_error(tmp_path: Path, axes: int, options: dict[str, object]):
    more = (1,) * (axes - 3)
    path = write(tmp_path / "a.h5", some((*more, *SHAPE)), chunks=(*more, *CHUNK), **options)
    with h5py.File(path, "a") as file:
        file["maps"].id.write_direct_chunk((*(0 for _ in more), 8, 0, 0), b"\xe0\xff\xff" + NOISE + b"1234")
    with pytest.raises(FileError, match=f"{path}, dataset /maps.* cannot be read: .*filter"):
        open_source(path).read(0)


def places(path: Path) -> list[int]:
    """Where the chunks lie in the file."""
    found: list[int] = []
    with h5py.File(path) as file:
        file["maps"].id.chunk_iter(lambda chunk: found.append(chunk.byte_offset))
    return found


@pytest.mark.parametrize("options", [{}, {"fletcher32": True}, {"compression": None}, {"compression": "lzf"}], ids=str)
@pytest.mark.parametrize("place", [0, "that of the first chunk", "within the first chunk", 2**40, 2**63, 2**64 - 2])
def test_an_index_that_lies_is_an_error(tmp_path: Path, place: int | str, options: dict[str, object]):
    path = write(tmp_path / "a.h5", np.random.default_rng(1).random(SHAPE, "f4"), **options)
    first, second = places(path)
    wrong = {"that of the first chunk": first, "within the first chunk": first + 100}.get(place, place)
    content = path.read_bytes()
    assert content.count(second.to_bytes(8, "little")) == 1
    path.write_bytes(content.replace(second.to_bytes(8, "little"), wrong.to_bytes(8, "little")))
    with pytest.raises(FileError, match=f"{path}, dataset /maps") as refusal:
        open_source(path).read(0)
    assert place == 2**40 or "its index of chunks is damaged" in str(refusal.value)


@pytest.mark.parametrize("options", [{}, {"fletcher32": True}, {"compression": None}], ids=str)
@pytest.mark.parametrize("corner", [0, 7, 9, 16, 2**63])
def test_a_chunk_where_none_can_be_is_an_error(tmp_path: Path, corner: int, options: dict[str, object]):
    path = write(tmp_path / "a.h5", some(SHAPE), **options)
    at = places(path)[1]
    second, wrong = (np.array((start, 0, 0, 0, at), "<u8").tobytes() for start in (8, corner))
    content = path.read_bytes()
    assert content.count(second) == 1
    path.write_bytes(content.replace(second, wrong))
    with pytest.raises(FileError, match=f"{path}, dataset /maps cannot be read"):
        open_source(path).read(0)


@pytest.mark.parametrize("options", [*FILTERS, *LEFT_TO_HDF5, {"compression": None}], ids=str)
@pytest.mark.parametrize("maxshape", [None, (None, None, 14), (40, 9, 14)], ids=str)
@pytest.mark.parametrize("userblock", [0, 512])
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_every_kind_of_index(
    tmp_path: Path, libver: str, userblock: int, maxshape: tuple[int | None, ...] | None, options: dict[str, object]
):
    values = some(SHAPE)
    with h5py.File(tmp_path / "a.h5", "w", libver=libver, userblock_size=userblock) as file:
        how = {"compression": "gzip", "chunks": (5, 4, 6), "maxshape": maxshape} | options
        file.create_dataset("maps", data=values, **how)
    check_equal(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w", libver=libver, userblock_size=userblock) as file:
        file.create_dataset("maps", SHAPE, "f4", fillvalue=7, **how)[:5] = 1
    check_equal(tmp_path / "b.h5")


def test_an_hdf5_too_old_to_list_chunks_reads_them_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write(tmp_path / "a.h5", some(SHAPE), chunks=(5, 4, 6))
    monkeypatch.setattr("roicli.sources.hdf5.inside.find_chunks", lambda dataset: None)
    [place] = inside.locate(str(path), ["/maps"], "chw").value["places"]
    assert place["chunks"] == {"size": (5, 4, 6), "filters": None, "count": 0}
    np.testing.assert_array_equal(inside.read(str(path), "/maps", [3, 4]).data, some(SHAPE)[3:5])


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Offsets of the chunks that were read."""
    offsets: list[int] = []
    pread = os.pread

    def counted(descriptor: int, size: int, offset: int) -> bytes:
        offsets.append(offset)
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", counted)
    return offsets


def test_a_dataset_is_looked_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    values = some((6, *SHAPE))
    source = open_source(write(tmp_path / "a.h5", values, chunks=(1, *CHUNK)))
    monkeypatch.setattr(child, "ask", None)
    for i in range(6):
        np.testing.assert_array_equal(source.read(i), values[i])


def test_datasets_of_a_group_are_looked_up_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i in range(100):
            file.create_dataset(f"{i}", data=some(SHAPE) + i, chunks=CHUNK, compression="gzip")
    asked, ask = [], child.ask
    monkeypatch.setattr(
        child, "ask", lambda function, *rest, **more: asked.append(rest) or ask(function, *rest, **more)
    )
    monkeypatch.setattr(hdf5, "_CHUNKS_KEPT", 20)
    source = open_source(tmp_path / "a.h5")
    for i in range(100):
        np.testing.assert_array_equal(source.read(i), some(SHAPE) + i)
    assert [len(names) for _, names, _ in asked[1:]] == [1, 2, 4, 8, 16, 32, 37]
    assert len(source._places) < 100


def test_maps_that_share_chunks_are_inflated_once(tmp_path: Path, reads: list[int]):
    values = some((10, *SHAPE))
    source = open_source(write(tmp_path / "a.h5", values, chunks=(4, 8, 9, 14)))
    for i in range(10):
        np.testing.assert_array_equal(source.read(i), values[i])
    assert len(reads) == len(set(reads)) == 6


def test_maps_are_held_one_chunk_at_a_time(tmp_path: Path):
    values = some((8, 16, 64, 64))
    source = open_source(write(tmp_path / "a.h5", values, chunks=(4, 1, 64, 64)))
    tracemalloc.start()
    for i in 0, 4:
        source.read(i)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert values.nbytes / 2 < peak < values.nbytes * 0.75


def test_maps_too_large_to_hold_together_are_read_one_by_one(
    tmp_path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(base, "_AHEAD", 4 * 2 * int(np.prod(SHAPE)) - 1)
    values = some((6, *SHAPE))
    source = open_source(write(tmp_path / "a.h5", values, chunks=(3, 8, 9, 14)))
    for i in (4, 5, 0):
        array = source.read(i)
        np.testing.assert_array_equal(array, values[i])
        assert array.base.nbytes == array.nbytes
        assert source._held is None
    assert len(reads) == 6


@pytest.mark.parametrize("compression", ["gzip", "lzf"])
def test_maps_that_are_wanted_are_read_at_once(tmp_path: Path, reads: list[int], compression: str):
    values = some((9, *SHAPE))
    options = {"compression": compression, "chunks": (7, 4, 2, 2)}
    source = open_source(write(tmp_path / "a.h5", values, **options))
    assert [source.shared(i).key for i in (0, 6, 7)] == [(0,), (0,), (1,)]
    assert source.shared(0).remedy.startswith("h5repack -l maps:CHUNK=1x")
    source.expect([1, 3, 4, 8])
    for i in (3, 1, 4, 8):
        np.testing.assert_array_equal(source.read(i), values[i])
        assert sorted(source._held[0] if source._held else []) == ([] if i == 8 else [1, 3, 4])
    assert len(reads) == len(set(reads))
    np.testing.assert_array_equal(source.read(2), values[2])


def test_maps_of_one_chunk_share_none(tmp_path: Path):
    assert open_source(write(tmp_path / "a.h5", some((2, *SHAPE)), chunks=(1, *SHAPE))).shared(0) is None


def test_maps_that_are_held_stay_as_they_are_and_go_with_the_handle(tmp_path: Path, reads: list[int]):
    values = some((4, *SHAPE))
    source = open_source(write(tmp_path / "a.h5", values, chunks=(4, 8, 9, 14)))
    with pytest.raises(ValueError, match="read-only"):
        source.read(0)[...] = 0
    assert len(pickle.dumps(source)) < 3000
    source.close()
    np.testing.assert_array_equal(source.read(1), values[1])
    assert len(reads) == 4


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("limits", [(None, 7, 7), (7, None, 7), (7, 7, None), (None, 7, None), (7, 7, 7)], ids=str)
def test_axes_without_limit(tmp_path: Path, limits: tuple[int | None, ...], libver: str):
    """Of some, HDF5 tells corners with their axes in another order, which named chunks that there cannot be."""
    values = np.random.default_rng(1).integers(0, 999, (6, 5, 6)).astype(np.float32)
    with h5py.File(tmp_path / "a.h5", "w", libver=libver) as file:
        file.create_dataset("maps", data=values, chunks=(2, 1, 3), maxshape=limits, compression="gzip")
    np.testing.assert_array_equal(open_source(str(tmp_path / "a.h5")).read(0), values)


def set_chunk_opts(properties: h5py.h5p.PropDCID, options: int) -> None:
    """Set what h5py has no word for, by the library that it brings along."""
    own = Path(h5py.__file__).parent
    found = [*own.parent.glob("h5py.libs/libhdf5-*"), *own.glob(".dylibs/libhdf5.*"), *own.glob("hdf5.dll")]
    if not found:
        pytest.skip("h5py uses an HDF5 library of the system")
    function = ctypes.CDLL(str(found[0])).H5Pset_chunk_opts
    function.argtypes = (ctypes.c_int64, ctypes.c_uint)
    if function(properties.id, options) < 0:
        pytest.skip("another HDF5 library than h5py uses")


@pytest.mark.parametrize("libver", [("earliest", "v110"), ("latest", "latest")])
@pytest.mark.parametrize("limits", [(3, 50, 50), (None, 50, 50), (None, None, 50)])
@pytest.mark.parametrize("gzip", [False, True])
def test_edge_chunks_that_skip_their_filters(tmp_path: Path, libver: tuple[str, str], limits: tuple, *, gzip: bool):
    values = some((3, 50, 50))
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((2, 16, 16))
    properties.set_shuffle()
    if gzip:
        properties.set_deflate(4)
    set_chunk_opts(properties, 2)  # H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS
    space = h5py.h5s.create_simple(values.shape, tuple(limit or h5py.h5s.UNLIMITED for limit in limits))
    with h5py.File(tmp_path / "a.h5", "w", libver=libver) as file:
        dataset = h5py.h5d.create(file.id, b"maps", h5py.h5t.NATIVE_FLOAT, space, dcpl=properties)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, values)
    np.testing.assert_array_equal(by_h5py(tmp_path / "a.h5"), values)
    check_equal(tmp_path / "a.h5")
