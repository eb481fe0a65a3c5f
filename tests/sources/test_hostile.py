"""Inputs made to do harm, read by the real command within bounds of memory and time: one message, exit code 3."""

from __future__ import annotations

import json
import os
import resource
import socket
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from bench import launch
from click.testing import CliRunner
from driving import run

from roicli.cli.main import main
from roicli.sources import open_source

ROICLI = Path(sys.executable).with_name("roicli")
MAP = np.arange(30, dtype="f4").reshape(2, 3, 5)
STACK = np.stack([MAP, MAP + 30])
# A healthy run takes 60 MiB, and 250 MiB of addresses.
MEMORY = 300 << 20
ADDRESSES = 600 << 20
MIB = bytes(1 << 20)

Make = Callable[[Path], object]


def npy(shape: str, descr: str = "<f4", data: bytes = b"", version: int = 1, length: int | None = None) -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    length = len(text) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", length) + text + data


def write(content: bytes | str) -> Make:
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


def sparse(start: bytes, size: int) -> Make:
    """Make a file that is large and takes no room on the disk."""

    def make(path: Path) -> None:
        path.write_bytes(start)
        os.truncate(path, size)

    return make


def zipped(start: bytes, mebibytes: int, method: int = zipfile.ZIP_DEFLATED) -> Make:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", method) as archive, archive.open("a.npy", "w", force_zip64=True) as member:
            member.write(start)
            for _ in range(mebibytes):
                member.write(MIB)

    return make


def hdf5(fill: Callable[[h5py.File, Path], object]) -> Make:
    def make(path: Path) -> None:
        with h5py.File(path, "w") as file:
            fill(file, path.parent)

    return make


def dataset(*arguments: object, **options: object) -> Make:
    return hdf5(lambda file, _: file.create_dataset("f", *arguments, **options))


def one_chunk(shape: tuple[int, ...], stored: Callable[[], bytes], **options: object) -> Make:
    return hdf5(
        lambda file, _: file.create_dataset("f", shape, "f4", chunks=shape, **options).id.write_direct_chunk(
            (0,) * len(shape), stored()
        )
    )


def deflated(mebibytes: int) -> bytes:
    packer = zlib.compressobj()
    return b"".join(packer.compress(MIB) for _ in range(mebibytes)) + packer.flush()


def virtual(*parts: tuple[str, str, str], fifo: str = "") -> Make:
    """Make virtual datasets, each of a part: (name, file of the part, its name)."""

    def fill(file: h5py.File, folder: Path) -> None:
        if fifo:
            os.mkfifo(folder / fifo)
        for name, part_file, part in parts:
            layout = h5py.VirtualLayout(MAP.shape, "f4")
            layout[...] = h5py.VirtualSource(part_file, part, MAP.shape)
            file.create_virtual_dataset(name, layout)

    return hdf5(fill)


def endless(file: h5py.File, folder: Path) -> None:
    """Make a virtual dataset of as many maps as its part has, which is a pipe."""
    os.mkfifo(folder / "pipe")
    layout = h5py.VirtualLayout(STACK.shape, "f4", maxshape=(None, *MAP.shape))
    part = h5py.VirtualSource("pipe", "x", STACK.shape, maxshape=(None, *MAP.shape))
    layout[: h5py.h5s.UNLIMITED] = part[: h5py.h5s.UNLIMITED]
    file.create_virtual_dataset("f", layout)


def external(name: str) -> Make:
    def fill(file: h5py.File, folder: Path) -> None:
        os.mkfifo(folder / "pipe")
        (folder / "short").write_bytes(b"12")
        file.create_dataset("f", (1, 2, 3), "u1", external=[(name if name[0] == "/" else str(folder / name), 0, 6)])

    return hdf5(fill)


def unknown_filter(file: h5py.File, _: Path) -> None:
    created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    created.set_chunk(STACK.shape)
    created.set_filter(32099, h5py.h5z.FLAG_OPTIONAL, (1, 2))
    space = h5py.h5s.create_simple(STACK.shape)
    h5py.h5d.create(file.id, b"f", h5py.h5t.IEEE_F32LE, space, created).write_direct_chunk((0, 0, 0, 0), b"junk")


