"""Layouts of other projects: each test reads by the lines of a loader of that layout."""

import base64
import csv
import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
from driving import run
from outputs.conformance import OutputConformance, make_record

from roicli.errors import OutputError
from roicli.outputs import LAYOUTS, find_format
from roicli.outputs.assembled import ButdTsv, ImageNpz
from roicli.outputs.base import Record
from roicli.outputs.butd import ButdAdaptive, ButdFixed
from roicli.outputs.byimage import ByGroup
from roicli.outputs.perimage import M2, VLT5
from roicli.regions import Names


class ByImage(OutputConformance):
    """Rows lie image after image: of two images that take turns, the rows of the first come first."""

    suffix = ".h5"

    def order(self, count):
        return np.argsort(np.arange(count) % 2, kind="stable")

    def kept(self, record):
        order = self.order(len(record.boxes))
        return {
            "image_ids": record.image_ids[order],
            "boxes": record.boxes[order].astype(np.float32).astype(np.float64),
        }

    def test_the_record(self):
        """Of all that is recorded, a loader reads ids and boxes; see below."""


class TestAdaptive(ByImage):
    format = ButdAdaptive()

    def features(self, path):
        with h5py.File(path) as file:
            values = file["image_features"][()]
        return values[np.argsort(self.order(len(values)))]


class TestFixed(ByImage):
    format = ButdFixed()

    def features(self, path):
        with h5py.File(path) as file:
            values, used = file["image_features"][()], file["num_boxes"][()]
        rows = [values[image, row] for image, number in enumerate(used) for row in range(number)]
        count = len(rows)
        whole = np.array(rows, values.dtype).reshape(count, *values.shape[2:])
        return whole[np.argsort(self.order(count))]


BOXES = {"7": [[0, 0, 8, 4], [4, 4, 12, 12]], "139": [[0, 0, 16, 16]], "9": []}


@pytest.fixture
def folder(tmp_path):
    """Two images of 16 x 16 pixels, whose boxes are listed in turns."""
    with h5py.File(tmp_path / "f.h5", "w") as file:
        for n, image in enumerate(BOXES):
            file[image] = np.arange(32, dtype=np.float32).reshape(2, 4, 4) + 100 * n
    boxes = [["7", *BOXES["7"][0]], ["139", *BOXES["139"][0]], ["7", *BOXES["7"][1]]]
    lines = ["image_id,x1,y1,x2,y2", *(",".join(map(str, box)) for box in boxes)]
    (tmp_path / "b.csv").write_text("\n".join(lines))
    run(tmp_path, *ALIGN, "-o", "plain.npy", "-q")
    return tmp_path


ALIGN = ("align", "f.h5", "b.csv", "--stride", "4", "--reduce", "mean", "--image-size", "16x16")


def test_a_loader_of_adaptive_features(folder):
    """As ban-vqa's dataset.py reads them: image -> index -> rows from pos_boxes."""
    run(folder, *ALIGN, "-o", "out.h5", "--output-layout", "butd-h5-adaptive", "-q")
    plain, index = np.load(folder / "plain.npy"), json.loads((folder / "out_imgid2idx.json").read_text())
    assert index == {"7": 0, "139": 1}
    with h5py.File(folder / "out.h5") as hf:
        features, spatials, pos_boxes = (
            np.array(hf["image_features"]),
            np.array(hf["spatial_features"]),
            hf["pos_boxes"],
        )
        first, last = pos_boxes[index["7"]]
        np.testing.assert_array_equal(features[first:last], plain[[0, 2]])
        np.testing.assert_allclose(
            spatials[first:last], [[0, 0, 0.5, 0.25, 0.5, 0.25], [0.25, 0.25, 0.75, 0.75, 0.5, 0.5]]
        )
        first, last = pos_boxes[index["139"]]
        np.testing.assert_array_equal(features[first:last], plain[[1]])
        assert hf["image_bb"][2].tolist() == BOXES["139"][0]


@pytest.mark.parametrize(("number", "last"), [(4, [1, 1]), (5, [1]), (6, [1, 1]), (7, [1, 1, 1])])
def test_a_loader_of_fixed_features(folder, number, last):
    """As bottom-up-attention-vqa's dataset.py reads them, and how many are not padding."""
    run(folder, *ALIGN, "-o", "out.h5", "--output-layout", "butd-h5-fixed", "--spatial", number, "-q")
    plain = np.load(folder / "plain.npy")
    with h5py.File(folder / "out.h5") as hf:
        features, spatials = np.array(hf.get("image_features")), np.array(hf.get("spatial_features"))
        assert hf["num_boxes"][()].tolist() == [2, 1]
    np.testing.assert_array_equal(features, [plain[[0, 2]], [plain[1], np.zeros(2)]])
    assert spatials.shape == (2, 2, number)
    assert spatials[1, 0, -len(last) :].tolist() == last


