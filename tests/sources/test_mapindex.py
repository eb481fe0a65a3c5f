"""An index that says where maps lie, integers that are bits of floats, and formats of others."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from sources.conformance import SourceTests, some_maps, stack

import roicli
from roicli import roi_align
from roicli.cli.main import main
from roicli.cli.options import input_options
from roicli.errors import FeatureError, FileError, RoicliError, UsageError
from roicli.sources import FeatureSource, open_source
from roicli.sources.retyped import MAP_DTYPES, are_bits


def gqa(folder: Path, maps: list[np.ndarray], ids: tuple[str, ...]) -> str:
    """Write files of two maps each, and the index beside them, in another order."""
    index = {}
    for number in range(0, len(maps), 2):
        with h5py.File(folder / f"gqa_spatial_{number // 2}.h5", "w") as file:
            file["features"] = stack(maps[number : number + 2])
    for position in reversed(range(len(maps))):
        index[ids[position]] = {"idx": position % 2, "file": position // 2}
    (folder / "info.json").write_text(json.dumps(index))
    return str(folder / "gqa_spatial_*.h5")


def test_gqa_spatial_features(tmp_path: Path):
    maps = some_maps(count=24)
    ids = tuple(f"23{number:05}" for number in range(24))
    source = open_source(gqa(tmp_path, maps, ids), map_index=tmp_path / "info.json")
    assert source.labelled
    assert source.ids == ids[::-1]
    for image_id, expected in zip(ids, maps, strict=True):  # file 10 is not file 1
        np.testing.assert_array_equal(source[image_id], expected)
    assert str(tmp_path / "info.json") in source.paths
    assert {*source.stamps} == {*source.paths}
    with pytest.raises(IndexError):
        source.read(24)


def test_an_index_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    maps = some_maps(count=4)
    gqa(tmp_path, maps, ("a", "b", "c", "d"))
    Path("boxes.json").write_text('{"c": [[0, 0, 4, 2]], "a": [[0, 0, 4, 2]]}')
    flags = ["--map-index", "info.json", "--size", "1", "-o", "out.npy"]
    result = CliRunner().invoke(main, ["align", "gqa_spatial_*.h5", "boxes.json", *flags])
    assert result.exit_code == 0, result.stderr
    found = np.load("out.npy")[:, :, 0, 0]
    expected = [roi_align(maps[number][None].astype("f4"), [[0, 0, 0, 4, 2]], 1)[0, :, 0, 0] for number in (2, 0)]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("i.csv", "image_id,file,idx\na,x_1.npy,1\nb,x_0.npy,0\n"),
        ("i.tsv", "file\tposition\timgid\nx_1\t1\ta\n0\t0.0\tb\n"),
        ("i.json", '[{"image_id": "a", "file": 1, "idx": 1}, {"image_id": "b", "file": "x_0.npy", "idx": 0}]'),
        ("i.json", '{"a": {"file": "1", "index": 1}, "b": {"path": "feats/x_0.npy", "row": 0}}'),
    ],
)
def test_forms_of_an_index(tmp_path: Path, name: str, text: str):
    maps = stack(some_maps(count=4))
    for number in (0, 1):
        np.save(tmp_path / f"x_{number}.npy", maps[2 * number : 2 * number + 2])
    (tmp_path / name).write_text(text)
    source = open_source(tmp_path / "x_*.npy", map_index=tmp_path / name)
    assert source.ids == ("a", "b")
    np.testing.assert_array_equal([*source], maps[[3, 0]])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": {"idx": 2, "file": 0}}', "position 2, but .*x_0.npy holds 2 maps"),
        ('{"a": {"idx": 0, "file": 7}}', "names the file '7': none of the files is called so"),
        ('{"a": {"idx": 0}}', "does not say the file of each map, and there are 2"),
        ('{"a": {"file": 0}}', "has no image id and position"),
        ('{"a": {"idx": -1, "file": 0}}', "has no image id and position"),
        ('{"a": {"idx": 0.5, "file": 0}}', "has no image id and position"),
        ('{"a": {"idx": 0, "file": 0}, "a": {"idx": 1, "file": 0}}', "more than once"),
        ('{"a": "x"}', "expected an object, got x"),
        ("3", "is one value"),
        ("{", "cannot be read"),
        ("[" * 100000, "cannot be read"),
    ],
)
def test_a_wrong_index(tmp_path: Path, text: str, said: str):
    for number in (0, 1):
        np.save(tmp_path / f"x_{number}.npy", stack(some_maps(count=2)))
    (tmp_path / "i.json").write_text(text)
    with pytest.raises(RoicliError, match=said):
        open_source(tmp_path / "x_*.npy", map_index=tmp_path / "i.json")


def test_positions_in_one_file(tmp_path: Path):
    np.save(tmp_path / "x.npy", stack(some_maps()))
    (tmp_path / "i.json").write_text('{"b": 2, "a": 0}')
    source = open_source(tmp_path / "x.npy", map_index=tmp_path / "i.json")
    np.testing.assert_array_equal([*source], stack(some_maps())[[2, 0]])


class TestIndexed(SourceTests):
    ids = ("c", "a", "b")
    labelled = True

    @pytest.fixture
    def source(self, tmp_path: Path, maps: list[np.ndarray]) -> FeatureSource:
        np.save(tmp_path / "feats.npy", stack(maps))
        (tmp_path / "i.json").write_text('{"c": 0, "a": 1, "b": 2}')
        return open_source(tmp_path / "feats.npy", map_index=tmp_path / "i.json")

    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        np.save(folder / "feats.npy", stack(maps))
        return str(folder / "feats.npy")


@pytest.mark.parametrize("dtype", ["<u2", "<i2", ">u2"])
@pytest.mark.parametrize("layout", ["chw", "hwc"])
def test_integers_as_bits(tmp_path: Path, dtype: str, layout: str):
    values = np.random.default_rng(0).normal(size=(3, 2, 3, 5)).astype(np.float32)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    exact = (bits.astype(np.uint32) << 16).view(np.float32)
    stored = bits if layout == "chw" else bits.transpose(0, 2, 3, 1)
    np.save(tmp_path / "a.npy", np.ascontiguousarray(stored.astype(dtype)))
    source = open_source(tmp_path / "a.npy", map_dtype="bfloat16", layout=layout)
    assert source.info(1).dtype == source.read(1).dtype == np.float32
    np.testing.assert_array_equal([*source], exact)
    halves = open_source(tmp_path / "a.npy", map_dtype="float16", layout=layout)
    np.testing.assert_array_equal([*halves], bits.view(np.float16))


def test_bits_of_bfloat16_are_known(tmp_path: Path):
    generator = np.random.default_rng(0)
    values = generator.normal(size=(3, 8, 20, 20)).astype(np.float32)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    assert are_bits(bits)
    assert are_bits(bits.view(np.int16))
    assert not are_bits(values)
    assert not are_bits(np.zeros(9, np.uint16))
    assert not are_bits(values.astype(np.float16).view(np.uint16))
    assert not are_bits(generator.integers(0, 2**16, 1000).astype(np.uint16))
    assert not are_bits((values * 4000).astype(np.int16))
    assert not are_bits((values * 10000).clip(0).astype(np.uint16))
    np.save(tmp_path / "a.npy", bits)
    boxes = tmp_path / "boxes.json"
    boxes.write_text("[[0, 1, 1, 9, 9]]")
    with pytest.raises(FeatureError, match="the bits of bfloat16") as error:
        roicli.check(tmp_path / "a.npy", boxes)
    assert "`map_dtype=bfloat16`" in error.value.hint
    assert roicli.check(tmp_path / "a.npy", boxes, map_dtype="bfloat16").shape[0] == 1
    np.save(tmp_path / "b.npy", (values * 1000).astype(np.int16))
    assert any("pooled as integers" in note for note in roicli.check(tmp_path / "b.npy", boxes).notes)


def test_only_integers_of_the_width_are_bits(tmp_path: Path):
    np.save(tmp_path / "a.npy", some_maps("<f4")[0])
    np.save(tmp_path / "b.npy", some_maps("i1")[0])
    for name, dtype in (("a.npy", "bfloat16"), ("b.npy", "bfloat16"), ("a.npy", "float8_e5m2")):
        with pytest.raises(FeatureError, match="the bits of"):
            open_source(tmp_path / name, map_dtype=dtype).info(0)
    assert open_source(tmp_path / "b.npy", map_dtype="float8_e4m3fn").read(0).dtype == np.float16
    with pytest.raises(UsageError, match="'bf16' is not known"):
        open_source(tmp_path / "a.npy", map_dtype="bf16")


def test_the_choices_of_the_option_are_those_of_the_source():
    def command() -> None: ...

    [choices] = [
        option.type.choices for option in input_options(command).__click_params__ if option.name == "map_dtype"
    ]
    assert {*choices} == {*MAP_DTYPES}


@pytest.mark.parametrize(
    ("name", "what", "hint"),
    [
        ("a.pkl", "a pickle", "numpy.savez"),
        ("a.tfrecord", "a TFRecord file", "TFRecordDataset"),
        ("a.lmdb", "an LMDB database", "lmdb.open"),
        ("a.npy.gz", "a compressed file", "gunzip"),
        ("a.json", "text, not features", "`map_index`"),
    ],
)
def test_formats_of_others_are_refused_by_name(tmp_path: Path, name: str, what: str, hint: str):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(FileError, match=f"is {what}") as error:
        open_source(tmp_path / name)
    assert hint in error.value.hint


def test_a_folder_of_lmdb(tmp_path: Path):
    (tmp_path / "data.mdb").write_bytes(b"x")
    with pytest.raises(FileError, match="is an LMDB database"):
        open_source(tmp_path)