def damaged_heap(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["f"] = STACK
        file["image_ids"] = np.array(["0", "1"], dtype=object)
    content = path.read_bytes()
    heap = content.index(b"GCOL")
    path.write_bytes(content[: heap + 16] + bytes(64) + content[heap + 80 :])  # an object without a size: no end


def ids(*shape: int, dtype: object) -> Make:
    def fill(file: h5py.File, _: Path) -> None:
        file.create_dataset("f", (shape[0], 1, 1, 1), "u1", chunks=(1000 if shape[0] > 1000 else 1, 1, 1, 1))
        file.create_dataset("image_ids", shape, dtype, chunks=(min(shape[0], 1000),))

    return hdf5(fill)


def bind(path: Path) -> None:
    """Make a socket; its name may have 108 bytes, which is why it is bound from within its folder."""
    before = Path.cwd()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path.name)
    os.chdir(before)


HEADER = "image_id,x1,y1,x2,y2\n"
RESULT = '{"image_id": 0, "bbox": [0, 0, 1, 1]%s}'
FEATURES: dict[str, tuple[str, Make, str]] = {
    "shape beyond all": ("f.npy", write(npy("(1000000000000000000,)")), "truncated"),
    "many maps of nothing": ("f.npy", write(npy("(1000000000000000000, 2, 0, 3)")), "without cells"),
    "negative shape": ("f.npy", write(npy("(-2, 2, 3, 5)")), "claims the shape"),
    "shape of booleans": ("f.npy", write(npy("(True, True, True)", data=b"1234")), "claims the shape"),
    "shape of 400 digits": ("f.npy", write(npy(f"({'9' * 400}, 2, 3)")), "claims the shape"),
    "header of 3 GiB": ("f.npy", sparse(npy("()", version=2, length=3 << 30), 4 << 30), "cannot be read"),
    "version 3": ("f.npy", write(npy("(2, 3, 50)", version=3, data=MAP.tobytes())), "truncated"),
    "version 9": ("f.npy", write(npy("(2, 3, 5)", version=9, data=MAP.tobytes())), "version 9.0"),
    "dtype of an array": ("f.npy", write(npy("(2, 3, 5)", "(3000,3000)<f4")), "truncated"),
    "dtype with an escape": ("f.npy", write(npy("(2, 3, 5)", "\\x1b[31m")), "its header is damaged"),
    "objects": ("f.npy", write(npy("(2, 3, 5)", "|O")), "never loads pickle"),
    "pipe": ("f.npy", os.mkfifo, "pipe or a device"),
    "socket": ("f.npy", bind, "pipe or a device"),
    "/dev/zero": ("f.npy", lambda path: path.symlink_to("/dev/zero"), "pipe or a device"),
    "/dev/full": ("f.npy", lambda path: path.symlink_to("/dev/full"), "pipe or a device"),
    "link to itself": ("f.npy", lambda path: path.symlink_to(path.name), "Too many levels"),
    "folder": ("f.npy", Path.mkdir, "without .npy files"),
    "name with an escape": ("f\x1b[31m\nerror: x.npy", write(b"x"), "f\\x1b[31m\\nerror: x.npy is not"),
    "name in bytes": (os.fsdecode(b"f\xff.npy"), write(b"x"), "is not a .npy file"),
    "bomb": ("f.npz", zipped(npy("(3, 8192, 16384)", "|u1"), 384), "claims"),
    "bomb in a header": ("f.npz", zipped(npy("()", version=2, length=1 << 30), 384), "cannot be read"),
    "bomb of bzip2": ("f.npz", zipped(npy("(1, 1024, 8192)", "|u1"), 8, zipfile.ZIP_BZIP2), "method 12"),
    "bomb of lzma": ("f.npz", zipped(npy("(1, 1024, 8192)", "|u1"), 8, zipfile.ZIP_LZMA), "method 14"),
    "external link": ("f.h5", hdf5(lambda f, _: f.update(f=h5py.ExternalLink("/etc/passwd", "x"))), "not followed"),
    "links in a circle": (
        "f.h5", hdf5(lambda f, _: f.update(a=h5py.SoftLink("/b"), b=h5py.SoftLink("/a"))), "not followed",
    ),
    "groups in a circle": ("f.h5", hdf5(lambda f, _: f.create_group("g").update(up=f["/"])), "it is empty"),
    "external storage elsewhere": ("f.h5", external("/etc/passwd"), "in another folder"),
    "external storage in a pipe": ("f.h5", external("pipe"), "pipe or a device"),
    "external storage too short": ("f.h5", external("short"), "which has 2"),
    "external storage not there": ("f.h5", external("gone"), "does not exist"),
    "virtual on itself": ("f.h5", virtual(("f", ".", "f")), "without values of its own"),
    "virtual in a circle": ("f.h5", virtual(("f", ".", "g"), ("g", ".", "f")), "without values of its own"),
    "virtual in a pipe": ("f.h5", virtual(("f", "pipe", "x"), fifo="pipe"), "pipe or a device"),
    "virtual in a pipe, without limits": ("f.h5", hdf5(endless), "pipe or a device"),
    "virtual of nothing": ("f.h5", virtual(("f", ".", "gone")), "lacks gone"),
    "never written": ("f.h5", dataset((4, 8192, 8192), "f4", chunks=(1, 256, 256)), "claims 1,073,741,824 bytes"),
    "shape beyond all, chunked": ("f.h5", dataset((10**6, 10**6, 10**6), "f4", chunks=(1, 99, 99)), "claims"),
    "chunks beyond number": ("f.h5", dataset((1, 4000, 4000), "u1", chunks=(1, 1, 1)), "16,000,000 chunks"),
    "chunks beyond number in all maps": ("f.h5", dataset((2**22 + 1, 1, 1, 1), "u1", chunks=(1, 1, 1, 1)), "4,194,305"),
    "chunk without end": ("f.h5", one_chunk(STACK.shape, lambda: deflated(400), compression="gzip"), "does not hold"),
    "chunk too short": ("f.h5", one_chunk(STACK.shape, lambda: zlib.compress(b"1"), compression="gzip"), "not hold"),
    "plain chunk too short": ("f.h5", one_chunk(STACK.shape, lambda: b"1234"), "does not hold 240 bytes"),
    "filter not installed": ("f.h5", hdf5(unknown_filter), "which HDF5 does not have by itself"),
    "enumeration": ("f.h5", dataset(MAP.shape, h5py.enum_dtype({"A": 0, "B": 1}, "i4")), "no feature maps"),
    "references": ("f.h5", dataset(MAP.shape, h5py.ref_dtype), "no feature maps"),
    "sequences": ("f.h5", dataset(MAP.shape, h5py.vlen_dtype("f4")), "no feature maps"),
    "strings": ("f.h5", dataset(MAP.shape, h5py.string_dtype()), "no feature maps"),
    "opaque": ("f.h5", dataset(MAP.shape, "V7"), "no feature maps"),
    "ids without end": ("f.h5", damaged_heap, "f.h5 is damaged: it takes more than 3 s to open"),
    "ids of a gigabyte": ("f.h5", ids(2, dtype="S1000000000"), "claims 2,000,000,000 bytes"),
    "ids never written": ("f.h5", ids(10**8, dtype="i8"), "claims 800,000,000 bytes"),
    "text of nothing": ("f.h5", sparse(b"\x89HDF\r\n\x1a\n", 5 << 30), "cannot be read"),
}  # fmt: skip
BOXES: dict[str, tuple[str, Make, str]] = {
    "nested": ("b.json", write("[" * 10**5), "nested too deeply"),
    "nested inside": ("b.json", write(f"[{RESULT}]" % f', "x": {"[" * 10**5}{"]" * 10**5}'), "nested too deeply"),
    "1e999": ("b.json", write("[[0, 0, 1e999, 1]]"), "out of range"),
    "NaN": ("b.json", write("[[0, 0, 0, NaN, 1]]"), "box 0"),
    "-Infinity": ("b.json", write("[[0, 0, 0, -Infinity, 1]]"), "box 0"),
    "400 digits": ("b.json", write(f"[[0, 0, {'9' * 400}, 1]]"), "out of range"),
    "id of a million digits": ("b.json", write('[{"image_id": %s, "bbox": [0, 0, 1, 1]}]' % ("9" * 10**6)), "range"),
    "two bbox": ("b.json", write(f"[{RESULT}]" % ', "bbox": [0, 0, 2, 2]'), "key 'bbox' given twice"),
    "two bbox, one escaped": ("b.json", write(f"[{RESULT}]" % ', "bbo\\u0078": [0, 0, 2, 2]'), "'bbox' given twice"),
    "two bbox in a line": ("b.jsonl", write(RESULT % ', "bbox": [0, 0, 2, 2]'), "line 1: key 'bbox' given twice"),
    "two image_id": (
        "b.json", write('{"annotations": [%s]}' % (RESULT % ', "image_id": 1')), "annotation 0: key 'image_id'",
    ),
    "two annotations": ("b.json", write('{"annotations": [], "annotations": []}'), "key 'annotations' given twice"),
    "two images": ("b.json", write('{"0": [], "0": []}'), "key '0' given twice"),
    "two names": (
        "b.json",
        write(json.dumps({"images": [{"id": 9, "file_name": str(i)} for i in (0, 1)], "annotations": []})),
        "image '9' is both '0' and '1'",
    ),
    "not UTF-8": ("b.json", write(b'{"\xff": [[0, 0, 1, 1]]}'), "not UTF-8"),
    "UTF-16": ("b.json", write("[[0, 0, 0, 1, 1]]".encode("utf-16")), "not UTF-8"),
    "id with an escape": ("b.json", write('{"\\u001b[31m\\nx": [[0, 0, 1, 1]]}'), "'\\x1b[31m\\nx'"),
    "string without end": ("b.json", sparse(b'["', 400 << 20), "a NUL byte"),
    "line without end": ("b.jsonl", sparse(b"[1", 5 << 30), "line 1: longer than"),
    "empty": ("b.json", write(b""), "empty"),
    "CSV line without end": ("b.csv", sparse(HEADER.encode(), 5 << 30), "line 2: a NUL byte"),
    "CSV header without end": ("b.csv", sparse(b"image_id,x1", 5 << 30), "line 1: a NUL byte"),
    "CSV line of 17 MiB": ("b.csv", write(HEADER + "0" * (17 << 20)), "line 2: field larger"),
    "NUL": ("b.csv", write(f"{HEADER}0,0,0,\0,1\n"), "line 2: a NUL byte"),
    "million columns": ("b.csv", write(",".join(map(str, range(10**6)))), "got 1,000,000"),
    "million cells": ("b.csv", write(HEADER + "0," * 10**6), "got 1000001"),
    "open quote": ("b.csv", write(f'{HEADER}"0,0,0,1,1\n'), "unexpected end of data"),
    "open quote, long": ("b.csv", write(f'{HEADER}"' + "0,0,0,1,1\n" * 10**5), "field limit"),
    "cell with an escape": ("b.csv", write(f"{HEADER}0,0,0,\x1b[31m,1\n"), "expected a number, got '\\x1b[31m'"),
    "header with an escape": ("b.csv", write("\x1b[31mfoo,bar\n"), "\\x1b[31mfoo"),
    "rows beyond all": ("b.npy", write(npy("(1000000000000000000, 4)")), "truncated"),
    "pickle": ("b.npy", write(npy("(2, 4)", "|O", data=b"\x80\x04N.")), "never loaded"),
    "header of 3 GiB, boxes": ("b.npy", sparse(npy("()", version=2, length=3 << 30), 4 << 30), "claims a header of"),
    "pipe, boxes": ("b.json", os.mkfifo, "not a regular file"),
    "folder, boxes": ("b.json", Path.mkdir, "a folder"),
    "/dev/zero, boxes": ("b.json", lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    "link to itself, boxes": ("b.json", lambda path: path.symlink_to(path.name), "Too many levels"),
    "name with an escape, boxes": ("b\x1b[31m\nx.json", write(b"["), "b\\x1b[31m\\nx.json, line 1"),
}  # fmt: skip
CASES = FEATURES | BOXES
# By what they would do to the process itself, these are worth one of their own.
APART = (
    *("header of 3 GiB", "many maps of nothing", "bomb", "bomb in a header", "virtual on itself", "never written"),
    *("chunk without end", "chunk too short", "ids without end", "ids never written", "line without end"),
    *("CSV line without end", "string without end", "million columns", "nested", "header of 3 GiB, boxes"),
)

# Those that take seconds until they are refused.
DEAR = ("ids without end", "bomb in a header", "chunk without end")


def arguments(folder: Path, case: str) -> list[str]:
    name, make, _ = CASES[case]
    make(folder / name)
    if case in BOXES:
        np.save(folder / "good.npy", STACK)
        return ["align", "good.npy", name, "-o", "out.npy", "--size", "2"]
    (folder / "good.json").write_text("[[0, 0, 0, 2, 2]]")
    return ["align", name, "good.json", "-o", "out.npy", "--size", "2"]


def within_bounds(*asked: str) -> list[str]:
    """The command under a limit of memory, where there is one."""
    limit = ["/bin/sh", "-c", f'ulimit -v {ADDRESSES >> 10}; exec "$@"', "sh"] if sys.platform == "linux" else []
    return [*limit, str(ROICLI), *asked]


def check(case: str, code: int, said: str) -> None:
    assert code == 3, said
    assert said.count("error: ") - said.count("\\nerror: ") == 1
    assert "Traceback" not in said
    assert "\nhint: " in said
    assert CASES[case][2] in said
    assert not any(character < " " and character != "\n" for character in said)


@pytest.mark.parametrize("case", [case for case in CASES if case not in APART])
def test_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str):
    asked = arguments(tmp_path, case)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, asked)
    check(case, done.exit_code, done.output)
    assert not list(tmp_path.glob("*out.npy*"))


