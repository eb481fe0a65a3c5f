"""Mutated inputs of every format: each is pooled, or refused by a RoicliError; nothing hangs, dies or fits badly.

As a script, `python tests/test_fuzz.py 20000` does as many, whatever their format, prints what became of them, and ends
with 1 if any was a fault.
"""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import signal
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roicli.errors import RoicliError
from roicli.jobs.align import AlignJob, align
from roicli.spec import PoolSpec

MAP = np.arange(60, dtype="f4").reshape(3, 4, 5)
STACK = np.stack([MAP, MAP + 60])
BOXES = [[0, 0.5, 0.25, 3.5, 3], [1, 1, 1, 2, 2]]
RESULTS = [{"image_id": row[0], "bbox": row[1:], "score": 0.5, "id": 7 + row[0]} for row in BOXES]
SOUND = ("pooled", "refused")
SECONDS = 5.0  # of the processor: the machine may be busy


def npy(array: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array))
    return file.getvalue()


def npz(save: Callable[..., None], **arrays: object) -> bytes:
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def hdf5(fill: Callable[[h5py.File], object]) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as opened:
        fill(opened)
    return file.getvalue()


def named_stack(file: h5py.File) -> None:
    file["features"] = STACK
    file["image_ids"] = np.array(["0", "1"], dtype=object)


def grouped(file: h5py.File, **how: object) -> None:
    for name in "01":
        file.create_dataset(f"maps/{name}", data=MAP, chunks=(3, 2, 5), **how)


JSON = {
    "list.json": BOXES,
    "images.json": {str(row[0]): [row[1:]] for row in BOXES},
    "results.json": RESULTS,
    "coco.json": {"images": [{"id": i, "file_name": f"{i}.jpg"} for i in (0, 1)], "annotations": RESULTS},
}
CSV = "image_id,x1,y1,x2,y2,id\n0,0.5,0.25,3.5,3,a\n1,1,1,2,2,b\n"
FEATURES = {
    "stack.npy": npy(STACK),
    "folder/0.npy": npy(MAP),
    "stored.npz": npz(np.savez, features=STACK, ids=["0", "1"]),
    "packed.npz": npz(np.savez_compressed, **{"0": MAP, "1": MAP + 60}),
    "stack.h5": hdf5(lambda file: file.create_dataset("features", data=STACK)),
    "named.h5": hdf5(named_stack),
    "gzip.h5": hdf5(lambda file: grouped(file, compression="gzip", shuffle=True)),
    "lzf.h5": hdf5(lambda file: grouped(file, compression="lzf", fletcher32=True)),
    "chunked.h5": hdf5(lambda file: grouped(file)),
}
TABLES = {
    **{name: json.dumps(content).encode() for name, content in JSON.items()},
    "lines.jsonl": b"\n".join(json.dumps(row).encode() for row in RESULTS),
    "boxes.csv": CSV.encode(),
    "boxes.tsv": CSV.replace(",", "\t").encode(),
    "boxes.npy": npy(BOXES),
}
VALID = FEATURES | TABLES

