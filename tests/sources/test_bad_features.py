"""Features that cannot be read: each ends in one error that names the file, the fault and the remedy."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from sources.badfiles import MAP, STACK, cut, hdf5, linked_hdf5, npz, read_everything, save, short_npy, write

from roicli.arrays import StoredArray
from roicli.errors import FeatureError, FileError, RoicliError
from roicli.sources import open_source
from roicli.sources.open import take_stock

FIELDS = "{'descr': [('\u03a9', '<f4')], 'fortran_order': False, 'shape': (1, 2, 3), }\n".encode()


STRUCTURED = b"\x93NUMPY\x03\x00" + struct.pack("<I", len(FIELDS)) + FIELDS + bytes(24)


def npy_header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def absurd_npy() -> bytes:
    return npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (4000000000, 4000000000, 4000000000), }\n")


def short_zip(path: Path) -> None:
    np.savez(path, a=MAP)
    cut(path, path.stat().st_size - 30)


def short_hdf5(path: Path) -> None:
    hdf5(features=STACK)(path)
    cut(path, path.stat().st_size - 50)


def lying_npz(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", absurd_npy())


def folder_with(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def make_folder(path: Path) -> None:
        path.mkdir()
        make(path / "dog.npy")

    return make_folder


def virtual_hdf5(path: Path) -> None:
    layout = h5py.VirtualLayout((2, 2, 3, 5), "f4")
    layout[0] = h5py.VirtualSource("lost.h5", "a", (2, 3, 5))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("features", layout)


BAD = {
    "missing": ("gone.npy", lambda path: None, FileError, ["does not exist"]),
    "no match": ("gone*.npy", lambda path: None, FileError, ["no file matches", "gone*.npy"]),
    "long name": ("a" * 300 + ".npy", lambda path: None, FileError, ["cannot be read: File name too long", "shorter"]),
    "long pattern": ("a" * 300 + "*.npy", lambda path: None, FileError, ["no file matches"]),
    "below a file": ("a.npy/b.npy", lambda path: save(MAP)(path.parent), FileError, ["Not a directory", "Check the"]),
    "nul": ("a\0.npy", lambda path: None, FileError, ["null"]),
    "extension": ("a.csv", write(b"1,2"), FileError, ["a.csv", "text, not features"]),
    "broken link": ("a.npy", lambda path: path.symlink_to("nowhere"), FileError, ["broken symbolic link"]),
    "pipe": ("a.h5", lambda path: os.mkfifo(path), FileError, ["pipe"]),
    "pipe.npz": ("a.npz", lambda path: os.mkfifo(path), FileError, ["pipe"]),
    "empty folder": ("maps", lambda path: path.mkdir(), FileError, ["without .npy files"]),
    "folder.npy": ("maps", folder_with(lambda path: path.mkdir()), FileError, ["dog.npy is a folder"]),
    "folder pipe": ("maps", folder_with(os.mkfifo), FileError, ["dog.npy is a pipe"]),
    "folder link": ("maps", folder_with(lambda path: path.symlink_to("x")), FileError, ["dog.npy is a broken"]),
    "folder stack": ("maps", folder_with(save(STACK)), FeatureError, ["dog.npy", "(2, 2, 3, 5)", "a stack of maps"]),
    "empty": ("a.npy", write(b""), FileError, ["not a .npy file", "empty"]),
    "hdf5 as npy": ("a.npy", write(b"\x89HDF\r\n\x1a\n"), FileError, ["not a .npy file: it is an HDF5 file"]),
    "npy as hdf5": ("a.h5", write(b"\x93NUMPY"), FileError, ["not an HDF5 file: it is a .npy array"]),
    "pointer": ("a.npz", write(b"version https://git-lfs.github.com/spec/v1"), FileError, ["Git LFS pointer"]),
    "pickle": ("a.npy", write(b"\x80\x04]"), FileError, ["a pickle, which roicli never loads"]),
    "objects": ("a.npy", save(np.array([[[None]]])), FeatureError, ["Python objects", "pickle"]),
    "one axis": ("a.npy", save(np.ones(3)), FeatureError, ["(3,)", "(C, H, W)"]),
    "five axes": ("a.npy", save(STACK[None]), FeatureError, ["5 axes"]),
    "no cells": ("a.npy", save(np.ones((2, 0, 3))), FeatureError, ["without cells"]),
    "stack no cells": ("a.npy", save(np.ones((2, 2, 0, 3))), FeatureError, ["without cells"]),
    "bool": ("a.npy", save(MAP > 3), FeatureError, ["dtype bool", "astype"]),
    "complex": ("a.npy", save(MAP + 1j), FeatureError, ["dtype complex64"]),
    "text": ("a.npy", save(MAP.astype("U3")), FeatureError, ["dtype <U3"]),
    "long double": ("a.npy", save(MAP.astype("longdouble")), FeatureError, ["dtype float128"]),
    "structured": ("a.npy", save(np.zeros((1, 2, 3), [("x", "f4")])), FeatureError, ["dtype [("]),
    "structured 3.0": ("a.npy", write(STRUCTURED), FeatureError, ["dtype [("]),
    "short npy": ("a.npy", short_npy, FileError, ["truncated", "byte 248", "byte 247"]),
    "short header": ("a.npy", write(b"\x93NUMPY\x01\x00\x70\x00{'d"), FileError, ["cannot be read"]),
    "header code": ("a.npy", write(npy_header("{'descr': ((((\n")), FileError, ["cannot be read"]),
    "absurd npy": ("a.npy", write(absurd_npy()), FileError, ["truncated", "4000000000"]),
    "negative": (
        "a.npy",
        write(npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 2, -3), }\n")),
        FileError,
        ["claims the shape (-1, 2, -3)"],
    ),
    "short zip": ("a.npz", short_zip, FileError, ["truncated"]),
    "absurd npz": ("a.npz", lying_npz, FileError, ["array a is broken"]),
    "npz objects": ("a.npz", npz(a=np.array([None])), FeatureError, ["no feature maps", "a  (1,) object"]),
    "npz two": ("a.npz", npz(p3=STACK, p4=STACK), FeatureError, ["p3  (2, 2, 3, 5) float32", "`dataset`"]),
    "npz mixed": ("a.npz", npz(p3=STACK, p4=MAP), FeatureError, ["/  1 maps such as p4 (2, 3, 5)", "`dataset`"]),
    "npz empty": ("a.npz", npz(), FeatureError, ["it is empty"]),
    "npz no cells": ("a.npz", npz(a=np.ones((0, 2, 3))), FeatureError, ["array a", "without cells"]),
    "npz twice": ("a.npz", npz(f=STACK, ids=[7, 7]), FeatureError, ["array ids", "'7' more than once"]),
    "short hdf5": ("a.h5", short_hdf5, FileError, ["a.h5", "truncated"]),
    "hdf5 text": ("a.h5", hdf5(text="none"), FeatureError, ["no feature maps", "/text  () object"]),
    "hdf5 empty": ("a.h5", hdf5(), FeatureError, ["it is empty"]),
    "hdf5 null": ("a.h5", hdf5(a=h5py.Empty("f4")), FeatureError, ["no feature maps"]),
    "hdf5 complex": ("a.h5", hdf5(f=STACK + 1j), FeatureError, ["no feature maps", "(2, 2, 3, 5) complex64"]),
    "hdf5 two": ("a.h5", hdf5(p3=STACK, p4=STACK), FeatureError, ["/p3  (2, 2, 3, 5) float32", "`dataset`"]),
    "hdf5 mixed": ("a.h5", hdf5(p3=STACK, p4=MAP), FeatureError, ["/  1 maps such as p4 (2, 3, 5)", "`dataset`"]),
    "hdf5 no cells": ("a.h5", hdf5(a=np.ones((0, 2, 3))), FeatureError, ["dataset /a", "without cells"]),
    "hdf5 twice": ("a.h5", hdf5(f=STACK, ids=[7, 7]), FeatureError, ["dataset /ids", "'7' more than once"]),
    "hdf5 link": ("a.h5", linked_hdf5, FeatureError, ["no feature maps", "/features  (a link, not followed)"]),
    "hdf5 virtual": ("a.h5", virtual_hdf5, FileError, ["lacks lost.h5"]),
}


@pytest.mark.parametrize(("name", "make", "kind", "fragments"), BAD.values(), ids=BAD.keys())
def test_bad_file(
    tmp_path: Path, name: str, make: Callable[[Path], None], kind: type[RoicliError], fragments: list[str]
):
    make(tmp_path / name)
    with pytest.raises(kind) as refusal:
        read_everything(tmp_path / name)
    assert str(tmp_path / name) in refusal.value.message or name.endswith("*.npy")
    assert refusal.value.hint.endswith(".")
    assert not refusal.value.message.endswith(".")
    for fragment in fragments:
        assert fragment in str(refusal.value)


@pytest.mark.parametrize("userblock", [0, 1024])
def test_hdf5_reads_what_is_not_stored_as_it_is_read(tmp_path: Path, userblock: int, monkeypatch: pytest.MonkeyPatch):
    bfloat16 = h5py.h5t.IEEE_F32LE.copy()
    bfloat16.set_fields(15, 7, 8, 0, 7)
    bfloat16.set_precision(16)
    bfloat16.set_size(2)
    bfloat16.set_ebias(127)
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=userblock) as file:
        file.create_dataset("chunked", data=MAP, chunks=MAP.shape)
        file.create_dataset("external", MAP.shape, "f4", external=[(str(tmp_path / "a.bin"), 0, MAP.nbytes)])[...] = MAP
        space = h5py.h5s.create_simple(MAP.shape)
        h5py.h5d.create(file.id, b"bfloat16", bfloat16, space).write(h5py.h5s.ALL, h5py.h5s.ALL, MAP)
    with h5py.File(tmp_path / "b.h5", "w", userblock_size=userblock) as file:
        file.create_dataset("unwritten", MAP.shape, "f4")
    source = open_source(tmp_path / "a.h5")
    assert source.ids == ("bfloat16", "chunked", "external")
    monkeypatch.setattr(StoredArray, "load", None)  # not asked
    np.testing.assert_array_equal([source.read(i) for i in range(3)], [MAP, MAP, MAP])
    np.testing.assert_array_equal(open_source(tmp_path / "b.h5").read(0), 0 * MAP)


def test_damaged_and_numerous_chunks_are_told_by_their_dataset(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("maps", data=np.ones((2, 8, 8, 8), "f4"), chunks=(1, 4, 8, 8), compression="gzip")
        file.create_dataset("/many/maps", (5000, 1024, 1, 1), "f4", chunks=(1, 1, 1, 1))
    data = (tmp_path / "a.h5").read_bytes()
    with pytest.raises(FeatureError, match="dataset /many/maps lies in 5,120,000 chunks, too many") as caught:
        open_source(tmp_path / "a.h5", dataset="/many/maps").read(0)
    assert "h5repack" in caught.value.hint
    # Version 1 trees of type 1 are those of chunks.
    (tmp_path / "a.h5").write_bytes(data.replace(b"TREE\x01", b"XXXX\x01"))
    for look in open_source, take_stock:
        with pytest.raises(FileError, match=r"a\.h5, dataset /maps cannot be read"):
            look(tmp_path / "a.h5")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_an_empty_file_is_not_to_be_renamed(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"")
    with pytest.raises(FileError, match="it is empty") as caught:
        open_source(path)
    assert caught.value.hint == "Copy or download the file again, or write it anew."


@pytest.mark.parametrize(
    ("name", "content", "message", "hint"),
    [
        ("f.npy", b"version https://git-lfs.github.com/spec/v1\n", "it is a Git LFS pointer", "git lfs pull"),
        ("f.npy", b"\x1f\x8b\x08", "it is gzip data", "Unpack it first: gunzip."),
        ("f.npz", b"<html>", "it is a web page or XML", "Download the file again"),
        ("feats", b"\x93NUMPY\x01\x00", "no extension, which is not read as features; it is a .npy array", "Rename it"),
        ("f.txt", b"1 2", "the extension '.txt', which is not read as features", "Give a file: .npy"),
    ],
)
def test_content_that_is_not_what_the_name_says(tmp_path, name, content, message, hint):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileError) as caught:
        open_source(tmp_path / name)
    assert message in caught.value.message
    assert hint in caught.value.hint
