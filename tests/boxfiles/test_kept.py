"""The table beside a long box file: used while it is whole and the box file is as it was, else made anew."""

import json
import os
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest

from roicli.boxfiles import kept, read_regions
from roicli.newfiles import NewFile
from roicli.regions import BoxFormat

LINES = ["image_id,id,label,x1,y1,x2,y2", "a,1,cat,1,2,3,4", "b,2,,5,6,7,8", "a,3,dog,NA,,NA,NA"]


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "_LONG", 1)
    monkeypatch.setattr(kept, "_LOOK", 0.001)
    path = tmp_path / "b.csv"
    path.write_text("\n".join(LINES))
    return path


def read(path, *more):
    """Read for a part; tell also whether that was from the table."""
    regions = read_regions(path, *more, mapped=True)
    return regions, "are taken from .b.csv.roicli-boxes" in "".join(regions.notes)


def test_the_first_part_writes_it_for_the_others(path):
    first, taken = read(path)
    assert not taken
    assert first.notes[-1] == f"{path}: its boxes are kept for the other parts in .b.csv.roicli-boxes, beside it"
    assert {file.name for file in path.parent.iterdir()} == {"b.csv", ".b.csv.roicli-boxes"}
    assert read(path)[1]
    assert len(read_regions(path).notes) == 0  # whoever reads all


def test_through_another_name(path, monkeypatch):
    """Nodes mount a disk where they like."""
    read(path)
    monkeypatch.chdir(path.parent)
    regions, taken = read(Path("b.csv"))
    assert taken
    assert (regions.source, [*regions.stamps]) == ("b.csv", ["b.csv"])


def test_what_the_user_says_differs(path):
    read(path)
    regions, taken = read(path, BoxFormat.XYWH)
    assert not taken
    assert regions.boxes[0].tolist() == [1, 2, 4, 6]
    assert read(path, BoxFormat.XYWH)[1]


def test_the_box_file_has_changed(path):
    """Of the same size and time, too."""
    read(path)
    before = path.stat()
    path.write_text("\n".join(LINES).replace("1,2,3,4", "1,2,3,9"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    regions, taken = read(path)
    assert not taken
    assert regions.boxes[0].tolist() == [1, 2, 3, 9]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other", "folder", "pipe", "objects", "too-long", "unlike"])
def test_a_damaged_table_is_made_anew(path, damage):
    whole, _ = read(path)
    table = path.with_name(".b.csv.roicli-boxes")
    content = table.read_bytes()
    line, _, rest = content.partition(b"\n")
    header = json.loads(line[9:])
    if damage == "objects":  # NumPy would take the bytes for addresses
        header["arrays"][0][1] = "|O"
    elif damage == "too-long":
        header["arrays"][0][2] = [2**60, 4]
    elif damage == "unlike":
        header["arrays"][0][2] = [1, 4]
    text = json.dumps(header).encode().ljust(len(line) - 9) + b"\n"
    made = b"%08x " % zlib.crc32(text) + text + rest
    table.unlink()
    if damage == "folder":
        table.mkdir()
    elif damage == "pipe":
        os.mkfifo(table)
    else:
        table.write_bytes(
            {
                "cut": content[:-70],
                "flip": content.replace(b"roicli", b"roicle", 1),
                "empty": b"",
                "other": b"[]\n",
            }.get(damage, made)
        )
    regions, taken = read(path)
    assert not taken
    np.testing.assert_array_equal(regions.boxes, whole.boxes)
    assert read(path)[1] == (damage not in ("folder", "pipe"))


def test_a_disk_that_is_full(path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(NewFile, "write", fail)
    assert not read(path)[1]
    assert len(read(path)[0]) == 3
    assert [file.name for file in path.parent.iterdir()] == ["b.csv"]


def test_one_part_reads_while_the_others_wait(path):
    began, go_on, results = threading.Event(), threading.Event(), []

    def slowly():
        began.set()
        assert go_on.wait(10)
        return read_regions(path)

    first = threading.Thread(target=lambda: results.append(kept.read_kept(path, "", slowly)))
    first.start()
    assert began.wait(10)
    others = [threading.Thread(target=lambda: results.append(kept.read_kept(path, "", pytest.fail))) for _ in range(3)]
    for other in others:
        other.start()
    go_on.set()
    for thread in (first, *others):
        thread.join(10)
    assert [len(regions) for regions in results] == [3] * 4


def test_a_part_that_was_stopped_is_not_waited_for_for_ever(path, monkeypatch):
    import fcntl

    monkeypatch.setattr(kept, "_PATIENCE", 0.01)
    with path.with_name(".b.csv.roicli-boxes.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert len(read(path)[0]) == 3
