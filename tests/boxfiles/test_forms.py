"""Forms that a box file may come in: a folder, a pattern, compressed, a pipe; and the layouts of all files in one."""

import gzip
import io
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from roicli import boxfiles
from roicli.boxfiles import read_regions, several
from roicli.cli.main import main
from roicli.errors import BoxError, FileError
from roicli.jobs.info import info
from roicli.regions import Names

XML = "<annotation><filename>{}.jpg</filename>{}</annotation>"
OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>2</ymin><xmax>4</xmax><ymax>6</ymax></bndbox></object>"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder, **contents):
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def images(regions):
    return [regions.image_ids[index] for index in regions.image_index]


def test_a_folder_of_one_file_an_image(folder):
    cats = XML.format("a10", OBJECT.format("cat", 1) + OBJECT.format("dog", 3))
    write(folder / "b", a10__xml=cats, a9__xml=XML.format("a9", OBJECT.format("cat", 2)), a11__xml=XML.format("x", ""))
    regions = read_regions(folder / "b")
    assert regions.boxes.tolist() == [[2, 2, 4, 6], [1, 2, 4, 6], [3, 2, 4, 6]]
    assert images(regions) == ["a9", "a10", "a10"]
    assert regions.image_ids == ("a9", "a10")
    assert regions.aliases == ("a9.jpg", "a10.jpg")
    assert regions.listed == ("a9", "a10", "a11")
    assert regions.columns["label"].tolist() == ["cat", "cat", "dog"]
    assert regions.notes[0] == f"{folder / 'b'}: Pascal VOC, boxes read as xyxy"
    assert len(regions.stamps) == 3
    assert regions.by_file
    assert regions.where(np.array([2, 0])) == f"object 1 of {folder / 'b' / 'a10.xml'} and 1 more"
    assert regions.take(np.array([2])).where(np.array([0])) == f"object 1 of {folder / 'b' / 'a10.xml'}"


def test_many_files_are_joined_in_blocks(folder, monkeypatch):
    monkeypatch.setattr(several, "_AT_ONCE", 2)
    write(folder / "b", **{f"i{n}__txt": f"{n} 0.5 0.5 0.{n} 0.2" for n in range(1, 8)}, classes__txt="cat\n")
    regions = read_regions(folder / "b")
    assert images(regions) == [f"i{n}" for n in range(1, 8)]
    assert regions.columns["category"].tolist() == [*range(1, 8)]
    assert regions.normalized
    assert len(regions.notes) == 1


def test_a_pattern_of_files_that_name_their_images(folder):
    for part, image in ((2, 7), (10, 8), (1, 7)):
        more = {"score": 0.5} if part == 2 else {"id": part} if part == 1 else {"id": "x"}
        (folder / f"r{part}.json").write_text(json.dumps([{"image_id": image, "bbox": [part, 1, 2, 3], **more}]))
    (folder / "other.json").write_text("{}")
    regions = read_regions(folder / "r*.json")
    assert regions.given[:, 0].tolist() == [1, 2, 10]
    assert images(regions) == ["7", "7", "8"]
    assert regions.box_ids.tolist() == ["1", "", "x"]
    np.testing.assert_array_equal(regions.columns["score"], [np.nan, 0.5, np.nan])
    assert isinstance(regions.columns["file"], Names)


def test_files_of_numbers_are_of_the_images_they_are_named_after(folder):
    np.save(folder / "b1.npy", np.ones((2, 4)))
    np.save(folder / "b2.npy", np.zeros((1, 4)))
    assert images(read_regions(folder / "b*.npy")) == ["b1", "b1", "b2"]
    np.save(folder / "b3.npy", np.zeros((1, 5)))
    with pytest.raises(BoxError, match=r"b3\.npy: batch indices, where each file is of one image"):
        read_regions(folder / "b*.npy")


def test_empty_files_are_images_without_boxes(folder):
    write(folder / "b", a__txt="", b__txt="0 0.5 0.5 0.1 0.2\n", c__txt="\n")
    assert read_regions(folder / "b").listed == ("a", "b", "c")
    write(folder / "none", a__txt="", b__txt="")
    with pytest.raises(BoxError, match="2 files without content"):
        read_regions(folder / "none")
    assert len(read_regions(folder / "none", boxes_as="yolo")) == 0


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        ({}, "a folder without box files"),
        ({"a__jpg": "x"}, "a folder without box files"),
        ({"a__json": "[]", "b__txt": ""}, r"box files of several kinds, \.json, \.txt"),
        ({"a__txt": "0 0.5 0.5 0.1 0.2", "b__txt": "imagesource:x\n"}, r"b\.txt: DOTA labels, unlike the files before"),
        (
            {"a__txt": "0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.6", "b__txt": "0 0.2 0.1 0.5 0.1 0.5 0.5 0.1 0.6"},
            "could be YOLO labels of boxes or outlines or YOLO labels of turned boxes",
        ),
        ({"a__json": '{"a": [[1, 2, 3, 4]]}', "b__json": "[]"}, "unlike the files before it"),
    ],
)
def test_folders_that_are_refused(folder, contents, said):
    with pytest.raises((BoxError, FileError), match=said):
        read_regions(write(folder / "b", **contents))