@pytest.mark.parametrize("case", APART)
def test_refused_within_bounds(tmp_path: Path, request: pytest.FixtureRequest, case: str):
    if case in DEAR:
        request.getfixturevalue("dose")
    asked = within_bounds(*arguments(tmp_path, case))
    # Started by a small program, since Linux counts the memory of who starts a process as its peak.
    small = [sys.executable, "-I", "-S", launch.__file__, *asked]
    done = subprocess.run(small, cwd=tmp_path, capture_output=True, text=True, check=False)
    check(case, done.returncode, done.stderr)
    used = json.loads(done.stdout)
    assert used["peak_memory"] < MEMORY
    assert used["cpu_seconds"] < 10  # a busy machine takes its time


def test_info_opens_no_pipe_behind_a_virtual_dataset(tmp_path: Path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        endless(file, tmp_path)
    assert "pipe or a device" in run(tmp_path, "info", "f.h5", expect=3).stderr


def test_virtual_parts_that_cannot_be_opened_are_no_zeros(tmp_path: Path):
    parts, layout = 70, h5py.VirtualLayout((70, 4, 4), np.float32)
    for part in range(parts):
        with h5py.File(tmp_path / f"part{part}.h5", "w") as file:
            file["x"] = np.full((4, 4), part + 1, np.float32)
        layout[part] = h5py.VirtualSource(f"part{part}.h5", "x", (4, 4))
    with h5py.File(tmp_path / "maps.h5", "w", libver="latest") as file:
        file.create_virtual_dataset("a", layout)
    (tmp_path / "boxes.json").write_text('{"a": [[0, 0, 3, 3]]}')
    command = ("align", "maps.h5", "boxes.json", "-o", "out.npy", "--size", "1", "--workers", "1")
    for limit in (64, 256):
        done = run(tmp_path, *command, limits=[(resource.RLIMIT_NOFILE, limit)], expect=3 if limit < parts else 0)
        if limit < parts:
            assert not (tmp_path / "out.npy").exists()
            assert "maps.h5, dataset /a cannot be read: Too many open files" in done.stderr
        else:
            np.testing.assert_array_equal(np.load(tmp_path / "out.npy").ravel(), np.arange(1, parts + 1))


def test_limits_leave_room_for_work(tmp_path: Path):
    np.save(tmp_path / "maps.npy", STACK)
    (tmp_path / "boxes.json").write_text("[[0, 0, 0, 2, 2]]")
    command = [ROICLI, "align", "maps.npy", "boxes.json", "-o", "out.npy", "--size", "2"]
    subprocess.run(
        ["sh", "-c", f'ulimit -v {ADDRESSES >> 10}; exec "$@"', "sh", *command],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    assert (tmp_path / "out.npy").exists()


def test_tables_and_notes_obey_no_name(tmp_path):
    np.save(tmp_path / "\u202e.npy", np.ones((1, 9, 9), np.float32))
    (tmp_path / "\u202eb\x1b[31m.json").write_text("[[0, 0, 1, 1]]")
    for arguments in (["check", "\u202e.npy", "\u202eb\x1b[31m.json"], ["info", "\u202eb\x1b[31m.json"]):
        done = run(tmp_path, *arguments)
        assert "\\u202eb\\x1b[31m.json" in done.stdout
        assert not {"\x1b", "\u202e"} & set(done.stdout + done.stderr)


@pytest.mark.parametrize("image_id", ["\x1b[31m\nx", "[/red]", "\u202egpj"])
def test_ids_do_not_reach_the_terminal_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image_id: str):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["f"] = MAP[None]
        file["image_ids"] = np.array([image_id], dtype=object)
    (tmp_path / "b.json").write_text(json.dumps({image_id: [[0, 0, 1, 1]]}))
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["trace", "f.h5", "b.json"])
    assert done.exit_code == 0
    assert not {"\x1b", "\u202e"} & set(done.output)
    assert ascii(image_id)[1:-1] in done.output


