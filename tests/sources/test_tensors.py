"""Files of tensors, written by hand as safetensors and torch do."""

from __future__ import annotations

import base64
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sources.conformance import SourceTests, some_maps, stack

from roicli.errors import FeatureError, FileError, RoicliError
from roicli.sources import open_source
from roicli.sources.open import take_stock

_NAMES = {"f8": "F64", "f4": "F32", "f2": "F16", "i1": "I8", "u1": "U8", "i2": "I16", "i4": "I32", "u8": "U64"}


def safetensors(path: Path, arrays: Mapping[str, np.ndarray], names: Mapping[str, str] | None = None) -> str:
    """Write arrays; `names` gives dtypes other than those of the arrays."""
    head: dict[str, Any] = {"__metadata__": {"format": "np"}}
    data = b""
    for name, array in arrays.items():
        little = array.astype(array.dtype.newbyteorder("<"))
        dtype = (names or {}).get(name) or _NAMES[little.dtype.str[1:]]
        offsets = [len(data), len(data) + array.nbytes]
        head[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": offsets}
        data += little.tobytes()
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return str(path)


class Safetensors(SourceTests):
    labelled = True

    def read_as(self, dtype: str) -> np.dtype[Any]:
        return np.dtype(dtype).newbyteorder("<")


class TestSafetensorsMaps(Safetensors):
    ids = ("139", "285", "1000")

    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        return safetensors(folder / "a.safetensors", dict(zip(self.ids, maps, strict=True)))


class TestSafetensorsStack(Safetensors):
    ids = ("7", "8", "9")

    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        arrays = {"feats": stack(maps), "image_ids": np.array([7, 8, 9], "i4")}
        return safetensors(folder / "a.safetensors", arrays)


def test_bfloat16_and_float8_are_widened(tmp_path: Path):
    values = np.array([1, -2.5, 2.0**127, np.inf, 0, -0.0, 2**-126, 1.0078125], np.float32).reshape(2, 2, 2)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    codes = np.array([0, 1, 8, 56, 57, 126, 127, 254], np.uint8).reshape(2, 2, 2)
    path = safetensors(tmp_path / "a.safetensors", {"a": bits, "b": codes}, {"a": "BF16", "b": "F8_E4M3"})
    source = open_source(path)
    assert [source.info(i).dtype for i in range(2)] == [np.float32, np.float16]
    np.testing.assert_array_equal(source["a"], values)
    np.testing.assert_array_equal(source["b"].reshape(-1), [0, 2**-9, 2**-6, 1, 1.125, 448, np.nan, -448])
    assert [alike.kind.dtype for alike in take_stock(Path(path)).kinds] == ["bfloat16", "float8_e4m3fn"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: data[:10], "truncated"),
        (lambda data: data[:-1], "truncated"),
        (lambda data: b"", "it is empty"),
        (lambda data: b"\xff" * 100, "is not a .safetensors file"),
        (lambda data: data.replace(b"[0, 120]", b"[0, 119]"), "lies in 119 bytes"),
        (lambda data: data.replace(b"[2, 3, 5]", b"[2,-3, 5]"), "has shape"),
        (lambda data: data.replace(b'"y"', b'"x"'), "more than once"),
        (lambda data: data.replace(b"F32", b"F4x"), "has dtype F4x, which is not read"),
        (lambda data: data.replace(b'"dtype"', b'"dtipe"'), "cannot be read"),
    ],
)
def test_damaged_safetensors(tmp_path: Path, spoil: Any, said: str):
    path = Path(safetensors(tmp_path / "a.safetensors", dict(zip("xy", some_maps(), strict=False))))
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(RoicliError, match=said):
        open_source(path).read(1)


_STORAGES = {"f8": "Double", "f4": "Float", "f2": "Half", "i1": "Char", "u1": "Byte", "i2": "Short", "i4": "Int"}


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def _number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _tuple(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_number, values)) + b"t"