def test_parts_become_the_whole(folder):
    layout = ("--output-layout", "butd-h5-fixed", "--spatial", "6", "-q")
    for part in (1, 2):
        run(folder, *ALIGN, "-o", f"part-{part}.h5", *layout, "--shard", f"{part}/2")
    run(folder, *ALIGN, "-o", "whole.h5", *layout)
    run(folder, "merge", "merged.h5", "part-*.h5", "-q")
    assert (folder / "merged.h5").read_bytes() == (folder / "whole.h5").read_bytes()
    assert (folder / "merged_imgid2idx.json").read_bytes() == (folder / "whole_imgid2idx.json").read_bytes()


def test_sizes_that_are_not_known(folder):
    plain = ("align", "f.h5", "b.csv", "--stride", "4", "-o", "out.h5", "--output-layout", "butd-h5-adaptive")
    asked = run(folder, *plain, "--spatial", "6", expect=3)
    assert "spatial vectors need the size of each image; 3 of 3 boxes are of images without one" in asked.stderr
    run(folder, *plain)
    with h5py.File(folder / "out.h5") as file:
        assert file.keys() == {"image_features", "image_bb", "pos_boxes", "image_ids", "checksums"}
    assert "Give --output-layout too" in run(folder, *ALIGN, "-o", "x.h5", "--spatial", "4", expect=2).stderr
    assert "not written to .npy" in run(folder, *ALIGN, "-o", "x.npy", *plain[-2:], expect=3).stderr


def test_rows_are_grouped_by_their_image():
    rows = ByGroup.of(Names(np.array([2, 0, 2]), ("a", "b", "c")))
    assert (rows.groups.tolist(), rows.counts.tolist(), rows.order.tolist()) == ([2, 0], [2, 1], [0, 2, 1])


class PerImageConformance(ByImage):
    """A dataset an image."""

    def features(self, path):
        with h5py.File(path) as file:
            parts = [file[self.format.pattern.format(image=f"bild-ä{n}", what="features")][()] for n in (0, 1)]
        whole = np.empty((len(parts[0]) + len(parts[1]), *parts[0].shape[1:]), parts[0].dtype)
        whole[::2], whole[1::2] = parts
        return whole

    def test_no_rows(self, tmp_path):
        with h5py.File(self.write(tmp_path, np.zeros((0, 3), np.float32))) as file:
            assert len(file) == 0


class AtTheEnd(ByImage):
    """Made when all rows are there; nothing says how."""

    def begin(self, folder, shape, dtype=np.float32, record=None, overwrite=True):
        record = (record or make_record(shape[0]))._replace(image_sizes=np.full((shape[0], 2), 16, np.float32))
        return super().begin(folder, shape, dtype, record, overwrite)

    def kept(self, record):
        return super().kept(record) | {"image_sizes": np.full((len(record.boxes), 2), 16, np.float32)}


class TestTsv(AtTheEnd):
    format, suffix = ButdTsv(), ".tsv"


class TestImageNpz(AtTheEnd):
    format, suffix = ImageNpz(), ""


class TestM2(PerImageConformance):
    format = M2()


class TestVLT5(PerImageConformance):
    format = VLT5()


def test_loaders_of_datasets_an_image(folder):
    """As the fields of Meshed-Memory Transformers and VL-T5's datasets read them."""
    for layout in ("m2-h5", "vlt5-h5"):
        run(folder, *ALIGN, "-o", f"{layout}.h5", "--output-layout", layout, "-q")
    plain = np.load(folder / "plain.npy")
    with h5py.File(folder / "m2-h5.h5") as f:
        np.testing.assert_array_equal(f["7_features"][()], plain[[0, 2]])
        assert f["139_boxes"][()].tolist() == BOXES["139"]
    with h5py.File(folder / "vlt5-h5.h5") as f:
        assert (f["7/img_h"][()], f["7/img_w"][()]) == (16, 16)
        assert f["7/boxes"][()].tolist() == BOXES["7"]
        feats = np.zeros((1, 2), np.float32)
        f["139/features"].read_direct(feats)
        np.testing.assert_array_equal(feats, plain[[1]])


def run_layout(folder, layout, output, *more, expect=0):
    return run(folder, *ALIGN, "-o", output, "--output-layout", layout, "-q", *more, expect=expect)


def read_tsv(path):
    """As tools/read_tsv.py of bottom-up-attention reads it."""
    fields = ["image_id", "image_w", "image_h", "num_boxes", "boxes", "features"]
    found = {}
    with path.open() as file:
        for item in csv.DictReader(file, delimiter="\t", fieldnames=fields):
            for field in ("boxes", "features"):
                data = np.frombuffer(base64.decodebytes(item[field].encode()), dtype=np.float32)
                item[field] = data.reshape((int(item["num_boxes"]), -1))
            found[item["image_id"]] = item
    return found


