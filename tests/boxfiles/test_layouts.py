"""Every layout of box files conforms, none is taken for another, and a new one is one file."""

import io
import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from boxfiles.conformance import LayoutConformance
from click.testing import CliRunner

from roicli import boxfiles
from roicli.boxfiles import registry
from roicli.boxfiles.builder import Builder
from roicli.boxfiles.registry import Layout
from roicli.cli.main import main
from roicli.errors import BoxError, FileError, UsageError
from roicli.regions import BoxFormat

BOXES = [[1.0, 2.0, 4.0, 6.0], [0.0, 1.0, 2.5, 3.0]]
RESULTS = [{"image_id": 7, "bbox": [1, 2, 3, 4], "score": 0.5}, {"image_id": "a", "bbox": [0, 1, 2.5, 2]}]


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


class TestNumbers(LayoutConformance):
    name, file_name, content, boxes = "json-list", "b.json", json.dumps(BOXES), BOXES


class TestResults(LayoutConformance):
    name, file_name, content, boxes, images = "json-list", "b.json", json.dumps(RESULTS), BOXES, ["7", "a"]


class TestLines(LayoutConformance):
    name, file_name, boxes, images = "json-lines", "b.jsonl", BOXES, ["7", "a"]
    content = "\n".join(map(json.dumps, RESULTS))


class TestByImage(LayoutConformance):
    name, file_name, boxes, images = "json-by-image", "b.json", BOXES, ["a", "b"]
    content = json.dumps({"a": BOXES[:1], "none": [], "b": BOXES[1:]}, indent=1)


class TestCoco(LayoutConformance):
    name, file_name, boxes, images = "coco", "b.json", BOXES, ["7", "a"]
    content = json.dumps({"images": [{"id": 7}], "annotations": RESULTS})


class TestCsv(LayoutConformance):
    name, file_name, boxes, images = "csv", "b.csv", BOXES, ["a", "b"]
    content = "image_id,x1,y1,x2,y2\na,1,2,4,6\nb,0,1,2.5,3\n"


class TestArray(LayoutConformance):
    name, file_name, content, boxes = "npy", "b.npy", npy(np.array(BOXES)), BOXES


@pytest.fixture
def added(monkeypatch):
    monkeypatch.setattr(registry, "_LAYOUTS", {**registry._LAYOUTS})
    return boxfiles.register


def pascal(file, box_format):
    """Read lines of "IMAGE x1 y1 x2 y2", as a throw-away layout might have them."""
    builder = Builder(file.path, "line")
    rows, images, numbers = [], [], []
    for row, line in list(file.lines())[1:]:
        image, *box = line.decode().split()
        rows.append(row)
        images.append(image)
        numbers.append(box)
    builder.extend(rows, np.array(numbers, float), images)
    return builder.build(box_format or BoxFormat.XYXY, layout="plain boxes")


PLAIN = Layout("plain boxes", lambda file: file.head.startswith(b"# plain"), pascal, name="plain")


def test_a_new_layout_is_one_file(added, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("f.npz", a=np.ones((2, 8, 8), np.float32), b=np.full((2, 8, 8), 2, np.float32))
    (tmp_path / "b.txt").write_text("# plain\nb 0 0 4 4\na 1 1 5 5\n")
    added(PLAIN)
    for more in ([], ["--boxes-as", "plain"]):
        done = CliRunner().invoke(main, ["align", "f.npz", "b.txt", "-o", "o.npy", "--overwrite", *more])
        assert done.exit_code == 0, done.output
        assert np.load("o.npy").mean(axis=(1, 2, 3)).tolist() == [2, 1]


def test_two_layouts_that_would_do_are_both_named(added, tmp_path):
    (tmp_path / "b.txt").write_text("# plain\nb 0 0 4 4\n")
    added(PLAIN)
    added(Layout("other boxes", lambda file: True, pascal, name="other"))
    with pytest.raises(BoxError, match=r"b\.txt could be plain boxes or other boxes") as caught:
        boxfiles.read_regions(tmp_path / "b.txt")
    assert caught.value.hint == "Give `boxes_as=plain` or `boxes_as=other`."
    assert len(boxfiles.read_regions(tmp_path / "b.txt", boxes_as="plain")) == 1


def test_a_layout_that_is_not_there(tmp_path):
    (tmp_path / "b.csv").write_text("x1,y1,x2,y2\n")
    with pytest.raises(UsageError, match=r"boxes_as must be one of json-list, .* coco, .*, got 'cocoa'"):
        boxfiles.read_regions(tmp_path / "b.csv", boxes_as="cocoa")


@pytest.mark.parametrize(
    ("content", "said", "hint"),
    [
        (b"\x1f\x8b\x08\0", "damaged gzip data", "Copy or download"),
        (b"BZh9", "it is bzip2 data", "bunzip2"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it is a Git LFS pointer", "git lfs pull"),
        (b"<!doctype html>", "it is a web page", "Download"),
        (b"hello", "says nothing", "boxes_as"),
    ],
)
@pytest.mark.parametrize("name", ["b.json", "b.csv", "b.dat"])
def test_other_files_are_called_what_they_are(tmp_path, name, content, said, hint):
    if content == b"hello" and name != "b.dat":
        return  # then the reader of the suffix says what is missing
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileError, match=said) as caught:
        boxfiles.read_regions(tmp_path / name)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"x1": {"0": 1}, "image_id": {"0": "a"}}, "the keys 'x1', 'image_id'"),
        ({"results": 1, "version": 2}, "the keys 'results', 'version'"),
    ],
)
def test_json_of_other_tools_is_named(tmp_path, document, said):
    (tmp_path / "b.json").write_text(json.dumps(document))
    with pytest.raises(BoxError, match=said) as caught:
        boxfiles.read_regions(tmp_path / "b.json")
    assert "Captions" not in caught.value.hint


def test_every_layout_has_its_conformance_class():
    """So that the recognizer is tried on a file of each layout, against all others."""
    for path in Path(__file__).parent.glob("test_*.py"):
        import_module(f"boxfiles.{path.stem}")

    def names(kind):
        return {getattr(kind, "name", None)}.union(*map(names, kind.__subclasses__()))

    only_by_name = {"npy-rotated"}
    assert {*boxfiles.layout_names()} - names(LayoutConformance) == only_by_name
