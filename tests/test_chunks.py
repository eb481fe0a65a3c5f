"""Gzip chunks that roicli inflates itself: equal to what h5py reads, and refused where they lie."""

import pickle
import tracemalloc
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roicli.errors import FileError
from roicli.sources import chunks, open_source

SHAPE = (16, 9, 14)
CHUNK = (8, 9, 14)
FILTERS = [{}, {"shuffle": True}]


@pytest.fixture(params=["zlib", "isal"], autouse=True)
def inflater(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """Each test runs with both that may inflate, whatever is installed for users; chunks of any size are taken."""
    maker, failure = zlib.decompressobj, zlib.error
    if request.param == "isal":
        isal_zlib = pytest.importorskip("isal.isal_zlib")
        maker, failure = isal_zlib.decompressobj, isal_zlib.error
    monkeypatch.setattr(chunks, "_inflate", lambda: (maker, failure))
    monkeypatch.setattr(chunks, "_SMALL_CHUNK", 1)


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
    with h5py.File(path) as file:
        dataset = file["maps"]
        gzip = chunks.GzipChunks.of(dataset)
        assert gzip is None or gzip.read(0, len(dataset)) is not None
        return gzip is not None


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
    path = write(tmp_path / "a.h5", some(SHAPE, dtype), compression_opts=level, chunks=(5, 4, 6), **options)
    assert taken(path)
    check_equal(path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), shuffle=st.booleans(), together=st.sampled_from([0, 2000, 2**20]))
def test_any_chunks_of_any_shape(tmp_path: Path, data: st.DataObject, shuffle: bool, together: int):
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=3, max_size=4), label="shape"))
    chunk = tuple(data.draw(st.integers(1, size), label="chunk") for size in shape)
    path = write(tmp_path / "a.h5", some(shape, ">i2"), chunks=chunk, shuffle=shuffle)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "_TOGETHER", together)
        assert taken(path)
        check_equal(path)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "lzf"},
        {"compression": None},
        {"compression": None, "shuffle": True},
        {"compression": None, "chunks": None},
        {"fletcher32": True},
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


def test_small_chunks_are_left_to_hdf5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chunks, "_SMALL_CHUNK", 2000)
    assert not taken(write(tmp_path / "a.h5", some(SHAPE), chunks=(3, 9, 14)))
    assert taken(write(tmp_path / "b.h5", some(SHAPE), chunks=(4, 9, 14)))


@pytest.mark.parametrize("written", [slice(0), slice(8), slice(8, 16)])
def test_chunks_that_were_never_written_hold_the_fill_value(tmp_path: Path, written: slice):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("maps", SHAPE, "f4", chunks=CHUNK, compression="gzip", fillvalue=7)
        dataset[written] = 1
    check_equal(tmp_path / "a.h5")


def stored_without(values: np.ndarray, mask: int, shuffle: bool) -> bytes:
    """Return a chunk as it is stored if the filters whose bits are set in `mask` were skipped."""
    data = values.tobytes()
    if shuffle and not mask & 1:
        data = values.reshape(-1).view(np.uint8).reshape(-1, values.itemsize).T.tobytes()
    return data if mask & (2 if shuffle else 1) else zlib.compress(data)


@pytest.mark.parametrize(("shuffle", "mask"), [(False, 1), (True, 0), (True, 1), (True, 2), (True, 3)])
def test_filters_that_a_chunk_has_skipped(tmp_path: Path, shuffle: bool, mask: int):
    values = some(SHAPE)
    path = write(tmp_path / "a.h5", np.zeros_like(values), shuffle=shuffle)
    with h5py.File(path, "a") as file:
        file["maps"].id.write_direct_chunk((8, 0, 0), stored_without(values[8:], mask, shuffle), mask)
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
BY_ZLIB = "incorrect"
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
def test_a_broken_chunk_is_one_error_that_names_it(tmp_path: Path, kind: str):
    path = write(tmp_path / "a.h5", some(SHAPE), shuffle=True)
    data, mask, reason = BROKEN[kind]
    with h5py.File(path, "a") as file:
        file["maps"].id.write_direct_chunk((8, 0, 0), data, mask)
    source = open_source(path)
    tracemalloc.start()
    with pytest.raises(FileError, match=r"cannot be read|is damaged") as refusal:
        source.read(0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert f"{path}, dataset /maps" in str(refusal.value)
    assert reason in str(refusal.value)
    assert peak < 2**23


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Corners of the chunks that were read."""
    corners: list[tuple[int, ...]] = []
    values = chunks.GzipChunks._values

    def counted(self: chunks.GzipChunks, corner: tuple[int, ...]) -> np.ndarray | None:
        corners.append(corner)
        return values(self, corner)

    monkeypatch.setattr(chunks.GzipChunks, "_values", counted)
    return corners


def test_maps_that_share_chunks_are_inflated_once(tmp_path: Path, reads: list[tuple[int, ...]]):
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
    tmp_path: Path, reads: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(chunks, "_TOGETHER", 4 * 2 * int(np.prod(SHAPE)))
    values = some((6, *SHAPE))
    source = open_source(write(tmp_path / "a.h5", values, chunks=(3, 8, 9, 14)))
    for i in (4, 5, 0):
        array = source.read(i)
        np.testing.assert_array_equal(array, values[i])
        assert array.base.nbytes == array.nbytes
        assert source._held is None
    assert len(reads) == 6


def test_maps_that_are_held_stay_as_they_are_and_go_with_the_handle(tmp_path: Path, reads: list[tuple[int, ...]]):
    values = some((4, *SHAPE))
    source = open_source(write(tmp_path / "a.h5", values, chunks=(4, 8, 9, 14)))
    with pytest.raises(ValueError, match="read-only"):
        source.read(0)[...] = 0
    assert len(pickle.dumps(source)) < 2000
    source.close()
    np.testing.assert_array_equal(source.read(1), values[1])
    assert len(reads) == 4