def read_folder(path):
    return {file.stem: dict(np.load(file)) for file in path.iterdir()}


def test_loaders_of_files_made_at_the_end(folder):
    plain = np.load(folder / "plain.npy")
    run_layout(folder, "butd-tsv", "out.tsv")
    run_layout(folder, "per-image-npz", "out")
    lines, files = read_tsv(folder / "out.tsv"), read_folder(folder / "out")
    assert list(lines) == ["7", "139"]
    assert files.keys() == {"7", "139"}
    for image, rows in (("7", [0, 2]), ("139", [1])):
        np.testing.assert_array_equal(lines[image]["features"], plain[rows])
        np.testing.assert_array_equal(files[image]["x"], plain[rows])
        assert lines[image]["boxes"].tolist() == files[image]["bbox"].tolist() == BOXES[image]
        assert (lines[image]["image_w"], lines[image]["image_h"]) == ("16", "16")
        assert [int(files[image][key]) for key in ("num_bbox", "image_h", "image_w")] == [len(rows), 16, 16]
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(("layout", "name"), [("butd-tsv", "out.tsv"), ("per-image-npz", "out")])
def test_files_made_at_the_end_are_replaced_and_resumed(folder, layout, name):
    def content():
        path = folder / name
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return {file.name: file.read_bytes() for file in files}

    run_layout(folder, layout, name, "--resume")
    first = content()
    assert f"{name} exists" in run_layout(folder, layout, name, expect=3).stderr
    assert "were there already" in run(folder, *ALIGN, "-o", name, "--output-layout", layout, "--resume").stderr
    run_layout(folder, layout, name, "--overwrite")
    assert content() == first
    for part in (1, 2):
        run_layout(folder, layout, f"part-{part}.npz", "--shard", f"{part}/2")
    run(folder, "merge", name, "part-1.npz", "part-2.npz", "--overwrite", "-q")
    assert content() == first
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(("layout", "name"), [("butd-tsv", "out.tsv"), ("per-image-npz", "out")])
def test_a_kill_while_they_are_made_loses_no_row(folder, layout, name):
    program = """
import os, signal
from roicli.__main__ import main
from roicli.outputs import assembled
images = assembled.images
def killed(*arguments):
    yield next(images(*arguments))
    os.kill(os.getpid(), signal.SIGKILL)
assembled.images = killed
main()
"""
    job = [*ALIGN, "-o", name, "--output-layout", layout, "-q"]
    killed = subprocess.run([sys.executable, "-c", program, *job], cwd=folder, check=False)
    assert killed.returncode == -9
    assert not (folder / name).exists()
    assert "3 of 3 rows are done" in run(folder, *job, expect=3).stderr
    run(folder, *job, "--resume")
    found = read_tsv(folder / name) if layout == "butd-tsv" else read_folder(folder / name)
    assert found.keys() == {"7", "139"}


@pytest.mark.parametrize(
    ("layout", "name", "message"),
    [
        ("butd-tsv", "out.tsv", "a TSV cannot hold the image id 'a\\\\tb'"),
        ("per-image-npz", "out", "no file can be named by the image id '../up'"),
    ],
)
def test_image_ids_that_a_layout_cannot_hold(tmp_path, layout, name, message):
    image = "a\tb" if layout == "butd-tsv" else "../up"
    record = Record(Names(np.zeros(1, int), (image,)), np.zeros((1, 4)), np.zeros(1, int), None, {})
    record = record._replace(image_sizes=np.ones((1, 2), np.float32))
    made = find_format(tmp_path / name, layout)
    target = made.create(tmp_path / "rows", tmp_path / name, (1, 2), np.dtype(np.float32), record)
    with pytest.raises(OutputError, match=message):
        made.assemble(target, record, tmp_path / name, overwrite=False)
    target.close()


def test_files_of_images_need_their_sizes(folder):
    plain = ("align", "f.h5", "b.csv", "--stride", "4", "-o", "out", "--output-layout", "per-image-npz")
    assert "this layout holds the size of each image, and not all are known" in run(folder, *plain, expect=3).stderr


FILES = {"butd-tsv": "out.tsv", "per-image-npz": "out"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_is_read_back(folder, layout):
    """By info, as boxes, and as features, whatever the order of its rows."""
    name = FILES.get(layout, "out.h5")
    run_layout(folder, layout, name)
    assert ("3 of 2 images" if name in FILES.values() else "output_layout") in run(folder, "info", name).stdout
    run(folder, "align", "f.h5", name, "--stride", "4", "--reduce", "mean", "-o", "again.npy", "-q")
    plain = np.load(folder / "plain.npy")
    order = [1, 0, 2] if layout in ("m2-h5", "vlt5-h5") else [0, 2, 1]  # HDF5 sorts names as text
    np.testing.assert_array_equal(np.load(folder / "again.npy"), plain[order])
    run(folder, "verify", name, *ALIGN[1:], "-q")