NUMBERS = (
    0,
    1,
    2,
    3,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
SHAPES = ("()", "(-1, 3, 4, 5)", "(2, 3, 4, 5, 1)", "(10**9,)", "(1000000000000, 0, 4, 5)", "(True, 3, 4, 5)")
SHAPES += ("(2, 3, 4)", "(4, 3, 5, 2)", "(99999999999999999999, 1, 1, 1)", "(1000000000, 1000000000, 1000000000, 9)")
DTYPES = (
    "<f2",
    ">f4",
    "<f8",
    "|O",
    "|b1",
    "<c8",
    "|S0",
    "<U9",
    "<M8[s]",
    "(2,2)<f4",
    "|V4",
    "\\x1b[31m",
    "f4,i4",
    "<f16",
)
TOKENS = ("1e999", "-0", "NaN", "-Infinity", "9" * 400, "1e-999", "null", "true", '"a"', "[", "]", "{", "}", ",", ":")
TOKENS += ("[" * 5000, '"\\u0000"', '"\\ud800"', '"bbox"', '"image_id"', '"images"', "\ufeff", "1_0", "0x1", "\x00")
CELLS = ("", "nan", "-inf", "1e999", "9" * 400, '"', '""', '"\n"', "\x00", "1,5", ",", ",,,,", "\n", "\r", "\x1b[31m")
CELLS += ("x1", "image_id", "w", "sep=;", "\ufeff", "\u0661", "a" * 200_000, "," * 20_000)


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flip, cut, copy, remove or insert bytes, or put an extreme number where one may stand."""
    data = bytearray(content)
    at, to = (rng.randint(0, len(data)) for _ in range(2))
    match rng.randrange(7):
        case 0:
            for _ in range(rng.randint(1, 8)):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 1:
            del data[at:]
        case 2:
            data[at:at] = data[at : at + rng.randint(1, 64)]
        case 3:
            part = data[at : at + rng.randint(1, 64)]
            data[to : to + len(part)] = part
        case 4:
            del data[at : at + rng.randint(1, 64)]
        case 5:
            data[at:at] = bytes([rng.choice((0, 10, 34, 255, rng.randrange(256)))]) * rng.choice((1, 8, 5000))
        case _:
            size = rng.choice((1, 2, 4, 8))
            at = rng.randrange(len(data)) // size * size
            data[at : at + size] = (rng.choice(NUMBERS) % (1 << 8 * size)).to_bytes(size, "little")
    return bytes(data)


def mutate_npy(content: bytes, rng: random.Random) -> bytes:
    """Put another shape, dtype, order, version or length into the header of each array found."""
    start = content.index(b"\x93NUMPY")
    end = content.index(b"\n", start) + 1
    text = content[start + 10 : end].decode("latin-1")
    if rng.randrange(2):
        text = re.sub(r"\([^)]*\)", rng.choice(SHAPES), text)
    if rng.randrange(2):
        text = text.replace("<f4", rng.choice(DTYPES)).replace("<f8", rng.choice(DTYPES))
    text = text.replace("False", rng.choice(("False", "True", "7", "(" * 100)))
    length = len(text) if rng.randrange(4) else rng.choice(NUMBERS) % 65536
    version = 1 if rng.randrange(4) else rng.choice((0, 2, 3, 9))
    lead = struct.pack("<H", length) if version == 1 else struct.pack("<I", length)
    return content[:start] + b"\x93NUMPY" + bytes([version, 0]) + lead + text.encode("latin-1") + content[end:]


def mutate_zip(content: bytes, rng: random.Random) -> bytes:
    """Put an extreme number into a header of the archive, or write it anew with other headers of arrays."""
    if rng.randrange(3) == 0:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(entry.filename, entry.compress_type, archive.read(entry)) for entry in archive.infolist()]
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings(action="ignore"):
            for name, method, data in members * rng.randint(1, 2):
                changed = mutate_npy(data, rng) if rng.randrange(2) else data
                archive.writestr(rng.choice((name, "a/../b.npy", "\x1b.npy")), changed, rng.choice((method, 8, 12, 14)))
        return file.getvalue()
    data = bytearray(content)
    sign, offsets = rng.choice(
        ((b"PK\x01\x02", range(4, 46)), (b"PK\x03\x04", range(4, 30)), (b"PK\x05\x06", range(4, 22)))
    )
    at = rng.choice([match.start() for match in re.finditer(re.escape(sign), content)]) + rng.choice(offsets)
    size = rng.choice((1, 2, 4))
    data[at : at + size] = (rng.choice(NUMBERS) % (1 << 8 * size)).to_bytes(size, "little")
    return bytes(data)


def mutate_text(content: bytes, rng: random.Random, pattern: str, replacements: tuple[str, ...]) -> bytes:
    """Replace, remove, double or move tokens."""
    tokens = re.findall(pattern, content.decode())
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(tokens))
        match rng.randrange(4):
            case 0 | 1:
                tokens[at] = rng.choice(replacements)
            case 2:
                tokens[at : at + 1] = [] if rng.randrange(2) and len(tokens) > 1 else [tokens[at]] * 2
            case _:
                tokens[at] = rng.choice(tokens)
    return "".join(tokens).encode(rng.choice(("utf-8",) * 6 + ("utf-16", "latin-1")), "replace")


def mutate(name: str, rng: random.Random) -> bytes:
    """Return the valid file of that name with one to three mutations, most of them of its own format."""
    content = VALID[name]
    if rng.randrange(3) == 0 or name.endswith(".h5"):
        for _ in range(rng.randint(1, 3)):
            content = mutate_bytes(content, rng) or b"\0"
        return content
    if name.endswith(".npy"):
        return mutate_npy(content, rng)
    if name.endswith(".npz"):
        return mutate_zip(content, rng)
    if name.endswith((".csv", ".tsv")):
        return mutate_text(content, rng, r"[,\t\n]|[^,\t\n]+", CELLS)
    return mutate_text(content, rng, r'"[^"]*"|[-\d.e]+|\s+|.', TOKENS)


class Silent:
    """Hears what a job says."""

    def note(self, text: str) -> None: ...

    def begin(self, boxes: int) -> None: ...

    def advance(self, boxes: int) -> None: ...

    def warn(self, text: str) -> None: ...


def outcome(folder: Path, name: str, content: bytes) -> str:
    """Pool a mutated file with a valid one; return "pooled" or "refused". Anything else is a fault, and raises."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    if name in TABLES:
        features, boxes = folder / "good.npy", path
        features.write_bytes(FEATURES["stack.npy"])
    else:
        features, boxes = path, folder / "good.json"
        if path.parent != folder:
            (path.parent / "1.npy").write_bytes(npy(MAP))
            features = path.parent if len(content) % 2 else path.parent / "*.npy"
        boxes.write_bytes(TABLES["images.json"])
    output = folder / "out.npy"
    output.unlink(missing_ok=True)
    try:
        report = align(AlignJob(str(features), boxes, PoolSpec((2, 3)), output=output, bad_boxes="zero"), Silent())
    except RoicliError as error:
        if output.exists() or not error.message or not error.hint.endswith("."):
            raise AssertionError(f"a partial output, or a message without a hint: {error}") from error
        return "refused"
    pooled = np.load(output)
    assert pooled.shape == report.shape == (report.boxes + len(report.zeroed), report.shape[1], 2, 3)
    return "pooled"


@contextmanager
def time_limit() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("hangs")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def examine(folder: Path, name: str, content: bytes) -> str:
    try:
        with time_limit():
            return outcome(folder, name, content)
    except Exception as error:
        return f"fault: {type(error).__name__}: {error}"


@pytest.mark.parametrize("name", VALID)
def test_a_mutated_input_is_pooled_or_refused(tmp_path: Path, name: str, dose: int):
    # HDF5 files go through a child, and cost as much as three of the others.
    examples = (30 if name.endswith(".h5") else 100) * dose

    @settings(derandomize=True, deadline=None, database=None, max_examples=examples)
    @given(rng=st.randoms(use_true_random=False))
    def one(rng: random.Random) -> None:
        assert examine(tmp_path, name, mutate(name, rng)) in SOUND

    one()


@pytest.mark.parametrize("name", VALID)
def test_what_is_mutated_is_valid(tmp_path: Path, name: str):
    assert examine(tmp_path, name, VALID[name]) == "pooled"


@pytest.mark.parametrize("name", VALID)
def test_a_file_that_ends_anywhere_is_pooled_or_refused(tmp_path: Path, name: str, request: pytest.FixtureRequest):
    sizes = (10 if name.endswith(".h5") else 40) * (4 if request.config.getoption("--long") else 1)
    step = 1 + len(VALID[name]) // sizes
    for size in range(0, len(VALID[name]), step):
        assert examine(tmp_path, name, VALID[name][:size]) in ("pooled", "refused"), size


def test_faults_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys.modules[__name__], "examine", lambda *_: "fault: TimeoutError: hangs")
    assert main(2, 0, tmp_path / "faults") == 2
    assert len(list((tmp_path / "faults").iterdir())) == 2


def main(count: int, seed: int, keep: Path) -> int:
    """Print what became of `count` mutated inputs, keep those not pooled or refused; return how many were faults."""
    counts: Counter[tuple[str, str]] = Counter()
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp())
    for number in range(count):
        name = list(VALID)[number % len(VALID)]
        content = mutate(name, random.Random(f"{seed} {number}"))
        found = examine(folder, name, content)
        counts[name, found.partition(":")[0] if found.startswith("fault") else found] += 1
        if found not in ("pooled", "refused"):
            keep.mkdir(exist_ok=True)
            (keep / f"{number}-{name.replace('/', '-')}").write_bytes(content)
            print(number, name, found[:300])
    shutil.rmtree(folder)
    kinds = sorted({kind for _, kind in counts})
    print(f"{'format':14}", *(f"{kind:>16}" for kind in kinds))
    for name in VALID:
        print(f"{name:14}", *(f"{counts[name, kind]:16,}" for kind in kinds))
    print(f"{'':14}", *(f"{sum(counts[name, kind] for name in VALID):16,}" for kind in kinds))
    print(f"{time.monotonic() - began:.0f} s")
    return sum(number for (_, kind), number in counts.items() if kind not in SOUND)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0, Path("faults")) > 0)
