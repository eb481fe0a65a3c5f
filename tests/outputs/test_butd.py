"""HDF5 as the loaders of bottom-up attention features read it: each test reads by the lines of such a loader."""

import json

import h5py
import numpy as np
import pytest
from driving import run
from outputs.conformance import PARAMETERS, OutputConformance

from roicli.errors import FileError
from roicli.outputs.base import read_output
from roicli.outputs.butd import ButdAdaptive, ButdFixed
from roicli.outputs.byimage import ByImage as Grouped
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

    def test_it_is_read_back(self, tmp_path):
        values = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
        stored = read_output(self.format, self.write(tmp_path, values))
        np.testing.assert_array_equal(stored.features.load(), values[self.order(6)])
        assert stored.columns["boxes"].shape == (6, 4)
        assert stored.columns["image_ids"].tolist() == ["bild-ä0"] * 3 + ["bild-ä1"] * 3
        with pytest.raises(FileError, match="its images have 2 to 3 boxes, padded"):
            read_output(self.format, self.write(tmp_path, values[:5]))


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
        assert file.keys() == {"image_features", "image_bb", "pos_boxes", "image_ids"}
    assert "Give --output-layout too" in run(folder, *ALIGN, "-o", "x.h5", "--spatial", "4", expect=2).stderr
    assert "not written to .npy" in run(folder, *ALIGN, "-o", "x.npy", *plain[-2:], expect=3).stderr


def test_rows_are_grouped_by_their_image():
    rows = Grouped.of(Names(np.array([2, 0, 2]), ("a", "b", "c")))
    assert (rows.images.tolist(), rows.counts.tolist(), rows.order.tolist()) == ([2, 0], [2, 1], [0, 2, 1])


class PerImageConformance(OutputConformance):
    """A dataset an image; what is in it no job reads back."""

    suffix = ".h5"

    def features(self, path):
        with h5py.File(path) as file:
            parts = [file[self.format.pattern.format(image=f"bild-ä{n}", what="features")][()] for n in (0, 1)]
        whole = np.empty((len(parts[0]) + len(parts[1]), *parts[0].shape[1:]), parts[0].dtype)
        whole[::2], whole[1::2] = parts
        return whole

    def test_no_rows(self, tmp_path):
        with h5py.File(self.write(tmp_path, np.zeros((0, 3), np.float32))) as file:
            assert len(file) == 0

    def test_the_record(self):
        """See below."""

    def test_it_is_read_back(self, tmp_path):
        path = self.write(tmp_path, np.zeros((4, 3), np.float32))
        assert self.format.parameters(path) == PARAMETERS
        with pytest.raises(FileError, match="datasets an image, and is not read back"):
            read_output(self.format, path)


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