class Saved:
    """A file of torch.save in the making."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.order = "little"

    def tensor(self, array: np.ndarray, *, offset: int = 0, strides: tuple[int, ...] | None = None) -> bytes:
        """Opcodes of a tensor, in the storage of the array."""
        self.order = "big" if array.dtype.byteorder == ">" else "little"
        key, kind = str(len(self.data)), array.dtype.str[1:]
        self.data.append(array.tobytes())
        steps = strides if strides is not None else tuple(step // array.itemsize for step in array.strides)
        plain = kind in _STORAGES
        storage = f"ctorch\n{_STORAGES[kind]}Storage\n" if plain else "ctorch.storage\nUntypedStorage\n"
        made = b"(" + _text("storage") + storage.encode() + _text(key) + _text("cpu") + _number(array.size) + b"tQ"
        made += _number(offset) + _tuple(array.shape) + _tuple(steps) + b"\x89ccollections\nOrderedDict\n)R"
        version, dtype = ("2", b"") if plain else ("3", b"ctorch\nuint64\n")
        return f"ctorch._utils\n_rebuild_tensor_v{version}\n(".encode() + made + dtype + b"tR"

    def write(self, path: Path, opcodes: bytes) -> str:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", b"\x80\x02" + opcodes + b".")
            archive.writestr("a/byteorder", self.order)
            for key, data in enumerate(self.data):
                archive.writestr(f"a/data/{key}", data)
        return str(path)


def mapping(items: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(_text(key) + value for key, value in items.items()) + b"u"


def text_list(values: list[str]) -> bytes:
    return b"](" + b"".join(map(_text, values)) + b"e"


class TestTorchDict(SourceTests):
    ids = ("139", "285", "1000")
    labelled = True

    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        saved = Saved()
        tensors = {key: saved.tensor(array) for key, array in zip(self.ids, maps, strict=True)}
        return saved.write(folder / "a.pt", mapping(tensors))

    def read_as(self, dtype: str) -> np.dtype[Any]:
        return np.dtype(dtype)


class TestTorchGroupAnImage(TestTorchDict):
    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        saved = Saved()
        tensors = {
            key: mapping({"features": saved.tensor(array), "width": _number(640)})
            for key, array in zip(self.ids, maps, strict=True)
        }
        return saved.write(folder / "a.pth", mapping(tensors))


class TestTorchList(SourceTests):
    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        saved = Saved()
        return saved.write(folder / "a.pt", b"](" + b"".join(map(saved.tensor, maps)) + b"e")


class TestTorchStack(SourceTests):
    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        saved = Saved()
        return saved.write(folder / "a.pt", saved.tensor(stack(maps)))


class TestTorchStackWithIds(SourceTests):
    ids = ("a/1", "a/2", "b/1")
    labelled = True

    def write(self, folder: Path, maps: list[np.ndarray]) -> str:
        saved = Saved()
        items = {"features": saved.tensor(stack(maps)), "filenames": text_list(list(self.ids))}
        return saved.write(folder / "a.pt", mapping(items))


# Made by torch 2.14: a dict of 0, 1, ..., 29 as (2, 3, 5) in float32, bfloat16, float8_e4m3fn; the same with channels
# last in its storage; a Parameter that is a slice; and a text.
_REAL = (
    "c-o~^O>7%Q6dv3058F0zLesPXOej#?(mLK<|I$KsR@Dlz2wazdfe?3VZ(<9__SloqB2_X(D5=Du>Y>UB`IuuQ4n&;70Vzlv$}I;D"
    "k+{I6+&FOJ?atcS-IAD}QNFBg&G)_U&3p4Ur}~Bv3Wd;PD~!gF)+$x1EBbU<qgt%_aZQnj(Fcyz@!laQTJQmZ7qi4uq7C50ip#WG"
    "Yjeexesj56D;KF=Z#P=S6@eq(XtWT7?QPhpE$YO_D4bGjX!JV!kt0I|5A2B(zbRd6E|Y*7p(J=sMXFczss1$*Qb$z3>RBUC+%1(F"
    "wVGa{)keL|z1=G7ExmlTTB01`&gaQ7N{;8r2~$bPB*}0EJXCsdWiv3J>W3aNL-QnDF++~pLXP!9K6$rdD4(QcJWo!U$|+GG69dv0"
    "Idb|Sbj&&eZnjQuH}!Jg!5PzmKqi@kr)&<M?m2jdIfz(UEEq{-ih5#6T&Q#8SxTnz<T=w=T1b$yEaeJ2R*^i<lwYtZzX%VH8dxLe"
    "nDR@MMDyf4lSrq?g+p>{YAtO^r+SMcFZZHU{7nBM)At(smwL`)On;h^c%Ja<<`-d&h<TDIKrf<tgX$z{8ofnQ%dwmq44t^}=*N;5"
    "8Uc_yv}GsI>3++`78<Q3jTTq*RvX$vkx#lhmo45<|K|6fSB-E64p*N<=>v7EbVaRJU92zZb*jkX-v$`4QVGMr%qQeG$P9UpG%$*0"
    "`UY;^rh3C@bVa`WU*h&wtx9Q4H#~gt>Mv&k5G8P=hhg-ZV=7F?75SC_VSuT2X5gO$e}E343)lhd0}zH;1egNE0TLhwxB+MaI)HV+"
    "J-`N_3)lo~0k#1<fL*{tz#d>9@GCYlzBB&0e9P#v0T~~6X3Q&c2p#wb?~){Sq^`6hfnOZPQ#g(#oWnP86L;`BzK1t(7jNP%yp4D8"
    "E`Esj@IGc9zW?mc`&S^!l>r_?P7i`251AfNM!Nd?8*jdqyOzKH&g{GI6$<aeuOH6M&3!aKKW{|vKbRShfJS6Mgmcaaq9UI~|FnKa"
    "y{4>sbglC?YHHLlZq;bhssXa<Dp_^gvg#sPwa!_!+_q|E^h4OH_l8wZc6L9^?|nPCek15uKePTY2=-DFIYa5EuNG$q-@gbF4hDdE"
    "NNv4Ug$eMfX1sZd)v_YT{^ecZ<LPuJC8ULHI-AWT6MRZY@^LYhOlC6zpHA_~tQb!xGlt7QRyV$jf{&=_(qowI`?L?p@MF&1?{PQV"
    "J^&{i%&)!Zu#xH(u@A9H=iu_8BPOR?$3BQg9Xj`II{g9YrrU4zu!DYT2)SmLn`^&~PHxEW;__~;{hm3wU%I)1n``f6C-;$?E4sP%"
    "-W_ppcLT`X`EIhkr6LaUSP%_p_M93BT<l#9-=#j2b3IqR?71CePvDuKE?XPeTh||89M0U&_WlLYAXB*"
)


def test_a_file_of_torch(tmp_path: Path):
    (tmp_path / "a.pt").write_bytes(zlib.decompress(base64.b85decode(_REAL)))
    source = open_source(tmp_path / "a.pt")
    values = np.arange(30, dtype=np.float32).reshape(2, 3, 5)
    assert source.ids == ("139", "285", "632", "724", "776")
    for image_id in ("139", "285", "724"):
        np.testing.assert_array_equal(source[image_id], values)
    np.testing.assert_array_equal(source["632"], np.where(values > 16, 2 * np.round(values / 2), values))
    np.testing.assert_array_equal(source["776"], values[:, :2])
    assert source["724"].strides == (12, 4, 24)
    assert take_stock(tmp_path / "a.pt").arrays == 5


def test_one_tensor_is_named_by_its_file(tmp_path: Path):
    for name in ("a", "b"):
        saved = Saved()
        saved.write(tmp_path / f"{name}.pt", saved.tensor(some_maps()[0]))
    assert open_source(tmp_path / "a.pt").ids == ("a",)
    assert open_source(tmp_path / "*.pt").ids == ("a", "b")


class Evil:
    def __reduce__(self) -> Any:
        return print, ("run",)


@pytest.mark.parametrize(
    ("opcodes", "said"),
    [
        (pickle.dumps(Evil(), 2)[2:-1], r"holds __builtin__.print: only tensors"),
        (b"cos\nsystem\n(" + _text("true") + b"tR", "holds os.system"),
        (b"(" + _text("true") + b"ios\nsystem\n", "holds os.system"),
        (b"\x8c\x02os\x8c\x06system\x93", "holds os.system"),
        (b"cnumpy\nndarray\n", "holds numpy.ndarray"),
        (b"cbuiltins\neval\n", "holds builtins.eval"),
        (b"ctorch.storage\n_load_from_bytes\n", "holds torch.storage._load_from_bytes"),
        (b"r\xff\xff\xff\x7f", "is damaged|does not fit|cannot be read"),
        (b"N", "holds no feature maps"),
        (b"(", "cannot be read"),
    ],
)
def test_whatever_is_not_a_tensor_is_refused_by_name(
    tmp_path: Path, opcodes: bytes, said: str, capfd: pytest.CaptureFixture[str]
):
    with pytest.raises(RoicliError, match=said):
        open_source(Saved().write(tmp_path / "a.pt", opcodes))
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("shape", "offset", "strides", "said"),
    [
        ((2, 3, 5), 1, (15, 5, 1), "lies beyond its storage"),
        ((2, 3, 5), 0, (16, 5, 1), "lies beyond its storage"),
        ((2, 3, 5), 0, (15, -5, 1), "without storage or shape"),
        ((2, 3, 5), 0, (15, 5), "do not fit its shape"),
        ((2000, 3000, 500), 0, (0, 0, 0), "are in its file"),
    ],
)
def test_a_tensor_lies_in_its_storage(
    tmp_path: Path, shape: tuple[int, ...], offset: int, strides: tuple[int, ...], said: str
):
    saved = Saved()
    opcodes = saved.tensor(some_maps()[0], offset=offset, strides=strides)
    opcodes = opcodes.replace(_tuple((2, 3, 5)), _tuple(shape))
    with pytest.raises(RoicliError, match=said):
        open_source(saved.write(tmp_path / "a.pt", opcodes))


def test_an_expanded_tensor_is_read(tmp_path: Path):
    saved = Saved()
    path = saved.write(tmp_path / "a.pt", saved.tensor(some_maps()[0], strides=(0, 5, 1)))
    np.testing.assert_array_equal(open_source(path).read(0), np.broadcast_to(some_maps()[0][0], (2, 3, 5)))


def test_a_legacy_file_says_how_to_convert_it(tmp_path: Path):
    (tmp_path / "a.pt").write_bytes(pickle.dumps([1], 2))
    with pytest.raises(FileError, match="legacy file of") as error:
        open_source(tmp_path / "a.pt")
    assert "torch.save(torch.load('a.pt')" in error.value.hint


def test_a_storage_may_be_missing(tmp_path: Path):
    saved = Saved()
    opcodes = saved.tensor(some_maps()[0])
    saved.data.clear()
    with pytest.raises(FileError, match="its storage 0 is missing"):
        open_source(saved.write(tmp_path / "a.pt", opcodes))


def test_a_dict_in_a_dict_is_chosen_by_its_key(tmp_path: Path):
    saved = Saved()
    one, two = some_maps(count=2)
    items = {"p2": mapping({"a": saved.tensor(one)}), "p3": mapping({"a": saved.tensor(two), "b": saved.tensor(two)})}
    path = saved.write(tmp_path / "a.pt", mapping(items))
    assert open_source(path, dataset="p3").ids == ("a", "b")
    with pytest.raises(FeatureError, match="has no tensor 'p4'"):
        open_source(path, dataset="p4")