def test_one_outline_of_five_corners_decides_for_a_folder(folder):
    quads, more = "0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.6", "0 0.1 0.1 0.5 0.1 0.5 0.5 0.3 0.5 0.1 0.6"
    regions = read_regions(write(folder / "b", a__txt=quads, b__txt=more))
    np.testing.assert_allclose(regions.boxes, [[0.1, 0.1, 0.5, 0.6]] * 2)


def test_a_pattern_without_files(folder):
    with pytest.raises(FileError, match=r"x\*\.json: no file matches"):
        read_regions(folder / "x*.json")


def test_gzip_is_unpacked(folder):
    document = json.dumps([{"image_id": 1, "bbox": [1, 2, 3, 4]}] * 3).encode()
    (folder / "b.json.gz").write_bytes(gzip.compress(document))
    assert len(read_regions(folder / "b.json.gz")) == 3
    assert info(str(folder / "b.json.gz")).boxes.count == 3
    (folder / "000139.txt.gz").write_bytes(gzip.compress(b"0 0.5 0.5 0.1 0.2\n"))
    assert read_regions(folder / "000139.txt.gz").image_ids == ("000139",)
    (folder / "b.json.gz").write_bytes(gzip.compress(document)[:-9])
    with pytest.raises(FileError, match=r"b\.json\.gz: damaged gzip data"):
        read_regions(folder / "b.json.gz")


def test_what_unpacks_to_far_too_much_is_refused(folder, monkeypatch):
    monkeypatch.setattr("roicli.files._HARMLESS", 1 << 20)
    (folder / "b.json.gz").write_bytes(gzip.compress(b" " * (1 << 22)))
    with pytest.raises(FileError, match="claims"):
        read_regions(folder / "b.json.gz")


def test_standard_input(folder, monkeypatch):
    text = b"image_id,x1,y1,x2,y2\na,1,2,4,6\n"
    for content in (text, gzip.compress(text)):
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))
        regions = read_regions(boxfiles.boxfile.STDIN)
        assert (regions.boxes.tolist(), regions.source, regions.stamps) == ([[1, 2, 4, 6]], "-", {})


def test_a_job_takes_boxes_from_a_pipe_and_from_a_folder(folder):
    np.savez("f.npz", a=np.ones((2, 8, 8), np.float32), b=np.full((2, 8, 8), 2, np.float32))
    write(folder / "labels", b__txt="0 0.5 0.5 1 1\n", a__txt="1 0.5 0.5 0.5 0.5\n1 0.5 0.5 1 1\n")
    for boxes, means in (("-", [2, 1]), ("labels", [1, 1, 2])):
        done = CliRunner().invoke(
            main,
            ["align", "f.npz", boxes, "-o", "out.npy", "--image-size", "8", "--stride", "1", "--overwrite"],
            input="image_id,x1,y1,x2,y2\nb,0,0,4,4\na,1,1,5,5\n",
        )
        assert done.exit_code == 0, done.output
        assert np.load("out.npy").mean(axis=(1, 2, 3)).tolist() == means
    done = CliRunner().invoke(main, ["trace", "f.npz", "labels", "--roi", "1"])
    assert f"line 2 of {Path('labels') / 'a.txt'}, image a" in done.output
    done = CliRunner().invoke(main, ["info", "labels"])
    assert done.exit_code == 0
    assert "2 images" in done.output


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="no /dev/fd")
def test_the_output_of_a_command_is_read():
    """As a shell gives it: <(command). A pipe with a name may never have a writer, and is refused."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as file:
        file.write("x1,y1,x2,y2\n1,2,4,6\n")
    try:
        regions = read_regions(Path(f"/dev/fd/{reader}"))
    finally:
        os.close(reader)
    assert (regions.boxes.tolist(), regions.stamps) == ([[1, 2, 4, 6]], {})