def test_a_pattern_goes_into_no_folder_behind_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "maps" / "deep").mkdir(parents=True)
    for name in "abc":
        (tmp_path / "maps" / name).symlink_to(".")
    np.save(tmp_path / "maps" / "deep" / "m.npy", MAP)
    np.save(tmp_path / "maps" / "n.npy", MAP)
    (tmp_path / "b.json").write_text('{"m": [[0, 0, 1, 1]], "n": [[0, 0, 1, 1]]}')
    monkeypatch.chdir(tmp_path)
    for pattern in ("maps/**/*.npy", "**/*.npy", f"{tmp_path}/maps/**/*.npy"):
        done = CliRunner().invoke(main, ["align", pattern, "b.json", "-o", "out.npy", "--overwrite"])
        assert done.exit_code == 0, done.output
        (tmp_path / "out.npy").unlink()


def test_a_stack_may_have_any_number_of_maps(tmp_path: Path):
    sparse(npy("(1000000000, 1, 1, 1)", "|u1"), 1_000_000_200)(tmp_path / "f.npy")
    (tmp_path / "b.json").write_text('{"000999999999.jpg": [[0, 0, 1, 1]], "7": [[0, 0, 1, 1]]}')
    command = within_bounds("align", "f.npy", "b.json", "-o", "out.npy", "--index", "rows.csv")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split(",")[1] for line in (tmp_path / "rows.csv").read_text().split("\n")[1:3]] == ["999999999", "7"]


@pytest.mark.parametrize("userblock", [0, 512])
@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize(
    "layout", [{}, {"maxshape": (None,)}, {"compression": "gzip"}, {"compression": "lzf"}], ids=str
)
def test_string_ids_of_any_storage(tmp_path: Path, layout: dict[str, object], libver: str, userblock: int):
    names = tuple(f"{i}-{'x' * (i % 50)}" for i in range(500))
    with h5py.File(tmp_path / "f.h5", "w", libver=libver, userblock_size=userblock) as file:
        file.create_dataset("f", (500, 1, 1, 1), "f4")
        file.create_dataset("image_ids", data=names, dtype=h5py.string_dtype(), **layout)
    assert open_source(tmp_path / "f.h5").ids == names
